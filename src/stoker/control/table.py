"""Makes the gateway's table of what control knows. Entries are functions of endpoint, workers, keys and time."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Sequence

from stoker.domain.access import ApiKey, Scope, reach
from stoker.domain.endpoint import Access, Endpoint, EndpointId, Phase
from stoker.domain.models import Hold
from stoker.domain.queueing import Mode
from stoker.domain.routing import Affinity, Balance, InferenceAddress
from stoker.domain.worker import Worker, WorkerState
from stoker.link.messages import AddressEntry, EndpointEntry, KeyEntry, WorkerEntry
from stoker.link.server import LinkServer
from stoker.policy.backoff import standing_of

# Of the reasons whose texts quote what is not Stoker's own.
_SAID_TO_ANYBODY = {
    "start_failed": "its workers do not start",
    "model_failed": "its model cannot be had",
    "model_downloading": "its model is being fetched",
    "volume_unavailable": "a volume of it cannot be had",
    "stopped": "the endpoint is stopped",
}
_ROUTABLE = (WorkerState.READY, WorkerState.DRAINING)


def entry_of(
    endpoint: Endpoint,
    workers: Iterable[Worker],
    *,
    attached: Collection[str],
    domains: Sequence[str],
    addresses: Sequence[InferenceAddress] = (),
    closing: bool,
    now: float,
    expected_start_s: float | None = None,
    hold: Hold | None = None,
) -> EndpointEntry:
    """The table's entry for an endpoint with these workers. `addresses` are those that it has beside its own;
    `closing`: all of Stoker is being stopped; `hold`: why no worker can start now.
    """
    live = [w for w in workers if not w.gone]
    refusal, text, retry_after_s = _refusal(endpoint, live, closing=closing, now=now, hold=hold)
    spec, balance = endpoint.spec, _balance(endpoint)
    if spec.access is Access.OPEN and refusal is not None:
        # Anybody may ask: output of workers and addresses of models are for those who may read the endpoint.
        text = _SAID_TO_ANYBODY.get(refusal, text)
    return EndpointEntry(
        id=endpoint.id,
        number=endpoint.number,
        project=endpoint.project,
        slug=endpoint.slug,
        name=spec.name,
        access=spec.access.value,
        models=endpoint.models,
        addresses=(*_addresses(endpoint, domains), *map(_address, addresses)),
        workers=_workers(endpoint, live),
        pack=balance is Balance.PACK,
        fill=balance is Balance.FILL,
        session="" if spec.routing.session is Affinity.NONE else spec.routing.session.value,
        session_idle_s=spec.routing.session_idle_s,
        waiting_max=spec.waiting.requests_max,
        wait_s_max=spec.waiting.wait_s_max,
        connect_s=spec.timeouts.connect_s,
        first_byte_s=spec.timeouts.first_byte_s,
        idle_s=spec.timeouts.idle_s,
        total_s=spec.timeouts.total_s,
        created_s=endpoint.created_at,
        refusal=refusal,
        refusal_text=text,
        retry_after_s=retry_after_s,
        expected_start_s=expected_start_s,
        attached=tuple(sorted(attached)) if spec.access is Access.ATTACHED else (),
        backlog=spec.mode is not Mode.HTTP,
        tasks_only=spec.mode is Mode.QUEUE,
    )


def _balance(endpoint: Endpoint) -> Balance:
    """As it is said, or else as scaling likes it."""
    said, learns = endpoint.spec.routing.balance, endpoint.spec.scaling.auto
    rests = learns is not None and learns.cold_cost > 0
    return said or (Balance.FILL if rests else Balance.SPREAD)


def _workers(endpoint: Endpoint, live: Iterable[Worker]) -> tuple[WorkerEntry, ...]:
    """Those that requests may go to, or still are at."""
    return tuple(
        WorkerEntry(
            id=w.id,
            host=w.address.host,
            port=w.address.port,
            slots=w.slots,
            order=w.number,
            draining=w.state is WorkerState.DRAINING or bool(w.unready),
            ports=_ports(endpoint, w),
        )
        for w in sorted(live, key=lambda w: w.number)
        if w.state in _ROUTABLE and w.address is not None
    )


def _ports(endpoint: Endpoint, worker: Worker) -> tuple[tuple[int, int], ...]:
    """Its own ports; of one that runs an older launch only the main one is known."""
    launch = endpoint.launches.get(worker.pool)
    if endpoint.spec.mode is Mode.HTTP or launch is None or worker.placement is None:
        return ()
    if worker.revision not in endpoint.alike.get(worker.pool, ()):
        return ()
    return tuple(launch.mapped(worker.placement).items())


def _address(item: InferenceAddress) -> AddressEntry:
    return AddressEntry(
        prefix=item.prefix,
        host=item.host,
        strip=item.strip,
        base=item.base,
        worker=item.worker,
        keys=item.keys,
        open=item.open,
    )


def _addresses(endpoint: Endpoint, domains: Sequence[str]) -> tuple[AddressEntry, ...]:
    return (
        AddressEntry(prefix=f"/e/{endpoint.slug}"),
        AddressEntry(prefix=f"/e/{endpoint.id}"),
        *(AddressEntry(prefix="/", host=f"{endpoint.slug}.{domain}", strip=False) for domain in domains),
    )


def _refusal(
    endpoint: Endpoint, live: list[Worker], *, closing: bool, now: float, hold: Hold | None
) -> tuple[str | None, str, float | None]:
    if closing:
        return "stopping", "Stoker is being stopped", None
    if endpoint.phase is Phase.STOPPED:
        return "stopped", f"the endpoint is stopped; `stoker start {endpoint.slug}` starts it", None
    if endpoint.phase is Phase.DELETING:
        return "deleting", "the endpoint is being deleted", None
    if endpoint.spec.bounds.max == 0 and not live and not (endpoint.override and endpoint.override.workers):
        return "no_workers", "the endpoint is set to no workers at all", None
    starts = standing_of(endpoint)
    serving = any(w.state is WorkerState.READY for w in live)
    if hold is not None and hold.failed and hold.volume and not serving:
        return "volume_unavailable", hold.reason, None
    if hold is not None and hold.failed and not serving:
        return "model_failed", hold.reason, None
    if hold is not None and hold.left_s is not None and hold.left_s > endpoint.spec.waiting.wait_s_max and not serving:
        # Whoever waits now would wait in vain.
        return "model_downloading", hold.reason, float(math.ceil(hold.left_s))
    if serving or not starts.given_up or starts.earliest is None or now >= starts.earliest:
        return None, "", None
    return "start_failed", f"its workers do not start: {starts.reason}", float(math.ceil(starts.earliest - now))


def key_entry_of(key: ApiKey) -> KeyEntry:
    """The table's entry for a usable bearer key."""
    assert key.digest is not None
    return KeyEntry(
        digest=key.digest,
        id=key.id,
        project=key.project,
        invoke=Scope.INVOKE in reach(key.scopes),
        endpoints=None if key.endpoints is None else tuple(sorted(key.endpoints)),
        rate_per_s=key.limits.rate_per_s,
        burst=key.limits.burst,
        concurrency=key.limits.concurrency,
        expires_at=key.expires_at,
    )


class Publisher:
    """Puts entries into the link's table and remembers under which number each endpoint's last change went out."""

    def __init__(
        self,
        link: LinkServer,
        *,
        domains: Sequence[str],
        addresses: Callable[[Endpoint, Sequence[Worker]], Sequence[InferenceAddress]],
        expected_start_s: Callable[[Endpoint], float | None],
    ) -> None:
        """`addresses` says which an endpoint with these workers has beside its own."""
        self.closing = False
        self._addresses = addresses
        self._expected_start_s = expected_start_s
        self._link = link
        self._domains = domains
        self._seqs: dict[EndpointId, int] = {}

    def publish(
        self,
        endpoint: Endpoint,
        workers: Iterable[Worker],
        *,
        attached: Collection[str],
        now: float,
        hold: Hold | None = None,
    ) -> int:
        """Put the endpoint as it stands. The number that the gateway acknowledges it with."""
        workers = tuple(workers)
        entry = entry_of(
            endpoint,
            workers,
            attached=attached,
            domains=self._domains,
            addresses=self._addresses(endpoint, workers),
            closing=self.closing,
            now=now,
            expected_start_s=self._expected_start_s(endpoint),
            hold=hold,
        )
        if self._link.endpoint(entry.id) != entry:
            self._seqs[endpoint.id] = self._link.put_endpoint(entry)
        return self.seq(endpoint.id)

    def withdraw(self, endpoint: EndpointId) -> int:
        """Take the endpoint out of the table."""
        self._seqs[endpoint] = self._link.drop_endpoint(endpoint)
        return self._seqs[endpoint]

    def forget(self, endpoint: EndpointId) -> None:
        """Nothing is left of it."""
        self._seqs.pop(endpoint, None)

    def seq(self, endpoint: EndpointId) -> int:
        """The number of the endpoint's last change."""
        return self._seqs.get(endpoint, self._link.seq)
