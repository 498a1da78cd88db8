"""The endpoint's document: body of create and update, file of `stoker apply`; to the domain's spec and back. Pure."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import (
    BeforeValidator,
    Field,
    PlainSerializer,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WithJsonSchema,
    WrapValidator,
)
from pydantic_core import PydanticCustomError

from stoker.api.wire.base import In, Number, Switch, Whole, below, fields_of
from stoker.api.wire.scaling import Scaling
from stoker.domain.endpoint import (
    Access,
    EndpointSpec,
    PlacementStrategy,
    PoolSpec,
    Rollout,
    ScaleBounds,
    Strategy,
    Timeouts,
    WaitingRoom,
)
from stoker.domain.errors import Invalid
from stoker.domain.gpus import recognise
from stoker.domain.hardware import FAMILIES_MAX, HardwareRequest
from stoker.domain.launch import LaunchSpec, SecretRef
from stoker.domain.logging import Logging
from stoker.domain.probe import Probe, Probes
from stoker.domain.queueing import EVENTS, Mode, QueueSpec, RetryPolicy, WebhooksSpec
from stoker.domain.routing import Affinity, Balance, Routing
from stoker.domain.volumes import VolumeMount

Family = Annotated[str, Field(min_length=1, max_length=64)]
# One is written as a text, several as a list.
Families = Annotated[
    tuple[Family, ...],
    Field(max_length=FAMILIES_MAX),
    BeforeValidator(lambda value: (value,) if isinstance(value, str) else value),
    PlainSerializer(lambda names: names[0] if len(names) == 1 else names),
    WithJsonSchema({"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]}),
]


class Hardware(In):
    """What one worker needs. A field that is left out is neither asked for nor accounted for."""

    gpu_family: Families | None = Field(
        default=None, description="a family of `stoker hardware` in any spelling, or several of which any will do"
    )
    gpu_count: Whole = Field(default=0, description="cards for each worker, all of one kind")
    vram_gib_min: Number | None = Field(default=None, description="memory of each card, in GiB")
    vcpu: Number | None = None
    ram_gib: Number | None = None
    vcpu_per_gpu: Number | None = Field(default=None, description="instead of `vcpu`")
    ram_gib_per_gpu: Number | None = Field(default=None, description="instead of `ram_gib`")
    disk_gib: Number | None = Field(default=None, description="size of the worker's volume")
    region: str | None = Field(default=None, min_length=1, max_length=64)
    price_max: Number | None = Field(default=None, description="the most that a worker may cost in an hour")

    def to_domain(self) -> HardwareRequest:
        """With canonical families. Memory and a number of cards said with a family's name count where they are not said
        otherwise. Raises `Invalid`.
        """
        named = [recognise(name) for name in self.gpu_family or ()]
        fields = self.model_dump() | {"gpu_family": tuple(each.family for each in named)}
        sizes = [each.vram_gib for each in named if each.vram_gib is not None]
        if sizes and self.vram_gib_min is None:
            fields["vram_gib_min"] = float(min(sizes))
        counts = {each.count for each in named if each.count is not None}
        if self.gpu_count == 0 and len(counts) == 1:
            fields["gpu_count"] = counts.pop()
        elif counts - {self.gpu_count}:
            raise Invalid.at("/gpu_count", "the family's name says another number of cards")
        return HardwareRequest(**fields)


class Bounds(In):
    """How many workers: `cold` is the floor of ready plus cold ones."""

    min: Whole = 0
    max: Whole = 1
    cold: Whole = 0


class SecretRefIn(In):
    """In place of a value: the project's secret of that name, looked up when a worker starts."""

    secret: str = Field(min_length=1, max_length=63)


def _value_or_secret(value: object, read: ValidatorFunctionWrapHandler) -> object:
    """One problem at the variable, not one for each thing that it could have been."""
    try:
        return read(value)
    except ValidationError as exc:
        raise PydanticCustomError("env_value", 'this must be text, or {"secret": NAME}') from exc


EnvValue = Annotated[str | SecretRefIn, WrapValidator(_value_or_secret)]


class LaunchIn(In):
    """What to run: exactly one of `model`, `image` and `command` (an image may have a command too)."""

    model: str | None = Field(default=None, min_length=1, max_length=1024)
    engine: str = Field(default="auto", max_length=64)
    engine_version: str | None = Field(default=None, max_length=64)
    parameters: tuple[str, ...] = Field(default=(), description="command-line arguments of the engine's server")
    image: str | None = Field(default=None, min_length=1, max_length=1024)
    command: tuple[str, ...] = Field(default=(), description="{host}, {port} and {model} stand for the worker's own")
    credential: str | None = Field(
        default=None, max_length=63, description="a registry credential's name, for an image"
    )
    env: dict[str, EnvValue] = Field(default_factory=dict, description="values, or secrets by name")
    port: Whole | None = Field(default=None, description="the container's port that requests go to")
    ports: Annotated[tuple[Whole, ...], Field(max_length=15)] = Field(default=(), description="its further ports")

    def to_domain(self) -> LaunchSpec:
        env = {name: v if isinstance(v, str) else SecretRef(v.secret) for name, v in self.env.items()}
        return LaunchSpec(**self.model_dump(exclude={"env"}), env=env)

    @classmethod
    def of(cls, spec: LaunchSpec) -> Self:
        env = {name: v if isinstance(v, str) else SecretRefIn(secret=v.secret) for name, v in spec.env.items()}
        return cls(**{**fields_of(spec), "env": env})


class Pool(In):
    """One homogeneous group of workers. `placement` says which of several hosts takes the next one."""

    name: str = Field(default="default", min_length=1, max_length=63)
    provider: str = Field(default="process", max_length=64)
    hardware: Hardware = Hardware()
    bounds: Bounds = Bounds()
    placement: PlacementStrategy = PlacementStrategy.PACK
    launch: LaunchIn | None = Field(default=None, description="what its workers run instead of the endpoint's launch")
    slots: Whole | None = Field(default=None, description="with a launch of its own: as the endpoint's `slots`")

    def to_domain(self, pointer: str) -> PoolSpec:
        with below(f"{pointer}/hardware"):
            hardware = self.hardware.to_domain()
        with below(f"{pointer}/bounds"):
            bounds = ScaleBounds(**self.bounds.model_dump())
        with below(pointer):
            launch = None if self.launch is None else self.launch.to_domain()
            return PoolSpec(
                name=self.name,
                provider=self.provider,
                hardware=hardware,
                bounds=bounds,
                placement=self.placement,
                launch=launch,
                slots=self.slots,
            )

    @classmethod
    def of(cls, pool: PoolSpec) -> Self:
        return cls(
            name=pool.name,
            provider=pool.provider,
            hardware=Hardware(**fields_of(pool.hardware)),
            bounds=Bounds(**fields_of(pool.bounds)),
            placement=pool.placement,
            launch=None if pool.launch is None else LaunchIn.of(pool.launch),
            slots=pool.slots,
        )


class ProbeIn(In):
    """How a worker is asked: a command that exits with 0, else an HTTP GET of `path`, else (null) a TCP connection."""

    path: str | None = "/health"
    command: tuple[str, ...] = Field(default=(), description="run beside the worker; then `path` does not count")
    initial_delay_s: Number = 0.0
    period_s: Number = 5.0
    timeout_s: Number = 5.0
    failures_max: Whole = Field(default=3, description="bad answers in a row that are a failure")
    successes_min: Whole = Field(default=1, description="good answers in a row that are a success")
    start_timeout_s: Number = Field(default=900.0, description="longest time from start to ready; in a startup probe")


class ProbesIn(In):
    """What is left out is as the engine says; `startup` is as `readiness` when only that is said."""

    startup: ProbeIn | None = Field(default=None, description="the worker is ready once it succeeds")
    readiness: ProbeIn | None = Field(default=None, description="while it fails, the worker gets no new requests")
    liveness: ProbeIn | None = Field(default=None, description="when it fails, the worker is drained and replaced")

    def to_domain(self) -> Probes:
        made = {}
        for name in ("startup", "readiness", "liveness"):
            said = getattr(self, name)
            with below(f"/probes/{name}"):
                made[name] = None if said is None else Probe(**said.model_dump())
        return Probes(**made)


class TimeoutsIn(In):
    """Limits on one exchange with a worker, in seconds; null is none."""

    connect_s: Number = 5.0
    first_byte_s: Number | None = 600.0
    idle_s: Number | None = 300.0
    total_s: Number | None = None


class Waiting(In):
    """The waiting room."""

    requests_max: Whole = 1_000
    wait_s_max: Number = 600.0


class RoutingIn(In):
    """How requests are shared out: to the least loaded worker, among equals in turn or to the oldest (`pack`); or to
    the oldest with a free slot (`fill`).
    """

    balance: Balance | None = Field(
        default=None, description="default: spread, but fill where `auto` keeps idle workers cold"
    )
    session: Affinity = Field(default=Affinity.NONE, description="what `X-Stoker-Session` means")
    session_idle_s: Number = 3_600.0


class RolloutIn(In):
    """How a new revision replaces the old one."""

    strategy: Strategy = Strategy.AUTO
    surge: Whole = 1
    drain_timeout_s: Number = 600.0
    grace_s: Number = 10.0


class RetriesIn(In):
    """When a task is tried again: `retry_on` has statuses, classes of them, `connection` and `timeout`."""

    attempts_max: Whole = 3
    backoff_s: Number = Field(default=2.0, description="before the second attempt; then twice as long each time")
    backoff_s_max: Number = 300.0
    retry_on: Annotated[tuple[str, ...], Field(max_length=32)] = ("408", "425", "429", "5xx", "connection")

    def to_domain(self, pointer: str) -> RetryPolicy:
        with below(pointer):
            return RetryPolicy(**self.model_dump())


class QueueIn(In):
    """What holds for tasks that do not say otherwise."""

    path: str = Field(default="/", description="where tasks are posted to")
    backlog_max: Whole = Field(default=100_000, description="more are refused with 429")
    ttl_s: Number | None = Field(default=86_400.0, description="one that has not started by then expires")
    execution_timeout_s: Number = Field(default=600.0, description="longest time of one attempt")
    retention_s: Number = Field(default=86_400.0, description="how long a record stays after its end")
    retries: RetriesIn = RetriesIn()
    cancel_path: str | None = Field(
        default=None, description="where a worker is told that the task which it has is cancelled"
    )
    cancel_grace_s: Number = Field(
        default=10.0, description="how long it then has to end the request itself, before that is aborted"
    )
    pull: Switch = Field(default=False, description="workers ask for tasks themselves, and are sent none")
    lease_s: Number = Field(
        default=30.0, description="one that pulls and is not heard of for so long has lost its tasks"
    )

    def to_domain(self) -> QueueSpec:
        fields = self.model_dump(exclude={"retries"})
        return QueueSpec(**fields, retries=self.retries.to_domain("/queue/retries"))

    @classmethod
    def of(cls, spec: QueueSpec) -> Self:
        return cls(**{**fields_of(spec), "retries": RetriesIn(**fields_of(spec.retries))})


class WebhooksIn(In):
    """Where the end of tasks is told, and the project's secret that signs it."""

    url: str | None = None
    secret: str | None = Field(default=None, min_length=1, max_length=63, description="a secret's name")
    events: Annotated[tuple[str, ...], Field(max_length=8)] = EVENTS


class LoggingIn(In):
    """How long output of ended workers is kept: for so long after their end, and so much of the whole endpoint."""

    retention_s: Number = 604_800.0
    bytes_max: Whole = 268_435_456


class VolumeMountIn(In):
    """A volume of the project, for every worker."""

    volume: str = Field(min_length=1, max_length=63)
    path: str | None = Field(default=None, description="where workers see it; processes see it where it is")
    read_only: Switch = False


class SpecIn(In):
    """A whole endpoint: body of create and update, document of `stoker apply`."""

    name: str
    template: str | None = Field(
        default=None, max_length=128, description="NAME or NAME@VERSION: what this document is laid over (RFC 7396)"
    )
    launch: LaunchIn
    pools: Annotated[tuple[Pool, ...], Field(min_length=1, max_length=16)] = (Pool(),)
    probes: ProbesIn = ProbesIn()
    scaling: Scaling = Scaling()
    access: Access = Access.PROJECT
    timeouts: TimeoutsIn = TimeoutsIn()
    waiting: Waiting = Waiting()
    routing: RoutingIn = RoutingIn()
    rollout: RolloutIn = RolloutIn()
    mode: Mode = Field(default=Mode.HTTP, description="called by requests, by tasks, or by both")
    queue: QueueIn = QueueIn()
    webhooks: WebhooksIn = WebhooksIn()
    logging: LoggingIn = LoggingIn()
    slots: Whole | None = Field(
        default=None, description="requests that one worker takes at once; default: what its engine says"
    )
    volumes: tuple[VolumeMountIn, ...] = Field(default=(), description="data that outlives workers and endpoint")
    labels: dict[str, str] = Field(default_factory=dict)
    annotations: dict[str, str] = Field(default_factory=dict)

    def to_spec(self) -> EndpointSpec:
        """The domain's spec. Raises `Invalid` with pointers into this document."""
        return EndpointSpec(
            name=self.name,
            template=self.template,
            volumes=tuple(VolumeMount(**volume.model_dump()) for volume in self.volumes),
            launch=self.launch.to_domain(),
            pools=tuple(pool.to_domain(f"/pools/{index}") for index, pool in enumerate(self.pools)),
            probes=self.probes.to_domain(),
            scaling=self.scaling.to_domain(),
            access=self.access,
            timeouts=Timeouts(**self.timeouts.model_dump()),
            waiting=WaitingRoom(**self.waiting.model_dump()),
            routing=Routing(**self.routing.model_dump()),
            rollout=Rollout(**self.rollout.model_dump()),
            mode=self.mode,
            queue=self.queue.to_domain(),
            webhooks=WebhooksSpec(**self.webhooks.model_dump()),
            logging=Logging(**self.logging.model_dump()),
            slots=self.slots,
            labels=self.labels,
            annotations=self.annotations,
        )

    @classmethod
    def of(cls, spec: EndpointSpec) -> SpecIn:
        """The whole document that makes this spec: it is laid over no template."""
        return cls(
            name=spec.name,
            launch=LaunchIn.of(spec.launch),
            volumes=tuple(VolumeMountIn(**fields_of(volume)) for volume in spec.volumes),
            pools=tuple(Pool.of(pool) for pool in spec.pools),
            probes=ProbesIn(
                **{
                    name: None if probe is None else ProbeIn(**fields_of(probe))
                    for name, probe in fields_of(spec.probes).items()
                }
            ),
            scaling=Scaling.of(spec.scaling),
            access=spec.access,
            timeouts=TimeoutsIn(**fields_of(spec.timeouts)),
            waiting=Waiting(**fields_of(spec.waiting)),
            routing=RoutingIn(**fields_of(spec.routing)),
            rollout=RolloutIn(**fields_of(spec.rollout)),
            mode=spec.mode,
            queue=QueueIn.of(spec.queue),
            webhooks=WebhooksIn(**fields_of(spec.webhooks)),
            logging=LoggingIn(**fields_of(spec.logging)),
            slots=spec.slots,
            labels=dict(spec.labels),
            annotations=dict(spec.annotations),
        )


def masked(spec: SpecIn) -> SpecIn:
    pools = tuple(
        pool if pool.launch is None else pool.model_copy(update={"launch": _hidden(pool.launch)}) for pool in spec.pools
    )
    return spec.model_copy(update={"launch": _hidden(spec.launch), "pools": pools})


def _hidden(launch: LaunchIn) -> LaunchIn:
    env = {name: "***" if isinstance(value, str) else value for name, value in launch.env.items()}
    return launch.model_copy(update={"env": env})
