"""Handlers for Novita's package, unmodified: the first argument says which. Started by Stoker as workers."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import novita_gpus
import requests

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
        case "report":
            novita_gpus.progress_update(job, "half way")
            time.sleep(0.5)
            return "done"
    while held(asked.get("held")):
        time.sleep(LOOK_S)
    return {"hello": asked.get("name"), "attempt": job["attempt"]}


async def waiting(job: Job) -> Any:
    began(job)
    while held(job["input"].get("held")):  # noqa: ASYNC110 - the test is another process
        await asyncio.sleep(LOOK_S)
    return "done"


async def streaming(job: Job) -> AsyncIterator[str]:
    for word in job["input"]["words"]:
        yield word


def model(job: Job) -> Any:
    """What the model says that the endpoint's variable leads to."""
    body: Any = {"model": "smollm2", "messages": [{"role": "user", "content": job["input"]["prompt"]}], "max_tokens": 4}
    answer = requests.post(f"{os.environ['MODEL_URL']}/v1/chat/completions", json=body, timeout=60)
    answer.raise_for_status()
    return answer.json()["choices"][0]["message"]


CONFIGS: dict[str, dict[str, Any]] = {
    "plain": {"handler": plain},
    "waiting": {"handler": waiting, "concurrency_modifier": lambda _: 3},
    "streaming": {"handler": streaming, "return_aggregate_stream": True},
    "both": {"handler": streaming, "return_aggregate_stream": True, "concurrency_modifier": lambda _: 2},
    "model": {"handler": model},
}
novita_gpus.start(CONFIGS[sys.argv[1]])
