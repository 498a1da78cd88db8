"""Providers with everything around them."""

from __future__ import annotations

import asyncio

from simulation import virtual
from simulation.virtual import wall
from stoker.control.managed import FIRST_LOOK_S, Callbacks, Managed, Providers
from stoker.domain.hardware import Offer
from stoker.domain.worker import Observed, WorkerId, WorkerSpec
from stoker.providers.fake import FakeProvider


class Silent(FakeProvider):
    """It answers nothing, until it is `back`."""

    def __init__(self) -> None:
        super().__init__(clock=wall)
        self.back = asyncio.Event()

    async def offers(self) -> tuple[Offer, ...]:
        await self.back.wait()
        return await super().offers()

    async def list(self) -> tuple[Observed, ...]:
        await self.back.wait()
        return await super().list()


async def _nothing(worker: WorkerId, why: str = "") -> None:
    pass


async def _as_it_is(spec: WorkerSpec) -> WorkerSpec:
    return spec


def test_a_provider_that_does_not_answer_keeps_nobody_from_starting() -> None:
    async def main() -> None:
        callbacks = Callbacks(
            acknowledged=_nothing,
            refused=_nothing,
            seen=lambda *_: None,
            said=lambda *_: None,
            complete=_as_it_is,
        )
        silent, well = Silent(), FakeProvider(clock=wall)
        managed = {
            name: Managed(name, provider, callbacks, clock=wall)
            for name, provider in (("one", silent), ("two", Silent()), ("three", well))
        }
        begun = wall()
        await Providers(managed).begin()
        assert wall() - begun <= FIRST_LOOK_S + 0.1, "both together, too"
        assert managed["three"].observer.snapshot is not None
        assert managed["one"].observer.snapshot is None, "which proves nothing"
        silent.back.set()
        await Providers({"one": managed["one"]}).begin()
        assert managed["one"].observer.snapshot is not None
        assert managed["one"].offers == await silent.offers()

    virtual.run(main())
