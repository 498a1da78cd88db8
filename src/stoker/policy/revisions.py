"""What a changed spec means for the workers that are there. Pure; called by control's door for endpoints."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from stoker.domain.endpoint import Endpoint, EndpointSpec, Revision
from stoker.domain.launch import Launch


def revise(
    endpoint: Endpoint,
    spec: EndpointSpec,
    launches: Mapping[str, Launch],
    earlier: Iterable[Revision],
    *,
    now: float,
) -> Endpoint:
    """`endpoint` with a new revision of this spec, resolved to `launches`.

    Workers of the present and of `earlier` revisions that run the same thing in the same pool stay: so going back in
    the middle of an update keeps those that were not replaced yet.
    """
    number = endpoint.revision + 1
    changed = replace(endpoint, spec=spec, launches=launches, revision=number, updated_at=now)
    wanted = changed.as_revision()
    known = (*earlier, endpoint.as_revision())
    alike = {
        pool.name: (*(r.number for r in known if _runs(r, pool.name) == _runs(wanted, pool.name)), number)
        for pool in spec.pools
    }
    changed = replace(changed, alike=alike)
    if all(endpoint.revision in numbers for numbers in alike.values()):
        # Other bounds are a number set by hand, which is another try.
        return changed if spec.bounds == endpoint.spec.bounds else replace(changed, failures={})
    # Whatever failed before was something else.
    return replace(changed, launched=number, failures={})


def _runs(revision: Revision, pool: str) -> object:
    """All that a running worker of this pool depends on: a change of it needs new workers."""
    spec, launch = revision.spec.pool(pool), revision.launch_of(pool)
    if spec is None or launch is None:
        return None
    slots = launch.slots if revision.spec.slots is None else revision.spec.slots
    # What a worker may cost is a matter of its start.
    hardware = replace(spec.hardware, price_max=None)
    return launch, slots, revision.probes_of(pool), spec.provider, hardware
