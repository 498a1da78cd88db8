"""Handlers for RunPod's package, unmodified: the first argument says which. Started by Stoker as workers."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import runpod

Job = dict[str, Any]
DATA = Path(os.environ["STOKER_WORKER_FOLDER"]).parent.parent
LOOK_S = 0.02


def began(job: Job) -> None:
    """Write down that this job has begun."""
    with open(DATA / f"{sys.argv[1]}.began", "a") as file:
        file.write(f"{job['id']}\n")


def held(name: str | None) -> bool:
    """Has the test not let it go on yet?"""
    return name is not None and not (DATA / f"{name}.go").exists()


def plain(job: Job) -> Any:
    """Whatever the input asks for."""
    began(job)
    asked = job["input"]
    match asked.get("do"):
        case "tell":
            return {"error": "I will not"}
        case "raise":
            raise ValueError(f"no such voice: {asked['voice']}")
        case "nan":
            return float("nan")
        case "fill":
            return "x" * asked["bytes"]
        case "report":
            runpod.serverless.progress_update(job, "half way")
            time.sleep(0.5)
            return "done"
        case "renew":
            return {"refresh_worker": True, "pid": os.getpid()}
    while held(asked.get("held")):
        time.sleep(LOOK_S)
    return {"hello": asked.get("name"), "attempt": job["attempt"], "pid": os.getpid()}


async def waiting(job: Job) -> Any:
    began(job)
    while held(job["input"].get("held")):  # noqa: ASYNC110 - the test is another process
        await asyncio.sleep(LOOK_S)
    return "done"


def counting(job: Job) -> Iterator[Any]:
    for number in range(job["input"]["n"]):
        # Each by a name of its own.
        while number and "held" in job["input"] and held(f"{job['input']['held']}-{number}"):
            time.sleep(LOOK_S)
        yield {"number": number}


CONFIGS: dict[str, dict[str, Any]] = {
    "plain": {"handler": plain},
    "waiting": {"handler": waiting, "concurrency_modifier": lambda _: 4},
    "counting": {"handler": counting, "return_aggregate_stream": True},
    "telling": {"handler": counting},
}
runpod.serverless.start(CONFIGS[sys.argv[1]])
