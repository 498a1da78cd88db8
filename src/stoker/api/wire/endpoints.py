"""Endpoints as they are answered, and what scales them. Pure."""

from __future__ import annotations

import re
from typing import Any, Self

from pydantic import BaseModel

from stoker.api.wire.base import In, Number, Whole, fields_of, iso
from stoker.api.wire.records import OperationOut
from stoker.api.wire.spec import SpecIn, masked
from stoker.domain.launch import Launch
from stoker.domain.views import EndpointView, FieldChange, Preview, RevisionView


class ScaleIn(In):
    """`workers: null` gives the number back to the scaling policy."""

    workers: Whole | None
    for_s: Number | None = None


class OverrideOut(BaseModel):
    workers: int
    until: str | None


class LaunchOut(BaseModel):
    """The launch as it was resolved. The environment is not shown: it may hold secrets."""

    engine: str | None
    command: list[str]
    image: str | None
    slots: int
    models: list[str]
    notes: list[str]


def _launch_out(launch: Launch, slots: int) -> LaunchOut:
    return LaunchOut(
        engine=launch.engine,
        command=list(launch.command),
        image=launch.image,
        slots=slots,
        models=list(launch.models),
        notes=list(launch.notes),
    )


class Urls(BaseModel):
    inference: str
    openai: str


class TrafficOut(BaseModel):
    in_flight: int
    waiting: int
    oldest_wait_s: float
    arrivals: int
    completions: int
    errors: int
    refusals: int
    age_s: float


class EndpointOut(BaseModel):
    """An endpoint as it stands. `spec` is complete; `template` is what it was completed from. `launches` has what
    workers of each pool run, `launch` that of the first.
    """

    id: str
    number: int
    slug: str
    name: str
    project: int
    phase: str
    state: str
    state_reason: str
    revision: int
    desired: int
    workers: dict[str, int]
    override: OverrideOut | None
    template: str | None
    spec: SpecIn
    launch: LaunchOut
    launches: dict[str, LaunchOut]
    urls: Urls
    traffic: TrafficOut | None
    created_at: str | None
    updated_at: str | None

    @classmethod
    def of(cls, view: EndpointView, *, reveal: bool) -> Self:
        """`reveal` shows the values of the workers' environment, which may be secrets, as they are."""
        endpoint = view.endpoint
        override = endpoint.override
        return cls(
            id=endpoint.id,
            number=endpoint.number,
            slug=endpoint.slug,
            name=endpoint.spec.name,
            project=endpoint.project,
            phase=endpoint.phase,
            state=view.condition.state,
            state_reason=view.condition.reason,
            revision=endpoint.revision,
            desired=endpoint.desired,
            workers={state.value: count for state, count in view.workers.items()},
            override=None if override is None else OverrideOut(workers=override.workers, until=iso(override.until)),
            template=endpoint.spec.template,
            spec=SpecIn.of(endpoint.spec) if reveal else masked(SpecIn.of(endpoint.spec)),
            launch=_launch_out(endpoint.launch, endpoint.slots),
            launches={name: _launch_out(launch, endpoint.slots_of(name)) for name, launch in endpoint.launches.items()},
            urls=Urls(inference=view.url, openai=view.openai_url),
            traffic=None if view.traffic is None else TrafficOut(**fields_of(view.traffic)),
            created_at=iso(endpoint.created_at),
            updated_at=iso(endpoint.updated_at),
        )


class Changed(BaseModel):
    """What a change was answered: the endpoint, and the operation that carries it out (null when there is none)."""

    endpoint: EndpointOut
    operation: OperationOut | None


class RollbackIn(In):
    """`revision: null` is the one before the present."""

    revision: Whole | None = None


class ChangeOut(BaseModel):
    """One place at which two specs differ; null stands for absence, too. Values of the environment are masked."""

    pointer: str
    before: Any
    after: Any

    @classmethod
    def of(cls, change: FieldChange) -> Self:
        values = {"before": change.before, "after": change.after}
        return cls(pointer=change.pointer, **{name: _shown(change.pointer, value) for name, value in values.items()})


_VALUE_OF_ENV = re.compile(r"(/pools/\d+)?/launch/env/")


def _shown(pointer: str, value: Any) -> Any:
    """With values of environments masked, also where a whole pool or launch is new."""
    if _VALUE_OF_ENV.match(pointer):
        return value if value is None else "***"
    if isinstance(value, list | tuple):
        return [_shown(f"{pointer}/{index}", each) for index, each in enumerate(value)]
    if not isinstance(value, dict):
        return value
    return {name: _shown(f"{pointer}/{name}", each) for name, each in value.items()}


class PoolPreviewOut(BaseModel):
    """`replaced`: workers that run something else now. `obstacle`: why one more worker has no room at this moment."""

    name: str
    launch: LaunchOut
    replaced: int
    obstacle: str | None


class PreviewOut(BaseModel):
    """What applying a spec would do: `action` is create, update or none."""

    action: str
    endpoint: str | None
    revision: int
    changes: list[ChangeOut]
    pools: list[PoolPreviewOut]
    pools_removed: list[str]

    @classmethod
    def of(cls, preview: Preview) -> Self:
        return cls(
            action=preview.action,
            endpoint=None if preview.endpoint is None else preview.endpoint.id,
            revision=preview.revision,
            changes=[ChangeOut.of(change) for change in preview.changes],
            pools=[
                PoolPreviewOut(
                    name=pool.name,
                    launch=_launch_out(pool.launch, pool.slots),
                    replaced=pool.replaced,
                    obstacle=pool.obstacle,
                )
                for pool in preview.pools
            ],
            pools_removed=list(preview.pools_removed),
        )


class RevisionOut(BaseModel):
    """An earlier or the present spec of an endpoint, and its differences from the one before."""

    number: int
    present: bool
    created_at: str | None
    changes: list[ChangeOut]
    spec: SpecIn

    @classmethod
    def of(cls, view: RevisionView, *, reveal: bool) -> Self:
        spec = SpecIn.of(view.revision.spec)
        return cls(
            number=view.revision.number,
            present=view.present,
            created_at=iso(view.revision.created_at),
            changes=[ChangeOut.of(change) for change in view.changes],
            spec=spec if reveal else masked(spec),
        )
