"""Deployments, which are endpoints with a number of workers that is set by hand; and their logs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from stoker.dialects.exoscale.wire.base import Text, Whole, Wire
from stoker.domain.endpoint import WORKERS_MAX, Endpoint, EndpointSpec, Phase, PoolSpec, ScaleBounds
from stoker.domain.errors import Invalid
from stoker.domain.gpus import recognise, spelled
from stoker.domain.hardware import HardwareRequest
from stoker.domain.launch import LaunchSpec
from stoker.domain.times import iso
from stoker.domain.views import EndpointState, EndpointView, LogEntry
from stoker.domain.worker import WorkerState

CPU = "cpu"
GPUS_MAX = 8
SERVICE_LEVEL = "self-hosted"
# What is only given back as it was said.
GPU_TYPE = "exoscale/gpu-type"
GPU_COUNT = "exoscale/gpu-count"
PRODUCT = "exoscale/product-name"
ANNOTATION_CHARS_MAX = 255
Version = Literal["0.12.0", "0.15.1"]
DEFAULT_VERSION: Version = "0.12.0"
State = Literal["ready", "creating", "error", "deploying"]
Replicas = Annotated[Whole, Field(ge=0, le=WORKERS_MAX)]


class ModelRef(Wire):
    """A model by id or by name; both must agree when both are given."""

    id: Text | None = None
    name: Text | None = None

    @model_validator(mode="after")
    def _one_of_them(self) -> Self:
        if self.id is None and self.name is None:
            raise ValueError("say the model's id or its name")
        return self


class DeploymentIn(Wire):
    """A new deployment: `replicas` workers on `gpu-count` cards each."""

    name: Text
    model: ModelRef
    gpu_type: Annotated[str, Field(min_length=1, max_length=64)]
    gpu_count: Annotated[Whole, Field(ge=1, le=GPUS_MAX)]
    replicas: Annotated[Whole, Field(ge=1, le=WORKERS_MAX)]
    inference_engine_parameters: list[str] = Field(default_factory=list)
    inference_engine_version: Version = DEFAULT_VERSION
    product_name: Annotated[str, Field(min_length=1, max_length=ANNOTATION_CHARS_MAX)] | None = None

    def to_spec(self, model: str) -> EndpointSpec:
        """The endpoint: `model` is the name that the catalogue has for what was asked for."""
        annotations = {GPU_TYPE: self.gpu_type, GPU_COUNT: str(self.gpu_count)}
        if self.product_name is not None:
            annotations[PRODUCT] = self.product_name
        pool = PoolSpec(hardware=self.hardware(), bounds=ScaleBounds(min=self.replicas, max=self.replicas))
        launch = LaunchSpec(
            model=model,
            engine_version=self.inference_engine_version,
            parameters=tuple(self.inference_engine_parameters),
        )
        return EndpointSpec(name=self.name, launch=launch, pools=(pool,), annotations=annotations)

    def hardware(self) -> HardwareRequest:
        """What each replica needs. The family `cpu` is this machine without any card."""
        if self.gpu_type.lower() == CPU:
            return HardwareRequest()
        named = recognise(self.gpu_type)
        memory = None if named.vram_gib is None else float(named.vram_gib)
        return HardwareRequest(gpu_family=named.family, gpu_count=self.gpu_count, vram_gib_min=memory)


class DeploymentPatch(Wire):
    """What is to be changed; what is left out stays."""

    name: Text | None = None
    inference_engine_parameters: list[str] | None = None
    inference_engine_version: Version | None = None

    def applied(self, spec: EndpointSpec) -> EndpointSpec:
        """The spec with the changes. Raises `Invalid` where it has no engine to change."""
        launch = spec.launch
        if self.inference_engine_parameters is not None:
            if launch.model is None:
                raise Invalid.at("/launch/parameters", "this deployment runs an image or a command, and no engine")
            launch = replace(launch, parameters=tuple(self.inference_engine_parameters))
        if self.inference_engine_version is not None:
            launch = replace(launch, engine_version=self.inference_engine_version)
        return replace(spec, launch=launch, name=spec.name if self.name is None else self.name)


class ScaleIn(Wire):
    """How many replicas; 0 keeps the deployment and uses no hardware."""

    replicas: Replicas


def resized(spec: EndpointSpec, replicas: int) -> EndpointSpec:
    """The spec with that number of workers, whatever requests there are."""
    pool = replace(spec.pools[0], bounds=ScaleBounds(min=replicas, max=replicas))
    return replace(spec, pools=(pool,))


def fixed(spec: EndpointSpec) -> bool:
    """Is its number of workers set by hand alone, as that of every deployment that was made here?"""
    bounds = spec.pools[0].bounds
    return len(spec.pools) == 1 and bounds.min == bounds.max and not bounds.cold


def replicas_of(endpoint: Endpoint, *, now: float) -> int:
    """How many workers its owner wants."""
    if endpoint.phase is not Phase.ACTIVE:
        return 0
    if endpoint.override is not None and endpoint.override.holds(now):
        return endpoint.override.workers
    return endpoint.spec.bounds.min if fixed(endpoint.spec) else endpoint.desired


class ModelOf(Wire):
    id: str | None = None
    name: str


class DeploymentOut(Wire):
    """A deployment in a list."""

    id: str
    name: str
    state: State
    deployment_url: str
    model: ModelOf | None = None
    visibility: Literal["private"] = "private"
    gpu_type: str
    gpu_count: int
    replicas: int
    service_level: str = SERVICE_LEVEL
    created_at: str
    updated_at: str

    @classmethod
    def of(cls, view: EndpointView, model: Callable[[str], ModelOf], *, base: str, now: float) -> Self:
        """`model` finds a model by the name that the spec has; `base` is where inference addresses begin."""
        endpoint, spec = view.endpoint, view.endpoint.spec
        hardware = spec.pools[0].hardware
        families = [spelled(name, "exoscale", vram_gib=hardware.vram_gib_min or 0) for name in hardware.families]
        count = spec.annotations.get(GPU_COUNT, "")
        return cls(
            id=endpoint.id,
            name=spec.name,
            state=state_of(view, now=now),
            deployment_url=f"{base}/exoscale/deployment/{endpoint.id}",
            model=None if spec.launch.model is None else model(spec.launch.model),
            gpu_type=spec.annotations.get(GPU_TYPE) or next(iter(families), "any" if hardware.gpu_count else CPU),
            gpu_count=int(count) if count.isdecimal() else max(1, hardware.gpu_count),
            replicas=replicas_of(endpoint, now=now),
            created_at=iso(endpoint.created_at),
            updated_at=iso(endpoint.updated_at),
        )


class DeploymentDetails(DeploymentOut):
    """One deployment by itself."""

    state_details: str = ""
    inference_engine_parameters: list[str] = Field(default_factory=list)
    inference_engine_version: str = DEFAULT_VERSION

    @classmethod
    def of(cls, view: EndpointView, model: Callable[[str], ModelOf], *, base: str, now: float) -> Self:
        made = super().of(view, model, base=base, now=now)
        launch = view.endpoint.spec.launch
        return made.model_copy(
            update={
                "state_details": view.condition.reason or str(view.condition.state),
                "inference_engine_parameters": list(launch.parameters),
                "inference_engine_version": launch.engine_version or DEFAULT_VERSION,
            }
        )


class DeploymentsOut(Wire):
    deployments: list[DeploymentOut]


def state_of(view: EndpointView, *, now: float) -> State:
    """CREATING: no worker was started yet. DEPLOYING: some are on their way, or being replaced. READY: as many as are
    wanted are ready, which is so at none. ERROR: starts keep failing.
    """
    wanted = replicas_of(view.endpoint, now=now)
    if view.endpoint.phase is Phase.DELETING:
        return "deploying"
    if wanted == 0:
        return "ready"
    if view.condition.state is EndpointState.FAILING:
        return "error"
    if view.condition.state is EndpointState.READY and view.workers.get(WorkerState.READY, 0) >= wanted:
        return "ready"
    begun = any(count for state, count in view.workers.items() if state is not WorkerState.PENDING)
    return "deploying" if begun else "creating"


class ApiKeyOut(Wire):
    api_key: str


class LogOut(Wire):
    time: str
    message: str
    node: str

    @classmethod
    def of(cls, entry: LogEntry) -> Self:
        return cls(time=iso(entry.at), message=entry.text, node=entry.worker)


class LogsOut(Wire):
    logs: list[LogOut]
