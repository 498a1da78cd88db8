"""What control knows: endpoints, their workers and pending operations, in memory and in the store alike.

Loaded once at the start. There is one control, so memory is as good as the store as long as every change goes through
`commit`, which writes first and remembers after. Whoever changes an endpoint or its workers holds its lock.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace

from sqlalchemy import Connection

from stoker.control.change import Change, written
from stoker.control.places import Places
from stoker.domain.endpoint import Endpoint, EndpointId, Revision, slug_of
from stoker.domain.hardware import HardwareRequest, Offer, Placement, machine_of
from stoker.domain.operation import Operation, OperationState
from stoker.domain.worker import Worker, WorkerId, WorkerState
from stoker.policy.placement import PORT_QUARANTINE_S, Unplaceable
from stoker.store import endpoints as endpoint_rows
from stoker.store import operations as operation_rows
from stoker.store import revisions
from stoker.store import workers as worker_rows
from stoker.store.base import Store

# An endpoint can be rolled back this far.
REVISIONS_KEPT = 20


class Fleet:
    """All endpoints with their workers that still hold something, and operations that have not ended."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self._endpoints: dict[EndpointId, Endpoint] = {}
        self._workers: dict[EndpointId, dict[WorkerId, Worker]] = {}
        self._operations: dict[EndpointId, list[Operation]] = {}
        # Those that live workers run, besides the present one.
        self._revisions: dict[EndpointId, dict[int, Revision]] = {}
        self._endpoint_of: dict[WorkerId, EndpointId] = {}
        self._locks: dict[EndpointId, asyncio.Lock] = {}
        self._reserved: dict[WorkerId, tuple[str, Placement]] = {}
        self._watchers: set[Watch] = set()
        # Told of every worker that has changed, at once: what it is now may be over a moment later.
        self.remembered: Callable[[Worker], object] = lambda worker: None
        # By provider and machine, those with a placement there; and by provider, how its hosts were judged.
        self._at: dict[tuple[str, str], dict[WorkerId, Worker]] = {}
        self._places: dict[str, Places] = {}
        self._draining: set[EndpointId] = set()
        self._slugs: set[str] = set()

    async def load(self, *, now: float) -> None:
        """Read everything from the store."""

        Loaded = tuple[tuple[Endpoint, ...], tuple[Worker, ...], tuple[Operation, ...], list[Revision]]

        def read(tx: Connection) -> Loaded:
            held = worker_rows.held(tx, released_after=now - PORT_QUARANTINE_S)
            present = {endpoint.id: endpoint.revision for endpoint in endpoint_rows.everything(tx)}
            run = {(w.endpoint, w.revision) for w in held if not w.gone and present.get(w.endpoint) != w.revision}
            old = [found for key in sorted(run) if (found := revisions.get(tx, *key)) is not None]
            return endpoint_rows.everything(tx), held, operation_rows.pending(tx), old

        endpoints, workers, operations, old = await self.store.read(read)
        for endpoint in endpoints:
            self._endpoints[endpoint.id] = endpoint
            self._slugs.add(endpoint.slug)
        for worker in workers:
            self._remember(worker)
        for revision in old:
            self._revisions.setdefault(revision.endpoint, {})[revision.number] = revision
        for operation in operations:
            self._operations.setdefault(operation.endpoint, []).append(operation)

    # Reading

    def endpoints(self) -> tuple[Endpoint, ...]:
        """All of them."""
        return tuple(self._endpoints.values())

    def endpoint(self, endpoint: EndpointId) -> Endpoint | None:
        """The endpoint of that id."""
        return self._endpoints.get(endpoint)

    def likely_slug(self, name: str) -> str | None:
        """That of the name, if no endpoint has it; `None` when the store has to be asked."""
        suggested = slug_of(name)
        return None if suggested is None or suggested.isdigit() or suggested in self._slugs else suggested

    def workers(self, endpoint: EndpointId) -> tuple[Worker, ...]:
        """Its workers, ended ones included as long as their port is not free again."""
        return tuple(self._workers.get(endpoint, {}).values())

    def live(self, endpoint: EndpointId) -> tuple[Worker, ...]:
        """Its workers that are not gone."""
        return tuple(w for w in self._workers.get(endpoint, {}).values() if not w.gone)

    def all_workers(self) -> Iterable[Worker]:
        """The workers of all endpoints, as `workers`."""
        return (worker for workers in self._workers.values() for worker in workers.values())

    def worker(self, worker: WorkerId) -> Worker | None:
        """The worker of that id, if it still holds something."""
        endpoint = self._endpoint_of.get(worker)
        return None if endpoint is None else self._workers[endpoint].get(worker)

    def revision_of(self, worker: Worker) -> Revision | None:
        """What this worker was started from; `None` when nobody remembers."""
        endpoint = self._endpoints.get(worker.endpoint)
        if endpoint is not None and endpoint.revision == worker.revision:
            return endpoint.as_revision()
        return self._revisions.get(worker.endpoint, {}).get(worker.revision)

    def ping_s(self, worker: Worker) -> int | None:
        """How often this worker says that it is there, if it is one that asks for tasks."""
        revision = self.revision_of(worker)
        if revision is None and (endpoint := self._endpoints.get(worker.endpoint)) is not None:
            revision = endpoint.as_revision()
        launch = None if revision is None else revision.launch_of(worker.pool)
        return None if launch is None else launch.ping_s

    def revisions(self, endpoint: EndpointId) -> tuple[Revision, ...]:
        """The earlier revisions of which workers may be left, oldest first."""
        return tuple(revision for _, revision in sorted(self._revisions.get(endpoint, {}).items()))

    def operations(self, endpoint: EndpointId) -> tuple[Operation, ...]:
        """Its pending operations, oldest first."""
        return tuple(self._operations.get(endpoint, ()))

    def placements(self, provider: str, *, now: float, without: frozenset[WorkerId] = frozenset()) -> list[Placement]:
        """All that workers hold of the provider's hosts; of ended ones only ports, until their quarantine is over."""
        held = [placement for name, placement in self._reserved.values() if name == provider]
        for worker in self.all_workers():
            placement = worker.placement
            if worker.provider != provider or placement is None or worker.id in without:
                continue
            if not worker.gone:
                held.append(placement.held)
            elif worker.released_at is None or now - worker.released_at < PORT_QUARANTINE_S:
                held.append(placement.addresses)
        return held

    def place(
        self,
        provider: str,
        request: HardwareRequest,
        offers: Sequence[Offer],
        *,
        ports: int,
        avoid: Mapping[str, int] | None = None,
    ) -> Placement | Unplaceable:
        """Where a worker goes beside all the others, rather not to hosts with large numbers in `avoid`. Ports count as
        taken until their worker is forgotten.
        """
        if provider not in self._places:
            self._places[provider] = Places(lambda machine: self._held_at(provider, machine))
        return self._places[provider].place(request, offers, ports, avoid=avoid)

    def _held_at(self, provider: str, machine: str) -> list[Placement]:
        there = self._at.get((provider, machine), {}).values()
        return [
            *(p for name, p in self._reserved.values() if name == provider and machine_of(p.host) == machine),
            *((p.addresses if w.gone else p.held) for w in there if (p := w.placement) is not None),
        ]

    def _touched(self, provider: str, host: str) -> None:
        if provider in self._places:
            self._places[provider].touched(machine_of(host))

    def draining(self) -> list[EndpointId]:
        """The endpoints that have draining workers."""
        there = [e for e in self._draining if any(w.state is WorkerState.DRAINING for w in self.live(e))]
        self._draining = set(there)
        return there

    def has_draining(self, endpoint: EndpointId) -> bool:
        """Has it any draining worker?"""
        if endpoint not in self._draining:
            return False
        return any(w.state is WorkerState.DRAINING for w in self.live(endpoint))

    def reserve(self, worker: WorkerId, provider: str, placement: Placement) -> None:
        """Hold a placement until the commit that records it."""
        self._reserved[worker] = (provider, placement)
        self._touched(provider, placement.host)

    def _unreserve(self, worker: WorkerId) -> None:
        reserved = self._reserved.pop(worker, None)
        if reserved is not None:
            self._touched(reserved[0], reserved[1].host)

    def lock(self, endpoint: EndpointId) -> asyncio.Lock:
        """Held by whoever changes the endpoint or its workers."""
        return self._locks.setdefault(endpoint, asyncio.Lock())

    # Changing

    async def add(self, make: Callable[[Connection], Change]) -> tuple[Endpoint, list[Operation]]:
        """Record a new endpoint with its operations and events, as `make` says within the transaction, or raises."""

        def write(tx: Connection) -> tuple[Endpoint, list[Operation]]:
            change = make(tx)
            endpoint_rows.add(tx, change.endpoint)
            revisions.add(tx, change.endpoint.as_revision())
            return change.endpoint, written(tx, change)[1]

        endpoint, operations = await self.store.write(write)
        self._endpoints[endpoint.id] = endpoint
        self._slugs.add(endpoint.slug)
        self._operations[endpoint.id] = operations
        self._tell()
        return endpoint, operations

    async def commit(self, change: Change) -> tuple[list[Worker], list[Operation]]:
        """Write a change and then remember it. The new workers and operations, with their numbers."""
        endpoint = change.endpoint

        def write(tx: Connection) -> tuple[list[Worker], list[Operation]]:
            if change.check is not None:
                change.check(tx)
            workers, operations = written(tx, change)
            if change.removed:
                worker_rows.remove_of_endpoint(tx, endpoint.id)
                revisions.remove_of_endpoint(tx, endpoint.id)
                endpoint_rows.remove(tx, endpoint.id)
            elif endpoint is not self._endpoints.get(endpoint.id):
                endpoint_rows.save(tx, endpoint)
            if change.revised:
                revisions.add(tx, endpoint.as_revision())
                running = {worker.revision for worker in self.live(endpoint.id)}
                revisions.prune(tx, endpoint.id, before=endpoint.revision - REVISIONS_KEPT, keep=running)
            return workers, operations

        try:
            workers, operations = await self.store.write(write)
        finally:
            for worker in (*change.new_workers, *change.workers.values()):
                self._unreserve(worker.id)
        if change.revised:
            self._keep_revision(endpoint.id)
        for worker in (*workers, *change.workers.values()):
            self._remember(worker)
        pending = [o for o in self.operations(endpoint.id) if all(o.id != changed.id for changed in change.operations)]
        pending += [o for o in (*change.operations, *operations) if o.state is OperationState.PENDING]
        self._operations[endpoint.id] = pending
        if change.removed:
            self._forget(endpoint.id)
        else:
            self._endpoints[endpoint.id] = endpoint
        self._tell()
        return workers, operations

    def _keep_revision(self, endpoint_id: EndpointId) -> None:
        """Before the present revision is replaced: live workers may have been started from it."""
        before = self._endpoints[endpoint_id].as_revision()
        running = {worker.revision for worker in self.live(endpoint_id)}
        known = {**self._revisions.get(endpoint_id, {}), before.number: before}
        self._revisions[endpoint_id] = {number: known[number] for number in known if number in running}

    def _tell(self) -> None:
        for watcher in self._watchers:
            watcher.set()

    async def release(self, workers: Iterable[Worker], *, now: float) -> None:
        """The gateway has forgotten these ended workers: the quarantine of their ports begins."""
        released = [replace(worker, released_at=now) for worker in workers]
        await self.store.write(lambda tx: worker_rows.save(tx, released))
        for worker in released:
            self._remember(worker)

    def _remember(self, worker: Worker) -> None:
        self._put_away(self.worker(worker.id), but=worker)
        self._workers.setdefault(worker.endpoint, {})[worker.id] = worker
        self._endpoint_of[worker.id] = worker.endpoint
        if worker.placement is not None:
            self._at.setdefault((worker.provider, machine_of(worker.placement.host)), {})[worker.id] = worker
        if worker.state is WorkerState.DRAINING:
            self._draining.add(worker.endpoint)
        self.remembered(worker)

    def _put_away(self, before: Worker | None, *, but: Worker | None = None) -> None:
        """Its placement, as it was, is held no more; `but` is what takes its place."""
        for worker in (before, but):
            if worker is not None and worker.placement is not None:
                self._touched(worker.provider, worker.placement.host)
        if before is not None and before.placement is not None:
            at = (before.provider, machine_of(before.placement.host))
            self._at.get(at, {}).pop(before.id, None)
            if not self._at.get(at):
                self._at.pop(at, None)

    def _forget(self, endpoint: EndpointId) -> None:
        gone = self._endpoints.pop(endpoint, None)
        if gone is not None:
            self._slugs.discard(gone.slug)
        self._operations.pop(endpoint, None)
        self._revisions.pop(endpoint, None)
        self._locks.pop(endpoint, None)

    def forget_released(self, *, now: float) -> list[EndpointId]:
        """Drop ended workers whose port is free again. The deleted endpoints of which nothing is left now."""
        forgotten = []
        for endpoint, workers in tuple(self._workers.items()):
            for worker in tuple(workers.values()):
                if worker.gone and worker.released_at is not None and now - worker.released_at >= PORT_QUARANTINE_S:
                    self._put_away(worker)
                    del workers[worker.id]
                    del self._endpoint_of[worker.id]
            if not workers and endpoint not in self._endpoints:
                del self._workers[endpoint]
                forgotten.append(endpoint)
        return forgotten

    # Watching

    @contextmanager
    def watching(self) -> Iterator[Watch]:
        """For waiting on commits: a look taken after this began and before `Watch.changed` misses none."""
        watch = Watch()
        self._watchers.add(watch)
        try:
            yield watch
        finally:
            self._watchers.discard(watch)


class Watch(asyncio.Event):
    """Set by every commit."""

    async def changed(self, *, timeout_s: float) -> bool:
        """Wait for a commit since the last call, or until the time is over. Was there one?"""
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self.wait()
        seen = self.is_set()
        self.clear()
        return seen
