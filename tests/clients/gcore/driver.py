"""Runs in the environment of Gcore's own package, unmodified: one call of its client for each line of JSON on stdin.

A line is `[method, arguments]` with the method's whole path; the answer `{"is": ...}`, or `{"raised": class, ...}`.
"""

from __future__ import annotations

import asyncio
import inspect
import json
import sys
from typing import Any


def main() -> None:
    import gcore

    version, flavor, url, key = sys.argv[1:]
    # What these arguments were called before 0.46.
    prefix = "cloud_" if version < "0.46" else ""
    options = {f"{prefix}polling_interval_seconds": 0.2, f"{prefix}polling_timeout_seconds": 60}
    kind = gcore.AsyncGcore if flavor == "async" else gcore.Gcore
    client = kind(
        api_key=key, base_url=url, cloud_project_id=1, cloud_region_id=1, _strict_response_validation=True, **options
    )
    loop = asyncio.new_event_loop()
    for line in sys.stdin:
        method, arguments = json.loads(line)
        sys.stdout.write(json.dumps(loop.run_until_complete(_called(client, method, arguments)), default=str) + "\n")
        sys.stdout.flush()


async def _called(client: Any, method: str, arguments: dict[str, Any]) -> dict[str, Any]:
    try:
        # Paths that the package has no method for.
        if method in ("get", "post"):
            answer = getattr(client, method)(arguments.pop("path"), cast_to=object, **arguments)
            return {"is": await answer if inspect.isawaitable(answer) else answer}
        found = client
        for part in method.removesuffix(".all").split("."):
            found = getattr(found, part)
        answer = found(**arguments)
        if method.endswith(".all"):
            return {"is": await _all(answer)}
        return {"is": _plain(await answer if inspect.isawaitable(answer) else answer)}
    except Exception as exc:  # noqa: BLE001
        return {"raised": type(exc).__name__, "text": str(exc), "status": getattr(exc, "status_code", None)}


async def _all(pages: Any) -> list[Any]:
    """Everything that is listed, page by page."""
    if hasattr(pages, "__aiter__"):
        return [_plain(each) async for each in pages]
    return [_plain(each) for each in pages]


def _plain(answer: Any) -> Any:
    return answer.model_dump(mode="json", by_alias=True) if hasattr(answer, "model_dump") else answer


if __name__ == "__main__":
    main()
