"""Control's end of the link: the table that the gateway should have, and what the gateway says.

Listens on an inherited Unix socket. One gateway at a time: the newest connection is the one that counts.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import Protocol

import msgspec
import structlog

from stoker.link.messages import (
    LINE_BYTES_MAX,
    PROTOCOL_VERSION,
    Ack,
    Delta,
    EndpointEntry,
    Hello,
    KeyEntry,
    Message,
    Report,
    Snapshot,
    Wake,
    WorkerDown,
    decode_to_control,
    encode,
)

log = structlog.get_logger(__name__)

HELLO_TIMEOUT_S = 5.0
# A gateway that does not read: beyond this much unsent it is cut off, and gets a fresh snapshot when it comes back.
UNSENT_BYTES_MAX = 64 * 1024 * 1024


class LinkListener(Protocol):
    """Who wants to know. Called in the event loop; must not block."""

    def gateway_connected(self) -> None: ...

    def gateway_lost(self) -> None: ...

    def reported(self, report: Report) -> None: ...

    def woken(self, wake: Wake) -> None: ...

    def worker_down(self, down: WorkerDown) -> None: ...

    def acknowledged(self, seq: int) -> None: ...


class LinkServer:
    """The table, its sequence number, and the connection. Changes take effect at the gateway when `acked` reaches the
    number that `put_*` and `drop_*` return.
    """

    def __init__(self, *, incarnation: str, term: int, listener: LinkListener) -> None:
        self._hello = Hello(version=PROTOCOL_VERSION, incarnation=incarnation, term=term)
        self._listener = listener
        self._endpoints: dict[str, EndpointEntry] = {}
        self._keys: dict[str, KeyEntry] = {}
        self._seq = 1
        self._acked = 0
        self._writer: asyncio.StreamWriter | None = None
        # The incarnation of the gateway that spoke last.
        self.gateway = ""
        self._ready = False
        self._changed = asyncio.Condition()
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

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
        self._endpoints[entry.id] = entry
        return self._send_delta(lambda seq: Delta(seq, endpoints=(entry,)))

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

    def _send_delta(self, delta: Callable[[int], Delta]) -> int:
        self._seq += 1
        if self._ready:
            self._send(delta(self._seq))
        return self._seq

    def _send(self, message: Message) -> None:
        writer = self._writer
        if writer is None or writer.is_closing():
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
        self._send(Snapshot(self._seq, tuple(self._endpoints.values()), tuple(self._keys.values())))

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
        if self._writer is writer:
            self._writer = None
            self._listener.gateway_lost()

    async def converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Talk to one gateway until it goes, or a newer one takes its place. Raises what breaks the conversation."""
        writer.write(encode(self._hello))
        async with asyncio.timeout(HELLO_TIMEOUT_S):
            line = await reader.readline()
        if not line:
            return
        hello = decode_to_control(line)
        if not isinstance(hello, Hello):
            raise ValueError("a gateway must say hello first")
        if hello.version != PROTOCOL_VERSION:
            raise ValueError(f"the gateway speaks version {hello.version} of the link, not {PROTOCOL_VERSION}")
        previous, self._writer = self._writer, writer
        self.gateway = hello.incarnation
        if previous is not None:
            previous.transport.abort()
            self._listener.gateway_lost()
        self._acked = 0
        log.info("gateway_connected", gateway=hello.incarnation)
        self._listener.gateway_connected()
        if self._ready:
            self._send_snapshot()
        while line := await reader.readline():
            if self._writer is not writer:
                return
            await self._take(decode_to_control(line))

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
            case _:
                pass
