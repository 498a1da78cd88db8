"""Endpoints as they are answered, and what scales them. Pure."""

from __future__ import annotations

from typing import Self

from pydantic import BaseModel

from stoker.api.wire.base import In, fields_of, iso
from stoker.api.wire.records import OperationOut
from stoker.api.wire.spec import SpecIn, masked
from stoker.domain.views import EndpointView


class ScaleIn(In):
    """`workers: null` gives the number back to the scaling policy."""

    workers: int | None
    for_s: float | None = None


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
    """An endpoint as it stands."""

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
    spec: SpecIn
    launch: LaunchOut
    urls: Urls
    traffic: TrafficOut | None
    created_at: str | None
    updated_at: str | None

    @classmethod
    def of(cls, view: EndpointView, *, reveal: bool) -> Self:
        """`reveal` shows the values of the workers' environment, which may be secrets, as they are."""
        endpoint, launch = view.endpoint, view.endpoint.launch
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
            spec=SpecIn.of(endpoint.spec) if reveal else masked(SpecIn.of(endpoint.spec)),
            launch=LaunchOut(
                engine=launch.engine,
                command=list(launch.command),
                image=launch.image,
                slots=endpoint.slots,
                models=list(launch.models),
                notes=list(launch.notes),
            ),
            urls=Urls(inference=view.url, openai=view.openai_url),
            traffic=None if view.traffic is None else TrafficOut(**fields_of(view.traffic)),
            created_at=iso(endpoint.created_at),
            updated_at=iso(endpoint.updated_at),
        )


class Changed(BaseModel):
    """What a change was answered: the endpoint, and the operation that carries it out (null when there is none)."""

    endpoint: EndpointOut
    operation: OperationOut | None
