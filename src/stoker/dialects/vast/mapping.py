"""Endpoints and workergroups as endpoints with pools and back. `settled` alone makes numbers of workers of load."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from stoker.dialects.vast import GROUP, KEPT
from stoker.dialects.vast.launching import Asked
from stoker.dialects.vast.wire.endpoints import Kept, ParamsIn
from stoker.dialects.vast.wire.groups import GroupIn, GroupKept
from stoker.domain.endpoint import Endpoint, EndpointSpec, LaunchSpec, PoolSpec, ScaleBounds, ScalingPolicy
from stoker.domain.errors import Conflict, Invalid
from stoker.domain.hardware import HardwareRequest
from stoker.domain.load import USUAL
from stoker.domain.scaling import Concurrency, Load, LoadUnit

# A number of an endpoint, then three digits of its group: those that it was given, then by place those made elsewhere.
GROUPS = 1_000
_ELSEWHERE = 900
# Runs nothing, until there is a workergroup that says what to run: it has no workers.
NOTHING = LaunchSpec(command=("false",))
UPDATE = "STOKER_UPDATE"

M = TypeVar("M", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class Group:
    """A workergroup: its number, the pool that it is, and what it was asked for (`None`: it was made elsewhere)."""

    id: int
    pool: PoolSpec
    kept: GroupKept | None


def _read(spec: EndpointSpec, key: str, model: type[M]) -> M | None:
    try:
        return model.model_validate_json(spec.annotations[key]) if key in spec.annotations else None
    except ValidationError:
        # Somebody else wrote it.
        return None


def kept_of(spec: EndpointSpec) -> Kept:
    """What an endpoint was asked for; of one that was made elsewhere, what comes to the same."""
    kept = _read(spec, KEPT, Kept)
    bounds = spec.bounds
    if kept is None:
        low = USUAL * bounds.min
        idle = spec.scaling.idle_s
        return Kept(
            min_load=low, target_util=1.0, cold_mult=1.0, cold_workers=bounds.cold, inactivity_timeout=idle,
            max_workers=bounds.max,
        )  # fmt: skip
    if spec.launch != NOTHING and bounds.max != _bounds(kept).max:
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
        kept = _read(spec, f"{GROUP}{pool.name}", GroupKept)
        number = _ELSEWHERE + index if kept is None else int(pool.name.removeprefix("group-"))
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


def _scaling(spec: EndpointSpec, kept: Kept) -> ScalingPolicy:
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
    whole = _bounds(kept)
    cold_all = whole.cold if cold_max is None else min(whole.cold, cold_max)
    own = [_read(spec, f"{GROUP}{pool.name}", GroupKept) or GroupKept() for pool in spec.pools]
    count = len(own)
    highs = [_part(whole.max, index, count) if o.max_workers is None else o.max_workers for index, o in enumerate(own)]
    result: list[ScaleBounds] = []
    low_left, cold_left = whole.min, cold_all
    for o, high in zip(own, highs, strict=True):
        low = min(low_left, high) if o.min_load is None else min(high, 1 if o.min_load > 0 else 0)
        cold = min(cold_left, high) if o.cold_workers is None else min(o.cold_workers, high, cold_max or high)
        low_left, cold_left = max(0, low_left - low), max(0, cold_left - cold)
        result.append(ScaleBounds(min=low, max=high, cold=cold))
    return tuple(result)


def _part(total: int, index: int, count: int) -> int:
    return total // count + (1 if index < total % count else 0)


def without_cold(spec: EndpointSpec) -> EndpointSpec:
    """The same where nobody can keep workers cold."""
    return replace(spec, pools=tuple(replace(p, bounds=replace(p.bounds, cold=0)) for p in spec.pools))


def joined(
    spec: EndpointSpec, kept: Kept, asked: Asked, group: GroupKept, hardware: HardwareRequest, provider: str
) -> tuple[EndpointSpec, Kept, str]:
    """With one more workergroup, and the name of its pool. Raises `Conflict` where it would run something else."""
    number = kept.groups + 1
    if number >= _ELSEWHERE:
        raise Conflict("the endpoint has had too many workergroups; make another one")
    name = f"group-{number}"
    pool = PoolSpec(name=name, provider=provider, hardware=hardware, bounds=ScaleBounds(min=0, max=0))
    if spec.launch == NOTHING:
        spec = replace(spec, launch=asked.launch, slots=asked.slots, pools=(pool,))
    else:
        _check_alike(spec.launch, asked.launch)
        spec = replace(spec, pools=(*spec.pools, pool))
    annotations = {**spec.annotations, f"{GROUP}{name}": group.model_dump_json(exclude_none=True)}
    return replace(spec, annotations=annotations), kept.model_copy(update={"groups": number}), name


def _check_alike(launch: LaunchSpec, other: LaunchSpec) -> None:
    plain = {name: value for name, value in launch.env.items() if name != UPDATE}
    if replace(launch, env=plain) != other:
        raise Conflict("all workergroups of an endpoint run the same here: make another endpoint for another template")


def regrouped(
    spec: EndpointSpec, name: str, group: GroupKept, hardware: HardwareRequest, asked: Asked | None
) -> EndpointSpec:
    """With that workergroup changed; where `asked` says what it runs, that is what all of the endpoint runs."""
    pools = tuple(replace(p, hardware=hardware) if p.name == name else p for p in spec.pools)
    annotations = {**spec.annotations, f"{GROUP}{name}": group.model_dump_json(exclude_none=True)}
    spec = replace(spec, pools=pools, annotations=annotations)
    if asked is None:
        return spec
    kept = {key: value for key, value in spec.launch.env.items() if key == UPDATE}
    return replace(spec, launch=replace(asked.launch, env={**asked.launch.env, **kept}), slots=asked.slots)


def left(spec: EndpointSpec, name: str) -> EndpointSpec:
    """Without that workergroup; without any it runs nothing."""
    annotations = {key: value for key, value in spec.annotations.items() if key != f"{GROUP}{name}"}
    pools = tuple(pool for pool in spec.pools if pool.name != name)
    if not pools:
        nothing = PoolSpec(provider=spec.pools[0].provider, bounds=ScaleBounds(min=0, max=0))
        return replace(spec, launch=NOTHING, pools=(nothing,), slots=None, annotations=annotations)
    return replace(spec, pools=pools, annotations=annotations)


def changed_group(kept: GroupKept, body: GroupIn, **more: object) -> GroupKept:
    """With what the body says, and more."""
    fields = set(GroupKept.model_fields) - {"search_params", "launch_args"}
    said = body.model_dump(exclude_none=True, include=fields)
    return kept.model_copy(update=said | more)


def renewed(spec: EndpointSpec, kept: Kept, *, back: bool) -> tuple[EndpointSpec, Kept]:
    """With a launch that is another, so that all workers are replaced; `back`: with the one before."""
    updates = max(0, kept.updates - 1) if back else kept.updates + 1
    env = {name: value for name, value in spec.launch.env.items() if name != UPDATE}
    if updates:
        env[UPDATE] = str(updates)
    return replace(spec, launch=replace(spec.launch, env=env)), kept.model_copy(update={"updates": updates})


def names_of(pools: Sequence[PoolSpec]) -> frozenset[str]:
    """Their names."""
    return frozenset(pool.name for pool in pools)
