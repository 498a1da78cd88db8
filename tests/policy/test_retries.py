"""What becomes of a task after an attempt: final or tried again, never too soon, never without end."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from stoker.domain.queueing import RetryPolicy
from stoker.domain.task import TRANSITIONS, Outcome, TaskState
from stoker.policy.retries import (
    LOSSES_MAX,
    RETRY_AFTER_S_MAX,
    WEBHOOK_BACKOFF_S_MAX,
    after_attempt,
    after_loss,
    backoff_s,
    retried,
    webhook_wait_s,
)

policies = st.builds(
    RetryPolicy,
    attempts_max=st.integers(1, 100),
    backoff_s=st.floats(0, 86_400),
    backoff_s_max=st.floats(0, 86_400),
    retry_on=st.lists(
        st.sampled_from(["408", "429", "5xx", "4xx", "500", "connection", "timeout"]), max_size=7, unique=True
    ).map(tuple),
)
statuses = st.one_of(st.none(), st.integers(200, 599))
chances = st.floats(0, 1)


@given(
    policy=policies,
    outcome=st.sampled_from(Outcome),
    status=statuses,
    attempts=st.integers(1, 200),
    cancelling=st.booleans(),
    told=st.booleans(),
    chance=chances,
    retry_after_s=st.one_of(st.none(), st.floats(0, 1e12)),
)
def test_a_verdict_is_a_legal_state_and_more_attempts_than_allowed_are_never_made(
    policy: RetryPolicy,
    outcome: Outcome,
    status: int | None,
    attempts: int,
    cancelling: bool,
    told: bool,
    chance: float,
    retry_after_s: float | None,
) -> None:
    verdict = after_attempt(
        policy,
        outcome,
        status=status,
        reason="",
        attempts=attempts,
        cancelling=cancelling,
        told=told,
        now=1_000.0,
        chance=chance,
        retry_after_s=retry_after_s,
    )
    assert verdict.state in TRANSITIONS[TaskState.RUNNING]
    if verdict.state is TaskState.QUEUED:
        assert attempts < policy.attempts_max
        assert not cancelling
        assert retried(policy, outcome, status)
        assert verdict.not_before is not None
        assert 1_000.0 <= verdict.not_before <= 1_000.0 + max(policy.backoff_s_max, RETRY_AFTER_S_MAX)
        assert verdict.not_before >= 1_000.0 + min(retry_after_s or 0.0, RETRY_AFTER_S_MAX)
    if outcome is Outcome.ANSWERED and status is not None and status < 400 and not (cancelling and told):
        assert verdict.state is TaskState.SUCCEEDED, "an answer that was there before a cancellation counts"
    elif cancelling:
        assert verdict.state is TaskState.CANCELLED


@given(policy=policies, attempts=st.integers(0, 10_000), chance=chances)
def test_a_wait_is_within_half_and_all_of_its_bound_and_grows(
    policy: RetryPolicy, attempts: int, chance: float
) -> None:
    wait_s = backoff_s(policy, attempts, chance)
    whole = backoff_s(policy, attempts, 1.0)
    assert whole / 2 <= wait_s <= whole <= policy.backoff_s_max
    assert backoff_s(policy, attempts + 1, 1.0) >= whole


def test_by_default_the_callers_mistakes_are_final_and_the_workers_are_not() -> None:
    policy = RetryPolicy()
    for status in (400, 401, 404, 409, 422):
        assert not retried(policy, Outcome.ANSWERED, status)
    for status in (408, 425, 429, 500, 502, 503, 599):
        assert retried(policy, Outcome.ANSWERED, status)
    assert retried(policy, Outcome.BROKEN, None)
    assert not retried(policy, Outcome.TIMED_OUT, None)
    assert retried(RetryPolicy(retry_on=("timeout",)), Outcome.TIMED_OUT, None)
    assert not retried(RetryPolicy(retry_on=("timeout",)), Outcome.ANSWERED, 500)


@given(attempts=st.integers(0, 100), losses=st.integers(0, 100), cancelling=st.booleans())
def test_losses_cost_no_attempt_but_end_some_day(attempts: int, losses: int, cancelling: bool) -> None:
    verdict = after_loss(attempts=attempts, deliveries=attempts + losses, cancelling=cancelling, now=5.0)
    if cancelling:
        assert verdict.state is TaskState.CANCELLED
    else:
        assert verdict.state is (TaskState.FAILED if losses >= LOSSES_MAX else TaskState.QUEUED)


@given(tries=st.integers(1, 10_000), chance=chances, said=st.one_of(st.none(), st.floats(0, 1e9)))
def test_a_webhook_waits_at_least_as_long_as_its_receiver_says(tries: int, chance: float, said: float | None) -> None:
    wait_s = webhook_wait_s(tries, chance, said)
    assert wait_s >= min(said or 0.0, RETRY_AFTER_S_MAX)
    assert 2.5 <= wait_s <= max(WEBHOOK_BACKOFF_S_MAX, RETRY_AFTER_S_MAX)
