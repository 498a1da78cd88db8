"""What one worker has become by what a pass knows of it: its provider's list, probes, what it says itself.

Pure; `stoker.policy.lifecycle` knows what a list proves, this what else was heard.
"""

from __future__ import annotations

from dataclasses import replace

from stoker.control.facts import Facts
from stoker.domain.endpoint import Rollout
from stoker.domain.worker import Worker, WorkerState
from stoker.policy.lifecycle import advance


def seen(worker: Worker, facts: Facts, rollout: Rollout) -> Worker:
    """The worker as it stands by these facts; the same object when nothing changed."""
    if worker.state is WorkerState.COLD and worker.id in facts.refused:
        return replace(worker, state=WorkerState.STOPPING, reason=facts.refused[worker.id])
    if worker.state is WorkerState.STARTING and worker.id in facts.refused:
        return replace(worker, state=WorkerState.FAILED, ended_at=facts.now, reason=facts.refused[worker.id])
    after = advance(
        worker,
        facts.sights.get(worker.id),
        start_timeout_s=facts.probes[worker.id].start_timeout_s,
        ready=worker.id in facts.ready,
        settled=worker.id in facts.settled,
        now=facts.now,
    )
    if after.state is WorkerState.FAILED and after.id in facts.tails and facts.tails[after.id]:
        after = replace(after, reason=f"{after.reason}; its last output:\n{facts.tails[after.id]}")
    if after.state is WorkerState.STARTING and worker.id in facts.unhealthy:
        after = replace(after, state=WorkerState.STOPPING, reason=facts.unhealthy[worker.id])
    if after.state is WorkerState.READY and worker.id in facts.unhealthy:
        after = draining(after, f"unhealthy: {facts.unhealthy[worker.id]}", facts, rollout)
    if after.state is WorkerState.READY and (leaving := facts.leaving(after)):
        after = draining(after, leaving, facts, rollout)
    if after.state is WorkerState.READY and after.unready != facts.unready.get(worker.id, after.unready):
        after = replace(after, unready=facts.unready[worker.id])
    return after


def draining(worker: Worker, reason: str, facts: Facts, rollout: Rollout) -> Worker:
    """It gets no more requests, and has the rollout's time for those that it has."""
    limit_s = 0.0 if facts.hurried else rollout.drain_timeout_s
    return replace(worker, state=WorkerState.DRAINING, reason=reason, drain_deadline=facts.now + limit_s)
