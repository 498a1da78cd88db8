"""Runs in the environment of Yotta's own package, unmodified: one call of it for each line of JSON on stdin.

A line is `[class, method, arguments]`; the answer is `{"is": ...}`, or `{"raised": class, ...}`.
"""

from __future__ import annotations

import json
import sys
from typing import Any


def main() -> None:
    from yottaml.credential import CredentialApi
    from yottaml.elastic import ElasticApi
    from yottaml.gpu import GpuApi
    from yottaml.skywalker import SkywalkerTaskApi

    url, key = sys.argv[1:]
    kinds = {kind.__name__: kind for kind in (CredentialApi, ElasticApi, GpuApi, SkywalkerTaskApi)}
    clients: dict[str, Any] = {name: kind(api_key=key, base_url=url) for name, kind in kinds.items()}
    for line in sys.stdin:
        name, method, arguments = json.loads(line)
        sys.stdout.write(json.dumps(_called(clients[name], method, arguments)) + "\n")
        sys.stdout.flush()


def _called(client: Any, method: str, arguments: dict[str, Any]) -> dict[str, Any]:
    try:
        return {"is": getattr(client, method)(**arguments)}
    except Exception as exc:  # noqa: BLE001
        status, code = getattr(exc, "status_code", None), getattr(exc, "error_code", None)
        text = getattr(exc, "error_message", None) or str(exc)
        told = {"status": status, "code": code, "data": getattr(exc, "error_data", None)}
        return {"raised": type(exc).__name__, "text": text, **told}


if __name__ == "__main__":
    main()
