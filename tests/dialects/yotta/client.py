"""Yotta's API on a world of virtual time, called as its clients call it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from api.client import Answer, Api, Exchange, run
from simulation.world import NOWHERE

ROOT = "/yotta"
ENDPOINTS = "/v2/serverless"
CARD = {"region": "local", "gpuType": "NVIDIA_H100_80G", "gpuCount": 1}
NO_CARD = {"region": "local", "gpuType": "CPU", "gpuCount": 0}


@dataclass(frozen=True)
class Cloud:
    """The API, and a key for it."""

    api: Api

    async def call(self, method: str, path: str, value: object = None, *, key: str | None = None) -> Answer:
        """A call of `path` below `/yotta`. `key=""` is none at all."""
        body = b"" if value is None else json.dumps(value).encode()
        # All of Yotta's clients say so, body or not.
        headers = {"host": "127.0.0.1:7878", "content-type": "application/json"}
        if key != "":
            headers["x-api-key"] = key or self.api.secret
        return await Exchange(self.api.app, method, ROOT + path, headers, body).answer()

    async def ok(self, method: str, path: str, value: object = None) -> Any:
        """What the envelope of a call holds that must succeed."""
        answer = await self.call(method, path, value)
        assert answer.status == 200, answer.body
        assert answer.json["code"] == 10000, answer.body
        assert isinstance(answer.json["message"], str)
        return answer.json["data"]

    async def make(self, name: str = "demo", **more: Any) -> Any:
        """A new endpoint."""
        return await self.ok("POST", ENDPOINTS, endpoint(name, **more))

    async def reaches(self, id: str, status: str, *, within_s: int = 120) -> Any:
        """The endpoint as soon as it has this status."""
        for _ in range(within_s):
            got = await self.ok("GET", f"{ENDPOINTS}/{id}")
            if got["status"] == status:
                return got
            await asyncio.sleep(1)
        raise AssertionError(f"{got['status']}, not {status}")


def endpoint(name: str = "demo", **more: Any) -> dict[str, Any]:
    """A request to create one."""
    return {
        "name": name,
        "image": "nginx:latest",
        "resources": [NO_CARD],
        "workers": 1,
        "containerVolumeInGb": 20,
        "serviceMode": "QUEUE",
        **more,
    }


def told(answer: Answer, status: int, code: int, message: str) -> list[str]:
    """The places of what is wrong, of an error that must have this status, code and text."""
    body = answer.json
    assert (answer.status, body["code"], body["message"]) == (status, code, message), answer.body
    assert set(body) == {"message", "code", "data"}
    return [each["pointer"] for each in (body["data"] or {}).get("errors", [])]


def invalid(answer: Answer) -> list[str]:
    """The same for what does not fit."""
    return told(answer, 400, 10001, "Invalid request parameters")


def play(body: Callable[[Cloud], Awaitable[None]], *, data_dir: Path = NOWHERE) -> None:
    """Run `body` with one of these."""

    async def main(api: Api) -> None:
        await body(Cloud(api))

    run(main, data_dir=data_dir)
