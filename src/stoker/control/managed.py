"""One provider under control's management: its observer, its actions and the hosts that it offers."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

import structlog

from stoker.control.actions import Actions
from stoker.control.loop import Loop
from stoker.control.observer import Observer, Snapshot
from stoker.domain.errors import Invalid, Unsupported
from stoker.domain.hardware import Offer
from stoker.domain.worker import Worker, WorkerId, WorkerSpec
from stoker.policy.accounting import hardware_name, price_of
from stoker.providers.base import Provider

log = structlog.get_logger(__name__)

# Hosts gain and lose cards rarely; NVML takes a few milliseconds to ask.
OFFERS_PERIOD_S = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Callbacks:
    """What control wants to hear of a provider."""

    seen: Callable[[str, Snapshot, frozenset[WorkerId]], None]
    acknowledged: Callable[[WorkerId], Awaitable[None]]
    refused: Callable[[WorkerId, str], Awaitable[None]]
    complete: Callable[[WorkerSpec], Awaitable[WorkerSpec]] | None = None


class Managed:
    """A provider with everything around it."""

    def __init__(self, name: str, provider: Provider, callbacks: Callbacks, *, clock: Callable[[], float]) -> None:
        self.name = name
        self.provider = provider
        self.offers: tuple[Offer, ...] = ()
        self.observer = Observer(name, provider, clock=clock, seen=callbacks.seen)
        self.actions = Actions(
            provider,
            acknowledged=callbacks.acknowledged,
            refused=callbacks.refused,
            stopped=self.observer.loop.wake,
            complete=callbacks.complete,
        )
        self.inventory = Loop(f"offers of {name}", self.refresh, period_s=OFFERS_PERIOD_S)

    async def refresh(self) -> None:
        """Ask for the hosts. Keeps the old answer when there is none."""
        self.offers = await self.provider.offers()

    def gpu_ids(self, host: str, indexes: tuple[int, ...]) -> tuple[str, ...]:
        """What the host's runtime calls the cards with these indexes."""
        names: Mapping[int, str] = {
            gpu.index: gpu.id for offer in self.offers if offer.host == host for gpu in offer.gpus
        }
        return tuple(names.get(index, str(index)) for index in indexes)

    async def close(self) -> None:
        """Let go of the provider; its workers go on."""
        await self.actions.close()
        await self.provider.close()


class Providers:
    """All providers of this installation, by name."""

    def __init__(self, managed: Mapping[str, Managed], *, prices: Mapping[str, float] | None = None) -> None:
        self._managed = dict(managed)
        self._prices = dict(prices or {})

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
        offers = () if managed is None else managed.offers
        offer = None if placement is None else next((o for o in offers if o.host == placement.host), None)
        return hardware_name(placement, offer), price_of(placement, offer, self._prices)

    def all(self) -> tuple[Managed, ...]:
        """All of them."""
        return tuple(self._managed.values())
