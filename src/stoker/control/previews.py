"""What a spec would do to an endpoint, without doing it. Called by the door for endpoints, which checks the caller."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from stoker.control.fleet import Fleet
from stoker.control.managed import Providers
from stoker.domain.endpoint import Endpoint, EndpointSpec, PoolSpec
from stoker.domain.launch import Launch
from stoker.domain.views import PoolPreview, Preview
from stoker.domain.worker import Worker
from stoker.policy.changes import differences
from stoker.policy.placement import Unplaceable, place
from stoker.policy.revisions import revise


def previewed(
    endpoint: Endpoint | None,
    spec: EndpointSpec,
    launches: Mapping[str, Launch],
    fleet: Fleet,
    providers: Providers,
    *,
    now: float,
) -> Preview:
    """The outcome of giving `endpoint` (`None`: a new one) this spec, resolved to `launches`."""
    workers: tuple[Worker, ...] = ()
    before: object = {}
    after = endpoint
    if endpoint is not None:
        workers, before = fleet.live(endpoint.id), msgspec.to_builtins(endpoint.spec)
    changes = differences(before, msgspec.to_builtins(spec))
    if endpoint is not None and changes:
        after = revise(endpoint, spec, launches, fleet.revisions(endpoint.id), now=now)
    old = [w for w in workers if after is not None and not after.runs(w.pool, w.revision)]
    pools = [
        PoolPreview(
            name=pool.name,
            launch=launches[pool.name],
            slots=launches[pool.name].slots if spec.slots is None else spec.slots,
            replaced=sum(1 for worker in old if worker.pool == pool.name),
            obstacle=_obstacle(pool, launches[pool.name], fleet, providers, now=now),
        )
        for pool in spec.pools
    ]
    removed = {worker.pool for worker in workers} - {pool.name for pool in spec.pools}
    return Preview(
        action="create" if endpoint is None else "update" if changes else "none",
        endpoint=endpoint,
        revision=1 if after is None else after.revision,
        changes=changes,
        pools=tuple(pools),
        pools_removed=tuple(sorted(removed)),
    )


def _obstacle(pool: PoolSpec, launch: Launch, fleet: Fleet, providers: Providers, *, now: float) -> str | None:
    held = fleet.placements(pool.provider, now=now)
    found = place(pool.hardware, providers.get(pool.provider).offers_for(launch), held, ports=launch.ports_wanted)
    return found.reason if isinstance(found, Unplaceable) else None
