"""Situations that stories about control begin with: one card alone, and policies that do nothing by themselves."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from simulation import virtual
from simulation.world import World
from stoker.domain.endpoint import Endpoint, ScalingPolicy
from stoker.domain.hardware import GpuDevice, Offer, PortRange
from stoker.providers.fake import FakeProvider

# Nothing goes by itself while a test looks.
SLOW = ScalingPolicy(scale_down_delay_s=600, idle_timeout_s=3_600)


async def until(holds: Callable[[], bool]) -> None:
    """Let everything run that can run without time passing, until it holds."""
    for _ in range(10_000):
        if holds():
            return
        await asyncio.sleep(0)
    pytest.fail("it does not come to hold without time passing")


def one_card() -> FakeProvider:
    card = GpuDevice(index=0, id="GPU-x", family="h100", vram_gib=80)
    host = Offer(host="h", vcpu=8, ram_gib=64, gpus=(card,), ports=PortRange(20_000, 20_100))
    return FakeProvider(clock=virtual.wall, offers=(host,))


async def decided(w: World, endpoint: Endpoint) -> list[str]:
    """Reasons of its decisions, the newest first."""
    return [decision.reason for decision in await w.stoker.services.views.decisions(endpoint.id, limit=100)]
