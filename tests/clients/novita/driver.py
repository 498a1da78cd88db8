"""Runs in the environment of `novita-gpus` or `runpod`, unmodified: one call of its client for each line of JSON.

A line is `[method, endpoint, arguments]`, where methods of jobs have the job's id first; the answer is `{"is": ...}` or
`{"raised": class, "text": ...}`.
"""

from __future__ import annotations

import importlib
import json
import sys
from typing import Any


def main() -> None:
    name, url, key = sys.argv[1:]
    package: Any = importlib.import_module(name)
    package.api_key, package.endpoint_url_base = key, url
    jobs: dict[str, Any] = {}
    for line in sys.stdin:
        method, endpoint, arguments = json.loads(line)
        try:
            answer = {"is": _called(package.Endpoint(endpoint), jobs, method, arguments)}
        except Exception as exc:  # noqa: BLE001
            answer = {"raised": type(exc).__name__, "text": str(exc)}
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


def _called(endpoint: Any, jobs: dict[str, Any], method: str, arguments: list[Any]) -> Any:
    if method == "run":
        job = endpoint.run(*arguments)
        jobs[job.job_id] = job
        return job.job_id
    if method in ("status", "output", "cancel", "stream"):
        found = getattr(jobs[arguments[0]], method)(*arguments[1:])
        return list(found) if method == "stream" else found
    return getattr(endpoint, method)(*arguments)


if __name__ == "__main__":
    main()
