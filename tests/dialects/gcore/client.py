"""Gcore's API on a world of virtual time, called as its clients call it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from api.client import Answer, Api, Exchange, run

ROOT = "/gcore/cloud"
DEPLOYMENTS = "/v3/inference/1/deployments"
FLAVOR = "inference-2vcpu-8gib"


@dataclass(frozen=True)
class Cloud:
    """The API, and a key for it."""

    api: Api

    async def call(self, method: str, path: str, value: object = None, *, key: str | None = None) -> Answer:
        """A call of `path` below `/cloud`. `key=""` is none at all."""
        body = b"" if value is None else json.dumps(value).encode()
        headers = {"host": "127.0.0.1:7878", "content-type": "application/json"}
        if key != "":
            headers["authorization"] = f"APIKey {key or self.api.secret}"
        return await Exchange(self.api.app, method, ROOT + path, headers, body).answer()

    async def ok(self, method: str, path: str, value: object = None) -> Any:
        """The same, which must succeed."""
        answer = await self.call(method, path, value)
        assert answer.status == 200, answer.body
        return answer.json

    async def deploy(self, name: str = "demo", **more: Any) -> Any:
        """A deployment as it is when its task has finished."""
        [task] = (await self.ok("POST", DEPLOYMENTS, deployment(name, **more)))["tasks"]
        await self.finished(task)
        return await self.ok("GET", f"{DEPLOYMENTS}/{name}")

    async def finished(self, task: str) -> Any:
        """The task when it has ended well."""
        found = await self.ok("GET", f"/v1/tasks/{task}")
        while found["state"] in ("NEW", "RUNNING"):
            await asyncio.sleep(1)
            found = await self.ok("GET", f"/v1/tasks/{task}")
        assert found["state"] == "FINISHED", found
        return found


def container(region: int = 1, *, min: int = 1, max: int = 2, **more: Any) -> dict[str, Any]:
    """A container of a request."""
    return {"region_id": region, "scale": {"min": min, "max": max, **more}}


def deployment(name: str = "demo", **more: Any) -> dict[str, Any]:
    """A request to create one."""
    return {
        "name": name,
        "image": "nginx:latest",
        "listening_port": 80,
        "flavor_name": FLAVOR,
        "containers": [container()],
        **more,
    }


def told(answer: Answer, status: int, kind: str) -> dict[str, list[str]]:
    """What is wrong with which field, of an error that must have this status and kind and the whole envelope."""
    assert answer.status == status, answer.body
    body = answer.json
    assert body["exception_class"] == kind
    assert isinstance(body["message"], str)
    assert len(body["request_id"]) == 32
    fields: dict[str, list[str]] = body.get("invalid_fields", {})
    assert fields or kind != "ValidationError" or "JSON" in body["message"], body
    return fields


def play(body: Callable[[Cloud], Awaitable[None]]) -> None:
    """Run `body` with one of these."""

    async def main(api: Api) -> None:
        await body(Cloud(api))

    run(main)
