"""What an observation makes of a worker: the one place where a recorded worker moves on because of what was seen.

Pure; called by control's reconciler for every worker in every pass.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from stoker.domain.endpoint import Failures
from stoker.domain.worker import Observed, Worker, WorkerState

# A worker that was ready for this long proves that its launch works; one that ends sooner counts as a failed start.
STABLE_S = 10.0


@dataclass(frozen=True, slots=True)
class Sight:
    """One worker in one complete list of its provider, begun at `begun_at`; `observed` is `None` when it was absent."""

    begun_at: float
    observed: Observed | None


def advance(
    worker: Worker,
    sight: Sight | None,
    *,
    start_timeout_s: float,
    ready: bool,
    settled: bool,
    now: float,
) -> Worker:
    """`worker` as it stands now; the same object when nothing changed.

    `ready`: its startup probe has passed, for which it has `start_timeout_s`. `settled`: no start or stop of it is
    under way at the provider. An absence proves something only in a list begun after the start was acknowledged.
    """
    if worker.gone or worker.state is WorkerState.PENDING:
        return worker
    if sight is not None and sight.observed is not None and not sight.observed.running:
        return _ended(worker, sight.observed, now)
    absent = sight is not None and sight.observed is None and settled
    if worker.state is WorkerState.STOPPING:
        proven = absent and (worker.acknowledged_at is None or _after_start(worker, sight))
        return replace(worker, state=WorkerState.STOPPED, ended_at=now) if proven else worker
    if absent and worker.acknowledged_at is not None and _after_start(worker, sight):
        return replace(worker, state=WorkerState.FAILED, ended_at=now, reason="vanished from its provider")
    found = None if sight is None or sight.observed is None else sight.observed.address
    if found is not None and found != worker.address:
        # Its provider knows best: an address of its own is known only once it runs.
        worker = replace(worker, address=found)
    if worker.state is WorkerState.STARTING:
        return _started(worker, sight, start_timeout_s=start_timeout_s, ready=ready, now=now)
    return worker


def counts_from(worker: Worker, sight: Sight | None, *, now: float) -> float | None:
    """Since when the time counts that a starting worker has to become ready: what is fetched for it at its provider
    takes as long as it takes. Seconds since the epoch; `None` before its start.
    """
    observed = None if sight is None else sight.observed
    if worker.started_at is None or observed is None:
        return worker.started_at
    if observed.preparing:
        return now
    # Its provider's clock may be ahead of ours.
    return max(worker.started_at, min(observed.began_at or 0.0, now))


def _after_start(worker: Worker, sight: Sight | None) -> bool:
    return sight is not None and worker.acknowledged_at is not None and sight.begun_at > worker.acknowledged_at


def _started(worker: Worker, sight: Sight | None, *, start_timeout_s: float, ready: bool, now: float) -> Worker:
    if ready:
        return replace(worker, state=WorkerState.READY, ready_at=now, reason="")
    since = counts_from(worker, sight, now=now)
    if since is not None and now - since >= start_timeout_s:
        reason = f"not ready within {start_timeout_s:g} s"
        return replace(worker, state=WorkerState.STOPPING, reason=reason)
    preparing = "" if sight is None or sight.observed is None else sight.observed.preparing
    return worker if worker.reason == preparing else replace(worker, reason=preparing)


def _ended(worker: Worker, observed: Observed, now: float) -> Worker:
    code = None if observed.exit is None else observed.exit.code
    if worker.state is WorkerState.STOPPING:
        return replace(worker, state=WorkerState.STOPPED, ended_at=now, exit_code=code)
    reason = "ended" if observed.exit is None else observed.exit.reason
    return replace(worker, state=WorkerState.FAILED, ended_at=now, exit_code=code, reason=reason)


def failed_start(before: Worker, after: Worker) -> bool:
    """Did the step from `before` to `after` show that what this worker runs does not work?"""
    if before is after:
        return False
    if before.state is WorkerState.STARTING:
        return after.state in (WorkerState.FAILED, WorkerState.STOPPING)
    if before.state is WorkerState.READY and after.state is WorkerState.FAILED:
        return (
            after.ended_at is not None and before.ready_at is not None and after.ended_at - before.ready_at < STABLE_S
        )
    return False


def count_failures(failures: Failures, *, reasons: list[str], stable: bool, now: float) -> Failures:
    """The failures in a row after a pass that saw failed starts with these `reasons`, or a `stable` worker.

    Failures of one pass count once: ten workers that fail together say the same thing one does.
    """
    if reasons:
        return Failures(count=failures.count + 1, last_at=now, last_reason=reasons[-1])
    if stable and failures.count > 0:
        return Failures()
    return failures
