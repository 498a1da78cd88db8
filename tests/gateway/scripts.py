"""What several tests of exchanges have workers and gateways do."""

from __future__ import annotations

import asyncio

from gateway.loopback import Site, until
from gateway.wire import Asked


async def idle(s: Site, slug: str = "chat") -> None:
    """Wait until no request holds a slot or a place."""
    admission = s.gateway.admissions[f"id-{slug}"]
    await until(lambda: admission.in_flight == 0 and admission.waiting == 0)
    assert not s.gateway.live


async def never(asked: Asked, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
    """A worker that never answers."""
    await reader.read()
    return False
