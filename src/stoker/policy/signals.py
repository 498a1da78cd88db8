"""What was measured of one endpoint, each number with its age: what triggers read. Pure data.

`None` is unknown and never zero. What is older than `STALE_S` is as good as unknown: `fresh` says so.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from stoker.domain.hardware import HardwareRequest
from stoker.domain.measurements import STALE_S, Measured
from stoker.domain.scaling import SqsQueue
from stoker.policy.auto.estimates import Estimates, Setting, recorded

_GIB = 1024.0**3

Learned = tuple[Estimates, Setting]


@dataclass(frozen=True, slots=True)
class Reading:
    """A number and how many seconds ago it was so."""

    value: float
    age_s: float


def fresh(reading: Reading | None, *, age_s_max: float = STALE_S) -> float | None:
    """Its value, unless there is none or it is too old."""
    return None if reading is None or reading.age_s > age_s_max else reading.value


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerSignals:
    """One ready worker. `cpu` and `memory` are shares of what its pool's hardware asks for, those of its cards are
    means over them, 0 to 1. `engine` has what its engine says in `EngineMetrics`' words; `custom` the values of custom
    triggers by `custom_key`.
    """

    number: int
    cpu: Reading | None = None
    memory: Reading | None = None
    gpu_utilization: Reading | None = None
    gpu_memory: Reading | None = None
    engine: Mapping[str, Reading] = field(default_factory=dict)
    custom: Mapping[str, Reading] = field(default_factory=dict)

    def named(self) -> dict[str, Reading | None]:
        """Its numbers by names that all workers share; `None`: it is missing."""
        own = {name: getattr(self, name) for name in ("cpu", "memory", "gpu_utilization", "gpu_memory")}
        return own | {f"engine.{name}": reading for name, reading in self.engine.items()}

    def readings(self) -> dict[str, Reading]:
        """All of its numbers by name; what is missing is absent."""
        found = {name: reading for name, reading in self.named().items() if reading is not None}
        return found | dict(self.custom)


# Signals of any endpoint that are unknown until something has happened, and those of some endpoints.
_LEARNED = (
    "service_s",
    "prompt_tokens",
    "completion_tokens",
    "start_s",
    "resume_s",
    "requests_per_s",
    "tokens_per_s",
)
_OCCASIONAL = (
    "tasks_queued",
    "oldest_task_s",
    "tasks_per_s",
    "announced_per_s",
    "announced_waiting",
    "announced_perf",
    "trial",
)


# Not frozen: control puts it together in steps, several times a second for each busy endpoint. Nobody changes one that
# was handed to a policy.
@dataclass(slots=True, kw_only=True)
class Signals:
    """What was measured of one endpoint.

    `in_flight` and `waiting` are requests now; `busy_at` is when there last was any, in the same seconds as `now`.
    `queued` are tasks that could go now; `running` are those that run, which the gateway counts among those in flight
    as soon as it reports. `age_s`: how old the gateway's last word on this endpoint is.

    By window, in seconds: `arrivals` in a second and `presence`, requests in flight or waiting, on the average.
    `arrived` and `ended` are counts of requests and tasks that only grow; `auto` is what was learned of them, for the
    trigger of that name. `service_s` is what a request takes, `prompt_tokens` and `completion_tokens` what one has on
    the average; `tasks_queued` (all that wait), `oldest_task_s` and `tasks_per_s` are the queue's. `start_s` is what a
    start is expected to take, `resume_s` what it takes until a cold worker is back; `requests_per_s` and `tokens_per_s`
    what one full worker sustains. `messages`: those in queues elsewhere. `announced_per_s` is the load that was
    announced in the last minute, `announced_waiting` what of it has no worker yet, `announced_perf` what a worker says
    it does in a second; on `trial` machines workers are to measure that first.
    """

    in_flight: int
    waiting: int
    busy_at: float
    queued: int = 0
    running: int = 0
    age_s: float = 0.0
    oldest_wait_s: float = 0.0
    arrived: int = 0
    ended: int = 0
    auto: Learned | None = None
    tasks_queued: Reading | None = None
    oldest_task_s: Reading | None = None
    tasks_per_s: Reading | None = None
    arrivals: Mapping[float, Reading] = field(default_factory=dict)
    presence: Mapping[float, Reading] = field(default_factory=dict)
    service_s: Reading | None = None
    prompt_tokens: Reading | None = None
    completion_tokens: Reading | None = None
    start_s: Reading | None = None
    resume_s: Reading | None = None
    requests_per_s: Reading | None = None
    tokens_per_s: Reading | None = None
    announced_per_s: Reading | None = None
    announced_waiting: Reading | None = None
    announced_perf: Reading | None = None
    trial: Reading | None = None
    workers: tuple[WorkerSignals, ...] = ()
    messages: Mapping[SqsQueue, Reading] = field(default_factory=dict)

    @property
    def held_up(self) -> int:
        """What waits for a slot: requests, and tasks that could go now."""
        return self.waiting + self.queued

    @property
    def serving(self) -> int:
        """Requests and tasks that run."""
        return max(self.in_flight, self.running)

    @property
    def present(self) -> int:
        """All there is. Each unit of demand counts in one place: a task is queued, or in flight."""
        return self.serving + self.held_up

    @property
    def unknown(self) -> tuple[str, ...]:
        """Names of what could be known of any endpoint, and is not: nothing of the kind has happened so far."""
        return tuple(name for name in _LEARNED if getattr(self, name) is None)

    def readings(self) -> dict[str, Reading]:
        """All of the endpoint's numbers by name; what is missing is absent."""
        found = {name: reading for name in (*_LEARNED, *_OCCASIONAL) if (reading := getattr(self, name)) is not None}
        found |= {f"arrivals_per_s({window:g}s)": reading for window, reading in self.arrivals.items()}
        found |= {f"present({window:g}s)": reading for window, reading in self.presence.items()}
        found |= {f"messages({queue.url})": reading for queue, reading in self.messages.items()}
        if self.auto is not None:
            found |= {name: Reading(value, self.age_s) for name, value in recorded(*self.auto).items()}
        now = {name: getattr(self, name) for name in ("in_flight", "waiting", "queued", "running", "oldest_wait_s")}
        return {name: Reading(float(value), self.age_s) for name, value in now.items()} | found


def custom_key(path: str, selector: str) -> str:
    """Under which name a custom value is found: where it is told and what leads to it there."""
    return f"{path} {selector}"


def of_worker(
    number: int, measured: Measured, hardware: HardwareRequest, custom: Mapping[str, Reading], *, now: float
) -> WorkerSignals:
    """A worker's signals from what was measured of it."""
    taken, engine = measured.resources, measured.engine
    age_s = 0.0 if taken is None else max(0.0, now - taken.at)
    gpus = () if taken is None else taken.gpus
    busy = [gpu.utilization for gpu in gpus if gpu.utilization is not None]
    memory = [gpu.memory_utilization for gpu in gpus if gpu.memory_utilization is not None]
    said = {}
    if engine is not None and engine.at is not None:
        said = {name: Reading(value, max(0.0, now - engine.at)) for name, value in engine.values.items()}
    return WorkerSignals(
        number=number,
        cpu=_share(None if taken is None else taken.cpus, hardware.vcpu_all, age_s),
        memory=_share(None if taken is None else taken.memory_bytes / _GIB, hardware.ram_gib_all, age_s),
        gpu_utilization=Reading(sum(busy) / len(busy), age_s) if busy else None,
        gpu_memory=Reading(sum(memory) / len(memory), age_s) if memory else None,
        engine=said,
        custom=custom,
    )


def _share(used: float | None, whole: float | None, age_s: float) -> Reading | None:
    return None if used is None or not whole else Reading(used / whole, age_s)
