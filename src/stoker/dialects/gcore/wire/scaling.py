"""Containers of a deployment, one for each region, and how each is scaled."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import BaseModel, Field, model_validator

from stoker.dialects.gcore.wire.base import Flag, Text, Whole, Wire
from stoker.domain.triggers import SqsQueue

COOLDOWN_S = 60
POLLING_S = 30
MAX_REPLICAS = 300


class Threshold(Wire):
    threshold: Annotated[Whole, Field(ge=1, le=100)]


class HttpRate(Wire):
    rate: Annotated[Whole, Field(ge=1, le=1000)]
    window: Annotated[Whole, Field(ge=1, le=3600)]


class Sqs(Wire):
    """A queue at AWS; `secret_name` is a secret of this API."""

    activation_queue_length: Annotated[Whole, Field(ge=1, le=2**53)]
    aws_endpoint: Text | None = None
    aws_region: Annotated[str, Field(min_length=1, max_length=64)]
    queue_length: Annotated[Whole, Field(ge=1, le=2**53)]
    queue_url: Text
    scale_on_delayed: Flag = False
    scale_on_flight: Flag = False
    secret_name: Annotated[str, Field(min_length=1, max_length=255)]

    def to_queue(self) -> SqsQueue | None:
        """As Stoker asks it; `None` where it is not said where."""
        if self.aws_endpoint is None:
            return None
        return SqsQueue(
            url=self.queue_url,
            endpoint=self.aws_endpoint,
            region=self.aws_region,
            secret=self.secret_name,
            messages=self.queue_length,
            activation=self.activation_queue_length,
            in_flight=self.scale_on_flight,
            delayed=self.scale_on_delayed,
        )


class Triggers(Wire):
    """What a pool is scaled by; those that are null are not used."""

    cpu: Threshold | None = None
    gpu_memory: Threshold | None = None
    gpu_utilization: Threshold | None = None
    http: HttpRate | None = None
    memory: Threshold | None = None
    sqs: Sqs | None = None


def default_triggers() -> Triggers:
    """Those of a pool for which none are named."""
    return Triggers(cpu=Threshold(threshold=80), memory=Threshold(threshold=80))


class ScaleIn(Wire):
    """Bounds and pace; what is left out is the default when a deployment is made, and stays when it is changed."""

    min: Annotated[Whole, Field(ge=0, le=MAX_REPLICAS)]
    max: Annotated[Whole, Field(ge=0, le=MAX_REPLICAS)]
    cooldown_period: Annotated[Whole, Field(ge=1, le=3600)] | None = None
    polling_interval: Annotated[Whole, Field(ge=5, le=3600)] | None = None
    triggers: Triggers | None = None

    @model_validator(mode="after")
    def _min_and_max(self) -> Self:
        if self.min > self.max:
            raise ValueError(f"min ({self.min}) is above max ({self.max})")
        return self


class ContainerIn(Wire):
    region_id: Whole
    scale: ScaleIn


class Pace(BaseModel):
    """What is kept of a container's scaling beside its bounds."""

    cooldown_period: int = COOLDOWN_S
    polling_interval: int = POLLING_S
    triggers: Triggers = Field(default_factory=default_triggers)

    def changed(self, scale: ScaleIn) -> Pace:
        """With what the request says."""
        return Pace(
            cooldown_period=scale.cooldown_period or self.cooldown_period,
            polling_interval=scale.polling_interval or self.polling_interval,
            triggers=self.triggers if scale.triggers is None else scale.triggers,
        )


class ScaleOut(Wire):
    cooldown_period: int | None
    max: int
    min: int
    polling_interval: int | None
    triggers: Triggers


class DeployStatus(Wire):
    ready: int
    total: int


class ContainerOut(Wire):
    address: str | None
    deploy_status: DeployStatus
    error_message: str | None
    region_id: int
    scale: ScaleOut


Status = Literal["ACTIVE", "DELETING", "DEPLOYING", "DISABLED", "PARTIALLYDEPLOYED", "PENDING"]
