"""The native API's JSON as types: requests become domain values, domain values become answers. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Annotated, Any, Generic, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field

from stoker.domain.access import ApiKey, Scope
from stoker.domain.endpoint import (
    Access,
    EndpointSpec,
    LaunchSpec,
    PoolSpec,
    Probe,
    Rollout,
    ScaleBounds,
    ScalingPolicy,
    Timeouts,
    WaitingRoom,
)
from stoker.domain.errors import Invalid, Problem
from stoker.domain.hardware import HardwareRequest
from stoker.domain.operation import Decision, Event, Operation
from stoker.domain.views import EndpointView, HostView, WorkerView

T = TypeVar("T")


def iso(at: float | None) -> str | None:
    """A time in seconds since the epoch as ISO 8601 in UTC, to the millisecond."""
    if at is None:
        return None
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


@contextmanager
def _below(pointer: str) -> Iterator[None]:
    """Problems found inside are at places below `pointer`."""
    try:
        yield
    except Invalid as exc:
        problems = tuple(Problem(pointer + problem.pointer, problem.detail) for problem in exc.problems)
        raise Invalid(str(exc), problems=problems) from exc


class _In(BaseModel):
    """A request: unknown fields are refused, so that a typing error is no silent default. Numbers must be finite."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)


class Hardware(_In):
    """What one worker needs. A field that is left out is neither asked for nor accounted for."""

    gpu_family: str | None = Field(default=None, max_length=64, description="canonical family, as in `stoker hardware`")
    gpu_count: int = Field(default=0, description="cards for each worker")
    vram_gib_min: float | None = Field(default=None, description="memory of each card, in GiB")
    vcpu: float | None = None
    ram_gib: float | None = None


class Bounds(_In):
    """How many workers: `cold` is the floor of ready plus cold ones."""

    min: int = 0
    max: int = 1
    cold: int = 0


class Pool(_In):
    """One homogeneous group of workers."""

    name: str = Field(default="default", min_length=1, max_length=63)
    provider: str = Field(default="process", max_length=64)
    hardware: Hardware = Hardware()
    bounds: Bounds = Bounds()

    def to_domain(self, pointer: str) -> PoolSpec:
        with _below(f"{pointer}/hardware"):
            hardware = HardwareRequest(**self.hardware.model_dump())
        with _below(f"{pointer}/bounds"):
            bounds = ScaleBounds(**self.bounds.model_dump())
        return PoolSpec(name=self.name, provider=self.provider, hardware=hardware, bounds=bounds)


class LaunchIn(_In):
    """What to run: exactly one of `model`, `image` and `command` (an image may have a command too)."""

    model: str | None = Field(default=None, min_length=1, max_length=1024)
    engine: str = Field(default="auto", max_length=64)
    engine_version: str | None = Field(default=None, max_length=64)
    parameters: tuple[str, ...] = Field(default=(), description="command-line arguments of the engine's server")
    image: str | None = Field(default=None, min_length=1, max_length=1024)
    command: tuple[str, ...] = Field(default=(), description="{host}, {port} and {model} stand for the worker's own")
    env: dict[str, str] = {}
    port: int | None = None


class ProbeIn(_In):
    """When a worker is ready. `path: null` asks only for a TCP connection."""

    path: str | None = "/health"
    period_s: float = 5.0
    timeout_s: float = 5.0
    failures_max: int = 3
    start_timeout_s: float = 900.0


class Scaling(_In):
    """One worker for every `target` requests present (default: its slots)."""

    target: float | None = None
    scale_down_delay_s: float = 60.0
    idle_timeout_s: float = 300.0


class TimeoutsIn(_In):
    """Limits on one exchange with a worker, in seconds; null is none."""

    connect_s: float = 5.0
    first_byte_s: float | None = 600.0
    idle_s: float | None = 300.0
    total_s: float | None = None


class Waiting(_In):
    """The waiting room."""

    requests_max: int = 1_000
    wait_s_max: float = 600.0


class RolloutIn(_In):
    """How a new revision replaces the old one."""

    surge: int = 1
    drain_timeout_s: float = 600.0
    grace_s: float = 10.0


class SpecIn(_In):
    """A whole endpoint: body of create and update, document of `stoker apply`."""

    name: str
    launch: LaunchIn
    pools: Annotated[tuple[Pool, ...], Field(min_length=1, max_length=16)] = (Pool(),)
    probe: ProbeIn | None = None
    scaling: Scaling = Scaling()
    access: Access = Access.PROJECT
    timeouts: TimeoutsIn = TimeoutsIn()
    waiting: Waiting = Waiting()
    rollout: RolloutIn = RolloutIn()
    slots: int | None = Field(
        default=None, description="requests that one worker takes at once; default: what its engine says"
    )
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}

    def to_spec(self) -> EndpointSpec:
        """The domain's spec. Raises `Invalid` with pointers into this document."""
        return EndpointSpec(
            name=self.name,
            launch=LaunchSpec(**self.launch.model_dump()),
            pools=tuple(pool.to_domain(f"/pools/{index}") for index, pool in enumerate(self.pools)),
            probe=None if self.probe is None else Probe(**self.probe.model_dump()),
            scaling=ScalingPolicy(**self.scaling.model_dump()),
            access=self.access,
            timeouts=Timeouts(**self.timeouts.model_dump()),
            waiting=WaitingRoom(**self.waiting.model_dump()),
            rollout=Rollout(**self.rollout.model_dump()),
            slots=self.slots,
            labels=self.labels,
            annotations=self.annotations,
        )

    @classmethod
    def of(cls, spec: EndpointSpec) -> SpecIn:
        """The document that makes this spec."""
        return cls(
            name=spec.name,
            launch=LaunchIn(**_fields(spec.launch)),
            pools=tuple(
                Pool(
                    name=pool.name,
                    provider=pool.provider,
                    hardware=Hardware(**_fields(pool.hardware)),
                    bounds=Bounds(**_fields(pool.bounds)),
                )
                for pool in spec.pools
            ),
            probe=None if spec.probe is None else ProbeIn(**_fields(spec.probe)),
            scaling=Scaling(**_fields(spec.scaling)),
            access=spec.access,
            timeouts=TimeoutsIn(**_fields(spec.timeouts)),
            waiting=Waiting(**_fields(spec.waiting)),
            rollout=RolloutIn(**_fields(spec.rollout)),
            slots=spec.slots,
            labels=dict(spec.labels),
            annotations=dict(spec.annotations),
        )


def _masked(spec: SpecIn) -> SpecIn:
    hidden = spec.launch.model_copy(update={"env": dict.fromkeys(spec.launch.env, "***")})
    return spec.model_copy(update={"launch": hidden})


def _fields(value: Any) -> dict[str, Any]:
    return {name: getattr(value, name) for name in value.__dataclass_fields__}


class ScaleIn(_In):
    """`workers: null` gives the number back to the scaling policy."""

    workers: int | None
    for_s: float | None = None


class KeyIn(_In):
    """A key to be made."""

    name: str
    scopes: frozenset[Scope]
    endpoints: Annotated[tuple[str, ...], Field(max_length=1_000)] | None = None
    expires_in_s: float | None = None


class Page(BaseModel, Generic[T]):
    """One page of a list. `next` is the `cursor` of the page after it, null on the last."""

    items: list[T]
    next: str | None = None


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
            spec=SpecIn.of(endpoint.spec) if reveal else _masked(SpecIn.of(endpoint.spec)),
            launch=LaunchOut(
                engine=launch.engine,
                command=list(launch.command),
                image=launch.image,
                slots=endpoint.slots,
                models=list(launch.models),
                notes=list(launch.notes),
            ),
            urls=Urls(inference=view.url, openai=view.openai_url),
            traffic=None if view.traffic is None else TrafficOut(**_fields(view.traffic)),
            created_at=iso(endpoint.created_at),
            updated_at=iso(endpoint.updated_at),
        )


class OperationOut(BaseModel):
    id: str
    number: int
    kind: str
    endpoint: str
    state: str
    message: str
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
            created_at=iso(operation.created_at),
            ended_at=iso(operation.ended_at),
        )


class Changed(BaseModel):
    """What a change was answered: the endpoint, and the operation that carries it out (null when there is none)."""

    endpoint: EndpointOut
    operation: OperationOut | None


class EndpointName(BaseModel):
    id: str
    slug: str
    name: str


class WorkerOut(BaseModel):
    """A worker. `start_s` is the time from start to ready."""

    id: str
    number: int
    endpoint: EndpointName
    state: str
    reason: str
    revision: int
    provider: str
    host: str | None
    address: str | None
    gpus: list[int]
    slots: int
    in_flight: int | None
    created_at: str | None
    started_at: str | None
    ready_at: str | None
    ended_at: str | None
    start_s: float | None
    exit_code: int | None

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
            revision=worker.revision,
            provider=worker.provider,
            host=None if worker.placement is None else worker.placement.host,
            address=None if worker.address is None else f"{worker.address.host}:{worker.address.port}",
            gpus=[] if worker.placement is None else list(worker.placement.gpus),
            slots=worker.slots,
            in_flight=view.in_flight,
            created_at=iso(worker.created_at),
            started_at=iso(worker.started_at),
            ready_at=iso(worker.ready_at),
            ended_at=iso(worker.ended_at),
            start_s=start_s,
            exit_code=worker.exit_code,
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
        return cls(**(_fields(event) | {"at": iso(event.at)}))


class DecisionOut(BaseModel):
    """How many workers were wanted from `at` on, why, and from what."""

    at: str | None
    current: int
    workers: int
    reason: str
    inputs: Mapping[str, float | int | None]

    @classmethod
    def of(cls, decision: Decision) -> Self:
        return cls(**(_fields(decision) | {"at": iso(decision.at)}))


class KeyOut(BaseModel):
    """A key without its secret; `hint` is how it begins."""

    id: str
    number: int
    name: str
    hint: str
    scopes: list[str]
    endpoints: list[str] | None
    created_at: str | None
    expires_at: str | None

    @classmethod
    def of(cls, key: ApiKey) -> Self:
        return cls(
            id=key.id,
            number=key.number,
            name=key.name,
            hint=key.hint,
            scopes=sorted(key.scopes),
            endpoints=None if key.endpoints is None else sorted(key.endpoints),
            created_at=iso(key.created_at),
            expires_at=iso(key.expires_at),
        )


class KeyMade(BaseModel):
    """A new key. The secret is shown this once; null when the same request is answered again."""

    key: KeyOut
    secret: str | None


class GpuOut(BaseModel):
    index: int
    id: str
    family: str
    vram_gib: float
    virtual: bool


class Used(BaseModel):
    vcpu: float
    ram_gib: float
    gpus: list[int]
    workers: int


class OfferOut(BaseModel):
    """One host, whole, and what workers hold of it."""

    provider: str
    host: str
    region: str
    vcpu: float
    ram_gib: float
    gpus: list[GpuOut]
    used: Used

    @classmethod
    def of(cls, view: HostView) -> Self:
        offer = view.offer
        return cls(
            provider=view.provider,
            host=offer.host,
            region=offer.region,
            vcpu=offer.vcpu,
            ram_gib=round(offer.ram_gib, 2),
            gpus=[GpuOut(**_fields(gpu)) for gpu in offer.gpus],
            used=Used(
                vcpu=view.vcpu_used,
                ram_gib=view.ram_gib_used,
                gpus=list(view.gpus_used),
                workers=view.workers,
            ),
        )


class HardwareOut(BaseModel):
    offers: list[OfferOut]


class ModelOut(BaseModel):
    name: str
    aliases: list[str]
    path: str | None
    available: bool


class ParameterOut(BaseModel):
    name: str
    flags: list[str]
    type: str
    default: str | None
    allowed: list[str]
    section: str
    description: str


class GatewayOut(BaseModel):
    connected: bool
    uptime_s: float | None


class InfoOut(BaseModel):
    version: str
    url: str
    data_dir: str
    started_at: str | None
    gateway: GatewayOut
    endpoints: int
    workers: int
