"""Reads the numbers of custom triggers from ready workers again and again: metrics of pages, values in their JSON.

Bounded as `measuring` is. A number that cannot be had keeps its last value, which gets old, and is unknown after that.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import aiohttp
import structlog

from stoker.control.fleet import Fleet
from stoker.control.measuring import SCRAPE_TIMEOUT_S, SCRAPES_AT_ONCE, Fetch
from stoker.domain.scaling import Custom
from stoker.domain.worker import Address, WorkerId, WorkerState
from stoker.policy.signals import Reading, custom_key
from stoker.telemetry.exposition import metric_of, value_at

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class _Page:
    worker: WorkerId
    address: Address
    path: str
    triggers: tuple[Custom, ...]


class CustomMetrics:
    """`step` every few seconds; `of` gives what is known of a worker."""

    def __init__(self, fleet: Fleet, fetch: Fetch, *, clock: Callable[[], float]) -> None:
        self._fleet = fleet
        self._fetch = fetch
        self._clock = clock
        # (when, number) by the key of `custom_key`.
        self._values: dict[WorkerId, dict[str, tuple[float, float]]] = {}
        # Pages that brought nothing the last time, so that each is logged once.
        self._failing: set[tuple[WorkerId, str]] = set()

    def of(self, worker: WorkerId, *, now: float) -> Mapping[str, Reading]:
        """The worker's numbers with their ages."""
        known = self._values.get(worker)
        return {} if known is None else {key: Reading(v, max(0.0, now - at)) for key, (at, v) in known.items()}

    async def step(self) -> None:
        """Read all pages once."""
        pages = list(self._pages())
        workers = {page.worker for page in pages}
        self._values = {worker: values for worker, values in self._values.items() if worker in workers}
        self._failing = {key for key in self._failing if key[0] in workers}
        if not pages:
            return
        room = asyncio.Semaphore(SCRAPES_AT_ONCE)
        await asyncio.gather(*(self._read(page, room) for page in pages))

    def _pages(self) -> Iterable[_Page]:
        for endpoint in self._fleet.endpoints():
            wanted: dict[str, tuple[Custom, ...]] = {}
            for trigger in endpoint.spec.scaling.triggers:
                if isinstance(trigger, Custom):
                    wanted[trigger.path] = (*wanted.get(trigger.path, ()), trigger)
            if not wanted:
                continue
            for worker in self._fleet.live(endpoint.id):
                if worker.state is WorkerState.READY and worker.address is not None:
                    yield from (_Page(worker.id, worker.address, path, which) for path, which in wanted.items())

    async def _read(self, page: _Page, room: asyncio.Semaphore) -> None:
        try:
            async with room, asyncio.timeout(SCRAPE_TIMEOUT_S):
                text = await self._fetch(page.address, page.path)
            wrong = [exc for trigger in page.triggers if (exc := self._take(page, trigger, text)) is not None]
            if wrong:
                raise wrong[0]
        except (OSError, ValueError, aiohttp.ClientError) as exc:
            if (page.worker, page.path) not in self._failing:
                self._failing.add((page.worker, page.path))
                reason = str(exc) or type(exc).__name__
                log.warning("custom_metric_failed", worker=page.worker, path=page.path, error=reason[:200])
            return
        self._failing.discard((page.worker, page.path))

    def _take(self, page: _Page, trigger: Custom, text: str) -> ValueError | None:
        """Note one trigger's number. What is wrong with it is no matter of the others on the page."""
        try:
            value = metric_of(text, trigger.metric) if trigger.metric else value_at(text, trigger.pointer or "")
        except ValueError as exc:
            return exc
        key = custom_key(page.path, trigger.metric or trigger.pointer or "")
        self._values.setdefault(page.worker, {})[key] = (self._clock(), value)
        return None
