"""Vast.ai's API on a world of virtual time, called as its clients call it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from api.client import Answer, Api, Exchange, run
from simulation.world import NOWHERE
from stoker.domain.launch import Launch
from stoker.providers.fake import FakeProvider

ENDPOINTS, GROUPS, TEMPLATES = "/api/v0/endptjobs/", "/api/v0/workergroups/", "/api/v0/template/"
ARGS = "--image worker:1 --env '-p 80:80'"


@dataclass(frozen=True)
class Cloud:
    """The API, and a key for it."""

    api: Api

    async def call(self, method: str, path: str, value: object = None, *, key: str | None = None) -> Answer:
        """A call of `path` below `/vast`. `key=""` is none at all in the header."""
        body = b"" if value is None else json.dumps(value).encode()
        headers = {"host": "127.0.0.1:7878", "content-type": "application/json"}
        if key != "":
            headers["authorization"] = f"Bearer {key or self.api.secret}"
        return await Exchange(self.api.app, method, f"/vast{path}", headers, body).answer()

    async def ok(self, method: str, path: str, value: object = None) -> Any:
        """The same, which must succeed."""
        answer = await self.call(method, path, value)
        assert answer.status == 200, answer.body
        return answer.json

    async def endpoint(self, name: str = "demo", **more: Any) -> int:
        """An endpoint without workergroups, of which nothing is kept cold."""
        made = await self.ok("POST", ENDPOINTS, {"endpoint_name": name, "cold_workers": 0, "cold_mult": 1.0, **more})
        return int(made["result"])

    async def group(self, endpoint: int, **more: Any) -> int:
        """A workergroup."""
        made = await self.ok("POST", GROUPS, {"endpoint_id": endpoint, "launch_args": ARGS, **more})
        assert made["id"] == made["result"]
        return int(made["id"])

    async def shown(self, endpoint: int) -> Any:
        return (await self.ok("GET", f"{ENDPOINTS}{endpoint}/"))["result"]

    async def shown_group(self, id: int) -> Any:
        [found] = [each for each in (await self.ok("GET", GROUPS))["results"] if each["id"] == id]
        return found

    async def decision(self, name: str = "demo") -> Any:
        """What Stoker would decide of it now, and why."""
        answer = await self.api.call("GET", f"/endpoints/{name}/explanation")
        assert answer.status == 200, answer.body
        return answer.json["present"]

    def launches(self) -> dict[str, Launch]:
        """What workers of each pool of the first endpoint run."""
        return dict(self.api.world.stoker.fleet.endpoints()[0].launches)

    async def images(self, name: str = "demo") -> dict[str, Any]:
        """What workers of each pool run."""
        spec = (await self.api.call("GET", f"/endpoints/{name}")).json["spec"]
        return {pool["name"]: (pool["launch"] or spec["launch"])["image"] for pool in spec["pools"]}

    async def workers(self, endpoint: int, count: int = 1) -> Any:
        """Its workers when so many are ready."""
        for _ in range(120):
            found = await self.ok("POST", "/get_endpoint_workers/", {"id": endpoint})
            if sum(1 for each in found if each["started_at"] and each["status"] in ("idle", "loading")) >= count:
                return found
            await asyncio.sleep(1)
        raise AssertionError(f"never {count} workers: {found}")

    def token(self, worker: int) -> str:
        """What the worker of that number shows."""
        control = self.api.world.stoker
        [found] = [each for each in control.fleet.all_workers() if each.number == worker]
        return control.vault.worker_token(found.id)

    async def report(self, worker: int, **more: Any) -> Answer:
        """What a worker says of itself, loaded unless it says otherwise."""
        said = {"id": worker, "mtoken": self.token(worker), "loadtime": 1.5, "max_perf": 110.0, "error_msg": "", **more}
        return await self.call("POST", "/worker_status/", said, key="")

    async def route(self, name: str = "demo", *, idx: int = 0, cost: float = 100) -> Any:
        return await self.ok("POST", "/route/", {"endpoint": name, "request_idx": idx, "cost": cost})


def told(answer: Answer, status: int, error: str) -> str:
    """What is wrong, of an error that must have this status and word and the whole envelope."""
    assert answer.status == status, answer.body
    body = answer.json
    assert (body["success"], body["error"], body["error_msg"]) == (False, error, body["msg"])
    return str(body["msg"])


def play(body: Callable[[Cloud], Awaitable[None]], **more: FakeProvider) -> None:
    """Run `body` with one of these, and more providers."""

    async def main(api: Api) -> None:
        await body(Cloud(api))

    run(main, data_dir=NOWHERE, **more)
