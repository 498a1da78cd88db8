"""Deletes the output of ended workers that is too old or too much, and that of workers nobody remembers."""

from __future__ import annotations

from collections.abc import Callable

import structlog

from stoker.control.fleet import Fleet
from stoker.control.managed import Managed, Providers
from stoker.policy.retention import Output, outdated
from stoker.providers.base import KeepsOutput
from stoker.store import workers as worker_rows

log = structlog.get_logger(__name__)


class Tidying:
    """`step` every few minutes. Providers that keep no output of ended workers are left alone."""

    def __init__(self, fleet: Fleet, providers: Providers, *, clock: Callable[[], float]) -> None:
        self._fleet = fleet
        self._providers = providers
        self._clock = clock

    async def step(self) -> None:
        """Look at all providers once."""
        for managed in self._providers.all():
            if isinstance(managed.provider, KeepsOutput):
                await self._tidy(managed, managed.provider)

    async def _tidy(self, managed: Managed, provider: KeepsOutput) -> None:
        kept = [Output(output.worker, output.bytes, output.at) for output in await provider.kept()]
        if not kept:
            return
        ids = [output.worker for output in kept]
        endpoints = await self._fleet.store.read(lambda tx: worker_rows.endpoints_of(tx, ids))
        # In memory a worker is known from its commit on: none that was just recorded is taken for a forgotten one.
        endpoints |= {worker.id: worker.endpoint for worker in self._fleet.all_workers()}
        rules = {endpoint.id: endpoint.spec.logging for endpoint in self._fleet.endpoints()}
        gone = outdated(kept, endpoints=endpoints, rules=rules, now=self._clock())
        for worker in gone:
            await provider.discard(worker)
        if gone:
            log.info("output_deleted", provider=managed.name, workers=len(gone))
