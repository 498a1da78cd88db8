"""The gateway's end of the link, against a control made of bytes."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from stoker.link.client import LinkClient
from stoker.link.messages import (
    PROTOCOL_VERSION,
    Ack,
    Delta,
    Hello,
    Message,
    Report,
    Snapshot,
    ToControl,
    decode_to_control,
    encode,
)


class Holder:
    """Remembers what it was given."""

    def __init__(self) -> None:
        self.given: list[Message] = []

    def take_snapshot(self, snapshot: Snapshot) -> None:
        """A whole table."""
        self.given.append(snapshot)

    def take_delta(self, delta: Delta) -> None:
        """A change."""
        self.given.append(delta)


class Peer:
    """Control's end of one connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    def say(self, *messages: Message) -> None:
        """Send these."""
        for message in messages:
            self._writer.write(encode(message))

    def say_bytes(self, data: bytes) -> None:
        """Send this."""
        self._writer.write(data)

    async def hear(self) -> ToControl | None:
        """The next message; None when the connection has ended."""
        try:
            line = await self._reader.readline()
        except ConnectionError:
            return None
        return decode_to_control(line) if line else None

    def end(self) -> None:
        """Close the connection."""
        self._writer.transport.abort()


class Link:
    """A client at work, and the connections it makes."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.holder = Holder()
        self.client = LinkClient(path, self.holder, incarnation="g")
        self._peers: asyncio.Queue[Peer] = asyncio.Queue()
        self._made: list[Peer] = []

    async def accept(self) -> Peer:
        """The next connection."""
        async with asyncio.timeout(30):
            return await self._peers.get()

    async def open(self) -> asyncio.Server:
        """Listen."""

        async def came(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            peer = Peer(reader, writer)
            self._made.append(peer)
            await self._peers.put(peer)

        return await asyncio.start_unix_server(came, str(self.path))

    def end(self) -> None:
        """Close all connections."""
        for peer in self._made:
            peer.end()


def linked(folder: Path, body: Callable[[Link], Awaitable[None]], *, listen: bool = True) -> None:
    """Run `body` beside a client."""

    async def main() -> None:
        link = Link(folder / "link.sock")
        server = await link.open() if listen else None
        running = asyncio.create_task(link.client.run())
        try:
            async with asyncio.timeout(60):
                await body(link)
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
            link.end()
            if server is not None:
                server.close()

    asyncio.run(main())


def hello(term: int = 1, version: int = PROTOCOL_VERSION) -> Hello:
    """Control's greeting."""
    return Hello(version, "c", term)


def test_it_says_hello_and_acknowledges_what_has_taken_effect(tmp_path: Path) -> None:
    async def body(link: Link) -> None:
        peer = await link.accept()
        assert await peer.hear() == Hello(PROTOCOL_VERSION, "g", 0)
        assert not link.client.connected
        peer.say(hello(), Snapshot(5, (), ()), Delta(6))
        assert [await peer.hear(), await peer.hear()] == [Ack(5), Ack(6)]
        assert link.holder.given == [Snapshot(5, (), ()), Delta(6)]
        assert link.client.connected
        link.client.send(Report(6, 1.0, ()))
        assert await peer.hear() == Report(6, 1.0, ())

    linked(tmp_path, body)


def test_it_comes_back_after_the_connection_is_lost(tmp_path: Path) -> None:
    async def body(link: Link) -> None:
        for seq in (1, 9):
            peer = await link.accept()
            await peer.hear()
            peer.say(hello(), Snapshot(seq, (), ()))
            assert await peer.hear() == Ack(seq)
            peer.end()
        await link.accept()
        assert not link.client.connected
        link.client.send(Report(1, 1.0, ()))

    linked(tmp_path, body)


def test_it_waits_for_a_control_that_is_not_there_yet(tmp_path: Path) -> None:
    async def body(link: Link) -> None:
        await asyncio.sleep(0.1)
        server = await link.open()
        peer = await link.accept()
        assert isinstance(await peer.hear(), Hello)
        server.close()

    linked(tmp_path, body, listen=False)


@pytest.mark.parametrize(
    "said",
    [
        pytest.param(encode(hello()) + encode(Snapshot(5, (), ())) + encode(Delta(7)), id="a change is missing"),
        pytest.param(encode(hello()) + encode(Delta(1)), id="a change before the table"),
        pytest.param(encode(Snapshot(5, (), ())), id="no greeting"),
        pytest.param(encode(hello(version=99)), id="another version"),
        pytest.param(encode(hello()) + b"nonsense\n", id="nonsense"),
    ],
)
def test_what_breaks_the_protocol_ends_the_connection(tmp_path: Path, said: bytes) -> None:
    async def body(link: Link) -> None:
        peer = await link.accept()
        await peer.hear()
        peer.say_bytes(said)
        while await peer.hear() is not None:
            pass
        again = await link.accept()
        assert isinstance(await again.hear(), Hello)
        assert Delta(7) not in link.holder.given

    linked(tmp_path, body)


def test_a_control_of_the_past_is_refused(tmp_path: Path) -> None:
    async def body(link: Link) -> None:
        for term, taken in ((3, True), (2, False), (3, True), (4, True)):
            peer = await link.accept()
            await peer.hear()
            peer.say(hello(term), Snapshot(term, (), ()))
            assert await peer.hear() == (Ack(term) if taken else None)
            peer.end()

    linked(tmp_path, body)


def test_a_gateway_that_drains_does_not_come_back(tmp_path: Path) -> None:
    async def body(link: Link) -> None:
        peer = await link.accept()
        await peer.hear()
        peer.say(hello(), Snapshot(1, (), ()))
        await peer.hear()
        link.client.stop_reconnecting()
        peer.end()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(link.accept(), 0.3)

    linked(tmp_path, body)
