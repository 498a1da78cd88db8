"""Connections move from a gateway that leaves to its successor, so that clients notice nothing of an upgrade.

One that rests between two requests is passed on as it is (SCM_RIGHTS, see unix(7)): what has arrived meanwhile is still
in the kernel, for the successor to read. What TLS knows of a connection cannot be passed on. There the successor gets
one end of a socket pair, and the gateway that leaves passes bytes until the successor's next answer ends it.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Final, Protocol

import structlog

from stoker.gateway.tunnel import Clock, Tunnel

log = structlog.get_logger(__name__)

# A gateway that leaves while the one before it still does: more are not there at once.
_GIVERS_MAX: Final = 16
# One line and one descriptor for each connection: what one read takes.
_READ_BYTES: Final = 4_096
_DESCRIPTORS: Final = 64

# The address of the client whose bytes come through a socket pair; `None`: the socket itself knows.
Make = Callable[[str | None], asyncio.BaseProtocol]


class Client(Protocol):
    """The connection that is passed on: that of a client."""

    @property
    def address(self) -> str: ...

    def switch(self, head: bytes) -> tuple[asyncio.Transport, bytes] | None: ...

    def converse(self, conversation: Relay) -> None: ...

    def close(self) -> None: ...

    def abort(self) -> None: ...

    def connection_lost(self, exc: Exception | None) -> None: ...


class Successor:
    """The next gateway, as the one that leaves sees it. `gone`: it takes nothing any more."""

    def __init__(self, path: Path, clock: Clock, view: memoryview) -> None:
        """`view` is the buffer that bytes are passed through. Raises `OSError` when nobody takes over there."""
        self.gone = False
        self._clock = clock
        self._view = view
        self._queue: deque[tuple[bytes, int]] = deque()
        self._relays: set[asyncio.Task[None]] = set()
        self._socket = socket.socket(socket.AF_UNIX)
        try:
            self._socket.setblocking(False)
            self._socket.connect(str(path))
        except OSError:
            self._socket.close()
            raise

    def move(self, descriptor: int, address: str = "") -> None:
        """Pass on a client's socket, or one through which yet another gateway relays the client at this address. The
        caller closes its own.
        """
        try:
            self._take(os.dup(descriptor), address)
        except OSError as exc:
            log.warning("connection_not_passed_on", error=str(exc))

    def _take(self, descriptor: int, address: str) -> None:
        self._queue.append((address.encode() + b"\n", descriptor))
        if len(self._queue) == 1:
            self._send()

    def relay(self, client: Client) -> None:
        """Serve a client of TLS by the successor, whose answers say that it is to connect anew."""
        handed = client.switch(b"")
        if handed is None:
            return
        transport, early = handed
        # Until there is somewhere to pass it to.
        transport.pause_reading()
        try:
            ours, theirs = socket.socketpair()
        except OSError as exc:
            log.warning("connection_not_passed_on", error=str(exc))
            client.abort()
            return
        ours.setblocking(False)
        relay = Relay(client, transport)
        client.converse(relay)
        self._take(theirs.detach(), client.address)
        task = asyncio.get_running_loop().create_task(relay.start(ours, early, self._clock, self._view))
        self._relays.add(task)
        task.add_done_callback(self._relays.discard)

    def _send(self) -> None:
        loop = asyncio.get_running_loop()
        while self._queue:
            line, descriptor = self._queue[0]
            try:
                # A line is far shorter than what such a socket takes whole or not at all.
                socket.send_fds(self._socket, [line], [descriptor])
            except (BlockingIOError, InterruptedError):
                loop.add_writer(self._socket, self._send)
                return
            except OSError as exc:
                log.warning("successor_takes_nothing", error=str(exc), connections=len(self._queue))
                self.close()
                return
            self._queue.popleft()
            os.close(descriptor)
        if not self.gone:
            loop.remove_writer(self._socket)

    def close(self) -> None:
        """Nothing more is passed on; what still waits for that is closed."""
        self.gone = True
        if self._socket.fileno() >= 0:
            asyncio.get_running_loop().remove_writer(self._socket)
            self._socket.close()
        while self._queue:
            os.close(self._queue.popleft()[1])


class Relay:
    """A client whose TLS ends here and whose requests the successor answers. Its connection's `Conversation`."""

    def __init__(self, client: Client, transport: asyncio.Transport) -> None:
        self._client = client
        self._transport = transport
        self._tunnel: Tunnel | None = None
        self._over = False

    async def start(self, ours: socket.socket, early: bytes, clock: Clock, view: memoryview) -> None:
        """Pass bytes, what came `early` first."""
        loop = asyncio.get_running_loop()
        try:
            other, _ = await loop.connect_accepted_socket(asyncio.Protocol, ours)
        except OSError:
            ours.close()
            self._client.abort()
            return
        if self._over or self._transport.is_closing():
            other.abort()
            return
        self._tunnel = Tunnel(self, clock, client=self._transport, client_end=self._client, worker=other, view=view)
        self._tunnel.start(from_client=early, from_worker=b"")
        self._transport.resume_reading()

    def tunnel_ended(self, *, cut: bool) -> None:
        """The successor is done with the connection."""
        if not self._over:
            self._over = True
            if cut:
                self._client.abort()
            else:
                self._client.close()

    def gone(self) -> None:
        """The client is."""
        if not self._over:
            self._over = True
            if self._tunnel is not None:
                self._tunnel.end()

    def body_arrived(self) -> None:
        """Nothing is read as HTTP here."""

    def downstream_blocked(self) -> None:
        """The tunnel sees to it."""

    def downstream_writable(self) -> None:
        """The tunnel sees to it."""


class Takeover:
    """The successor's end: a listener for gateways that leave."""

    def __init__(self, path: Path, make: Make) -> None:
        """`make` gives the protocol of a connection. Nothing is taken before `start`; what comes earlier waits."""
        self._make = make
        self._givers: dict[socket.socket, tuple[bytearray, deque[int]]] = {}
        self._joining: set[asyncio.Task[None]] = set()
        path.unlink(missing_ok=True)
        self._listening = socket.socket(socket.AF_UNIX)
        self._listening.setblocking(False)
        self._listening.bind(str(path))
        path.chmod(0o600)
        self._listening.listen(_GIVERS_MAX)

    def start(self) -> None:
        """Take from now on."""
        asyncio.get_running_loop().add_reader(self._listening, self._accept)

    def close(self) -> None:
        """Take nothing more."""
        asyncio.get_running_loop().remove_reader(self._listening)
        self._listening.close()
        for giver in tuple(self._givers):
            self._part_from(giver)

    def _accept(self) -> None:
        with contextlib.suppress(BlockingIOError, InterruptedError, ConnectionAbortedError):
            giver, _ = self._listening.accept()
            if len(self._givers) >= _GIVERS_MAX:
                giver.close()
                return
            giver.setblocking(False)
            self._givers[giver] = (bytearray(), deque())
            asyncio.get_running_loop().add_reader(giver, self._read, giver)

    def _read(self, giver: socket.socket) -> None:
        text, descriptors = self._givers[giver]
        try:
            data, received, flags, _ = socket.recv_fds(giver, _READ_BYTES, _DESCRIPTORS)
        except (BlockingIOError, InterruptedError):
            return
        except OSError as exc:
            log.warning("connections_not_taken", error=str(exc))
            self._part_from(giver)
            return
        descriptors.extend(received)
        text += data
        while descriptors and (end := text.find(b"\n")) >= 0:
            address = text[:end].decode()
            del text[: end + 1]
            self._join(descriptors.popleft(), address or None)
        if not data or flags & socket.MSG_CTRUNC or len(text) > _READ_BYTES:
            self._part_from(giver)

    def _part_from(self, giver: socket.socket) -> None:
        _, descriptors = self._givers.pop(giver)
        asyncio.get_running_loop().remove_reader(giver)
        giver.close()
        for descriptor in descriptors:
            os.close(descriptor)

    def _join(self, descriptor: int, address: str | None) -> None:
        task = asyncio.get_running_loop().create_task(self._serve(socket.socket(fileno=descriptor), address))
        self._joining.add(task)
        task.add_done_callback(self._joining.discard)

    async def _serve(self, taken: socket.socket, address: str | None) -> None:
        taken.setblocking(False)
        try:
            await asyncio.get_running_loop().connect_accepted_socket(lambda: self._make(address), taken)
        except OSError:
            # Its client has gone on the way.
            taken.close()
