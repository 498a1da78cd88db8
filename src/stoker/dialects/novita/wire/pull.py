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
_pieces = msgspec.json.Decoder(list[msgspec.Raw])


def jobs_of(jobs: Sequence[Job], *, batch: bool) -> bytes:
    """One job, or a list of them."""
    shown = [_JobOut(job.id, msgspec.Raw(job.input), job.attempt, job.delivery) for job in jobs]
    return msgspec.json.encode(shown if batch else shown[0])


def said(body: bytes, *, streamed: bool = False) -> tuple[JobReport, bool]:
    """What a worker says of a job, and whether that is its end. `streamed`: its output is a list of what it has put out
    bit by bit, or an empty one. Raises `Invalid` for what is no JSON, as with NaN in it.
    """
    try:
        told = _said.decode(body)
        output = None if isinstance(told.output, msgspec.UnsetType) else bytes(told.output)
        pieces = tuple(line_of(bytes(piece)) for piece in _pieces.decode(output or b"[]")) if streamed else None
    except (msgspec.DecodeError, msgspec.ValidationError, RecursionError) as exc:
        raise Invalid(f"what the worker said is not JSON that can be kept: {exc}") from exc
    error = (
        told.error if told.error is None or isinstance(told.error, str) else msgspec.json.encode(told.error).decode()
    )
    report = JobReport(output=output, error=error, pieces=pieces, recycle=told.stop_pod is True)
    return report, told.status != IN_PROGRESS


def line_of(piece: bytes) -> bytes:
    """JSON in one line."""
    return msgspec.json.format(piece, indent=-1) if b"\n" in piece else piece
