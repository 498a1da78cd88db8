"""Workers, operations, events and decisions as they are answered. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Self

from pydantic import BaseModel

from stoker.api.wire.base import fields_of, iso
from stoker.api.wire.measurements import EngineMetricsOut, MeasuredOut, ResourcesOut
from stoker.domain.operation import Decision, Demand, Event, Operation
from stoker.domain.views import Explanation, WorkerView


class OperationOut(BaseModel):
    id: str
    number: int
    kind: str
    endpoint: str
    state: str
    message: str
    cause: str | None
    created_at: str | None
    ended_at: str | None

    @classmethod
    def of(cls, operation: Operation) -> Self:
        return cls(
            id=operation.id,
            number=operation.number,
            kind=operation.kind,
            endpoint=operation.endpoint,
            state=operation.state,
            message=operation.message,
            cause=operation.cause,
            created_at=iso(operation.created_at),
            ended_at=iso(operation.ended_at),
        )


class EndpointName(BaseModel):
    id: str
    slug: str
    name: str


class WorkerOut(BaseModel):
    """A worker. `start_s` is the time from start to ready. `gpus` are numbers of cards of its host, which exist in the
    account alone where they are `virtual`. `price_per_hour` is null where nobody says what it costs.
    """

    id: str
    number: int
    endpoint: EndpointName
    state: str
    reason: str
    pool: str
    revision: int
    provider: str
    host: str | None
    address: str | None
    region: str | None
    gpus: list[int]
    virtual: bool | None
    price_per_hour: float | None
    currency: str | None
    slots: int
    in_flight: int | None
    created_at: str | None
    started_at: str | None
    ready_at: str | None
    ended_at: str | None
    start_s: float | None
    exit_code: int | None
    metrics: EngineMetricsOut | None
    resources: ResourcesOut | None

    @classmethod
    def of(cls, view: WorkerView) -> Self:
        worker = view.worker
        start_s = None
        if worker.ready_at is not None and worker.started_at is not None:
            start_s = round(worker.ready_at - worker.started_at, 3)
        return cls(
            id=worker.id,
            number=worker.number,
            endpoint=EndpointName(id=worker.endpoint, slug=view.slug, name=view.name),
            state=worker.state,
            reason=worker.reason,
            pool=worker.pool,
            revision=worker.revision,
            provider=worker.provider,
            host=None if worker.placement is None else worker.placement.host,
            address=None if worker.address is None else f"{worker.address.host}:{worker.address.port}",
            region=view.region,
            gpus=[] if worker.placement is None else list(worker.placement.gpus),
            virtual=view.virtual,
            price_per_hour=None if worker.placement is None else worker.placement.price,
            currency=None if worker.placement is None else worker.placement.currency,
            slots=worker.slots,
            in_flight=view.in_flight,
            created_at=iso(worker.created_at),
            started_at=iso(worker.started_at),
            ready_at=iso(worker.ready_at),
            ended_at=iso(worker.ended_at),
            start_s=start_s,
            exit_code=worker.exit_code,
            **dict(MeasuredOut.of(view)),
        )


class EventOut(BaseModel):
    number: int
    at: str | None
    endpoint: str | None
    worker: str | None
    level: str
    kind: str
    message: str

    @classmethod
    def of(cls, event: Event) -> Self:
        return cls(**(fields_of(event) | {"at": iso(event.at)}))


class DemandOut(BaseModel):
    """What one trigger asked for: `workers` (null: it could not know), from which `value` against which `target`, both
    in its own unit; `age_s` is how old the value was. `held`: how many should be there ready or cold.
    """

    trigger: str
    workers: int | None
    value: float | None
    target: float | None
    age_s: float | None
    text: str
    held: int

    @classmethod
    def of(cls, demand: Demand) -> Self:
        return cls(**{name: value for name, value in fields_of(demand).items() if name in cls.model_fields})


class DecisionOut(BaseModel):
    """How many workers were wanted from `at` on, why, and from what: `ages` has the age in seconds of what was
    measured. `triggers` are in the order of the endpoint's document; `limits` changed the largest demand, in this
    order. Nobody acted on one that is `advisory`. `number` grows; null for what is not recorded.
    """

    number: int | None
    at: str | None
    current: int
    workers: int
    reason: str
    inputs: Mapping[str, float | int | None]
    ages: Mapping[str, float]
    triggers: list[DemandOut]
    limits: list[str]
    advisory: bool

    @classmethod
    def of(cls, decision: Decision) -> Self:
        triggers = [DemandOut.of(each) for each in decision.triggers]
        fields = fields_of(decision) | {"at": iso(decision.at), "triggers": triggers, "limits": list(decision.limits)}
        return cls(**fields)


class FeedEventOut(EventOut):
    """In the feed of several endpoints, whose name it has."""

    endpoint_name: str

    @classmethod
    def told(cls, event: Event, name: str) -> Self:
        return cls(endpoint_name=name, **EventOut.of(event).model_dump())


class FeedDecisionOut(DecisionOut):
    """In the feed of several endpoints: of which one it is."""

    endpoint: str
    endpoint_name: str

    @classmethod
    def told(cls, decision: Decision, endpoint: str, name: str) -> Self:
        return cls(endpoint=endpoint, endpoint_name=name, **DecisionOut.of(decision).model_dump())


class NumberOut(BaseModel):
    """Something measured, `age_s` seconds ago; `stale`: too old to decide by."""

    value: float
    age_s: float
    stale: bool


class WorkerNumbersOut(BaseModel):
    """What is known of one ready worker; what is not is absent."""

    number: int
    numbers: Mapping[str, NumberOut]


class ExplanationOut(BaseModel):
    """`decision` is the one that held at `at`, null before the first; `given` is all that it was made from: policy,
    bounds, memory and signals, which lead to the same decision whenever. `present` is what would be decided now; null
    where the question was about an earlier time.
    """

    at: str | None
    decision: DecisionOut | None
    given: dict[str, Any] | None
    present: DecisionOut | None
    workers: list[WorkerNumbersOut]

    @classmethod
    def of(cls, explanation: Explanation) -> Self:
        decision, present = explanation.decision, explanation.present
        return cls(
            at=iso(explanation.at),
            decision=None if decision is None else DecisionOut.of(decision),
            given=None if decision is None or decision.given is None else json.loads(decision.given),
            present=None if present is None else DecisionOut.of(present),
            workers=[
                WorkerNumbersOut(
                    number=number, numbers={name: NumberOut(**fields_of(each)) for name, each in numbers.items()}
                )
                for number, numbers in explanation.workers.items()
            ],
        )
