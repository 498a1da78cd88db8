"""Endpoints as they are asked for and shown."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal, Self

from pydantic import AliasChoices, BeforeValidator, Field, StringConstraints, field_validator, model_validator

from stoker.dialects.yotta.wire.base import Url, Whole, Wire, none_is_absent
from stoker.domain.endpoint import WORKERS_MAX
from stoker.domain.hardware import GPUS_MAX
from stoker.domain.launch import ENV_ENTRIES_MAX, ENV_VALUE_CHARS_MAX

DEFAULT_IMAGE = "vllm/vllm-openai:latest"
VOLUME_GB_MIN = 20
NUMBER_MAX = 2**63 - 1
RESOURCES_MAX = 16
# The type of a worker without cards.
CPU = "CPU"
Mode = Literal["ALB", "QUEUE", "CUSTOM"]
Status = Literal["INITIALIZING", "RUNNING", "STOPPING", "STOPPED", "FAILED", "TERMINATED"]
# The lookahead of the original pattern, said without one.
Name = Annotated[str, StringConstraints(min_length=1, max_length=20, pattern=r"^[A-Za-z][A-Za-z0-9@._-]*$")]
Image = Annotated[str, StringConstraints(min_length=1, max_length=255, pattern=r"^[A-Za-z0-9][A-Za-z0-9._:/@-]*$")]
Gigabytes = Annotated[Whole, Field(ge=0, le=100_000)]
Volume = Annotated[Whole, Field(ge=VOLUME_GB_MIN, le=100_000)]
Workers = Annotated[Whole, Field(ge=1, le=WORKERS_MAX)]
# Clients send it as a number or as a text.
CredentialId = Annotated[int, Field(ge=0, le=NUMBER_MAX)]
Command = Annotated[str, Field(max_length=8_000)]
Webhook = Annotated[Url | None, BeforeValidator(none_is_absent)]


class Resource(Wire):
    """Where a worker may run, and on how many cards of which type."""

    region: Annotated[str, Field(min_length=1, max_length=64)]
    gpu_type: Annotated[str, Field(min_length=1, max_length=64)]
    gpu_count: Annotated[Whole, Field(ge=0, le=GPUS_MAX)]

    @model_validator(mode="after")
    def _cards(self) -> Self:
        if (self.gpu_type.upper() == CPU) != (self.gpu_count == 0):
            raise ValueError(f"gpuCount is at least 1, and 0 for the type {CPU}")
        return self


Resources = Annotated[list[Resource], Field(min_length=1, max_length=RESOURCES_MAX)]


class Variable(Wire):
    """An environment variable. Yotta's command line calls its key a name."""

    key: Annotated[str, Field(min_length=1, max_length=256, pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]
    value: Annotated[str, Field(max_length=ENV_VALUE_CHARS_MAX)] = ""

    @model_validator(mode="before")
    @classmethod
    def _named(cls, value: object) -> object:
        if isinstance(value, Mapping) and "key" not in value and "name" in value:
            return {**value, "key": value["name"]}
        return value


class Expose(Wire):
    """The port that requests go to."""

    port: Annotated[Whole, Field(ge=1, le=65_535)]
    protocol: Literal["http", "https", "tcp", "ssh"] = "http"

    @field_validator("protocol", mode="before")
    @classmethod
    def _lower(cls, value: object) -> object:
        return value.lower() if isinstance(value, str) else "http" if value is None else value


Variables = Annotated[list[Variable], Field(max_length=ENV_ENTRIES_MAX)]


def _unique(variables: list[Variable] | None) -> list[Variable] | None:
    names = [each.key for each in variables or ()]
    if len(names) != len(set(names)):
        raise ValueError("a variable is there twice")
    return variables


class Asked(Wire):
    """What a new endpoint and a change of one may both say."""

    min_single_card_vram_in_gb: Gigabytes | None = None
    min_single_card_vcpu: Gigabytes | None = None
    min_single_card_ram_in_gb: Gigabytes | None = None
    container_registry_auth_id: CredentialId | None = Field(
        default=None, validation_alias=AliasChoices("containerRegistryAuthId", "credentialId")
    )
    initialization_command: Command | None = None
    environment_vars: Variables | None = Field(
        default=None, validation_alias=AliasChoices("environmentVars", "envVars")
    )
    expose: Expose | None = None
    webhook: Webhook = None

    _check_variables = field_validator("environment_vars")(_unique)


class EndpointIn(Asked):
    """A new endpoint."""

    name: Name
    image: Image = DEFAULT_IMAGE
    image_registry: Annotated[str, Field(max_length=255)] | None = None
    resources: Resources
    workers: Workers
    container_volume_in_gb: Volume
    service_mode: Mode


class EndpointPatch(Asked):
    """What is to be changed. What is left out stays; null clears what may be cleared."""

    name: Name | None = None
    resources: Resources | None = None
    workers: Workers | None = None
    container_volume_in_gb: Volume | None = None

    @property
    def said(self) -> frozenset[str]:
        """The fields that are there, null or not."""
        return frozenset(self.model_fields_set)


class ScaleIn(Wire):
    """How many workers, where the address does not say it."""

    count: Annotated[Whole, Field(ge=0, le=WORKERS_MAX)] | None = None


class VariableOut(Wire):
    key: str
    value: str


class EndpointOut(Wire):
    """An endpoint. `status_reason` is why it stands so, where there is more to say. `cost` is what its workers cost in
    an hour by the price list, 0 without one.
    """

    id: str
    name: str
    image: str
    image_registry: str | None
    status: Status
    status_reason: str | None
    total_workers: int
    running_workers: int
    cost: float
    per_hour_price: float
    per_second_price: float
    service_mode: Mode
    webhook: str | None
    domain: str | None
    creator: str | None = None
    resources: list[Resource]
    min_single_card_vram_in_gb: int | None
    min_single_card_vcpu: int | None
    min_single_card_ram_in_gb: int | None
    container_volume_in_gb: int
    initialization_command: str | None
    environment_vars: list[VariableOut]
    env_vars: list[VariableOut]
    expose: Expose | None
    created_at: int
    updated_at: int
