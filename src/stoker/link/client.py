"""The gateway's end of the link: connects to control's socket, again and again, and hands over what control says.

Losing control is no event for requests: the last table stays in force.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from pathlib import Path
from typing import Final, Protocol

import msgspec
import structlog

from stoker.link.messages import (
    LINE_BYTES_MAX,
    PROTOCOL_VERSION,
    Ack,
    Delta,
    Hello,
    Leaving,
    Message,
    Snapshot,
    decode_to_gateway,
    encode,
)

log = structlog.get_logger(__name__)

RETRY_S_MIN: Final = 0.05
RETRY_S_MAX: Final = 1.0
HELLO_S_MAX: Final = 5.0
# A control that does not read gets no more until it does; reports are cumulative, so that none of them is missed.
UNSENT_BYTES_MAX: Final = 4 * 1024 * 1024


class TableHolder(Protocol):
    """Who holds the table. Called in the event loop; what it was given has taken effect when it returns."""

    def take_snapshot(self, snapshot: Snapshot) -> None: ...

    def take_delta(self, delta: Delta) -> None: ...


class LinkBroken(Exception):
    """The other end does not keep to the protocol; the connection is given up and tried again."""


class LinkClient:
    """The connection to control. `connected`: a snapshot was taken over this connection, and messages are sent."""

    def __init__(
        self, path: Path, holder: TableHolder, *, incarnation: str, successor: bool = False, attempts: str = ""
    ) -> None:
        """`successor`: another gateway is there still, which is about to leave. `attempts`: see `Hello`."""
        self._path = path
        self._holder = holder
        self._hello = Hello(
            version=PROTOCOL_VERSION, incarnation=incarnation, term=0, successor=successor, attempts=attempts
        )
        self._writer: asyncio.StreamWriter | None = None
        self._term_max = 0
        self._seq: int | None = None
        self._staying = True

    @property
    def connected(self) -> bool:
        """Has this connection brought a table?"""
        return self._writer is not None and self._seq is not None

    def send(self, message: Message) -> bool:
        """Send now, or not at all when control is not there or does not read. Was it sent?"""
        writer = self._writer
        if writer is None or self._seq is None or writer.is_closing():
            return False
        if writer.transport.get_write_buffer_size() >= UNSENT_BYTES_MAX:
            return False
        writer.write(encode(message))
        return True

    async def flush(self, timeout_s: float) -> None:
        """Wait until what was sent is out of this process, or the connection has ended, for so long at most."""
        writer = self._writer
        if writer is None or writer.is_closing():
            return
        writer.transport.set_write_buffer_limits(high=0)
        with contextlib.suppress(OSError, TimeoutError):
            async with asyncio.timeout(timeout_s):
                await writer.drain()

    def leave(self) -> None:
        """Another gateway takes over: say so now, and again to a control that comes anew."""
        self._hello = msgspec.structs.replace(self._hello, leaving=True, successor=False)
        self.send(Leaving())

    def stop_reconnecting(self) -> None:
        """Keep this connection as long as it lasts, but take no new one: a successor may be there by now."""
        self._staying = False

    async def run(self) -> None:
        """Connect and listen until cancelled, or until the connection ends after `stop_reconnecting`."""
        retry_s = RETRY_S_MIN
        while self._staying:
            try:
                reader, writer = await asyncio.open_unix_connection(str(self._path), limit=LINE_BYTES_MAX)
            except OSError:
                # Control is not there, which is no event worth a line every second.
                pass
            else:
                if await self._converse(reader, writer):
                    retry_s = RETRY_S_MIN
            # Jitter: not to knock in step with whatever else waits for control.
            await asyncio.sleep(retry_s * random.uniform(0.5, 1.0))
            retry_s = min(RETRY_S_MAX, retry_s * 2)

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """One connection from beginning to end. True when it brought a table."""
        self._writer, self._seq = writer, None
        try:
            writer.write(encode(self._hello))
            self._greet(await asyncio.wait_for(reader.readline(), HELLO_S_MAX))
            while line := await reader.readline():
                self._take(line, writer)
            log.info("link_closed")
        except (OSError, ValueError, msgspec.DecodeError, LinkBroken, TimeoutError) as exc:
            log.warning("link_broken", error=str(exc) or type(exc).__name__)
        finally:
            brought = self._seq is not None
            self._writer, self._seq = None, None
            writer.transport.abort()
        return brought

    def _greet(self, line: bytes) -> None:
        if not line:
            raise LinkBroken("control closed the connection without a word")
        hello = decode_to_gateway(line)
        if not isinstance(hello, Hello):
            raise LinkBroken("control must say hello first")
        if hello.version != PROTOCOL_VERSION:
            raise LinkBroken(f"control speaks version {hello.version} of the link, not {PROTOCOL_VERSION}")
        if hello.term < self._term_max:
            raise LinkBroken(f"a control of term {hello.term}, after one of term {self._term_max}")
        self._term_max = hello.term

    def _take(self, line: bytes, writer: asyncio.StreamWriter) -> None:
        message = decode_to_gateway(line)
        if isinstance(message, Snapshot):
            self._seq = message.seq
            self._holder.take_snapshot(message)
        elif isinstance(message, Delta):
            if self._seq is None or message.seq != self._seq + 1:
                raise LinkBroken(f"change {message.seq} came after {self._seq}")
            self._seq = message.seq
            self._holder.take_delta(message)
        else:
            return
        writer.write(encode(Ack(message.seq)))
