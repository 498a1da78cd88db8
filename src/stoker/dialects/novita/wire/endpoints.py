"""Endpoints as they are asked for and shown: the types of what is shown are not those of what is asked for."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field, StringConstraints, model_validator

from stoker.dialects.novita.wire.base import Number, Single, Wire

REQUEST_TIMEOUT_S = 600
PORTS_OWN = (2222, 2223, 2224)
ENVS_MAX = 256
MOUNTS_MAX = 16
Id = Annotated[str, StringConstraints(min_length=1, max_length=255)]
Cluster = Annotated[str, Field(max_length=255)]
Name = Annotated[str, Field(max_length=220)]
App = Annotated[str, StringConstraints(max_length=63, pattern=r"^([a-z0-9]([-a-z0-9]*[a-z0-9])?)?$")]
_PATH = re.compile(r"/[!-~]*\Z")


def _path(value: str | None) -> str | None:
    if value and not _PATH.match(value):
        raise ValueError("a path begins with / and has no spaces")
    return value


class WorkerConfigIn(Wire):
    """Bounds are looked at where they are told: by the limits."""

    model_config = ConfigDict(frozen=True)

    min_num: Number
    max_num: Number
    free_timeout: Number
    max_concurrent: Number
    gpu_num: Number
    request_timeout: Annotated[Number, Field(ge=1, le=604_800)] | None = None
    cuda_version: Annotated[str, Field(max_length=32)] | None = None


class PortIn(Wire):
    model_config = ConfigDict(frozen=True)

    port: Annotated[Number, Field(ge=1, le=65_535)]


def _ports(value: Any) -> Any:
    return [value] if isinstance(value, dict) else value


def _not_own(value: list[PortIn]) -> list[PortIn]:
    if any(each.port in PORTS_OWN for each in value):
        raise ValueError(f"the ports {', '.join(map(str, PORTS_OWN))} are taken by the platform")
    return value


Ports = Annotated[
    Annotated[list[PortIn], Field(min_length=1, max_length=1)],
    BeforeValidator(_ports),
    AfterValidator(_not_own),
]


class PolicyIn(Wire):
    model_config = ConfigDict(frozen=True)

    type: Literal["queue", "concurrency"]
    value: Number


class ImageIn(Wire):
    model_config = ConfigDict(frozen=True)

    image: Annotated[str, StringConstraints(min_length=1, max_length=511, pattern=r"^\S+$")]
    auth_id: Annotated[str, Field(max_length=255)] | None = None
    command: Annotated[str, Field(max_length=2_047)] | None = None


class ProductIn(Wire):
    id: Id


class MountIn(Wire):
    model_config = ConfigDict(frozen=True)

    type: Literal["local", "network"]
    size: Number | None = None
    id: Annotated[str, Field(max_length=255)] | None = None
    mount_path: Annotated[str, Field(max_length=255)] | None = None


class EnvIn(Wire):
    key: Annotated[str, StringConstraints(min_length=1, max_length=255)]
    value: Annotated[str, Field(max_length=32_768)]


class HealthyIn(Wire):
    path: Annotated[Annotated[str, Field(max_length=1_024)] | None, AfterValidator(_path)] = None


Mounts = Annotated[list[MountIn], Field(max_length=MOUNTS_MAX)]
Envs = Annotated[list[EnvIn], Field(max_length=ENVS_MAX)]
Products = Annotated[list[ProductIn], Field(min_length=1, max_length=1)]


class _Asked(Wire):
    """What creating and updating have in common."""

    worker_config: Single[WorkerConfigIn]
    ports: Ports
    policy: Single[PolicyIn]
    image: Single[ImageIn]
    name: Name | None = None
    app_name: App | None = None
    cluster_id: Annotated[Cluster | None, Field(alias="clusterID")] = None
    volume_mounts: Mounts | None = None
    envs: Envs | None = None
    healthy: Single[HealthyIn] | None = None

    @property
    def port(self) -> int:
        """The one that requests go to."""
        return self.ports[0].port


class EndpointIn(_Asked):
    """A new endpoint."""

    products: Products
    rootfs_size: Number
    type: Literal["sync", "async"] | None = None


class CreateIn(Wire):
    endpoint: EndpointIn


class UpdateIn(_Asked):
    """What an endpoint is to be: of what may be left out, that stays which is."""

    id: Annotated[str, Field(max_length=255)] | None = None
    endpoint_id: Annotated[Annotated[str, Field(max_length=255)] | None, Field(alias="endpoint_id")] = None
    products: Products | None = None
    rootfs_size: Number | None = None

    @property
    def reference(self) -> str:
        """Which endpoint."""
        return self.id or self.endpoint_id or ""

    @model_validator(mode="after")
    def _one(self) -> Self:
        if not self.reference:
            raise ValueError("the id of the endpoint is needed")
        return self


class DeleteIn(Wire):
    """Clients call the id each as they like."""

    id: Annotated[str, Field(max_length=255)] | None = None
    name: Annotated[str, Field(max_length=255)] | None = None
    endpoint_id: Annotated[Annotated[str, Field(max_length=255)] | None, Field(alias="endpoint_id")] = None

    @property
    def reference(self) -> str:
        """Which endpoint."""
        return self.id or self.endpoint_id or self.name or ""

    @model_validator(mode="after")
    def _one(self) -> Self:
        if not self.reference:
            raise ValueError("the id of the endpoint is needed")
        return self


# Shown


class StateOut(Wire):
    state: str
    error: str = ""
    message: str = ""


class WorkerConfigOut(Wire):
    min_num: int
    max_num: int
    free_timeout: str
    max_concurrent: str
    gpu_num: int
    request_timeout: int
    cuda_version: str


class PolicyOut(Wire):
    type: str
    value: str


class ImageOut(Wire):
    image: str
    auth_id: str
    command: str


class MountOut(Wire):
    type: str
    id: str
    size: int
    mount_path: str


class EnvOut(Wire):
    key: str
    value: str


class PortOut(Wire):
    port: int


class PortTextOut(Wire):
    port: str


class WorkerOut(Wire):
    id: str
    state: StateOut
    log: str
    metrics: None = None
    healthy: bool


class ProductOut(Wire):
    id: str


class HealthyOut(Wire):
    path: str
    initial_delay: int
    period: int
    timeout: int
    success_threshold: int
    failure_threshold: int


class _Shown(Wire):
    id: str
    name: str
    app_name: str
    url: str
    type: Literal["sync", "async"]
    cluster_id: Annotated[str, Field(alias="clusterID")]
    log: str
    state: StateOut
    worker_config: WorkerConfigOut
    policy: PolicyOut
    image: ImageOut
    rootfs_size: int
    volume_mounts: list[MountOut]
    envs: list[EnvOut]
    workers: list[WorkerOut]
    products: list[ProductOut]
    healthy: HealthyOut
    created_at: str
    updated_at: str


class ListedOut(_Shown):
    """As lists have it: the port is a text."""

    ports: list[PortTextOut]


class EndpointOut(_Shown):
    """As it is told alone: the port is a number."""

    ports: list[PortOut]


class GotOut(ListedOut):
    """The endpoint, and all of it again beside it: some clients look for it there, with its port as a text."""

    endpoint: EndpointOut


class EndpointsOut(Wire):
    endpoints: list[ListedOut]
    total: int


class CreatedOut(Wire):
    id: str
