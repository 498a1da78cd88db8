"""What becomes of a task after an attempt: decided, recorded with its webhook, told to whoever waits.

Called by everything that has attempts under way, whether gateways make them or workers took them.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from typing import Final

from stoker.domain.task import Outcome, Task, TaskState
from stoker.domain.usage import RequestUsage, failed
from stoker.policy.accounting import hour_of
from stoker.policy.retries import Verdict, after_attempt, after_loss
from stoker.queue.attempts import Seen, Sight
from stoker.queue.ends import Ends
from stoker.queue.recorder import Recorder, Used
from stoker.queue.spool import Spool
from stoker.store.base import Store
from stoker.store.hot.base import EndRow
from stoker.store.usage import RequestsOf

_TIMEOUTS: Final = frozenset({"total_timeout", "first_byte_timeout", "idle_timeout"})
_WITH_GATEWAY: Final = "with the gateway that had it"


class Conclusions:
    """One for all queues."""

    def __init__(
        self,
        store: Store,
        spool: Spool,
        ends: Ends,
        *,
        clock: Callable[[], float],
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._spool = spool
        self._ends = ends
        self._clock = clock
        self._chance = chance
        self._recorder = Recorder(store)

    async def record(
        self,
        task: Task,
        sight: Sight,
        *,
        began_at: float,
        cancelling: bool,
        told: bool = False,
        lost: str = _WITH_GATEWAY,
        counted: bool = False,
    ) -> Verdict | None:
        """The verdict, when it is that the task is queued again. `told`: its worker knows that it is cancelled. `lost`
        says how, of what is UNKNOWN. `counted`: it is a request that no gateway reports.

        Raises what the store raises: then nothing is recorded.
        """
        now = self._clock()
        outcome = _outcome_of(sight)
        attempts = task.attempts + (outcome is not None)
        if outcome is None:
            verdict = after_loss(
                attempts=task.attempts, deliveries=task.deliveries, cancelling=cancelling, now=now, how=lost
            )
        else:
            verdict = after_attempt(
                task.retries,
                outcome,
                status=sight.status,
                reason=sight.reason,
                attempts=attempts,
                cancelling=cancelling,
                told=told,
                now=now,
                chance=self._chance(),
                retry_after_s=sight.retry_after_s,
            )
        ended = replace(
            task,
            state=verdict.state,
            attempts=attempts,
            status=sight.status,
            reason=verdict.reason[:1_000],
            not_before=verdict.not_before or task.not_before,
            ended_at=now if verdict.state.final else None,
            result=sight.body if verdict.state.final else None,
            result_type=sight.content_type if verdict.state.final else None,
        )
        recorded = await self._recorder.record(
            _row_of(ended, outcome, began_at=began_at, now=now),
            self._ends.delivery(ended) if verdict.state.final else None,
            _used(ended, outcome, now) if counted and outcome is not None else None,
        )
        if sight.body is not None and sight.body.file is not None and not (recorded and verdict.state.final):
            await self._spool.remove([sight.body.file])
        if recorded and verdict.state.final:
            self._ends.announce(ended)
        return verdict if recorded and verdict.state is TaskState.QUEUED else None


def _outcome_of(sight: Sight) -> Outcome | None:
    """`None` for what was no attempt: it was lost with its gateway."""
    if sight.seen is Seen.ANSWERED:
        return Outcome.ANSWERED
    if sight.seen is not Seen.FAILED or sight.reason == "gateway_stopped":
        return None
    if sight.reason == "aborted":
        return Outcome.ABORTED
    return Outcome.TIMED_OUT if sight.reason in _TIMEOUTS else Outcome.BROKEN


def _used(task: Task, outcome: Outcome, now: float) -> Used:
    broken = outcome in (Outcome.BROKEN, Outcome.TIMED_OUT) or (task.status is not None and failed(task.status))
    # As gateways report attempts: nobody's key came with it.
    return RequestsOf(hour_of(now), task.project, task.endpoint, ""), RequestUsage(requests=1, errors=int(broken))


def _row_of(ended: Task, outcome: Outcome | None, *, began_at: float, now: float) -> EndRow:
    assert ended.lease is not None
    result = ended.result
    return EndRow(
        number=ended.number,
        lease=ended.lease,
        state=ended.state.value,
        not_before=ended.not_before,
        ended_at=ended.ended_at,
        forget_at=None if ended.ended_at is None else ended.ended_at + ended.retention_s,
        attempts=ended.attempts,
        status=ended.status,
        worker=ended.worker,
        reason=ended.reason,
        result_type=ended.result_type,
        result_size=None if result is None else result.size,
        result_file=None if result is None else result.file,
        result=None if result is None else result.inline,
        outcome=None if outcome is None else outcome.value,
        began_at=began_at,
        at=now,
    )
