"""What becomes of a task after an attempt, and of a webhook after a try: pure functions of the outcome and time.

Called by the dispatcher and the outbox in `stoker.queue`. Chance is an argument, between 0 and 1.
"""

from __future__ import annotations

from dataclasses import dataclass

from stoker.domain.pauses import doubled
from stoker.domain.queueing import RetryPolicy
from stoker.domain.task import Outcome, TaskState

# Leases that may come to nothing because control or a gateway died, beyond the attempts that workers had.
LOSSES_MAX = 20
# The wait for a worker that said itself when to come again has a bound, too.
RETRY_AFTER_S_MAX = 86_400.0
WEBHOOK_BACKOFF_S = 5.0
WEBHOOK_BACKOFF_S_MAX = 21_600.0
WEBHOOK_GIVE_UP_S = 86_400.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """The state that a task takes; a queued one is to be attempted no earlier than `not_before`."""

    state: TaskState
    reason: str = ""
    not_before: float | None = None


def retried(policy: RetryPolicy, outcome: Outcome, status: int | None) -> bool:
    """Is another attempt worth it after this one?

    >>> retried(RetryPolicy(), Outcome.ANSWERED, 503), retried(RetryPolicy(), Outcome.ANSWERED, 404)
    (True, False)
    """
    if outcome is Outcome.BROKEN:
        return "connection" in policy.retry_on
    if outcome is Outcome.TIMED_OUT:
        return "timeout" in policy.retry_on
    if outcome is not Outcome.ANSWERED or status is None or status < 400:
        return False
    return str(status) in policy.retry_on or f"{status // 100}xx" in policy.retry_on


def backoff_s(policy: RetryPolicy, attempts: int, chance: float) -> float:
    """The wait after so many attempts, in seconds."""
    whole = doubled(policy.backoff_s, attempts, max_s=policy.backoff_s_max)
    return whole * (0.5 + 0.5 * chance)


def after_attempt(
    policy: RetryPolicy,
    outcome: Outcome,
    *,
    status: int | None,
    reason: str,
    attempts: int,
    cancelling: bool,
    now: float,
    chance: float,
    told: bool = False,
    retry_after_s: float | None = None,
) -> Verdict:
    """What becomes of a task after an attempt that a worker had; `attempts` counts this one. An answer that was there
    before a cancellation took effect counts; not what a worker that was `told` of it says then.
    """
    if outcome is Outcome.ANSWERED and status is not None and status < 400 and not (cancelling and told):
        return Verdict(state=TaskState.SUCCEEDED)
    if cancelling or outcome is Outcome.ABORTED:
        return Verdict(state=TaskState.CANCELLED, reason=reason or "cancelled")
    why = reason or f"the worker answered with status {status}"
    if not retried(policy, outcome, status):
        return Verdict(state=TaskState.FAILED, reason=why)
    if attempts >= policy.attempts_max:
        return Verdict(state=TaskState.FAILED, reason=f"{why}, after {attempts} attempts")
    pause_s = backoff_s(policy, attempts, chance)
    if retry_after_s is not None:
        pause_s = max(pause_s, min(retry_after_s, RETRY_AFTER_S_MAX))
    return Verdict(state=TaskState.QUEUED, reason=why, not_before=now + pause_s)


def after_loss(
    *, attempts: int, deliveries: int, cancelling: bool, now: float, how: str = "with the gateway that had it"
) -> Verdict:
    """What becomes of a task whose attempt was lost: that is no fault of its own, and counts as no attempt, but not
    without end. `how` goes on with "lost".
    """
    if cancelling:
        return Verdict(state=TaskState.CANCELLED, reason="cancelled")
    if deliveries - attempts >= LOSSES_MAX:
        return Verdict(state=TaskState.FAILED, reason=f"lost {deliveries - attempts} times, the last time {how}")
    return Verdict(state=TaskState.QUEUED, reason=f"lost {how}", not_before=now)


def webhook_wait_s(tries: int, chance: float, retry_after_s: float | None = None) -> float:
    """The wait after so many tries of a webhook, in seconds: doubling, with jitter; at least what its receiver said."""
    whole = doubled(WEBHOOK_BACKOFF_S, tries, max_s=WEBHOOK_BACKOFF_S_MAX)
    pause_s = whole * (0.5 + 0.5 * chance)
    return max(pause_s, min(retry_after_s or 0.0, RETRY_AFTER_S_MAX))
