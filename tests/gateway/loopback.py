"""A gateway on loopback, with small workers, a control that speaks the link, and clients that speak bytes."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import uvloop

from gateway.wire import Asked, Reply, answer, read_body, read_head
from stoker.domain.access import digest_of
from stoker.gateway.connection import ClientConnection
from stoker.gateway.main import listen_inside
from stoker.gateway.proxy import Gateway
from stoker.link.messages import (
    PROTOCOL_VERSION,
    AddressEntry,
    Delta,
    EndpointEntry,
    Hello,
    KeyEntry,
    Message,
    Report,
    Snapshot,
    Wake,
    WorkerDown,
    WorkerEntry,
    decode_to_control,
    encode,
)
from stoker.settings import Settings

KEY = "sk-test-0123456789abcdef0123456789abcdef"
OTHER_KEY = "sk-other-0123456789abcdef0123456789abcde"
PATIENCE_S = 30.0
T = TypeVar("T")
M = TypeVar("M", bound=Message)


def run(main: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Run a test on the loop that the gateway runs on."""
    return uvloop.run(asyncio.wait_for(main(), 100.0))


async def until(condition: Callable[[], object]) -> None:
    """Wait for something that happens elsewhere."""
    async with asyncio.timeout(PATIENCE_S):
        while not condition():  # noqa: ASYNC110 - what is waited for has no event
            await asyncio.sleep(0.005)


def endpoint(*workers: WorkerEntry, slug: str = "chat", number: int = 1, **changes: Any) -> EndpointEntry:
    """An endpoint of project 1 below `/e/{slug}`."""
    values: dict[str, Any] = {
        "id": f"id-{slug}",
        "number": number,
        "project": 1,
        "slug": slug,
        "name": slug.title(),
        "access": "project",
        "models": (f"model-{slug}",),
        "addresses": (AddressEntry(f"/e/{slug}"), AddressEntry(f"/e/id-{slug}")),
        "workers": workers,
        "waiting_max": 100,
        "wait_s_max": 30.0,
        "connect_s": 2.0,
        "first_byte_s": 20.0,
        "idle_s": 20.0,
        "total_s": None,
    }
    return EndpointEntry(**(values | changes))


def key(secret: str = KEY, *, project: int = 1, invoke: bool = True, **changes: Any) -> KeyEntry:
    """A key of project 1."""
    return KeyEntry(digest_of(secret), f"key-{project}", project, invoke, **changes)


Script = Callable[[Asked, asyncio.StreamReader, asyncio.StreamWriter], Awaitable[object]]


async def fine(asked: Asked, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Reads the body and answers."""
    asked.body = await read_body(reader, asked.headers, to_end=False)
    writer.write(answer())


@dataclass
class Worker:
    """A small worker. `script` answers each request; the connection ends when it returns False."""

    script: Script
    asked: list[Asked] = field(default_factory=list)
    connections: int = 0
    open: int = 0
    port: int = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection."""
        self.connections += 1
        self.open += 1
        try:
            while (head := await read_head(reader)) is not None:
                (method, target, _), headers = head
                asked = Asked(method, target, headers)
                self.asked.append(asked)
                if await self.script(asked, reader, writer) is False:
                    break
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            self.open -= 1
            writer.close()

    def entry(self, id: str = "w1", *, slots: int = 1, order: int = 1, draining: bool = False) -> WorkerEntry:
        """Its row in the table."""
        return WorkerEntry(id, "127.0.0.1", self.port, slots, order, draining)


@contextlib.asynccontextmanager
async def worker(script: Script = fine, *, port: int = 0) -> AsyncIterator[Worker]:
    """A worker, on a free port unless told which."""
    it = Worker(script)
    tasks: set[asyncio.Task[None]] = set()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.get_running_loop().create_task(it.serve(reader, writer))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    server = await asyncio.start_server(accept, "127.0.0.1", port)
    it.port = server.sockets[0].getsockname()[1]
    try:
        yield it
    finally:
        server.close()
        for task in tuple(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


class FakeControl:
    """Control's end of the link: says what the test says, remembers what the gateway says."""

    def __init__(self) -> None:
        self.heard: list[Message] = []
        self.seq = 0
        self.connections = 0
        self.term = 1
        self._writer: asyncio.StreamWriter | None = None
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self.snapshot: Snapshot | None = None

    def all(self, kind: type[M]) -> list[M]:
        """The messages of one kind."""
        return [message for message in self.heard if isinstance(message, kind)]

    @property
    def acked(self) -> int:
        """The newest acknowledgement."""
        return max((getattr(message, "seq", 0) for message in self.heard if type(message).__name__ == "Ack"), default=0)

    def say(self, message: Message) -> None:
        """Send it as it is."""
        assert self._writer is not None
        self._writer.write(encode(message))

    async def tell(self, *entries: EndpointEntry, gone: tuple[str, ...] = ()) -> None:
        """Send a change, and wait until it has taken effect."""
        self.seq += 1
        self.say(Delta(self.seq, endpoints=entries, endpoints_gone=gone))
        await until(lambda: self.acked >= self.seq)

    async def open(self, path: Path) -> None:
        """Listen."""
        self._server = await asyncio.start_unix_server(self._accept, str(path))

    async def close(self) -> None:
        """Vanish."""
        if self._server is not None:
            self._server.close()
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._writer is not None:
            self._writer.transport.abort()
            self._writer = None

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.get_running_loop().create_task(self._converse(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writer = writer
        self.connections += 1
        writer.write(encode(Hello(PROTOCOL_VERSION, "control", self.term)))
        if self.snapshot is not None:
            self.seq = self.snapshot.seq
            writer.write(encode(self.snapshot))
        while line := await reader.readline():
            self.heard.append(decode_to_control(line))


@dataclass
class Clock:
    """The loop's time and what tests have added to it."""

    time: Callable[[], float]
    ahead_s: float = 0.0

    def __call__(self) -> float:
        return self.time() + self.ahead_s


@dataclass
class Site:
    """Everything that a test needs of a running gateway."""

    gateway: Gateway
    control: FakeControl
    settings: Settings
    port: int
    clock: Clock
    connected: list[Client] = field(default_factory=list)

    def forward(self, seconds: float) -> None:
        """Let so much time pass at once, for the gateway."""
        self.clock.ahead_s += seconds
        self.gateway.tick()

    async def connect(self, secure: ssl.SSLContext | None = None) -> Client:
        """A new client connection, closed at the end at the latest."""
        client = Client(*await asyncio.open_connection("127.0.0.1", self.port, ssl=secure))
        self.connected.append(client)
        return client

    async def inside(self, method: str, target: str, *headers: str, body: bytes | None = None) -> Reply:
        """One request to the internal listener."""
        path = self.settings.paths.attempts_socket("test")
        client = Client(*await asyncio.open_unix_connection(str(path)))
        try:
            await client.send(method, target, *headers, body=body, secret="")
            return await client.reply()
        finally:
            client.close()

    async def ask(self, method: str, target: str, *headers: str, body: bytes | None = None, secret: str = KEY) -> Reply:
        """One request on a connection of its own."""
        client = await self.connect()
        try:
            await client.send(method, target, *headers, body=body, secret=secret)
            return await client.reply(head=method == "HEAD")
        finally:
            client.close()

    def reports(self, id: str) -> list[Any]:
        """What was reported of one endpoint."""
        return [entry for report in self.control.all(Report) for entry in report.endpoints if entry.id == id]

    @property
    def wakes(self) -> list[Wake]:
        """The wakes so far."""
        return self.control.all(Wake)

    @property
    def downs(self) -> list[WorkerDown]:
        """The workers said to be down so far."""
        return self.control.all(WorkerDown)


class Client:
    """A client's connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def send(self, method: str, target: str, *headers: str, body: bytes | None = None, secret: str = KEY) -> None:
        """A request with a key (none when it is empty) and, given one, a body."""
        lines = [f"{method} {target} HTTP/1.1", "Host: stoker.test", *headers]
        if secret:
            lines.append(f"Authorization: Bearer {secret}")
        if body is not None:
            lines.append(f"Content-Length: {len(body)}")
        await self.write("\r\n".join([*lines, "", ""]).encode() + (body or b""))

    async def write(self, data: bytes) -> None:
        """Bytes as they are."""
        self.writer.write(data)
        await self.writer.drain()

    async def head(self) -> Reply:
        """The head of an answer."""
        async with asyncio.timeout(PATIENCE_S):
            found = await read_head(self.reader)
        assert found is not None, "the connection was closed without an answer"
        return Reply(int(found[0][1]), found[1])

    async def reply(self, *, head: bool = False) -> Reply:
        """A whole answer; `head` for one to HEAD."""
        async with asyncio.timeout(PATIENCE_S):
            it = await self.head()
            if head or it.status in (204, 304) or it.status < 200:
                return it
            try:
                it.body = await read_body(self.reader, it.headers, to_end=True, trailers=it.trailers)
            except (asyncio.IncompleteReadError, ConnectionError):
                it.complete = False
            return it

    async def ended(self) -> bytes:
        """What comes until the connection ends."""
        async with asyncio.timeout(PATIENCE_S):
            try:
                return await self.reader.read()
            except ConnectionError:
                return b""

    def close(self) -> None:
        """Close it."""
        self.writer.close()

    def reset(self) -> None:
        """Drop it."""
        self.writer.transport.abort()


@contextlib.asynccontextmanager
async def site(
    folder: Path,
    *endpoints: EndpointEntry,
    keys: tuple[KeyEntry, ...] | None = None,
    table: bool = True,
    tick_s: float = 0.02,
    secure: ssl.SSLContext | None = None,
    **settings: Any,
) -> AsyncIterator[Site]:
    """A gateway with these endpoints, linked to a control; without `table`, control stays silent.

    With `secure` it speaks TLS, for which `connect` needs a context too.
    """
    options = Settings(data_dir=folder, **settings)
    options.paths.run.mkdir(parents=True, exist_ok=True)
    loop = asyncio.get_running_loop()
    control = FakeControl()
    if table:
        control.snapshot = Snapshot(1, endpoints, (key(),) if keys is None else keys)
    await control.open(options.paths.link_socket)
    clock = Clock(loop.time)
    gateway = Gateway(options, incarnation="test", time=clock)
    gateway.load()
    inside = await listen_inside(gateway, options.paths.attempts_socket("test"))

    async def tick() -> None:
        while True:
            await asyncio.sleep(tick_s)
            gateway.tick()

    tasks = [loop.create_task(gateway.link.run()), loop.create_task(tick())]
    server = await loop.create_server(lambda: ClientConnection(gateway), "127.0.0.1", 0, ssl=secure)
    it = Site(gateway, control, options, server.sockets[0].getsockname()[1], clock)
    try:
        if table:
            await until(lambda: control.acked >= 1)
        yield it
    finally:
        for client in it.connected:
            client.reset()
        server.close()
        inside.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        gateway.close()
        await control.close()
        assert not [task for task in tasks if task.done() and not task.cancelled() and task.exception()]
