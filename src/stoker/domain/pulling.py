"""What passes between Stoker and workers that ask for tasks themselves: jobs, and what became of them."""

from __future__ import annotations

import json
from dataclasses import dataclass

REASON_CHARS_MAX = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A task as it is handed to a worker. `input` is JSON; `attempt` and `delivery` count from 1."""

    id: str
    input: bytes
    attempt: int
    delivery: int


@dataclass(frozen=True, slots=True, kw_only=True)
class JobReport:
    """What a worker says of the end of a job: an output (JSON; `None`: it has none), or an error. `pieces`: it
    has put out the output bit by bit, in these pieces, or, when there are none, in those that it told before; each is
    JSON in one line. `recycle`: it wants to be replaced by a new worker.
    """

    output: bytes | None = None
    error: str | None = None
    pieces: tuple[bytes, ...] | None = None
    recycle: bool = False


def is_input(body: bytes) -> bool:
    """Can a job have it? It is JSON, or nothing at all."""
    if not body:
        return True
    try:
        json.loads(body.decode(), parse_constant=_no_constant)
    except (ValueError, RecursionError):
        return False
    return True


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON")


def cause_of(error: str) -> str:
    """An error in one line. Packages of workers put an exception into JSON of its own.

    >>> cause_of('{"error_type": "<class \\'ValueError\\'>", "error_message": "no such voice"}')
    'ValueError: no such voice'
    """
    text = error
    try:
        told = json.loads(error)
    except (ValueError, RecursionError):
        told = None
    if isinstance(told, dict) and isinstance(told.get("error_message"), str):
        kind = str(told.get("error_type", "")).removeprefix("<class '").removesuffix("'>")
        text = f"{kind}: {told['error_message']}" if kind else told["error_message"]
    return text.strip()[:REASON_CHARS_MAX] or "the handler failed"
