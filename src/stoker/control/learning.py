"""Learns how long starts take and what a worker sustains, by launch and host; keeps it in the store."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import msgspec

from stoker.control.fleet import Fleet
from stoker.domain.endpoint import Endpoint, EndpointId
from stoker.domain.launch import Launch
from stoker.domain.learned import Kind, Learned, Place, Samples
from stoker.domain.worker import Worker, WorkerId, WorkerState
from stoker.policy.learning import WINDOW_S, Look, expected_start_s, kind_of_start, readings_of, sustained
from stoker.policy.signals import Reading
from stoker.store import learned as rows
from stoker.telemetry.traffic import TrafficMeter

PLACES_MAX = 20_000
KEPT_S = 90 * 86_400.0


class Learning:
    """`load` at the start, `step` every few seconds. `tokens` gives the completion tokens of an endpoint so far."""

    def __init__(
        self,
        fleet: Fleet,
        traffic: TrafficMeter,
        *,
        clock: Callable[[], float],
        tokens: Callable[[EndpointId], int],
        changed: Callable[[EndpointId], object],
    ) -> None:
        self._fleet = fleet
        self._traffic = traffic
        self._clock = clock
        self._tokens = tokens
        self._changed = changed
        self._known: dict[Place, dict[Kind, Samples]] = {}
        # The places of each launch.
        self._places: dict[str, set[Place]] = {}
        self._digests: dict[tuple[EndpointId, int, str], str] = {}
        self._unsaved: set[tuple[Place, Kind]] = set()
        self._looks: dict[EndpointId, Look] = {}
        # Of which start of each worker it is known how long it took: those that were cold start again.
        self._noted: dict[WorkerId, float] = {}
        # That have become ready since the last step; some are cold again by the next one.
        self._readied: dict[WorkerId, Worker] = {}
        fleet.remembered = self._remembered
        self._since = clock()

    async def load(self) -> None:
        """Read what is known."""
        for item in await self._fleet.store.read(lambda tx: rows.everything(tx, limit=PLACES_MAX)):
            self._kinds(item.place)[item.kind] = item.samples
        self._since = self._clock()

    async def step(self) -> None:
        """Learn from what has happened since the last step."""
        self._learn_starts()
        serving = {w.endpoint for w in self._fleet.all_workers() if w.state is WorkerState.READY}
        for endpoint_id in serving:
            if (endpoint := self._fleet.endpoint(endpoint_id)) is not None:
                self._learn_rates(endpoint)
        self._looks = {e: look for e, look in self._looks.items() if e in serving}
        if not self._unsaved:
            return
        unsaved, self._unsaved = self._unsaved, set()
        changed = [Learned(place, kind, self._known[place][kind]) for place, kind in unsaved]
        now = self._clock()
        try:
            await self._fleet.store.write(lambda tx: rows.save(tx, changed, now=now))
        except BaseException:
            self._unsaved |= unsaved
            raise

    async def trim(self) -> None:
        """Forget what has not changed for long."""
        before = self._clock() - KEPT_S
        await self._fleet.store.write(lambda tx: rows.trim(tx, before=before))

    def _remembered(self, worker: Worker) -> None:
        # Those of before this start of control are in what was loaded.
        if worker.ready_at is None or worker.started_at is None or worker.ready_at < self._since:
            return
        if self._noted.get(worker.id) != worker.started_at:
            self._noted[worker.id] = worker.started_at
            self._readied[worker.id] = worker

    def _learn_starts(self) -> None:
        touched: set[EndpointId] = set()
        readied, self._readied = self._readied, {}
        for worker in readied.values():
            place = self._place(worker)
            if place is not None and worker.ready_at is not None and worker.started_at is not None:
                kind = kind_of_start(self._known.get(place, ()), from_cold=worker.from_cold)
                self._add(place, kind, worker.ready_at - worker.started_at)
                touched.add(worker.endpoint)
        self._noted = {worker: at for worker, at in self._noted.items() if self._fleet.worker(worker) is not None}
        for endpoint in touched:
            self._changed(endpoint)

    def _learn_rates(self, endpoint: Endpoint) -> None:
        look = self._look(endpoint)
        before = self._looks.get(endpoint.id)
        if look is None or before is None or look.workers != before.workers:
            self._forget_or(endpoint.id, look)
            return
        if look.at - before.at < WINDOW_S:
            return
        self._looks[endpoint.id] = look
        rates = sustained(before, look)
        if rates is not None and look.place is not None:
            self._add(look.place, Kind.REQUESTS, rates[0])
            if rates[1] is not None:
                self._add(look.place, Kind.TOKENS, rates[1])

    def _forget_or(self, endpoint: EndpointId, look: Look | None) -> None:
        if look is None:
            self._looks.pop(endpoint, None)
        else:
            self._looks[endpoint] = look

    def _look(self, endpoint: Endpoint) -> Look | None:
        latest = self._traffic.latest(endpoint.id)
        if latest is None:
            return None
        report, at = latest
        ready = [w for w in self._fleet.live(endpoint.id) if w.state is WorkerState.READY]
        places = {self._place(worker) for worker in ready}
        return Look(
            at=at,
            completions=report.completions,
            busy_s=report.busy_s,
            tokens=self._tokens(endpoint.id),
            workers=frozenset(worker.id for worker in ready),
            slots=sum(worker.slots for worker in ready),
            place=places.pop() if len(places) == 1 else None,
        )

    def _add(self, place: Place, kind: Kind, value: float) -> None:
        kinds = self._kinds(place)
        kinds[kind] = kinds.get(kind, Samples()).plus(value, self._clock())
        self._unsaved.add((place, kind))

    def _kinds(self, place: Place) -> dict[Kind, Samples]:
        if place not in self._known and len(self._known) >= PLACES_MAX:
            # Its oldest goes from memory; the store forgets it by age.
            oldest = next(iter(self._known))
            del self._known[oldest]
            self._places[oldest.launch].discard(oldest)
            if not self._places[oldest.launch]:
                del self._places[oldest.launch]
            self._unsaved = {item for item in self._unsaved if item[0] != oldest}
        self._places.setdefault(place.launch, set()).add(place)
        return self._known.setdefault(place, {})

    def _place(self, worker: Worker) -> Place | None:
        revision = self._fleet.revision_of(worker)
        launch = None if revision is None else revision.launch_of(worker.pool)
        if launch is None or worker.placement is None:
            return None
        digest = self._digest(worker.endpoint, worker.revision, worker.pool, launch)
        return Place(digest, worker.provider, worker.placement.host)

    def _digest(self, endpoint: EndpointId, revision: int, pool: str, launch: Launch) -> str:
        # A revision's launch never changes, and workers and decisions are many.
        key = (endpoint, revision, pool)
        digest = self._digests.get(key)
        if digest is None:
            if len(self._digests) >= PLACES_MAX:
                self._digests.clear()
            digest = self._digests[key] = digest_of(launch)
        return digest

    # Telling

    def of_endpoint(self, endpoint: Endpoint) -> tuple[Learned, ...]:
        """What is known of its present launches, by pool's provider and host."""
        providers = {pool.name: pool.provider for pool in endpoint.spec.pools}
        wanted = {
            (self._digest(endpoint.id, endpoint.revision, pool, launch), providers.get(pool, ""))
            for pool, launch in endpoint.launches.items()
        }
        return tuple(
            Learned(place, kind, samples)
            for launch, provider in sorted(wanted)
            for place in sorted(self._places.get(launch, ()), key=lambda place: place.host)
            if place.provider == provider
            for kind, samples in self._known[place].items()
        )

    def readings(self, endpoint: Endpoint, *, now: float) -> dict[str, Reading]:
        """What decisions may look at, by the names of `Signals`: the start that is expected, and what one full worker
        sustains where that is least.
        """
        return readings_of(self.of_endpoint(endpoint), now=now)

    def expected_start_s(self, endpoint: Endpoint) -> float | None:
        """How long a start of the endpoint is expected to take; `None` until one was seen."""
        known = self.of_endpoint(endpoint)
        return expected_start_s(
            [item.samples for item in known if item.kind is Kind.START_WARM],
            [item.samples for item in known if item.kind is Kind.START_COLD],
        )


def digest_of(launch: Launch) -> str:
    """What makes a launch another one: what runs, with what around it."""
    content = msgspec.json.encode([launch.command, launch.image, sorted(launch.env.items())])
    return hashlib.sha256(content).hexdigest()
