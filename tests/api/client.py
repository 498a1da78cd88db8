"""Calls an ASGI application as a server would, without one: for tests of the faces on virtual time."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.routing import BaseRoute, Mount, Route

from simulation import virtual
from simulation.virtual import wall
from simulation.world import NOWHERE, World, world
from stoker.domain.access import Scope
from stoker.domain.endpoint import EndpointId
from stoker.domain.hardware import GpuDevice, Offer, PortRange
from stoker.providers.fake import FakeProvider
from stoker.store.installation import DEFAULT_PROJECT
from stoker.store.tables import metadata

_CARD = GpuDevice(index=0, id="GPU-0", family="h100", vram_gib=80)
OFFERS = (Offer(host="h", vcpu=1_000, ram_gib=1_000, gpus=(_CARD,), ports=PortRange(20_000, 29_999)),)


@dataclass(frozen=True)
class Answer:
    """What came back."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Exchange:
    """One call under way: `lines` gives what comes; `leave` is the caller going away."""

    def __init__(self, app: Any, method: str, target: str, headers: Mapping[str, str], body: bytes) -> None:
        path, _, query = target.partition("?")
        scope = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": "1.1",
            "method": method,
            "scheme": "http",
            "path": path,
            "raw_path": path.encode(),
            "query_string": query.encode(),
            "root_path": "",
            "headers": [(name.lower().encode(), value.encode("latin-1")) for name, value in headers.items()],
            "client": ("127.0.0.1", 1),
            "server": ("127.0.0.1", 7878),
        }
        self._body: bytes | None = body
        self._left = asyncio.Event()
        self._sent: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._task = asyncio.create_task(app(scope, self._receive, self._sent.put))

    async def _receive(self) -> dict[str, Any]:
        if self._body is not None:
            body, self._body = self._body, None
            return {"type": "http.request", "body": body, "more_body": False}
        await self._left.wait()
        return {"type": "http.disconnect"}

    async def sent(self) -> dict[str, Any]:
        """The next message of the application. Raises what the application raised instead."""
        getting = asyncio.create_task(self._sent.get())
        await asyncio.wait([getting, self._task], return_when=asyncio.FIRST_COMPLETED)
        if not getting.done() and self._task.done():
            getting.cancel()
            await self._task
        return await getting

    async def lines(self) -> AsyncIterator[Any]:
        """Lines of JSON, as they come."""
        await self.sent()
        rest, more = b"", True
        while more:
            message = await self.sent()
            more = message.get("more_body", False)
            *lines, rest = (rest + message.get("body", b"")).split(b"\n")
            for line in lines:
                yield json.loads(line)

    async def answer(self) -> Answer:
        """All of it."""
        start = await self.sent()
        body, more = b"", True
        while more:
            message = await self.sent()
            body += message.get("body", b"")
            more = message.get("more_body", False)
        await self._task
        headers = {name.decode(): value.decode("latin-1") for name, value in start["headers"]}
        return Answer(start["status"], headers, body)

    async def leave(self) -> None:
        """Hang up, and wait until the application has noticed."""
        self._left.set()
        await asyncio.wait([self._task])


class Api:
    """The faces of a world on virtual time, and an admin's key to them."""

    def __init__(self, world: World, secret: str) -> None:
        self.world = world
        self.secret = secret
        self.app: Starlette = world.stoker.faces()

    def begin(
        self, method: str, path: str, *, key: str | None = None, headers: Mapping[str, str] | None = None
    ) -> Exchange:
        """A call whose answer comes bit by bit."""
        sent = {"authorization": f"Bearer {key or self.secret}", **(headers or {})}
        return Exchange(self.app, method, f"/api/v1{path}", sent, b"")

    async def call(
        self,
        method: str,
        path: str,
        value: object = None,
        *,
        key: str | None = None,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """Call `path` below the native API with `value` as JSON, or with `body` as it is. `key=""` is none at all."""
        sent = {} if key == "" else {"authorization": f"Bearer {key or self.secret}"}
        if body is None:
            body = b"" if value is None else json.dumps(value).encode()
        if body:
            sent["content-type"] = "application/json"
        sent |= headers or {}
        return await Exchange(self.app, method, f"/api/v1{path}", sent, body).answer()

    async def key(self, *scopes: Scope, endpoints: list[str] | None = None) -> str:
        """A new key."""
        limited = None if endpoints is None else frozenset(map(EndpointId, endpoints))
        made = self.world.stoker.keys.create(DEFAULT_PROJECT, name="test", scopes=frozenset(scopes), endpoints=limited)
        return (await made)[1]

    async def create(self, name: str = "e", **more: Any) -> Any:
        """An endpoint on the fake provider, as JSON."""
        answer = await self.call("POST", "/endpoints", spec(name, **more))
        assert answer.status == 201, answer.body
        return answer.json["endpoint"]

    async def dump(self) -> dict[str, list[Any]]:
        """Everything in the store."""
        return await self.world.store.read(
            lambda tx: {
                table.name: [tuple(row) for row in tx.execute(table.select())] for table in metadata.sorted_tables
            }
        )

    def routes(self) -> Iterator[tuple[str, str]]:
        """Method and path of everything below the native API."""
        [mount] = [each for each in self.app.routes if isinstance(each, Mount) and each.path == "/api/v1"]
        yield from _routes(mount.routes)


def _routes(routes: Iterable[BaseRoute]) -> Iterator[tuple[str, str]]:
    for route in routes:
        included = getattr(route, "original_router", None)
        if included is not None:
            yield from _routes(included.routes)
            continue
        assert isinstance(route, Route), f"{route} is a kind of route that this does not look into"
        for method in sorted(route.methods or ()):
            yield method, route.path


def spec(name: str = "e", *, min: int = 0, max: int = 2, **more: Any) -> dict[str, Any]:
    """The document of a small endpoint on the fake provider."""
    return {
        "name": name,
        "launch": {"command": ["serve"]},
        "pools": [{"provider": "fake", "bounds": {"min": min, "max": max}}],
        **more,
    }


@asynccontextmanager
async def api(data_dir: Path = NOWHERE, **more: FakeProvider) -> AsyncIterator[Api]:
    """One, with providers `fake` and `process`, and perhaps more, all without machines."""
    provider = FakeProvider(clock=wall, offers=OFFERS)
    process = FakeProvider(clock=wall, offers=OFFERS)
    process.images = False
    async with world(provider, others={"process": process, **more}, data_dir=data_dir) as made:
        _, secret = await made.stoker.keys.create(DEFAULT_PROJECT, name="admin", scopes=frozenset({Scope.ADMIN}))
        yield Api(made, secret)


def run(body: Callable[[Api], Awaitable[None]], *, data_dir: Path = NOWHERE, **more: FakeProvider) -> None:
    """Run `body` with one of these."""

    async def main() -> None:
        async with api(data_dir, **more) as made:
            await body(made)

    virtual.run(main())
