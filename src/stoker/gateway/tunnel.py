"""A WebSocket after the worker's 101: bytes from one transport to the other, with back-pressure.

Knows nothing of what passes. Made by `gateway.exchange`, whose slot it holds until both ends are done.
"""

from __future__ import annotations

import asyncio
from typing import Final, Protocol

# The client has said all it had to say: time for the worker to do so as well.
HALF_CLOSED_S_MAX: Final = 30.0


class Owner(Protocol):
    """The exchange that the tunnel belongs to."""

    def tunnel_ended(self, *, cut: bool) -> None:
        """The worker's end is closed. `cut`: not as it should be. Called once at most."""


class ClientEnd(Protocol):
    """Who else wants to know of the end of the client's transport: its connection."""

    def connection_lost(self, exc: Exception | None) -> None: ...


class Clock(Protocol):
    """The event loop's time at the last sweep."""

    @property
    def now(self) -> float: ...


class Side(asyncio.BufferedProtocol):
    """One end: what is read here is written to `other`."""

    __slots__ = ("_tunnel", "_view", "other", "transport")

    other: Side

    def __init__(self, tunnel: Tunnel, transport: asyncio.Transport, view: memoryview) -> None:
        self._tunnel = tunnel
        self._view = view
        self.transport: asyncio.Transport | None = transport

    def send(self, data: bytes) -> None:
        """Send to this end."""
        if self.transport is not None:
            self.transport.write(data)

    def close(self) -> None:
        """Close it when what was written is sent; at once when the other side does not keep up."""
        if self.transport is not None:
            if self.transport.get_write_buffer_size():
                self.transport.abort()
            else:
                self.transport.close()

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._view

    def buffer_updated(self, nbytes: int) -> None:
        self._tunnel.passed()
        self.other.send(bytes(self._view[:nbytes]))

    def eof_received(self) -> bool:
        return self._tunnel.half_ended(self)

    def pause_writing(self) -> None:
        if self.other.transport is not None and not self.other.transport.is_closing():
            self.other.transport.pause_reading()

    def resume_writing(self) -> None:
        self._tunnel.passed()
        if self.other.transport is not None and not self.other.transport.is_closing():
            self.other.transport.resume_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        self.transport = None
        self._tunnel.lost(self, exc)


class Tunnel:
    """Both ends of one WebSocket. `active_at` is when something last passed."""

    __slots__ = ("_client", "_client_end", "_clock", "_half_closed", "_owner", "_worker", "active_at")

    def __init__(
        self,
        owner: Owner,
        clock: Clock,
        *,
        client: asyncio.Transport,
        client_end: ClientEnd,
        worker: asyncio.Transport,
        view: memoryview,
    ) -> None:
        self._owner = owner
        self._clock = clock
        self._client_end = client_end
        self.active_at = clock.now
        self._half_closed = False
        self._client = Side(self, client, view)
        self._worker = Side(self, worker, view)
        self._client.other = self._worker
        self._worker.other = self._client
        client.set_protocol(self._client)
        worker.set_protocol(self._worker)

    def start(self, *, from_client: bytes, from_worker: bytes) -> None:
        """Pass on what came early."""
        if from_client:
            self._worker.send(from_client)
        if from_worker:
            self._client.send(from_worker)

    def passed(self) -> None:
        """Something moved."""
        self.active_at = self._clock.now

    def half_ended(self, side: Side) -> bool:
        """A side will send nothing more. True when it may still listen.

        A worker that closes is done with the WebSocket; a client may wait for the worker's last words, but over TLS.
        """
        transport = side.transport
        if side is self._worker or transport is None or not transport.can_write_eof():
            return False
        self.passed()
        self._half_closed = True
        if self._worker.transport is not None:
            self._worker.transport.write_eof()
        return True

    def overdue(self, now: float, idle_s_max: float | None) -> bool:
        """Has nothing passed for too long?"""
        silent_s = now - self.active_at
        return (idle_s_max is not None and silent_s > idle_s_max) or (
            self._half_closed and silent_s > HALF_CLOSED_S_MAX
        )

    def lost(self, side: Side, exc: Exception | None) -> None:
        """A transport is closed."""
        if side is self._client:
            self._client_end.connection_lost(exc)
        else:
            self._owner.tunnel_ended(cut=exc is not None)

    def end(self) -> None:
        """Let go of the worker."""
        self._worker.close()
