"""Deployments as they are asked for and shown. What only makes the round trip is kept in the endpoint's annotations."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import BaseModel, Field, StringConstraints, model_validator

from stoker.dialects.gcore.wire.base import LABEL, Flag, Text, Whole, Wire
from stoker.dialects.gcore.wire.probes import ProbesConfig, ProbesPatch
from stoker.dialects.gcore.wire.scaling import ContainerIn, ContainerOut, Status
from stoker.domain.endpoint import POOLS_MAX

TIMEOUT_S = 120
_IMAGE = r"^[A-Za-z0-9][A-Za-z0-9._:/@-]*$"
_TOPIC = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$"
Name = Annotated[str, StringConstraints(min_length=4, max_length=30, pattern=LABEL)]
Image = Annotated[str, StringConstraints(min_length=1, max_length=512, pattern=_IMAGE)]
Port = Annotated[Whole, Field(ge=1, le=65_535)]
Containers = Annotated[list[ContainerIn], Field(min_length=1, max_length=POOLS_MAX)]
KeyNames = Annotated[list[Annotated[str, Field(min_length=1, max_length=63)]], Field(max_length=100)]
Command = Annotated[list[str], Field(max_length=1_024)]
Envs = dict[str, str]
# The longest that an endpoint may be idle; longer is not told apart.
Timeout = Annotated[Whole, Field(ge=0, le=604_800)]
Description = Annotated[str, Field(max_length=1_024)]


class IngressOpts(Wire):
    """Taken and shown: answers are passed on as they come, whatever it says."""

    disable_response_buffering: Flag = False


class Retention(Wire):
    """How many days lines of output are kept."""

    period: Annotated[Whole, Field(ge=1, le=1825)] | None


class LoggingIn(Wire):
    destination_region_id: Whole | None = None
    enabled: Flag = False
    retention_policy: Retention | None = None
    topic_name: Annotated[str, StringConstraints(min_length=1, max_length=223, pattern=_TOPIC)] | None = None


class LoggingOut(Wire):
    destination_region_id: int | None
    enabled: bool
    retention_policy: Retention | None = None
    topic_name: str | None


class DeploymentIn(Wire):
    """A new deployment."""

    containers: Containers
    flavor_name: Text
    image: Image
    listening_port: Port
    name: Name
    api_keys: KeyNames | None = None
    auth_enabled: Flag = False
    command: Command | None = None
    credentials_name: Annotated[str, Field(max_length=255)] | None = ""
    description: Description | None = ""
    envs: Envs = Field(default_factory=dict)
    ingress_opts: IngressOpts | None = None
    logging: LoggingIn | None = None
    probes: ProbesConfig | None = None
    timeout: Timeout | None = TIMEOUT_S

    @model_validator(mode="after")
    def _one_way_of_keys(self) -> Self:
        if self.auth_enabled and self.api_keys is not None:
            raise ValueError("auth_enabled and api_keys cannot be specified both")
        return self


class DeploymentPatch(Wire):
    """What is to be changed; what is left out, or null, stays."""

    api_keys: KeyNames | None = None
    auth_enabled: Flag | None = None
    command: Command | None = None
    containers: Containers | None = None
    credentials_name: Annotated[str, Field(max_length=255)] | None = None
    description: Description | None = None
    envs: Envs | None = None
    flavor_name: Text | None = None
    image: Image | None = None
    ingress_opts: IngressOpts | None = None
    listening_port: Port | None = None
    logging: LoggingIn | None = None
    probes: ProbesPatch | None = None
    timeout: Timeout | None = None

    @model_validator(mode="after")
    def _one_way_of_keys(self) -> Self:
        if self.auth_enabled and self.api_keys is not None:
            raise ValueError("auth_enabled and api_keys cannot be specified both")
        return self


class Kept(BaseModel):
    """What of a deployment is in annotations alone."""

    timeout: int | None = TIMEOUT_S
    ingress_opts: IngressOpts | None = None
    logging: LoggingOut | None = None


class ObjectReference(Wire):
    kind: str
    name: str


class DeploymentOut(Wire):
    address: str | None
    auth_enabled: bool
    command: str | None
    containers: list[ContainerOut]
    created_at: str | None
    credentials_name: str
    description: str
    envs: dict[str, str] | None
    flavor_name: str
    image: str
    ingress_opts: IngressOpts | None
    listening_port: int
    logging: LoggingOut | None
    name: str
    object_references: list[ObjectReference]
    probes: ProbesConfig | None
    project_id: int
    status: Status
    timeout: int | None
    api_keys: list[str] | None


class TasksOut(Wire):
    tasks: list[str]


class LogOut(Wire):
    message: str
    pod: str
    region_id: int
    time: str


class LegacyKeyOut(Wire):
    secret: str
    status: str
