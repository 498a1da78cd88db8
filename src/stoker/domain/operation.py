"""Records of what happens: operations (one asynchronous change each), events and scaling decisions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NewType

from stoker.domain.endpoint import EndpointId
from stoker.domain.worker import WorkerId

OperationId = NewType("OperationId", str)


class OperationKind(StrEnum):
    CREATE = "create"
    UPDATE = "update"
    SCALE = "scale"
    START = "start"
    STOP = "stop"
    DELETE = "delete"


class OperationState(StrEnum):
    PENDING = "pending"
    SUCCESS = "success"
    FAILURE = "failure"
    TIMEOUT = "timeout"


class Cause(StrEnum):
    """Why an operation did not succeed. OVERTAKEN: by a later change. ENDED: the endpoint was stopped or deleted.
    START_FAILED: its workers do not start. NO_MODEL, NO_VOLUME: what they need could not be had. When the time is over:
    SOME: fewer workers are ready than were wanted; NO_ROOM: no machine had room; SLOW: none was ready yet.
    """

    OVERTAKEN = "overtaken"
    ENDED = "ended"
    START_FAILED = "start_failed"
    NO_MODEL = "no_model"
    NO_VOLUME = "no_volume"
    SOME = "some"
    NO_ROOM = "no_room"
    SLOW = "slow"


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """One asynchronous change of an endpoint. `revision` and `workers` are what must be reached. `cause` is there when
    it was not.
    """

    id: OperationId
    number: int
    kind: OperationKind
    endpoint: EndpointId
    state: OperationState
    created_at: float
    deadline_at: float
    revision: int
    workers: int | None = None
    message: str = ""
    ended_at: float | None = None
    cause: Cause | None = None


class Level(StrEnum):
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Something worth telling a person. `number` grows; `kind` is a stable snake_case word."""

    number: int
    at: float
    endpoint: EndpointId | None
    worker: WorkerId | None
    level: Level
    kind: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Demand:
    """What one trigger asked for: `workers` (`None`: it could not know), from which `value` against which `target`,
    both in its own unit; `age_s` is how old the value was. `held` is how many should be there ready or cold.
    `settled`: taken as it is, without the delays that hold for the others; `keeps`: it knows itself how long idle
    workers stay, so that the idle timeout does not apply.
    """

    trigger: str
    workers: int | None
    value: float | None = None
    target: float | None = None
    age_s: float | None = None
    text: str = ""
    held: int = 0
    settled: bool = False
    keeps: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """How many workers an endpoint should have from `at` on, why, and from what facts. Stored when it is a change, or
    when it makes room: a rollout that gives up an old worker, an idle worker that makes way for others' requests.

    `triggers` is what each asked for, `limits` what changed the largest of it, in the order in which it did. `ages`
    has the age in seconds of each of `inputs` that was measured. `advisory`: nobody acted on it. `number` grows; `None`
    before it is stored. `given` is all that leads to it again, in the words of `policy.replay`; `None` where
    nothing was asked for it.
    """

    at: float
    current: int
    workers: int
    reason: str
    inputs: Mapping[str, float | int | None] = field(default_factory=dict)
    ages: Mapping[str, float] = field(default_factory=dict)
    triggers: tuple[Demand, ...] = ()
    limits: tuple[str, ...] = ()
    advisory: bool = False
    number: int | None = None
    given: bytes | None = field(default=None, repr=False)

    @property
    def demand(self) -> int | None:
        """The largest number that a trigger asked for; `None` when none could know, or none was asked."""
        return max((each.workers for each in self.triggers if each.workers is not None), default=None)

    @property
    def held(self) -> int:
        """How many should be there ready or cold."""
        return max((each.held for each in self.triggers), default=0)
