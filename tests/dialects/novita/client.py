"""Novita's API on a world of virtual time, called as its clients call it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from api.client import Answer, Api, Exchange, run
from simulation.world import NOWHERE

ROOT = "/novita/gpu-instance/openapi/v1"
CARD = "h100-80gb"


@dataclass(frozen=True)
class Cloud:
    """The API, and a key for it."""

    api: Api

    async def call(self, method: str, path: str, value: object = None, *, key: str | None = None) -> Answer:
        """A call of `path`, below the control API's own unless it begins with `/v1`. `key=""` is none at all."""
        body = b"" if value is None else json.dumps(value).encode()
        headers = {"host": "127.0.0.1:7878"}
        if key != "":
            headers["authorization"] = f"Bearer {key or self.api.secret}"
        whole = f"/novita{path}" if path.startswith("/v1/") else ROOT + path
        return await Exchange(self.api.app, method, whole, headers, body).answer()

    async def ok(self, method: str, path: str, value: object = None) -> Any:
        """The same, which must succeed."""
        answer = await self.call(method, path, value)
        assert answer.status == 200, answer.body
        return answer.json

    async def make(self, **more: Any) -> str:
        """The id of a new endpoint."""
        return str((await self.ok("POST", "/endpoint/create", {"endpoint": asked(**more)}))["id"])

    async def get(self, id: str) -> Any:
        return (await self.ok("GET", f"/endpoint?id={id}"))["endpoint"]

    async def update(self, id: str, **more: Any) -> Any:
        """As the cloud's command line does it: with what it got, changed."""
        found = await self.get(id)
        body = {"id": id, **{name: found[name] for name in ("workerConfig", "ports", "policy", "image")}}
        await self.ok("POST", "/endpoint/update", {**body, **more})
        return await self.get(id)

    async def ended(self, name: str, id: str) -> Any:
        """The job when it has ended."""
        for _ in range(400):
            found = await self.ok("GET", f"/v1/{name}/status/{id}")
            if found["status"] not in ("PENDING", "IN_PROGRESS"):
                return found
            await asyncio.sleep(0.5)
        raise AssertionError(f"the job has not ended: {found}")


def config(**more: Any) -> dict[str, Any]:
    return {"minNum": 0, "maxNum": 2, "freeTimeout": 300, "maxConcurrent": 1, "gpuNum": 1, **more}


def asked(**more: Any) -> dict[str, Any]:
    """What the cloud's command line sends to make one."""
    return {
        "rootfsSize": 100,
        "workerConfig": config(),
        "ports": [{"port": "8080"}],
        "policy": {"type": "queue", "value": 1},
        "image": {"image": "img:latest"},
        "volumeMounts": [{"type": "local", "size": 30, "mountPath": "/workspace"}],
        "healthy": {"path": "/health"},
        "products": [{"id": "1"}],
        **more,
    }


def told(answer: Answer, status: int, reason: str, word: str = "") -> None:
    """The answer must be an error of this status and reason in the whole envelope, and say that word."""
    assert answer.status == status, answer.body
    body = answer.json
    assert (body["code"], body["reason"], body["metadata"]) == (status, reason, {})
    assert word in body["message"], body


def play(body: Callable[[Cloud], Awaitable[None]], data_dir: Path = NOWHERE) -> None:
    """Run `body` with one of these; what keeps something in files needs a folder."""

    async def main(api: Api) -> None:
        await body(Cloud(api))

    run(main, data_dir=data_dir)
