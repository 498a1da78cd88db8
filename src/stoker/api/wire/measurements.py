"""Measurements of workers as they are answered. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Self

from pydantic import BaseModel

from stoker.domain.measurements import STALE_S, EngineMetrics, Resources
from stoker.domain.views import WorkerView


class EngineMetricsOut(BaseModel):
    """What the engine said `age_s` ago (null: never yet), in words that are the same for all engines: `running` and
    `waiting` requests, `cache_usage` (0 to 1), `prompt_tokens` and `completion_tokens` since its start. What it does
    not say is absent. `error`: why the last try brought nothing.
    """

    age_s: float | None
    stale: bool
    values: Mapping[str, float]
    error: str | None

    @classmethod
    def of(cls, metrics: EngineMetrics, now: float) -> Self:
        age_s = None if metrics.at is None else max(0.0, now - metrics.at)
        return cls(
            age_s=None if age_s is None else round(age_s, 3),
            stale=age_s is None or age_s > STALE_S,
            values=metrics.values,
            error=metrics.error,
        )


class GpuLoadOut(BaseModel):
    """One card. `utilization` and `memory_utilization`, how long card and memory were busy, are between 0 and 1, null
    where the card does not say.
    """

    id: str
    utilization: float | None
    memory_bytes: int
    memory_total_bytes: int
    memory_utilization: float | None


class ResourcesOut(BaseModel):
    """What the worker took `age_s` ago: processors that were busy on average (null until the second measurement),
    memory, cards.
    """

    age_s: float
    stale: bool
    cpus: float | None
    memory_bytes: int
    gpus: list[GpuLoadOut]

    @classmethod
    def of(cls, resources: Resources, now: float) -> Self:
        age_s = max(0.0, now - resources.at)
        return cls(
            age_s=round(age_s, 3),
            stale=age_s > STALE_S,
            cpus=None if resources.cpus is None else round(resources.cpus, 3),
            memory_bytes=resources.memory_bytes,
            gpus=[
                GpuLoadOut(
                    id=gpu.id,
                    utilization=gpu.utilization,
                    memory_bytes=gpu.memory_bytes,
                    memory_total_bytes=gpu.memory_total_bytes,
                    memory_utilization=gpu.memory_utilization,
                )
                for gpu in resources.gpus
            ],
        )


class MeasuredOut(BaseModel):
    """A worker's measurements. `metrics` is null for an engine without a metrics page and until the first try,
    `resources` where the provider does not know them.
    """

    metrics: EngineMetricsOut | None
    resources: ResourcesOut | None

    @classmethod
    def of(cls, view: WorkerView) -> Self:
        return cls(
            metrics=None if view.engine is None else EngineMetricsOut.of(view.engine, view.now),
            resources=None if view.resources is None else ResourcesOut.of(view.resources, view.now),
        )


class WorkerMeasuredOut(MeasuredOut):
    """The same with the worker that it is of."""

    worker: str
    number: int
    in_flight: int | None

    @classmethod
    def of_worker(cls, view: WorkerView) -> WorkerMeasuredOut:
        measured = MeasuredOut.of(view)
        return cls(
            worker=view.worker.id,
            number=view.worker.number,
            in_flight=view.in_flight,
            metrics=measured.metrics,
            resources=measured.resources,
        )
