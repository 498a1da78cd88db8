"""How an endpoint is scaled, as its document says it: triggers, and what holds for all of them. Pure."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field

from stoker.api.wire.base import In, Number, Switch, Whole, below, fields_of
from stoker.domain import scaling as domain
from stoker.domain.scaling import LoadUnit, ScalingPolicy, Step


class AutoIn(In):
    """As many workers as are worth it, by what is learned of the endpoint's traffic. At most one."""

    type: Literal["auto"]
    late_cost: Number = Field(default=300.0, description="GPU-seconds that it is worth to spare one late request")
    wait_target_s: Number = Field(default=5.0, description="a request that waits for longer is late")
    cold_cost: Number = Field(
        default=0.0, description="what a cold worker costs beside a ready one, as in 0.05; 0: none is kept cold"
    )


class ConcurrencyIn(In):
    """A worker for so many requests in flight or waiting, tasks included."""

    type: Literal["concurrency"]
    target: Number | None = Field(default=None, description="requests for each worker; default: its slots")
    utilization: Number = Field(default=1.0, description="the share of its slots that counts, without a target")
    window_s: Number = Field(default=0.0, description="take the average of so long; 0: what there is now")


class RequestRateIn(In):
    """A worker for so many requests in a second."""

    type: Literal["requests_per_s"]
    target: Number = Field(description="requests in a second for each worker")
    window_s: Number = Field(default=60.0, description="on the average of so long")


class QueueDelayIn(In):
    """Workers for all who wait, once the oldest has waited for too long."""

    type: Literal["queue_delay"]
    threshold_s: Number = 4.0


class QueueLengthIn(In):
    """A worker for so many requests and tasks in the queue."""

    type: Literal["queue_length"]
    target: Number = Field(description="requests and tasks for each worker")
    activation: Whole = Field(default=0, description="none for so many or fewer")
    in_flight: Switch = Field(default=True, description="count what runs, too")
    tolerated: Whole = Field(default=0, description="so many that wait do not count")


class LoadIn(In):
    """Load and performance in the endpoint's own unit, per second."""

    type: Literal["load"]
    unit: LoadUnit = LoadUnit.REQUESTS
    perf: Number | None = Field(default=None, description="load per second of one worker; default: what was measured")
    min_load: Number = Field(default=0.0, description="load to be ready for in any case")
    target_util: Number = Field(default=0.9, description="the share of their performance that workers should use")
    cold_mult: Number = Field(default=1.0, description="ready and cold workers together are for so many times the load")
    min_cold_load: Number = Field(default=0.0, description="load that ready and cold workers together are for at least")
    cold_workers: Whole = Field(default=0, description="ready and cold workers together, at least")
    target_queue_s: Number = Field(default=10.0, description="announced load that waits is to be done within so long")
    window_s: Number = Field(default=60.0, description="on the average of so long")


class _Share(In):
    threshold: Number = Field(default=80.0, description="percent that workers should use on the average")
    tolerance: Number = Field(default=0.1, description="a share by which more or less changes nothing")


class CpuIn(_Share):
    """Of the processors that the pool's hardware asks for."""

    type: Literal["cpu"]


class MemoryIn(_Share):
    """Of the memory that the pool's hardware asks for."""

    type: Literal["memory"]


class GpuUtilizationIn(_Share):
    """Of the time of the worker's cards."""

    type: Literal["gpu_utilization"]


class GpuMemoryIn(_Share):
    """Of the memory of the worker's cards."""

    type: Literal["gpu_memory"]


class HttpRateIn(In):
    """A worker for so many requests within a window."""

    type: Literal["http"]
    rate: Number = Field(description="requests within the window for each worker")
    window_s: Number = 60.0


class CustomIn(In):
    """A number that each worker tells: a metric of a Prometheus page, or what a JSON pointer leads to."""

    type: Literal["custom"]
    path: str = Field(max_length=1_024, description="where the worker tells it")
    metric: str | None = Field(default=None, max_length=256, description="of a Prometheus page, summed over its labels")
    pointer: str | None = Field(default=None, max_length=1_024, description="into JSON, as in /queue/length")
    target: Number = Field(description="how much of the sum over all workers is for each of them")
    tolerance: Number = Field(default=0.0, description="a share by which more or less changes nothing")


class ScheduleIn(In):
    """A number of workers at certain times. Schedules of an endpoint must not overlap."""

    type: Literal["schedule"]
    start: str = Field(max_length=128, description="cron: minute, hour, day, month, day of the week")
    end: str = Field(max_length=128, description="cron: the window lasts until the next such time")
    workers: Whole
    time_zone: str = Field(default="UTC", max_length=64, description="as in Europe/Berlin")


class SqsIn(In):
    """A queue of Amazon SQS, or of what speaks its JSON protocol; a worker for every `messages` in it."""

    type: Literal["sqs"]
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
    every_s: Number = Field(default=15.0, description="how often it is asked")


TriggerIn = Annotated[
    AutoIn
    | ConcurrencyIn
    | RequestRateIn
    | QueueDelayIn
    | QueueLengthIn
    | LoadIn
    | CpuIn
    | MemoryIn
    | GpuUtilizationIn
    | GpuMemoryIn
    | HttpRateIn
    | CustomIn
    | ScheduleIn
    | SqsIn,
    Field(discriminator="type"),
]

# By `type`: what a document has, and what the domain makes of it. Their fields have the same names.
_KINDS: dict[str, tuple[type[In], type[domain.AnyTrigger]]] = {
    "auto": (AutoIn, domain.Auto),
    "concurrency": (ConcurrencyIn, domain.Concurrency),
    "requests_per_s": (RequestRateIn, domain.RequestRate),
    "queue_delay": (QueueDelayIn, domain.QueueDelay),
    "queue_length": (QueueLengthIn, domain.QueueLength),
    "load": (LoadIn, domain.Load),
    "cpu": (CpuIn, domain.Cpu),
    "memory": (MemoryIn, domain.Memory),
    "gpu_utilization": (GpuUtilizationIn, domain.GpuUtilization),
    "gpu_memory": (GpuMemoryIn, domain.GpuMemory),
    "http": (HttpRateIn, domain.HttpRate),
    "custom": (CustomIn, domain.Custom),
    "schedule": (ScheduleIn, domain.Schedule),
    "sqs": (SqsIn, domain.SqsQueue),
}


def trigger_of(document: TriggerIn, pointer: str) -> domain.AnyTrigger:
    """The domain's trigger. Raises `Invalid` with places below `pointer`."""
    with below(pointer):
        return _KINDS[document.type][1](**document.model_dump(exclude={"type"}))


def document_of(trigger: domain.AnyTrigger) -> In:
    """The document that makes this trigger."""
    fields = {name: getattr(trigger, name) for name in trigger.__struct_fields__}
    return _KINDS[trigger.type][0].model_validate({"type": trigger.type, **fields})


class StepIn(In):
    """The number of workers may change by so many, or by so many percent of it, within `period_s`."""

    workers: Whole | None = None
    percent: Number | None = None
    period_s: Number = 60.0

    def to_domain(self, pointer: str) -> Step:
        with below(pointer):
            return Step(**self.model_dump())


class Scaling(In):
    """Each trigger asks for a number of workers, and the largest counts. Without triggers there is `auto`, or, where
    `target`, `scale_down_delay_s` or `idle_timeout_s` is said, a worker for every `target` requests present (default:
    its slots).
    """

    target: Number | None = None
    triggers: Annotated[tuple[TriggerIn, ...], Field(max_length=domain.TRIGGERS_MAX)] = ()
    scale_up_delay_s: Number = Field(default=0.0, description="grow to the lowest number wanted within so long")
    scale_down_delay_s: Number | None = Field(
        default=None, description="keep the highest number wanted within so long; default: 60, and auto's own judgement"
    )
    scale_up_steps: Annotated[tuple[StepIn, ...], Field(max_length=domain.STEPS_MAX)] = Field(
        default=(), description="grow by no more; of several the largest applies"
    )
    scale_down_steps: Annotated[tuple[StepIn, ...], Field(max_length=domain.STEPS_MAX)] = Field(
        default=(), description="shrink by no more; of several the largest applies"
    )
    scale_up_cooldown_s: Number = Field(default=0.0, description="grow no further for so long after a change")
    scale_down_cooldown_s: Number = Field(default=0.0, description="shrink no further for so long after a change")
    idle_timeout_s: Number | None = Field(
        default=None, description="without a request for so long, go to zero; default: 300, and auto's own judgement"
    )
    to_zero: Switch = Field(default=True, description="whether the last worker may go")
    initial: Whole | None = Field(default=None, description="workers at the beginning; default: the pools' minima")
    advisory: Switch = Field(default=False, description="decide and record, and do not act")

    def to_domain(self) -> ScalingPolicy:
        """Raises `Invalid` with pointers into the whole document."""
        lists = {"triggers", "scale_up_steps", "scale_down_steps"}
        return ScalingPolicy(
            **self.model_dump(exclude=lists),
            triggers=tuple(trigger_of(t, f"/scaling/triggers/{i}") for i, t in enumerate(self.triggers)),
            scale_up_steps=_steps("scale_up_steps", self.scale_up_steps),
            scale_down_steps=_steps("scale_down_steps", self.scale_down_steps),
        )

    @classmethod
    def of(cls, policy: ScalingPolicy) -> Self:
        """The document that makes this policy."""
        lists = {
            "triggers": tuple(document_of(trigger) for trigger in policy.triggers),
            "scale_up_steps": tuple(StepIn(**fields_of(step)) for step in policy.scale_up_steps),
            "scale_down_steps": tuple(StepIn(**fields_of(step)) for step in policy.scale_down_steps),
        }
        return cls(**(fields_of(policy) | lists))


def _steps(name: str, steps: tuple[StepIn, ...]) -> tuple[Step, ...]:
    return tuple(step.to_domain(f"/scaling/{name}/{index}") for index, step in enumerate(steps))
