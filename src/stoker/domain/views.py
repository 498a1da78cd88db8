"""What faces show: recorded objects together with what is known of them at the moment. Pure data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from stoker.domain.endpoint import Endpoint, EndpointId, Revision
from stoker.domain.hardware import Offer
from stoker.domain.launch import Launch
from stoker.domain.measurements import EngineMetrics, Resources
from stoker.domain.operation import Decision, Event
from stoker.domain.worker import Worker, WorkerState


class EndpointState(StrEnum):
    """STOPPED: by its owner. IDLE: at zero, wakes on a request. STARTING: wants workers, none is ready yet. READY:
    at least one is, of the present revision. UPDATING: old ones still serve. FAILING: starts keep failing.
    """

    STOPPED = "stopped"
    IDLE = "idle"
    STARTING = "starting"
    READY = "ready"
    UPDATING = "updating"
    FAILING = "failing"
    DELETING = "deleting"


@dataclass(frozen=True, slots=True)
class Condition:
    """A state and, where there is more to say, why."""

    state: EndpointState
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Traffic:
    """The gateway's last report of an endpoint, `age_s` old. Counters grow since the start of the gateway."""

    in_flight: int
    waiting: int
    oldest_wait_s: float
    arrivals: int
    completions: int
    errors: int
    refusals: int
    age_s: float


@dataclass(frozen=True, slots=True)
class Number:
    """Something that was measured, how long ago, and whether that is too long to decide by."""

    value: float
    age_s: float
    stale: bool


class Kind(StrEnum):
    """What a feed may have."""

    EVENTS = "events"
    DECISIONS = "decisions"


@dataclass(frozen=True, slots=True, kw_only=True)
class News:
    """What a feed has next: an event, a decision, or neither. `id` is where to go on after it; `endpoint` and `name`
    say of whom it is, where it is one of several.
    """

    id: str
    endpoint: EndpointId | None = None
    name: str | None = None
    event: Event | None = None
    decision: Decision | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """Why an endpoint has the number of workers that it has: the decision that held at `at`, and, of the present, what
    would be decided now and from which numbers of its workers, by their number.
    """

    at: float
    decision: Decision | None
    present: Decision | None = None
    workers: Mapping[int, Mapping[str, Number]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class EndpointView:
    """An endpoint as it stands. `workers` counts those that are not gone by state; `url` is its inference address.
    `trouble` is what is wrong with its triggers.
    """

    endpoint: Endpoint
    condition: Condition
    workers: Mapping[WorkerState, int]
    traffic: Traffic | None
    url: str
    openai_url: str
    trouble: str | None = None


@dataclass(frozen=True, slots=True)
class FieldChange:
    """One difference between two documents: `before` or `after` is `None` where the place is in one of them only."""

    pointer: str
    before: object
    after: object


@dataclass(frozen=True, slots=True, kw_only=True)
class RevisionView:
    """A revision that is kept, and its differences from the one kept before it."""

    revision: Revision
    present: bool
    changes: tuple[FieldChange, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolPreview:
    """What a change would do in one pool. `launch` is what its workers will run; `replaced` counts those that run
    something else now; `obstacle` says why another worker would have no room at this moment.
    """

    name: str
    launch: Launch
    slots: int
    replaced: int
    obstacle: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Preview:
    """What applying a spec would do. `action` is create, update or none."""

    action: str
    endpoint: Endpoint | None
    revision: int
    changes: tuple[FieldChange, ...]
    pools: tuple[PoolPreview, ...]
    pools_removed: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerView:
    """A worker, the endpoint it belongs to, and its requests in flight as far as known. `region` and `virtual` are its
    host's, `None` for one that has none, or whose host is gone.
    """

    worker: Worker
    slug: str
    name: str
    in_flight: int | None
    engine: EngineMetrics | None
    resources: Resources | None
    now: float
    region: str | None = None
    virtual: bool | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LogEntry:
    """One line of output of one worker. `at` is seconds since the epoch."""

    at: float
    worker: str
    stream: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Holder:
    """A worker that holds a part of a host. `price` is for an hour."""

    endpoint: str
    worker: int
    state: WorkerState
    gpus: tuple[int, ...]
    vcpu: float | None
    ram_gib: float | None
    price: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class HostView:
    """One host of one provider, and how much of it workers hold: `workers` counts them all, `holders` are those that
    the viewer may know. Of what was looked for, `fits` more workers have room; `lacks` says what one more has not.
    """

    provider: str
    offer: Offer
    region_number: int | None
    vcpu_used: float
    ram_gib_used: float
    disk_gib_used: float
    gpus_used: tuple[int, ...]
    workers: int
    holders: tuple[Holder, ...]
    fits: int
    lacks: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class InstanceType:
    """`count` cards alike on one host of a region. `vcpu` and `ram_gib` are the cards' share of the host (of the host
    that has least for each). `total` of it could exist at once, `free` more do, by their cards alone. `price` is that
    of the cheapest, for an hour.
    """

    region: str
    family: str
    vram_gib: float
    virtual: bool
    count: int
    vcpu: float
    ram_gib: float
    total: int
    free: int
    price: float | None
    currency: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class InstanceTypeView:
    """An instance type of one provider, and the number of its region."""

    provider: str
    region_number: int | None
    type: InstanceType


@dataclass(frozen=True, slots=True, kw_only=True)
class ParameterView:
    """One option that an engine's server takes."""

    name: str
    flags: tuple[str, ...]
    type: str
    default: str | None
    allowed: tuple[str, ...]
    section: str
    description: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Info:
    """The installation as a whole."""

    version: str
    url: str
    data_dir: str
    started_at: float
    gateway_connected: bool
    gateway_uptime_s: float | None
    endpoints: int
    workers: int
