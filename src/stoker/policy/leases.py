"""When a worker that took a task has it no longer: a pure function of what was heard of both, and time.

Called by `stoker.queue.pulls`. All times are seconds in one clock.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Fate(Enum):
    """How a job ends without its worker's word. ENDED: the worker is gone. SILENT: nobody hears of the worker.
    TIMED_OUT: it takes longer than it may. STOPPED: it was to be given up. FORGOTTEN: the worker is there, and does not
    say that it has it: it never arrived, or what came of it was lost on its way.
    """

    ENDED = "ended"
    SILENT = "silent"
    TIMED_OUT = "timed_out"
    STOPPED = "stopped"
    FORGOTTEN = "forgotten"


@dataclass(frozen=True, slots=True, kw_only=True)
class Heard:
    """What is known of a job: when it began, when its worker last spoke of it, and of anything; when it was asked to
    give it up.
    """

    began_at: float
    named_at: float
    worker_at: float
    asked_at: float | None = None


def fate(heard: Heard, *, gone: bool, lease_s: float, execution_timeout_s: float, now: float) -> Fate | None:
    """What has become of the job; `None` as long as its worker has it. `gone`: the worker has ended."""
    if heard.asked_at is not None and (gone or now - heard.asked_at >= lease_s):
        return Fate.STOPPED
    if gone:
        return Fate.ENDED
    if now - heard.began_at >= execution_timeout_s:
        return Fate.TIMED_OUT
    if now - heard.worker_at >= lease_s:
        return Fate.SILENT
    if now - heard.named_at >= lease_s:
        return Fate.FORGOTTEN
    return None
