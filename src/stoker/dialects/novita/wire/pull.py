"""Jobs as workers read them, and what they say of them. Pure.

Inputs and outputs pass as they are: nobody here looks into them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from stoker.domain.errors import Invalid
from stoker.domain.pulling import Job, JobReport

IN_PROGRESS = "IN_PROGRESS"


class _JobOut(msgspec.Struct):
    id: str
    input: msgspec.Raw
    # Of Stoker's own: so that a worker can tell a repetition.
    attempt: int
    delivery: int


class _Said(msgspec.Struct):
    """`output` is whatever it is, `error` a text, but for handlers that return something else as one."""

    output: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    error: Any = None
    status: Any = None
    stop_pod: Any = msgspec.field(name="stopPod", default=False)


_said = msgspec.json.Decoder(_Said)


def jobs_of(jobs: Sequence[Job], *, batch: bool) -> bytes:
    """One job, or a list of them."""
    shown = [_JobOut(job.id, msgspec.Raw(job.input), job.attempt, job.delivery) for job in jobs]
    return msgspec.json.encode(shown if batch else shown[0])


def said(body: bytes) -> tuple[JobReport, bool]:
    """What a worker says of a job, and whether that is its end; `output` is a piece of it otherwise. Raises `Invalid`
    for what is no JSON, as with NaN in it.
    """
    try:
        told = _said.decode(body)
    except (msgspec.DecodeError, msgspec.ValidationError, RecursionError) as exc:
        raise Invalid(f"what the worker said is not JSON that can be kept: {exc}") from exc
    output = None if isinstance(told.output, msgspec.UnsetType) else bytes(told.output)
    error = (
        told.error if told.error is None or isinstance(told.error, str) else msgspec.json.encode(told.error).decode()
    )
    report = JobReport(output=output, error=error, recycle=told.stop_pod is True)
    return report, told.status != IN_PROGRESS
