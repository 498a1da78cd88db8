"""Runs in the environment of Exoscale's own package, unmodified: one call of its client for each line of JSON on stdin.

A line is `[method, arguments]`; the answer `{"is": ...}`, or `{"raised": class, "text": ..., "status": ...}`.
"""

from __future__ import annotations

import json
import sys
from typing import Any


def main() -> None:
    from exoscale.api.v2 import Client

    url, key, secret = sys.argv[1:]
    client = Client(key, secret, url=url)
    for line in sys.stdin:
        method, arguments = json.loads(line)
        sys.stdout.write(json.dumps(_called(client, method, arguments)) + "\n")
        sys.stdout.flush()


def _called(client: Any, method: str, arguments: dict[str, Any]) -> dict[str, Any]:
    try:
        return {"is": getattr(client, method)(**arguments)}
    except Exception as exc:  # noqa: BLE001
        response = getattr(exc, "response", None)
        return {
            "raised": type(exc).__name__,
            "text": str(exc),
            "status": None if response is None else response.status_code,
        }


if __name__ == "__main__":
    main()
