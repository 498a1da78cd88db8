"""How an endpoint's number of workers follows its traffic, as its owner says it: triggers, and what holds for all.

Each trigger asks for a number of workers; the largest wins. `stoker.policy.triggers` has the rule of each.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum

import msgspec

from stoker.domain.errors import Invalid
from stoker.domain.limits import within
from stoker.domain.schedule import Window, check_window, overlap

TRIGGERS_MAX = 32
STEPS_MAX = 8
WORKERS_MAX = 1_000
WINDOW_S_MAX = 3_600.0
DELAY_S_MAX = 86_400.0
_TEXT_MAX = 1_024
_METRIC = re.compile(r"[A-Za-z_:][A-Za-z0-9_:]*\Z")
_POINTER = re.compile(r"(/([^~/]|~[01])*)+\Z")


# Structs and not dataclasses: the store tells the members of a union apart by their tag.
class Trigger(msgspec.Struct, frozen=True, kw_only=True, tag_field="type"):
    """Base of all triggers; `type` says which one it is."""

    @property
    def type(self) -> str:
        """The trigger's name in documents."""
        tag = self.__struct_config__.tag
        assert isinstance(tag, str)
        return tag


class Auto(Trigger, frozen=True, kw_only=True, tag="auto"):
    """As many as what was learned of the endpoint's traffic makes worth it. `late_cost`: GPU-seconds that it is worth
    to spare one late request; one that waits for longer than `wait_target_s` is late. `cold_cost`: what a cold worker
    costs beside a ready one, as in 0.05; 0: none is kept cold.
    """

    late_cost: float = 300.0
    wait_target_s: float = 5.0
    cold_cost: float = 0.0

    def __post_init__(self) -> None:
        within("/cold_cost", self.cold_cost, 0, 1)
        within("/late_cost", self.late_cost, 0, 1e6)
        within("/wait_target_s", self.wait_target_s, 0.1, 3_600)


class Concurrency(Trigger, frozen=True, kw_only=True, tag="concurrency"):
    """A worker for every `target` requests in flight or waiting, tasks included. Without a target: for every
    `utilization` of its slots. `window_s` takes the average of so long; 0 is what there is now.
    """

    target: float | None = None
    utilization: float = 1.0
    window_s: float = 0.0

    def __post_init__(self) -> None:
        if self.target is not None:
            within("/target", self.target, 0.01, 100_000)
        within("/utilization", self.utilization, 0.01, 1)
        within("/window_s", self.window_s, 0, WINDOW_S_MAX)


class RequestRate(Trigger, frozen=True, kw_only=True, tag="requests_per_s"):
    """A worker for every `target` requests that come in a second, on the average of `window_s`."""

    target: float
    window_s: float = 60.0

    def __post_init__(self) -> None:
        within("/target", self.target, 0.001, 100_000)
        within("/window_s", self.window_s, 1, WINDOW_S_MAX)


class QueueDelay(Trigger, frozen=True, kw_only=True, tag="queue_delay"):
    """Workers for those who wait, once the oldest has waited for longer than `threshold_s`."""

    threshold_s: float = 4.0

    def __post_init__(self) -> None:
        within("/threshold_s", self.threshold_s, 0.5, 3_600)


class QueueLength(Trigger, frozen=True, kw_only=True, tag="queue_length"):
    """A worker for every `target` requests and tasks that wait or (`in_flight`) run. None for `activation` or fewer.
    `tolerated` of those that wait ask for none.
    """

    target: float
    activation: int = 0
    in_flight: bool = True
    tolerated: int = 0

    def __post_init__(self) -> None:
        within("/target", self.target, 0.01, 2**53)
        within("/activation", self.activation, 0, 2**53)
        within("/tolerated", self.tolerated, 0, 2**53)


class LoadUnit(StrEnum):
    """What load and performance are counted in: requests, tokens of answers, or the costs that requests were announced
    with, which workers report their perf in.
    """

    REQUESTS = "requests"
    TOKENS = "tokens"
    ANNOUNCED = "announced"


class Load(Trigger, frozen=True, kw_only=True, tag="load"):
    """Load is `unit` per second, on the average of `window_s`. Workers for max(`min_load`, load) / `target_util`, each
    worth `perf` per second; without `perf`, what was measured of full workers. `cold_mult` times the load, capacity for
    `min_cold_load` and `cold_workers` at least are kept ready or cold. Announced load is that of the last minute, and
    what of it waits is worked off within `target_queue_s`.
    """

    unit: LoadUnit = LoadUnit.REQUESTS
    perf: float | None = None
    min_load: float = 0.0
    target_util: float = 0.9
    cold_mult: float = 1.0
    min_cold_load: float = 0.0
    cold_workers: int = 0
    target_queue_s: float = 10.0
    window_s: float = 60.0

    def __post_init__(self) -> None:
        if self.perf is not None:
            within("/perf", self.perf, 1e-6, 1e9)
        within("/min_load", self.min_load, 0, 1e9)
        within("/target_util", self.target_util, 0.01, 1)
        within("/cold_mult", self.cold_mult, 1, 100)
        within("/min_cold_load", self.min_cold_load, 0, 1e9)
        within("/target_queue_s", self.target_queue_s, 0.1, 3_600)
        within("/cold_workers", self.cold_workers, 0, WORKERS_MAX)
        within("/window_s", self.window_s, 1, WINDOW_S_MAX)


class _Share(Trigger, frozen=True, kw_only=True):
    """`threshold` percent is what a worker should use, on the average of the ready ones; `tolerance` of it more or less
    changes nothing.
    """

    threshold: float = 80.0
    tolerance: float = 0.1

    def __post_init__(self) -> None:
        within("/threshold", self.threshold, 1, 100)
        within("/tolerance", self.tolerance, 0, 1)


class Cpu(_Share, frozen=True, kw_only=True, tag="cpu"):
    """Of the processors that the pool's hardware asks for."""


class Memory(_Share, frozen=True, kw_only=True, tag="memory"):
    """Of the memory that the pool's hardware asks for."""


class GpuUtilization(_Share, frozen=True, kw_only=True, tag="gpu_utilization"):
    """Of the time of the worker's cards."""


class GpuMemory(_Share, frozen=True, kw_only=True, tag="gpu_memory"):
    """Of the memory of the worker's cards."""


class HttpRate(Trigger, frozen=True, kw_only=True, tag="http"):
    """A worker for every `rate` requests that came within the last `window_s` seconds."""

    rate: float
    window_s: float = 60.0

    def __post_init__(self) -> None:
        within("/rate", self.rate, 0.001, 1e9)
        within("/window_s", self.window_s, 1, WINDOW_S_MAX)


class Custom(Trigger, frozen=True, kw_only=True, tag="custom"):
    """A number that each worker tells at `path`: the metric `metric` of a Prometheus page, or what the JSON pointer
    `pointer` leads to. A worker for every `target` of their sum.
    """

    path: str
    target: float
    metric: str | None = None
    pointer: str | None = None
    tolerance: float = 0.0

    def __post_init__(self) -> None:
        if not self.path.startswith("/") or len(self.path) > 1_024 or not self.path.isprintable() or " " in self.path:
            raise Invalid.at("/path", "a path begins with a slash and has up to 1024 characters, none of them a space")
        if (self.metric is None) == (self.pointer is None):
            raise Invalid.at("/metric", "say one of metric (of a Prometheus page) and pointer (into JSON)")
        if self.metric is not None and (len(self.metric) > 256 or not _METRIC.match(self.metric)):
            raise Invalid.at("/metric", "that is no name of a metric")
        if self.pointer is not None and (len(self.pointer) > 1_024 or not _POINTER.match(self.pointer)):
            raise Invalid.at("/pointer", "a JSON pointer is written like /queue/length")
        within("/target", self.target, 1e-6, 1e12)
        within("/tolerance", self.tolerance, 0, 1)


class Schedule(Trigger, frozen=True, kw_only=True, tag="schedule"):
    """`workers` from every time that the cron expression `start` names to the next one that `end` names, in
    `time_zone`.
    """

    start: str
    end: str
    workers: int
    time_zone: str = "UTC"

    def __post_init__(self) -> None:
        within("/workers", self.workers, 1, WORKERS_MAX)
        check_window(self.window)

    @property
    def window(self) -> Window:
        """When it holds."""
        return Window(self.start, self.end, self.time_zone)


class SqsQueue(Trigger, frozen=True, kw_only=True, tag="sqs"):
    """A queue of Amazon SQS, or of what speaks its JSON protocol at `endpoint`, asked every `every_s`. A worker for
    every `messages` in it; `activation` are needed to leave zero. Those being worked on count if `in_flight`, those not
    yet due if `delayed`. `secret` names one of `{"aws_access_key_id": ..., "aws_secret_access_key": ...}`.
    """

    url: str
    endpoint: str
    region: str
    secret: str
    messages: int
    activation: int = 1
    in_flight: bool = False
    delayed: bool = False
    every_s: float = 15.0

    def __post_init__(self) -> None:
        for name in ("url", "endpoint", "region", "secret"):
            value = getattr(self, name)
            if not 0 < len(value) <= _TEXT_MAX or not value.isprintable():
                raise Invalid.at(f"/{name}", f"between 1 and {_TEXT_MAX} printable characters")
        if not self.endpoint.startswith(("http://", "https://")):
            raise Invalid.at("/endpoint", "an endpoint begins with http:// or https://")
        within("/messages", self.messages, 1, 2**53)
        within("/activation", self.activation, 1, 2**53)
        within("/every_s", self.every_s, 5, 3_600)


AnyTrigger = (
    Auto
    | Concurrency
    | RequestRate
    | QueueDelay
    | QueueLength
    | Load
    | Cpu
    | Memory
    | GpuUtilization
    | GpuMemory
    | HttpRate
    | Custom
    | Schedule
    | SqsQueue
)


_DEFAULT = (Auto(),)
_Averaged = Concurrency | RequestRate | HttpRate | Load


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """The number may change by so many workers, or by so many percent of it, within `period_s`."""

    workers: int | None = None
    percent: float | None = None
    period_s: float = 60.0

    def __post_init__(self) -> None:
        if (self.workers is None) == (self.percent is None):
            raise Invalid.at("/workers", "say one of workers and percent")
        if self.workers is not None:
            within("/workers", self.workers, 1, WORKERS_MAX)
        if self.percent is not None:
            within("/percent", self.percent, 1, 100_000)
        within("/period_s", self.period_s, 1, WINDOW_S_MAX)


@dataclass(frozen=True, slots=True, kw_only=True)
class ScalingPolicy:
    """What holds for the triggers together. Without triggers there is one: `auto`, or concurrency where a `target`, a
    `scale_down_delay_s` or an `idle_timeout_s` is said.

    The lowest number wanted within `scale_up_delay_s` is grown to, the highest within `scale_down_delay_s` (60) kept.
    Of the steps of one direction the largest applies. For the cooldowns after a change there is no further one in that
    direction. Without a request for `idle_timeout_s` (300) there are none left, if `to_zero`, whatever was before;
    until then there is one. What `auto` asks for knows neither of these two defaults: it judges itself how long to keep
    workers. `initial` workers are there at the beginning. `advisory`: decisions are recorded and not carried out.
    """

    target: float | None = None
    scale_down_delay_s: float | None = None
    idle_timeout_s: float | None = None
    triggers: tuple[AnyTrigger, ...] = ()
    scale_up_delay_s: float = 0.0
    scale_up_steps: tuple[Step, ...] = ()
    scale_down_steps: tuple[Step, ...] = ()
    scale_up_cooldown_s: float = 0.0
    scale_down_cooldown_s: float = 0.0
    to_zero: bool = True
    initial: int | None = None
    advisory: bool = False

    def __post_init__(self) -> None:
        if self.target is not None:
            within("/scaling/target", self.target, 0.01, 100_000)
        for name in ("scale_down_delay_s", "scale_up_delay_s", "scale_up_cooldown_s", "scale_down_cooldown_s"):
            if getattr(self, name) is not None:
                within(f"/scaling/{name}", getattr(self, name), 0, DELAY_S_MAX)
        if self.idle_timeout_s is not None:
            within("/scaling/idle_timeout_s", self.idle_timeout_s, 0, 604_800)
        if self.initial is not None:
            within("/scaling/initial", self.initial, 0, WORKERS_MAX)
        if self.triggers and self.target is not None:
            raise Invalid.at("/scaling/target", "with triggers, a target is said in one of them")
        if len(self.triggers) > TRIGGERS_MAX:
            raise Invalid.at("/scaling/triggers", f"at most {TRIGGERS_MAX} triggers")
        for name in ("scale_up_steps", "scale_down_steps"):
            if len(getattr(self, name)) > STEPS_MAX:
                raise Invalid.at(f"/scaling/{name}", f"at most {STEPS_MAX} steps")
        autos = [index for index, trigger in enumerate(self.triggers) if isinstance(trigger, Auto)]
        if len(autos) > 1:
            raise Invalid.at(f"/scaling/triggers/{autos[1]}", "one auto is enough: each learns of all requests")
        self._check_schedules()

    def _check_schedules(self) -> None:
        windows = [(i, t) for i, t in enumerate(self.triggers) if isinstance(t, Schedule)]
        found = overlap([trigger.window for _, trigger in windows])
        if found is not None:
            first, second, at = found
            raise Invalid.at(
                f"/scaling/triggers/{windows[second][0]}",
                f"its window overlaps that of trigger {windows[first][0]}, for the first time at {at}",
            )

    @property
    def windows(self) -> frozenset[float]:
        """Over how many seconds its triggers take averages."""
        found = [trigger.window_s for trigger in self.effective if isinstance(trigger, _Averaged)]
        return frozenset(window_s for window_s in found if window_s > 0)

    @property
    def queues(self) -> tuple[tuple[int, SqsQueue], ...]:
        """The queues elsewhere that it looks at, with their places among the triggers."""
        return tuple((i, trigger) for i, trigger in enumerate(self.triggers) if isinstance(trigger, SqsQueue))

    @property
    def effective(self) -> tuple[AnyTrigger, ...]:
        """The triggers that decide."""
        if self.triggers:
            return self.triggers
        said = (self.target, self.scale_down_delay_s, self.idle_timeout_s)
        return _DEFAULT if all(each is None for each in said) else (Concurrency(target=self.target),)

    @property
    def auto(self) -> Auto | None:
        """The trigger that learns, if it is among those that decide."""
        return next((trigger for trigger in self.effective if isinstance(trigger, Auto)), None)

    @property
    def down_delay_s(self) -> float:
        """`scale_down_delay_s`, as it holds for what triggers ask for."""
        return 60.0 if self.scale_down_delay_s is None else self.scale_down_delay_s

    @property
    def idle_s(self) -> float:
        """`idle_timeout_s`, where it holds."""
        return 300.0 if self.idle_timeout_s is None else self.idle_timeout_s
