"""Endpoints and workergroups as endpoints with pools and back. `settled` alone makes numbers of workers of load."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from stoker.dialects import keeping
from stoker.dialects.vast import GROUP, KEPT
from stoker.dialects.vast.launching import Asked
from stoker.dialects.vast.wire.endpoints import Kept, ParamsIn
from stoker.dialects.vast.wire.groups import GroupIn, GroupKept
from stoker.domain.endpoint import Endpoint, EndpointSpec, PoolSpec, ScaleBounds, ScalingPolicy
from stoker.domain.errors import Conflict, Invalid
from stoker.domain.hardware import HardwareRequest
from stoker.domain.launch import LaunchSpec
from stoker.domain.load import USUAL
from stoker.domain.scaling import Concurrency, Load, LoadUnit

# A number of an endpoint, then three digits of its group: those that it was given, then by place those made elsewhere.
GROUPS = 1_000
_ELSEWHERE = 900
# Runs nothing, until there is a workergroup that says what to run: it has no workers.
NOTHING = LaunchSpec(command=("false",))
UPDATE = "STOKER_UPDATE"
_NAME = re.compile(r"group-([1-9][0-9]?|[1-8][0-9]{2})")


@dataclass(frozen=True, slots=True)
class Group:
    """A workergroup: its number, the pool that it is, and what it was asked for (`None`: it was made elsewhere)."""

    id: int
    pool: PoolSpec
    kept: GroupKept | None


def kept_of(spec: EndpointSpec) -> Kept:
    """What an endpoint was asked for; of one that was made elsewhere, what comes to the same."""
    kept = keeping.read(spec, KEPT, Kept)
    bounds = spec.bounds
    if kept is None:
        low = USUAL * bounds.min
        idle = spec.scaling.idle_s
        return Kept(
            min_load=low, target_util=1.0, cold_mult=1.0, cold_workers=bounds.cold, inactivity_timeout=idle,
            max_workers=bounds.max,
        )  # fmt: skip
    if spec.launch != NOTHING and bounds.max != sum(_highs(kept, _own(spec))):
        # Somebody else has changed it since.
        return kept.model_copy(update={"max_workers": bounds.max, "cold_workers": min(kept.cold_workers, bounds.max)})
    return kept


def groups_of(endpoint: Endpoint) -> tuple[Group, ...]:
    """Its workergroups."""
    spec = endpoint.spec
    if spec.launch == NOTHING:
        return ()
    found: list[Group] = []
    for index, pool in enumerate(spec.pools):
        named = _NAME.fullmatch(pool.name)
        # By another name somebody else wrote it.
        kept = None if named is None else keeping.read(spec, f"{GROUP}{pool.name}", GroupKept)
        number = _ELSEWHERE + index if kept is None or named is None else int(named[1])
        found.append(Group(endpoint.number * GROUPS + number, pool, kept))
    return tuple(found)


def given(kept: Kept, body: ParamsIn) -> Kept:
    """With what the body says. Raises `Invalid`."""
    said = body.model_dump(exclude_none=True, include=set(ParamsIn.model_fields))
    state = said.pop("endpoint_state", kept.state)
    changed = kept.model_copy(update={k: v for k, v in said.items() if k in Kept.model_fields} | {"state": state})
    if changed.cold_workers > changed.max_workers:
        raise Invalid.at("/cold_workers", "cold_workers must not be above max_workers")
    if changed.target_queue_time > changed.max_queue_time:
        raise Invalid.at("/target_queue_time", "target_queue_time must not be above max_queue_time")
    return changed


def empty(name: str, kept: Kept, provider: str) -> EndpointSpec:
    """An endpoint without workergroups."""
    pool = PoolSpec(provider=provider, bounds=ScaleBounds(min=0, max=0))
    return settled(EndpointSpec(name=name, launch=NOTHING, pools=(pool,)), kept)


def settled(spec: EndpointSpec, kept: Kept, *, cold_max: int | None = None) -> EndpointSpec:
    """With the numbers of workers and the policy that these parameters come to. `cold_max` is how many workers there is
    room for.
    """
    annotations = {**spec.annotations, KEPT: kept.model_dump_json(exclude_none=True)}
    spec = replace(spec, annotations=annotations, scaling=_scaling(spec, kept))
    if spec.launch == NOTHING:
        return spec
    shares = _shares(spec, kept, cold_max)
    pools = tuple(replace(p, bounds=b) for p, b in zip(spec.pools, shares, strict=True))
    return replace(spec, pools=pools)


def _own(spec: EndpointSpec) -> list[GroupKept]:
    """What each of its workergroups says itself."""
    if spec.launch == NOTHING:
        return []
    return [keeping.read(spec, f"{GROUP}{pool.name}", GroupKept) or GroupKept() for pool in spec.pools]


def _together_of(spec: EndpointSpec, kept: Kept) -> Kept:
    """What holds for the endpoint as a whole, since requests go to any worker: the sum of what its workergroups say to
    be ready for, and the most cautious of what they say of spare capacity; where none says anything, its own.
    """
    own = _own(spec)
    if not own:
        return kept
    loads = [o.min_load for o in own if o.min_load is not None]
    cold = [o.min_cold_load for o in own if o.min_cold_load is not None]
    found = {
        "min_load": sum(loads) if loads else kept.min_load,
        "min_cold_load": sum(cold) if cold else kept.min_cold_load,
        "target_util": min(kept.target_util if o.target_util is None else o.target_util for o in own),
        "cold_mult": max(kept.cold_mult if o.cold_mult is None else o.cold_mult for o in own),
    }
    return kept.model_copy(update=found)


def _scaling(spec: EndpointSpec, kept: Kept) -> ScalingPolicy:
    kept = _together_of(spec, kept)
    load = Load(
        unit=LoadUnit.ANNOUNCED,
        min_load=kept.min_load,
        target_util=max(0.01, kept.target_util),
        cold_mult=min(max(1.0, kept.cold_mult), 100.0),
        min_cold_load=kept.min_cold_load,
        target_queue_s=min(max(0.1, kept.target_queue_time), 3_600.0),
    )
    policy, timeout = spec.scaling, kept.inactivity_timeout
    # Load is the cloud's own rule; beside it requests that are there have workers, and nothing is learned.
    before = policy.triggers or (Concurrency(target=policy.target),)
    others = tuple(t for t in before if not (isinstance(t, Load) and t.unit is LoadUnit.ANNOUNCED))
    policy = replace(policy, target=None, triggers=(*others, load), to_zero=timeout is None or timeout >= 0)
    if timeout is None or timeout < 0:
        return policy
    return replace(policy, idle_timeout_s=min(timeout, 604_800.0))


def _bounds(kept: Kept) -> ScaleBounds:
    """Of the endpoint as a whole. What `min_load` needs beyond one worker the trigger says."""
    timeout = kept.inactivity_timeout
    always = kept.min_load > 0 or (timeout is not None and timeout < 0)
    return ScaleBounds(
        min=min(1 if always else 0, kept.max_workers),
        max=kept.max_workers,
        cold=min(kept.cold_workers, kept.max_workers),
    )


def _shares(spec: EndpointSpec, kept: Kept, cold_max: int | None) -> tuple[ScaleBounds, ...]:
    """The endpoint's bounds by pool: a workergroup's own where it has any, of the rest equal parts."""
    whole = _bounds(_together_of(spec, kept))
    cold_all = whole.cold if cold_max is None else min(whole.cold, cold_max)
    own = _own(spec)
    highs = _highs(kept, own)
    result: list[ScaleBounds] = []
    low_left, cold_left = whole.min, cold_all
    for o, high in zip(own, highs, strict=True):
        low = min(low_left, high) if o.min_load is None else min(high, 1 if o.min_load > 0 else 0)
        cold = min(cold_left, high) if o.cold_workers is None else min(o.cold_workers, high, cold_max or high)
        low_left, cold_left = max(0, low_left - low), max(0, cold_left - cold)
        result.append(ScaleBounds(min=low, max=high, cold=cold))
    return tuple(result)


def _highs(kept: Kept, own: Sequence[GroupKept]) -> list[int]:
    """Most workers of each: what it says itself, of what is left equal parts; together no more than the endpoint's."""
    left, highs = kept.max_workers, dict[int, int]()
    for index, group in enumerate(own):
        if group.max_workers is not None:
            highs[index] = min(group.max_workers, left)
            left -= highs[index]
    rest = [index for index in range(len(own)) if index not in highs]
    highs |= {index: _part(left, place, len(rest)) for place, index in enumerate(rest)}
    return [highs[index] for index in range(len(own))]


def _part(total: int, index: int, count: int) -> int:
    return total // count + (1 if index < total % count else 0)


def without_cold(spec: EndpointSpec) -> EndpointSpec:
    """The same where nobody can keep workers cold."""
    return replace(spec, pools=tuple(replace(p, bounds=replace(p.bounds, cold=0)) for p in spec.pools))


def joined(
    spec: EndpointSpec, kept: Kept, asked: Asked, group: GroupKept, hardware: HardwareRequest, provider: str
) -> tuple[EndpointSpec, Kept, str]:
    """With one more workergroup, and the name of its pool. Raises `Conflict` where there were too many."""
    number = kept.groups + 1
    if number >= _ELSEWHERE:
        raise Conflict("the endpoint has had too many workergroups; make another one")
    name = f"group-{number}"
    pool = PoolSpec(
        name=name,
        provider=provider,
        hardware=hardware,
        bounds=ScaleBounds(min=0, max=0),
        launch=asked.launch,
        slots=asked.slots,
    )
    others = () if spec.launch == NOTHING else _apart(spec)
    annotations = {**spec.annotations, f"{GROUP}{name}": group.model_dump_json(exclude_none=True)}
    spec = replace(_together(spec, (*others, pool)), annotations=annotations)
    return spec, kept.model_copy(update={"groups": number}), name


def _apart(spec: EndpointSpec) -> tuple[PoolSpec, ...]:
    """Its pools, each of which says itself what it runs."""
    return tuple(replace(pool, launch=spec.launch_of(pool), slots=spec.slots_of(pool)) for pool in spec.pools)


def _together(spec: EndpointSpec, pools: tuple[PoolSpec, ...]) -> EndpointSpec:
    """With these pools, where what the first one runs is the endpoint's own launch."""
    first = pools[0]
    assert first.launch is not None
    shared = tuple(
        replace(p, launch=None, slots=None) if (p.launch, p.slots) == (first.launch, first.slots) else p for p in pools
    )
    return replace(spec, launch=first.launch, slots=first.slots, pools=shared)


def regrouped(
    spec: EndpointSpec, name: str, group: GroupKept, hardware: HardwareRequest, asked: Asked | None
) -> EndpointSpec:
    """With that workergroup changed; `asked` says what it runs from now on, `None`: what it has run before."""

    def changed(pool: PoolSpec) -> PoolSpec:
        pool = replace(pool, hardware=hardware)
        if asked is None or pool.launch is None:
            return pool
        kept = {key: value for key, value in pool.launch.env.items() if key == UPDATE}
        return replace(pool, launch=replace(asked.launch, env={**asked.launch.env, **kept}), slots=asked.slots)

    pools = tuple(changed(pool) if pool.name == name else pool for pool in _apart(spec))
    annotations = {**spec.annotations, f"{GROUP}{name}": group.model_dump_json(exclude_none=True)}
    return replace(_together(spec, pools), annotations=annotations)


def left(spec: EndpointSpec, name: str) -> EndpointSpec:
    """Without that workergroup; without any it runs nothing."""
    annotations = {key: value for key, value in spec.annotations.items() if key != f"{GROUP}{name}"}
    spec = replace(spec, annotations=annotations)
    pools = tuple(pool for pool in _apart(spec) if pool.name != name)
    if pools:
        return _together(spec, pools)
    nothing = PoolSpec(provider=spec.pools[0].provider, bounds=ScaleBounds(min=0, max=0))
    return replace(spec, launch=NOTHING, pools=(nothing,), slots=None)


def changed_group(kept: GroupKept, body: GroupIn, **more: object) -> GroupKept:
    """With what the body says, and more."""
    fields = set(GroupKept.model_fields) - {"search_params", "launch_args"}
    said = body.model_dump(exclude_none=True, include=fields)
    return kept.model_copy(update=said | more)


def renewed(spec: EndpointSpec, name: str, *, back: bool) -> EndpointSpec:
    """With another launch of that workergroup, so that its workers are replaced; `back`: with the one before."""
    return _together(spec, tuple(_renewed(p, back=back) if p.name == name else p for p in _apart(spec)))


def _renewed(pool: PoolSpec, *, back: bool) -> PoolSpec:
    assert pool.launch is not None
    env = dict(pool.launch.env)
    said = str(env.pop(UPDATE, "0"))
    number = int(said) if said.isascii() and said.isdigit() and len(said) < 10 else 0
    number = max(0, number - 1) if back else number + 1
    if number:
        env[UPDATE] = str(number)
    return replace(pool, launch=replace(pool.launch, env=env))
