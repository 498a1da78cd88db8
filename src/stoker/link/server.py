"""Control's end of the link: the table that the gateway should have, and what the gateway says.

Listens on an inherited Unix socket. One gateway at a time: the newest connection is the one that counts.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Iterable
from typing import Protocol

import msgspec
import structlog

from stoker.link.leaving import Leaver
from stoker.link.messages import (
    LINE_BYTES_MAX,
    PROTOCOL_VERSION,
    Ack,
    Delta,
    EndpointEntry,
    Freed,
    Hello,
    KeyEntry,
    Leaving,
    Message,
    Report,
    ReservationEntry,
    Snapshot,
    Wake,
    WorkerDown,
    decode_to_control,
    encode,
)

log = structlog.get_logger(__name__)

HELLO_TIMEOUT_S = 5.0
# How long a successor waits for its predecessor to say what it keeps.
LEAVE_WAIT_S = 3.0
# A gateway that does not read: beyond this much unsent it is cut off, and gets a fresh snapshot when it comes back.
UNSENT_BYTES_MAX = 64 * 1024 * 1024
# So many tickets may be kept before those that are over are looked for.
_RESERVATIONS_MIN = 64


class LinkListener(Protocol):
    """Who wants to know. Called in the event loop; must not block."""

    def gateway_connected(self) -> None: ...

    def gateway_lost(self) -> None: ...

    def gateway_leaves(self) -> None: ...

    def reported(self, report: Report) -> None: ...

    def woken(self, wake: Wake) -> None: ...

    def worker_down(self, down: WorkerDown) -> None: ...

    def freed(self, freed: Freed) -> None: ...

    def leaver_reported(self, incarnation: str, report: Report) -> None: ...

    def gateway_left(self, incarnation: str) -> None: ...

    def acknowledged(self, seq: int) -> None: ...


class LinkServer:
    """The table, its sequence number, and the connection. Changes take effect at the gateway when `acked` reaches the
    number that `put_*` and `drop_*` return.
    """

    def __init__(
        self, *, incarnation: str, term: int, listener: LinkListener, management_hosts: tuple[str, ...] = ()
    ) -> None:
        self._hello = Hello(version=PROTOCOL_VERSION, incarnation=incarnation, term=term)
        self._listener = listener
        self._management_hosts = management_hosts
        self._endpoints: dict[str, EndpointEntry] = {}
        self._keys: dict[str, KeyEntry] = {}
        # With the event loop's time at which each is over.
        self._reservations: dict[str, tuple[ReservationEntry, float]] = {}
        self._reservations_swept_at = _RESERVATIONS_MIN
        self._seq = 1
        self._acked = 0
        self._writer: asyncio.StreamWriter | None = None
        self._attempts: dict[asyncio.StreamWriter, str] = {}
        # The incarnation of the gateway that spoke last.
        self.gateway = ""
        self._leavers: dict[asyncio.StreamWriter, Leaver] = {}
        self._left = asyncio.Event()
        self._ready = False
        self._changed = asyncio.Condition()
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def gateways(self) -> int:
        """How many are connected, those on their way out included."""
        return len(self._leavers) + (self._writer is not None)

    @property
    def attempts(self) -> tuple[str, ...]:
        """The names of the gateways' internal sockets, that of the one that stays first."""
        writers = (self._writer, *self._leavers)
        return tuple(name for writer in writers if writer is not None and (name := self._attempts.get(writer)))

    @property
    def connected(self) -> bool:
        """Is a gateway there that has answered our Hello?"""
        return self._writer is not None

    @property
    def acked(self) -> int:
        """The gateway's table is at least this new; 0 when no gateway is there."""
        return self._acked if self.connected else 0

    @property
    def seq(self) -> int:
        """The number of the newest change."""
        return self._seq

    def endpoint(self, endpoint: str) -> EndpointEntry | None:
        """The entry as it was last put."""
        return self._endpoints.get(endpoint)

    def put_endpoint(self, entry: EndpointEntry) -> int:
        """Add or replace an endpoint; an equal entry changes nothing."""
        if self._endpoints.get(entry.id) == entry:
            return self._seq
        before = self._endpoints.get(entry.id)
        self._endpoints[entry.id] = entry
        known = frozenset() if before is None else frozenset(worker.id for worker in before.workers)
        for_leavers = {writer: leaver.entry(entry, known) for writer, leaver in self._leavers.items()}
        self._seq += 1
        if self._ready:
            self._send(Delta(self._seq, endpoints=(self._without_kept(entry),)))
            for writer, theirs in for_leavers.items():
                self._write(writer, Delta(self._seq, endpoints=(theirs,)))
        return self._seq

    def _without_kept(self, entry: EndpointEntry) -> EndpointEntry:
        """The entry for the gateway that stays: without the slots that leaving ones need."""
        if not self._leavers:
            return entry
        workers = tuple(
            msgspec.structs.replace(worker, slots=max(0, worker.slots - self.kept(entry.id, worker.id)))
            for worker in entry.workers
        )
        return msgspec.structs.replace(entry, workers=workers)

    def kept(self, endpoint: str, worker: str) -> int:
        """Slots of this worker that gateways on their way out need still."""
        return sum(leaver.keeps(endpoint, worker) for leaver in self._leavers.values())

    def _say_again(self, endpoints: Iterable[str]) -> None:
        """A leaving gateway has given up slots: they are the successor's."""
        entries = [self._endpoints[endpoint] for endpoint in endpoints if endpoint in self._endpoints]
        if not entries or not self._ready:
            return
        self._seq += 1
        self._send(Delta(self._seq, endpoints=tuple(self._without_kept(entry) for entry in entries)))
        for writer in self._leavers:
            # Its own numbers stay without a gap.
            self._write(writer, Delta(self._seq))

    def drop_endpoint(self, endpoint: str) -> int:
        """Remove an endpoint; unknown ones change nothing."""
        if self._endpoints.pop(endpoint, None) is None:
            return self._seq
        return self._send_delta(lambda seq: Delta(seq, endpoints_gone=(endpoint,)))

    def put_key(self, entry: KeyEntry) -> int:
        """Add or replace a key."""
        if self._keys.get(entry.digest) == entry:
            return self._seq
        self._keys[entry.digest] = entry
        return self._send_delta(lambda seq: Delta(seq, keys=(entry,)))

    def drop_key(self, digest: str) -> int:
        """Remove a key; unknown ones change nothing."""
        if self._keys.pop(digest, None) is None:
            return self._seq
        return self._send_delta(lambda seq: Delta(seq, keys_gone=(digest,)))

    def put_reservation(self, entry: ReservationEntry) -> int:
        """Hand over a ticket. It is over by itself after `expires_s`."""
        now = asyncio.get_running_loop().time()
        if len(self._reservations) >= self._reservations_swept_at:
            # Not at each: a look through all of them for every new one would be felt.
            self._reservations = {id: kept for id, kept in self._reservations.items() if kept[1] > now}
            self._reservations_swept_at = max(_RESERVATIONS_MIN, 2 * len(self._reservations))
        self._reservations[entry.id] = (entry, now + entry.expires_s)
        return self._send_delta(lambda seq: Delta(seq, reservations=(entry,)))

    def drop_reservation(self, id: str) -> int:
        """Take a ticket back; unknown ones change nothing."""
        if self._reservations.pop(id, None) is None:
            return self._seq
        return self._send_delta(lambda seq: Delta(seq, reservations_gone=(id,)))

    def _reservations_left(self) -> tuple[ReservationEntry, ...]:
        now = asyncio.get_running_loop().time()
        return tuple(
            msgspec.structs.replace(entry, expires_s=ends_at - now)
            for entry, ends_at in self._reservations.values()
            if ends_at > now
        )

    def _send_delta(self, delta: Callable[[int], Delta]) -> int:
        self._seq += 1
        if self._ready:
            message = delta(self._seq)
            self._send(message)
            for writer in self._leavers:
                self._write(writer, message)
        return self._seq

    def _send(self, message: Message) -> None:
        if self._writer is not None:
            self._write(self._writer, message)

    def _write(self, writer: asyncio.StreamWriter, message: Message) -> None:
        if writer.is_closing():
            return
        if writer.transport.get_write_buffer_size() > UNSENT_BYTES_MAX:
            log.error("gateway_does_not_read", unsent_bytes=writer.transport.get_write_buffer_size())
            writer.transport.abort()
            return
        writer.write(encode(message))

    def open(self) -> None:
        """The table is complete: from now on gateways get it. Until then one that has said hello waits."""
        self._ready = True
        if self._writer is not None:
            self._send_snapshot()

    def _send_snapshot(self) -> None:
        reservations = self._reservations_left() if self._reservations else ()
        endpoints = tuple(self._without_kept(entry) for entry in self._endpoints.values())
        self._send(Snapshot(self._seq, endpoints, tuple(self._keys.values()), reservations, self._management_hosts))

    async def wait_acked(self, seq: int, *, timeout_s: float) -> bool:
        """Wait until the gateway has taken over `seq`. False when it did not within `timeout_s`, or none is there."""

        try:
            # Not `wait_for`, which in Python 3.11 loses a cancellation that comes together with the acknowledgement.
            async with asyncio.timeout(timeout_s), self._changed:
                await self._changed.wait_for(lambda: self.acked >= seq)
        except TimeoutError:
            return False
        return True

    async def serve(self, listening: socket.socket) -> None:
        """Accept gateways on the socket, until `close`."""
        self._server = await asyncio.start_unix_server(self._accept, sock=listening, limit=LINE_BYTES_MAX)

    async def close(self) -> None:
        """Stop listening and let go of the gateway, which goes on with its table."""
        if self._server is not None:
            self._server.close()
        if self._writer is not None:
            self._writer.close()
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            await self.converse(reader, writer)
        except (OSError, ValueError, msgspec.DecodeError, TimeoutError) as exc:
            log.warning("link_broken", error=str(exc))
        except asyncio.CancelledError:
            # Only `close` cancels; the stream's own done-callback must not log it as a crash.
            pass
        finally:
            self._tasks.discard(task)
            self.gone(writer)

    def gone(self, writer: asyncio.StreamWriter) -> None:
        """A conversation is over."""
        writer.close()
        self._attempts.pop(writer, None)
        leaver = self._leavers.pop(writer, None)
        if leaver is not None:
            log.info("gateway_left", gateway=leaver.incarnation)
            self._listener.gateway_left(leaver.incarnation)
            self._say_again(self._endpoints)
        if self._writer is writer:
            self._writer = None
            self._listener.gateway_lost()

    async def converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Talk to one gateway until it goes, or a newer one takes its place. Raises what breaks the conversation."""
        writer.write(encode(self._hello))
        async with asyncio.timeout(HELLO_TIMEOUT_S):
            line = await reader.readline()
        if not line or _has_gone(reader, writer):
            # One that gave up while control was not there yet; it has come again since.
            return
        hello = decode_to_control(line)
        if not isinstance(hello, Hello):
            raise ValueError("a gateway must say hello first")
        if hello.version != PROTOCOL_VERSION:
            raise ValueError(f"the gateway speaks version {hello.version} of the link, not {PROTOCOL_VERSION}")
        self._attempts[writer] = hello.attempts
        if hello.leaving:
            await self._see_off(reader, writer, hello)
            return
        if hello.successor:
            await self._wait_for_room()
            if _has_gone(reader, writer):
                return
        previous, self._writer = self._writer, writer
        self.gateway = hello.incarnation
        if previous is not None:
            previous.transport.abort()
            self._listener.gateway_lost()
        self.gateway = hello.incarnation
        self._acked = 0
        log.info("gateway_connected", gateway=hello.incarnation)
        self._listener.gateway_connected()
        if self._ready:
            self._send_snapshot()
        while line := await reader.readline():
            if writer in self._leavers:
                self._hear_leaver(writer, decode_to_control(line))
            elif self._writer is not writer:
                return
            elif isinstance(message := decode_to_control(line), Leaving):
                self._writer = None
                self._leavers[writer] = Leaver(hello.incarnation)
                self._listener.gateway_leaves()
            else:
                await self._take(message)

    async def _wait_for_room(self) -> None:
        """The gateway that is there is about to leave: its successor gets its table after that, or after a moment."""
        if self._writer is None and all(leaver.told for leaver in self._leavers.values()):
            return
        self._left.clear()
        try:
            async with asyncio.timeout(LEAVE_WAIT_S):
                await self._left.wait()
        except TimeoutError:
            log.warning("gateway_does_not_leave")

    async def _see_off(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, hello: Hello) -> None:
        """A gateway on its way out that had lost its connection."""
        self._leavers[writer] = Leaver(hello.incarnation)
        self._write(writer, Snapshot(self._seq, tuple(self._endpoints.values()), tuple(self._keys.values())))
        while line := await reader.readline():
            self._hear_leaver(writer, decode_to_control(line))

    def _hear_leaver(self, writer: asyncio.StreamWriter, message: object) -> None:
        leaver = self._leavers[writer]
        if isinstance(message, Report):
            changed = leaver.take(message)
            self._left.set()
            self._listener.leaver_reported(leaver.incarnation, message)
            self._say_again(changed)
        elif isinstance(message, WorkerDown):
            self._listener.worker_down(message)

    async def _take(self, message: object) -> None:
        match message:
            case Ack(seq=seq):
                async with self._changed:
                    self._acked = max(self._acked, seq)
                    self._changed.notify_all()
                self._listener.acknowledged(seq)
            case Report():
                self._listener.reported(message)
            case Wake():
                self._listener.woken(message)
            case WorkerDown():
                self._listener.worker_down(message)
            case Freed():
                self._listener.freed(message)
            case _:
                pass


def _has_gone(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
    return reader.at_eof() or writer.transport.is_closing()
