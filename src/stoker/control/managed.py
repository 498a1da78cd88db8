"""One provider under control's management: its observer, its actions and the hosts that it offers."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace

import structlog

from stoker.control.actions import Actions
from stoker.control.loop import Loop
from stoker.control.observer import Observer, Snapshot
from stoker.domain.endpoint import Endpoint
from stoker.domain.errors import Invalid, Unavailable, Unsupported
from stoker.domain.hardware import GpuDevice, HardwareRequest, Offer, Placement, Prices
from stoker.domain.launch import Launch
from stoker.domain.worker import Worker, WorkerId, WorkerSpec
from stoker.policy.accounting import hardware_name, price_of
from stoker.policy.placement import impossible
from stoker.providers.base import KeepsModels, Provider, Tells

log = structlog.get_logger(__name__)

# Hosts gain and lose cards rarely; NVML takes a few milliseconds to ask.
OFFERS_PERIOD_S = 30.0
# Of a provider that tells what happens, in case that it once does not; others are asked every second.
TOLD_PERIOD_S = 10.0
LIST_PERIOD_S = 1.0
# A driver takes seconds to say what cards there are; a daemon or a cluster that takes longer may take forever.
FIRST_LOOK_S = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Callbacks:
    """What control wants to hear of a provider."""

    seen: Callable[[str, Snapshot, frozenset[WorkerId]], None]
    acknowledged: Callable[[WorkerId], Awaitable[None]]
    refused: Callable[[WorkerId, str], Awaitable[None]]
    complete: Callable[[WorkerSpec], Awaitable[WorkerSpec]] | None = None
    said: Callable[[WorkerId, str], None] = lambda worker, text: None


def models_at(provider: Provider) -> str | None:
    """Where its workers see the models that it fetches by itself; `None` where it does not."""
    return provider.models_at if isinstance(provider, KeepsModels) else None


class Managed:
    """A provider with everything around it."""

    def __init__(
        self,
        name: str,
        provider: Provider,
        callbacks: Callbacks,
        *,
        clock: Callable[[], float],
        prices: Prices | None = None,
    ) -> None:
        self.name = name
        self._prices = prices
        self.provider = provider
        self.offers: tuple[Offer, ...] = ()
        self._said = callbacks.said
        self.observer = Observer(
            name,
            provider,
            clock=clock,
            seen=callbacks.seen,
            period_s=TOLD_PERIOD_S if isinstance(provider, Tells) else LIST_PERIOD_S,
        )
        self.actions = Actions(
            provider,
            acknowledged=callbacks.acknowledged,
            refused=callbacks.refused,
            stopped=self.observer.look_soon,
            complete=callbacks.complete,
            said=callbacks.said,
        )
        self.inventory = Loop(f"offers of {name}", self.refresh, period_s=OFFERS_PERIOD_S)

    def listen(self) -> None:
        """Hear from now on what the provider tells by itself, if it does."""
        if isinstance(self.provider, Tells):
            self.provider.attach(changed=self.observer.loop.wake, said=self._said)

    async def begin(self) -> None:
        """Listen, and take a first look; one that takes too long is left to the loops."""
        self.listen()
        try:
            async with asyncio.timeout(FIRST_LOOK_S):
                await self.refresh()
                await self.observer.observe()
        except TimeoutError:
            log.warning("provider_silent", provider=self.name, waited_s=FIRST_LOOK_S)

    async def refresh(self) -> None:
        """Ask for the hosts. Keeps the old answer when there is none."""
        try:
            offers = await self.provider.offers()
        except Unavailable as exc:
            log.warning("offers_unavailable", provider=self.name, error=str(exc))
            return
        # A provider that knows its prices knows better.
        self.offers = tuple(offer if offer.prices else replace(offer, prices=self._prices) for offer in offers)

    def offers_for(self, launch: Launch) -> tuple[Offer, ...]:
        """The hosts that this launch was made for."""
        if launch.cards is None:
            return self.offers
        return tuple(offer for offer in self.offers if offer.virtual == (launch.cards == "virtual"))

    def cards_for(self, request: HardwareRequest) -> str | None:
        """Whether workers of this request get real cards or, where no real one suits, virtual ones; `None`: none."""
        suiting = [
            gpu
            for offer in self.offers
            if request.region in (None, offer.region)
            for gpu in offer.gpus
            if request.gpu_count and request.suits(gpu)
        ]
        if not suiting:
            return None
        return "virtual" if all(gpu.virtual for gpu in suiting) else "real"

    def offer(self, host: str) -> Offer | None:
        """The host of that name."""
        return next((offer for offer in self.offers if offer.host == host), None)

    def devices(self, host: str, indexes: tuple[int, ...]) -> tuple[GpuDevice, ...]:
        """The cards with these indexes, as far as the host still has them."""
        offer = self.offer(host)
        return () if offer is None else tuple(gpu for gpu in offer.gpus if gpu.index in indexes)

    def gpu_ids(self, placement: Placement) -> tuple[str, ...]:
        """What the host's runtime calls the real cards of a worker."""
        return tuple(gpu.id for gpu in self.devices(placement.host, placement.gpus) if not gpu.virtual)

    async def close(self) -> None:
        """Let go of the provider; its workers go on."""
        self.observer.close()
        await self.actions.close()
        await self.provider.close()


class Providers:
    """All providers of this installation, by name."""

    def __init__(self, managed: Mapping[str, Managed]) -> None:
        self._managed = dict(managed)

    def get(self, name: str) -> Managed:
        """Raises `Unsupported` for a provider that is not configured here."""
        managed = self._managed.get(name)
        if managed is None:
            raise Unsupported(f"no provider {name[:64]!r} here; there are {', '.join(sorted(self._managed))}")
        return managed

    def check(self, name: str, pointer: str) -> Managed:
        """The same for a name out of a spec, where it stands at `pointer`. Raises `Invalid`."""
        try:
            return self.get(name)
        except Unsupported as exc:
            raise Invalid.at(pointer, str(exc)) from exc

    def priced(self, worker: Worker) -> tuple[str, float | None]:
        """What the worker's hardware is called, and its price per hour where one is known."""
        managed, placement = self._managed.get(worker.provider), worker.placement
        offer = None if managed is None or placement is None else managed.offer(placement.host)
        return hardware_name(placement, offer), price_of(placement, offer)

    def machines(self, endpoint: Endpoint) -> int:
        """How many there are that could have a worker of this endpoint when they are empty."""
        found = {
            offer.machine
            for pool in endpoint.spec.pools
            if pool.provider in self._managed
            for offer in self._managed[pool.provider].offers
            if impossible(pool.hardware, (offer,), ports=1 + len(endpoint.spec.launch_of(pool).ports)) is None
        }
        return len(found)

    def __contains__(self, name: str) -> bool:
        return name in self._managed

    def all(self) -> tuple[Managed, ...]:
        """All of them."""
        return tuple(self._managed.values())

    async def begin(self) -> None:
        """Hear from now on what they tell, and take the first look at their hosts and at what runs there, for at most
        `FIRST_LOOK_S`: nobody else waits for one that does not answer.
        """
        await asyncio.gather(*(managed.begin() for managed in self.all()))

    def loops(self) -> tuple[Loop, ...]:
        """What is to be done again and again."""
        return (*(managed.observer.loop for managed in self.all()), *(managed.inventory for managed in self.all()))

    async def close(self) -> None:
        """Let go of all of them; their workers go on."""
        for managed in self.all():
            await managed.close()
