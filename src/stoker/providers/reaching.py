"""Whether a program really listens at a worker's address. For providers whose workers have networks of their own."""

from __future__ import annotations

import asyncio
import contextlib

from stoker.domain.worker import Address

CONNECT_S = 2.0


async def holds(address: Address, *, for_s: float = 0.0) -> bool:
    """Does a program take a connection there, and keep it for so long? Forwarders such as Docker's take every
    connection, and drop it at once while nobody listens behind them.
    """
    writer: asyncio.StreamWriter | None = None
    try:
        async with asyncio.timeout(CONNECT_S):
            reader, writer = await asyncio.open_connection(address.host, address.port)
        if for_s:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(for_s):
                    # Some programs speak first; what ends at once was nobody.
                    return bool(await reader.read(1))
        return True
    except (OSError, TimeoutError):
        return False
    finally:
        if writer is not None:
            writer.close()
