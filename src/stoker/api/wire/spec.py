"""The endpoint's document: body of create and update, file of `stoker apply`; to the domain's spec and back. Pure."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from stoker.api.wire.base import In, below, fields_of
from stoker.domain.endpoint import (
    Access,
    EndpointSpec,
    LaunchSpec,
    PoolSpec,
    Rollout,
    ScaleBounds,
    ScalingPolicy,
    Timeouts,
    WaitingRoom,
)
from stoker.domain.hardware import HardwareRequest
from stoker.domain.logging import Logging
from stoker.domain.probe import Probe, Probes


class Hardware(In):
    """What one worker needs. A field that is left out is neither asked for nor accounted for."""

    gpu_family: str | None = Field(default=None, max_length=64, description="canonical family, as in `stoker hardware`")
    gpu_count: int = Field(default=0, description="cards for each worker")
    vram_gib_min: float | None = Field(default=None, description="memory of each card, in GiB")
    vcpu: float | None = None
    ram_gib: float | None = None


class Bounds(In):
    """How many workers: `cold` is the floor of ready plus cold ones."""

    min: int = 0
    max: int = 1
    cold: int = 0


class Pool(In):
    """One homogeneous group of workers."""

    name: str = Field(default="default", min_length=1, max_length=63)
    provider: str = Field(default="process", max_length=64)
    hardware: Hardware = Hardware()
    bounds: Bounds = Bounds()

    def to_domain(self, pointer: str) -> PoolSpec:
        with below(f"{pointer}/hardware"):
            hardware = HardwareRequest(**self.hardware.model_dump())
        with below(f"{pointer}/bounds"):
            bounds = ScaleBounds(**self.bounds.model_dump())
        with below(pointer):
            return PoolSpec(name=self.name, provider=self.provider, hardware=hardware, bounds=bounds)


class LaunchIn(In):
    """What to run: exactly one of `model`, `image` and `command` (an image may have a command too)."""

    model: str | None = Field(default=None, min_length=1, max_length=1024)
    engine: str = Field(default="auto", max_length=64)
    engine_version: str | None = Field(default=None, max_length=64)
    parameters: tuple[str, ...] = Field(default=(), description="command-line arguments of the engine's server")
    image: str | None = Field(default=None, min_length=1, max_length=1024)
    command: tuple[str, ...] = Field(default=(), description="{host}, {port} and {model} stand for the worker's own")
    env: dict[str, str] = Field(default_factory=dict)
    port: int | None = None


class ProbeIn(In):
    """How a worker is asked: a command that exits with 0, else an HTTP GET of `path`, else (null) a TCP connection."""

    path: str | None = "/health"
    command: tuple[str, ...] = Field(default=(), description="run beside the worker; then `path` does not count")
    initial_delay_s: float = 0.0
    period_s: float = 5.0
    timeout_s: float = 5.0
    failures_max: int = Field(default=3, description="bad answers in a row that are a failure")
    successes_min: int = Field(default=1, description="good answers in a row that are a success")
    start_timeout_s: float = Field(default=900.0, description="longest time from start to ready; in a startup probe")


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


class Scaling(In):
    """One worker for every `target` requests present (default: its slots)."""

    target: float | None = None
    scale_down_delay_s: float = 60.0
    idle_timeout_s: float = 300.0


class TimeoutsIn(In):
    """Limits on one exchange with a worker, in seconds; null is none."""

    connect_s: float = 5.0
    first_byte_s: float | None = 600.0
    idle_s: float | None = 300.0
    total_s: float | None = None


class Waiting(In):
    """The waiting room."""

    requests_max: int = 1_000
    wait_s_max: float = 600.0


class RolloutIn(In):
    """How a new revision replaces the old one."""

    surge: int = 1
    drain_timeout_s: float = 600.0
    grace_s: float = 10.0


class LoggingIn(In):
    """How long output of ended workers is kept: for so long after their end, and so much of the whole endpoint."""

    retention_s: float = 604_800.0
    bytes_max: int = 268_435_456


class SpecIn(In):
    """A whole endpoint: body of create and update, document of `stoker apply`."""

    name: str
    launch: LaunchIn
    pools: Annotated[tuple[Pool, ...], Field(min_length=1, max_length=16)] = (Pool(),)
    probes: ProbesIn = ProbesIn()
    scaling: Scaling = Scaling()
    access: Access = Access.PROJECT
    timeouts: TimeoutsIn = TimeoutsIn()
    waiting: Waiting = Waiting()
    rollout: RolloutIn = RolloutIn()
    logging: LoggingIn = LoggingIn()
    slots: int | None = Field(
        default=None, description="requests that one worker takes at once; default: what its engine says"
    )
    labels: dict[str, str] = Field(default_factory=dict)
    annotations: dict[str, str] = Field(default_factory=dict)

    def to_spec(self) -> EndpointSpec:
        """The domain's spec. Raises `Invalid` with pointers into this document."""
        return EndpointSpec(
            name=self.name,
            launch=LaunchSpec(**self.launch.model_dump()),
            pools=tuple(pool.to_domain(f"/pools/{index}") for index, pool in enumerate(self.pools)),
            probes=self.probes.to_domain(),
            scaling=ScalingPolicy(**self.scaling.model_dump()),
            access=self.access,
            timeouts=Timeouts(**self.timeouts.model_dump()),
            waiting=WaitingRoom(**self.waiting.model_dump()),
            rollout=Rollout(**self.rollout.model_dump()),
            logging=Logging(**self.logging.model_dump()),
            slots=self.slots,
            labels=self.labels,
            annotations=self.annotations,
        )

    @classmethod
    def of(cls, spec: EndpointSpec) -> SpecIn:
        """The document that makes this spec."""
        return cls(
            name=spec.name,
            launch=LaunchIn(**fields_of(spec.launch)),
            pools=tuple(
                Pool(
                    name=pool.name,
                    provider=pool.provider,
                    hardware=Hardware(**fields_of(pool.hardware)),
                    bounds=Bounds(**fields_of(pool.bounds)),
                )
                for pool in spec.pools
            ),
            probes=ProbesIn(
                **{
                    name: None if probe is None else ProbeIn(**fields_of(probe))
                    for name, probe in fields_of(spec.probes).items()
                }
            ),
            scaling=Scaling(**fields_of(spec.scaling)),
            access=spec.access,
            timeouts=TimeoutsIn(**fields_of(spec.timeouts)),
            waiting=Waiting(**fields_of(spec.waiting)),
            rollout=RolloutIn(**fields_of(spec.rollout)),
            logging=LoggingIn(**fields_of(spec.logging)),
            slots=spec.slots,
            labels=dict(spec.labels),
            annotations=dict(spec.annotations),
        )


def masked(spec: SpecIn) -> SpecIn:
    hidden = spec.launch.model_copy(update={"env": dict.fromkeys(spec.launch.env, "***")})
    return spec.model_copy(update={"launch": hidden})
