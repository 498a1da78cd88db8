"""What an endpoint is scaled by beside requests, as JSON. Part of the endpoint's document (`api.wire.spec`). Pure."""

from __future__ import annotations

from typing import Self

from pydantic import Field

from stoker.api.wire.base import In, Number, Switch, Whole, fields_of
from stoker.domain.triggers import Rate, Resource, SqsQueue, Triggers


class RateIn(In):
    """One worker for every `requests` that arrive within `window_s`."""

    requests: Number
    window_s: Number


class SqsQueueIn(In):
    """A queue of Amazon SQS, or of what speaks its JSON protocol; one worker for every `messages` in it."""

    url: str
    endpoint: str = Field(description="where it is asked, as `https://sqs.eu-central-1.amazonaws.com`")
    region: str
    secret: str = Field(
        description='a secret of the project: `{"aws_access_key_id": "…", "aws_secret_access_key": "…"}`'
    )
    messages: Whole
    activation: Whole = Field(default=1, description="messages that are needed to leave zero")
    in_flight: Switch = Field(default=False, description="count messages that are being worked on")
    delayed: Switch = Field(default=False, description="count messages that are not due yet")


class TriggersIn(In):
    """Each asks for a number of workers beside what requests ask for, and the largest wins."""

    utilization: dict[Resource, Number] = Field(
        default_factory=dict,
        description="the share, from 0 to 1, that ready workers are kept at on average; "
        "of `cpu`, `memory`, `gpu_utilization`, `gpu_memory`",
    )
    rate: RateIn | None = None
    queues: tuple[SqsQueueIn, ...] = ()
    every_s: Number = Field(default=15.0, description="how often they are looked at")

    def to_domain(self) -> Triggers:
        """Raises `Invalid` with pointers into the whole document."""
        return Triggers(
            utilization=self.utilization,
            rate=None if self.rate is None else Rate(**self.rate.model_dump()),
            queues=tuple(SqsQueue(**queue.model_dump()) for queue in self.queues),
            every_s=self.every_s,
        )

    @classmethod
    def of(cls, triggers: Triggers) -> Self:
        return cls(
            utilization=dict(triggers.utilization),
            rate=None if triggers.rate is None else RateIn(**fields_of(triggers.rate)),
            queues=tuple(SqsQueueIn(**fields_of(queue)) for queue in triggers.queues),
            every_s=triggers.every_s,
        )
