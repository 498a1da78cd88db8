"""Runs in the environment of `novita-sdk`, unmodified: one call of its client for each line of JSON on stdin.

A line is `[method, arguments]` with the method's path below `client.gpu`; an argument `{"model": ..., "value": ...}` is
one of its types. The answer is `{"is": ...}` or `{"raised": class, "text": ...}`.
"""

from __future__ import annotations

import asyncio
import importlib
import inspect
import json
import sys
from typing import Any


def main() -> None:
    novita: Any = importlib.import_module("novita")
    models: Any = importlib.import_module("novita.generated.models")
    flavor, url, key = sys.argv[1:]
    kind = novita.AsyncNovitaClient if flavor == "async" else novita.NovitaClient
    client = kind(api_key=key, base_url=url)
    loop = asyncio.new_event_loop()
    for line in sys.stdin:
        method, arguments = json.loads(line)
        sys.stdout.write(json.dumps(loop.run_until_complete(_called(client, models, method, arguments))) + "\n")
        sys.stdout.flush()


async def _called(client: Any, models: Any, method: str, arguments: list[Any]) -> dict[str, Any]:
    try:
        found = client.gpu
        for part in method.split("."):
            found = getattr(found, part)
        answer = found(*(_typed(models, each) for each in arguments))
        return {"is": _plain(await answer if inspect.isawaitable(answer) else answer)}
    except Exception as exc:  # noqa: BLE001
        return {"raised": type(exc).__name__, "text": str(exc)}


def _typed(models: Any, argument: Any) -> Any:
    if isinstance(argument, dict) and "model" in argument:
        return getattr(models, argument["model"]).model_validate(argument["value"])
    return argument


def _plain(answer: Any) -> Any:
    if isinstance(answer, list):
        return [_plain(each) for each in answer]
    return answer.model_dump(mode="json", by_alias=True) if hasattr(answer, "model_dump") else answer


if __name__ == "__main__":
    main()
