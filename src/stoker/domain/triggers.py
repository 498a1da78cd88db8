"""What an endpoint is scaled by beside requests that are present: load of its workers, arrivals, queues elsewhere."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from stoker.domain.errors import Invalid
from stoker.domain.limits import within

QUEUES_MAX = 16
_TEXT_MAX = 1_024


class Resource(StrEnum):
    """What of a worker is measured. CPU and MEMORY: of what its pool asks for. GPU_UTILIZATION: how long its cards are
    busy; GPU_MEMORY: how long their memory is.
    """

    CPU = "cpu"
    MEMORY = "memory"
    GPU_UTILIZATION = "gpu_utilization"
    GPU_MEMORY = "gpu_memory"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rate:
    """One worker is wanted for every `requests` that arrive within `window_s`."""

    requests: float
    window_s: float

    def __post_init__(self) -> None:
        within("/scaling/triggers/rate/requests", self.requests, 0.01, 1_000_000)
        within("/scaling/triggers/rate/window_s", self.window_s, 1, 3_600)


@dataclass(frozen=True, slots=True, kw_only=True)
class SqsQueue:
    """A queue of Amazon SQS, or of what speaks its JSON protocol at `endpoint`. One worker is wanted for every
    `messages` in it; `activation` are needed to leave zero. Those being worked on count if `in_flight`, those not yet
    due if `delayed`. `secret` names one of `{"aws_access_key_id": ..., "aws_secret_access_key": ...}`.
    """

    url: str
    endpoint: str
    region: str
    secret: str
    messages: int
    activation: int = 1
    in_flight: bool = False
    delayed: bool = False

    def __post_init__(self) -> None:
        for name in ("url", "endpoint", "region", "secret"):
            value = getattr(self, name)
            if not 0 < len(value) <= _TEXT_MAX or not value.isprintable():
                raise Invalid.at(f"/scaling/triggers/queues/{name}", f"between 1 and {_TEXT_MAX} printable characters")
        if not self.endpoint.startswith(("http://", "https://")):
            raise Invalid.at("/scaling/triggers/queues/endpoint", "an endpoint begins with http:// or https://")
        within("/scaling/triggers/queues/messages", self.messages, 1, 2**53)
        within("/scaling/triggers/queues/activation", self.activation, 1, 2**53)


@dataclass(frozen=True, slots=True, kw_only=True)
class Triggers:
    """Each asks for a number of workers, and the largest wins. `utilization` is the share, between 0 and 1, that ready
    workers are kept at on average. They are looked at every `every_s`.
    """

    utilization: Mapping[Resource, float] = field(default_factory=dict)
    rate: Rate | None = None
    queues: tuple[SqsQueue, ...] = ()
    every_s: float = 15.0

    def __post_init__(self) -> None:
        for resource, share in self.utilization.items():
            within(f"/scaling/triggers/utilization/{resource}", share, 0.01, 1)
        if len(self.queues) > QUEUES_MAX:
            raise Invalid.at("/scaling/triggers/queues", f"at most {QUEUES_MAX} queues")
        within("/scaling/triggers/every_s", self.every_s, 5, 3_600)

    def __bool__(self) -> bool:
        return bool(self.utilization or self.rate or self.queues)
