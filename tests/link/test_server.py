"""Control's end of the link, against gateways made of bytes."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import uvloop

from stoker.link import server as module
from stoker.link.messages import (
    PROTOCOL_VERSION,
    Ack,
    Delta,
    EndpointEntry,
    Freed,
    Hello,
    KeyEntry,
    Message,
    Report,
    ReservationEntry,
    Snapshot,
    ToGateway,
    Wake,
    WorkerDown,
    decode_to_gateway,
    encode,
)
from stoker.link.server import LinkServer


class Listener:
    """Remembers what it was told."""

    def __init__(self) -> None:
        self.heard: list[object] = []

    def gateway_connected(self) -> None:
        self.heard.append("connected")

    def gateway_lost(self) -> None:
        self.heard.append("lost")

    def gateway_leaves(self) -> None:
        self.heard.append("leaves")

    def reported(self, report: Report) -> None:
        self.heard.append(report)

    def woken(self, wake: Wake) -> None:
        self.heard.append(wake)

    def worker_down(self, down: WorkerDown) -> None:
        self.heard.append(down)

    def freed(self, freed: Freed) -> None:
        self.heard.append(freed)

    def leaver_reported(self, incarnation: str, report: Report) -> None:
        self.heard.append((incarnation, report))

    def gateway_left(self, incarnation: str) -> None:
        self.heard.append(f"left {incarnation}")

    def acknowledged(self, seq: int) -> None:
        self.heard.append(seq)


class Peer:
    """A gateway's end of one connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self.writer = reader, writer

    def say(self, *messages: Message) -> None:
        for message in messages:
            self.writer.write(encode(message))

    async def hear(self) -> ToGateway | None:
        """The next message; None when the connection has ended."""
        try:
            async with asyncio.timeout(30):
                line = await self._reader.readline()
        except ConnectionError:
            return None
        return decode_to_gateway(line) if line else None


class Link:
    """A server at work on a socket."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.listener = Listener()
        self.server = LinkServer(incarnation="c", term=3, listener=self.listener)
        self.peers: list[Peer] = []

    async def connect(self) -> Peer:
        reader, writer = await asyncio.open_unix_connection(str(self.path), limit=2**24)
        self.peers.append(Peer(reader, writer))
        return self.peers[-1]

    async def greet(self) -> Peer:
        """Connect and say hello."""
        peer = await self.connect()
        peer.say(Hello(PROTOCOL_VERSION, "g", 0))
        assert await peer.hear() == Hello(PROTOCOL_VERSION, "c", 3)
        return peer

    async def until(self, holds: Callable[[], bool]) -> None:
        async with asyncio.timeout(30):
            while not holds():  # noqa: ASYNC110 - it has no event for everything that may be waited for
                await asyncio.sleep(0.002)


def linked(folder: Path, body: Callable[[Link], Awaitable[None]]) -> None:
    async def main() -> None:
        link = Link(folder / "link.sock")
        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind(str(link.path))
            listening.listen()
            await link.server.serve(listening)
            try:
                async with asyncio.timeout(60):
                    await body(link)
            finally:
                await link.server.close()
                for peer in link.peers:
                    peer.writer.transport.abort()
                    await asyncio.gather(peer.writer.wait_closed(), return_exceptions=True)

    asyncio.run(main())


def entry(name: str, **more: Any) -> EndpointEntry:
    values: dict[str, Any] = {
        "id": name,
        "number": 1,
        "project": 1,
        "slug": name,
        "name": name,
        "access": "project",
        "models": (),
        "addresses": (),
        "workers": (),
        "waiting_max": 1,
        "wait_s_max": 1.0,
        "connect_s": 1.0,
        "first_byte_s": None,
        "idle_s": None,
        "total_s": None,
        **more,
    }
    return EndpointEntry(**values)


def key(digest: str) -> KeyEntry:
    return KeyEntry(digest=digest, id=digest, project=1, invoke=True)


def test_a_gateway_gets_the_whole_table_and_then_what_changes(tmp_path: Path) -> None:
    async def body(link: Link) -> None:
        first, changed = entry("a"), entry("a", refusal="stopped")
        seq = link.server.put_endpoint(first)
        link.server.open()
        peer = await link.greet()
        assert await peer.hear() == Snapshot(seq, (first,), ())
        assert link.server.put_endpoint(first) == seq, "the same again is no change"
        link.server.put_endpoint(changed)
        link.server.put_key(key("d"))
        link.server.drop_key("unknown")
        link.server.drop_endpoint("unknown")
        link.server.drop_key("d")
        link.server.drop_endpoint("a")
        assert [await peer.hear() for _ in range(4)] == [
            Delta(seq + 1, endpoints=(changed,)),
            Delta(seq + 2, keys=(key("d"),)),
            Delta(seq + 3, keys_gone=("d",)),
            Delta(seq + 4, endpoints_gone=("a",)),
        ]
        assert link.server.seq == seq + 4

    linked(tmp_path, body)


def test_before_the_table_is_complete_a_gateway_gets_nothing_of_it(tmp_path: Path) -> None:
    async def body(link: Link) -> None:
        peer = await link.greet()
        await link.until(lambda: link.server.connected)
        link.server.put_endpoint(entry("a"))
        link.server.put_endpoint(entry("b"))
        link.server.open()
        assert await peer.hear() == Snapshot(link.server.seq, (entry("a"), entry("b")), ())

    linked(tmp_path, body)


def test_a_wait_ends_with_the_acknowledgement_or_with_its_time(tmp_path: Path) -> None:
    async def body(link: Link) -> None:
        link.server.open()
        seq = link.server.put_endpoint(entry("a"))
        assert not await link.server.wait_acked(seq, timeout_s=0.01), "nobody is there"
        peer = await link.greet()
        await peer.hear()
        assert not await link.server.wait_acked(seq, timeout_s=0.01)
        waiting = asyncio.create_task(link.server.wait_acked(seq, timeout_s=10))
        peer.say(Ack(seq - 1), Ack(seq), Ack(seq - 1))
        assert await waiting
        await link.until(lambda: link.listener.heard.count(seq - 1) == 2)
        assert link.server.acked == seq, "it never goes back"
        assert await link.server.wait_acked(seq, timeout_s=0)
        peer.writer.close()
        await link.until(lambda: not link.server.connected)
        assert link.server.acked == 0, "a gateway that is gone has acknowledged nothing"

    linked(tmp_path, body)


def test_a_cancelled_wait_is_cancelled_though_the_acknowledgement_comes_with_it(tmp_path: Path) -> None:
    async def body(link: Link) -> None:
        link.server.open()
        peer = await link.greet()
        await peer.hear()
        for round_ in range(50):
            seq = link.server.put_key(key(str(round_)))
            waiting = asyncio.create_task(link.server.wait_acked(seq, timeout_s=10))
            await asyncio.sleep(0)
            await link.server._take(Ack(seq))
            for _ in range(round_ % 5):
                await asyncio.sleep(0)
            if waiting.done():
                continue
            waiting.cancel()
            await asyncio.wait([waiting])
            assert waiting.cancelled()

    linked(tmp_path, body)


def test_what_a_gateway_says_is_handed_on(tmp_path: Path) -> None:
    async def body(link: Link) -> None:
        link.server.open()
        peer = await link.greet()
        said: list[Message] = [Report(1, 2.0, ()), Wake("e", 3), WorkerDown("e", "w", "refused")]
        peer.say(*said)
        await link.until(lambda: len(link.listener.heard) == 4)
        assert link.listener.heard == ["connected", *said]

    linked(tmp_path, body)


def test_the_newest_gateway_is_the_one_that_counts(tmp_path: Path) -> None:
    async def body(link: Link) -> None:
        link.server.open()
        old = await link.greet()
        assert isinstance(await old.hear(), Snapshot)
        old.say(Ack(link.server.seq))
        await link.until(lambda: link.server.acked > 0)
        new = await link.greet()
        assert isinstance(await new.hear(), Snapshot)
        assert link.server.acked == 0, "what the old one acknowledged says nothing of the new one"
        assert await old.hear() is None
        assert link.listener.heard == ["connected", 1, "lost", "connected"]
        new.say(Wake("e", 1))
        await link.until(lambda: Wake("e", 1) in link.listener.heard)
        link.server.put_endpoint(entry("a"))
        assert isinstance(await new.hear(), Delta)
        assert link.listener.heard.count("lost") == 1, "the end of the old one is no loss of the new one"

    linked(tmp_path, body)


@pytest.mark.parametrize("successor", [False, True])
def test_gateways_that_gave_up_before_anybody_listened_do_not_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, successor: bool
) -> None:
    monkeypatch.setattr(module, "LEAVE_WAIT_S", 0.05)

    async def main() -> None:
        link = Link(tmp_path / "link.sock")
        link.server.open()
        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind(str(link.path))
            listening.listen()
            for _ in range(5):
                with socket.socket(socket.AF_UNIX) as gone:
                    gone.connect(str(link.path))
                    gone.sendall(encode(Hello(PROTOCOL_VERSION, "g", 0, successor=successor)))
            await link.server.serve(listening)
            try:
                peer = await link.greet()
                assert isinstance(await peer.hear(), Snapshot)
                await asyncio.sleep(0.1 if successor else 0)
                peer.say(Wake("e", 1))
                await link.until(lambda: Wake("e", 1) in link.listener.heard)
                assert link.listener.heard == ["connected", Wake("e", 1)]
            finally:
                await link.server.close()
                peer.writer.transport.abort()

    # The loop that control runs on: it reads before it finds that it cannot write.
    uvloop.run(main())


@pytest.mark.parametrize(
    "said",
    [
        pytest.param(encode(Hello(PROTOCOL_VERSION + 1, "g", 0)), id="a newer protocol"),
        pytest.param(encode(Hello(PROTOCOL_VERSION - 1, "g", 0)), id="an older protocol"),
        pytest.param(encode(Ack(1)), id="no greeting"),
        pytest.param(b"nonsense\n", id="nonsense"),
        pytest.param(b"\xff\xfe\n", id="no text"),
        pytest.param(b'{"type":"hello"}\n', id="half a greeting"),
        pytest.param(b"\n", id="nothing"),
    ],
)
def test_who_does_not_greet_properly_is_no_gateway(tmp_path: Path, said: bytes) -> None:
    async def body(link: Link) -> None:
        link.server.open()
        good = await link.greet()
        assert isinstance(await good.hear(), Snapshot)
        bad = await link.connect()
        bad.writer.write(said)
        assert isinstance(await bad.hear(), Hello)
        assert await bad.hear() is None
        assert link.listener.heard == ["connected"]
        good.say(Ack(1))
        await link.until(lambda: link.server.acked == 1)

    linked(tmp_path, body)


@pytest.mark.parametrize("line", [b"nonsense\n", b'{"type":"report"}\n', b'{"type":"delta","seq":1}\n'])
def test_a_gateway_that_talks_nonsense_later_is_let_go(tmp_path: Path, line: bytes) -> None:
    async def body(link: Link) -> None:
        link.server.open()
        peer = await link.greet()
        assert isinstance(await peer.hear(), Snapshot)
        peer.writer.write(line)
        assert await peer.hear() is None
        await link.until(lambda: link.listener.heard == ["connected", "lost"])
        again = await link.greet()
        assert isinstance(await again.hear(), Snapshot)

    linked(tmp_path, body)


def test_fields_that_are_not_known_are_ignored(tmp_path: Path) -> None:
    async def body(link: Link) -> None:
        link.server.open()
        peer = await link.connect()
        peer.writer.write(b'{"type":"hello","version":1,"incarnation":"g","term":0,"colour":"red"}\n')
        peer.writer.write(b'{"type":"ack","seq":1,"mood":[1,2]}\n')
        await link.until(lambda: link.server.acked == 1)

    linked(tmp_path, body)


def test_a_gateway_that_does_not_read_is_cut_off_and_stalls_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "UNSENT_BYTES_MAX", 100_000)

    async def body(link: Link) -> None:
        link.server.open()
        await link.greet()
        await link.until(lambda: link.server.connected)
        for number in range(200):
            link.server.put_endpoint(entry(f"e{number}", refusal_text="x" * 10_000))
        await link.until(lambda: not link.server.connected)
        again = await link.greet()
        snapshot = await again.hear()
        assert isinstance(snapshot, Snapshot)
        assert len(snapshot.endpoints) == 200

    linked(tmp_path, body)


def test_closing_lets_the_gateway_go(tmp_path: Path) -> None:
    async def body(link: Link) -> None:
        link.server.open()
        peer = await link.greet()
        await peer.hear()
        silent = await link.connect()
        assert isinstance(await silent.hear(), Hello)
        await link.server.close()
        assert await peer.hear() is None
        assert await silent.hear() is None
        with pytest.raises(ConnectionError):
            await link.connect()

    linked(tmp_path, body)


def test_tickets_are_handed_over_and_again_to_a_gateway_that_comes_later(tmp_path: Path) -> None:
    async def body(link: Link) -> None:
        link.server.open()
        link.server.put_reservation(ReservationEntry("old", "e", "w", 0.0))
        link.server.put_reservation(ReservationEntry("t", "e", "w", 60.0, 2.0))
        peer = await link.greet()
        snapshot = await peer.hear()
        assert isinstance(snapshot, Snapshot)
        [ticket] = snapshot.reservations
        assert (ticket.id, ticket.worker, ticket.cost) == ("t", "w", 2.0)
        assert 50 < ticket.expires_s <= 60
        link.server.drop_reservation("t")
        link.server.drop_reservation("t")
        assert await peer.hear() == Delta(snapshot.seq + 1, reservations_gone=("t",))

    linked(tmp_path, body)


def test_tickets_that_are_over_are_not_kept(tmp_path: Path) -> None:
    async def body(link: Link) -> None:
        link.server.open()
        for number in range(1_000):
            link.server.put_reservation(ReservationEntry(str(number), "e", "w", 0.0))
        assert len(link.server._reservations) < 100
        assert link.server._reservations_left() == ()

    linked(tmp_path, body)


def test_what_comes_free_is_passed_on(tmp_path: Path) -> None:
    async def body(link: Link) -> None:
        link.server.open()
        peer = await link.greet()
        peer.say(Freed("e", 3))
        await link.until(lambda: Freed("e", 3) in link.listener.heard)

    linked(tmp_path, body)
