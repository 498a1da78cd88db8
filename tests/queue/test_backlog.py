"""The queue as scaling sees it: each task counted in one place, ages and rates of what there is."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from stoker.domain.endpoint import EndpointId
from stoker.domain.task import QueueDemand, TaskState
from stoker.queue.backlog import RATE_S, Backlog

E = EndpointId("e")


def test_a_task_is_queued_or_runs_and_what_waits_for_its_next_attempt_is_not_ready() -> None:
    backlog = Backlog()
    backlog.added(E, 3, 100.0)
    backlog.started(E, [1])
    assert backlog.demand(E, 104.0) == QueueDemand(
        queued=2, ready=2, running=1, oldest_age_s=4.0, arrivals_per_s=3 / RATE_S, came=3, begun=1
    )
    backlog.stopped(E)
    backlog.returned(E, 1, not_before=120.0)
    after = backlog.demand(E, 104.0)
    assert (after.came, after.begun, after.stopped) == (4, 1, 1), "one that comes back comes once more"
    assert (backlog.demand(E, 104.0).queued, backlog.demand(E, 104.0).ready) == (3, 2)
    assert backlog.demand(E, 120.0).ready == 3
    backlog.paused.add(E)
    assert backlog.demand(E, 120.0).ready == 0


def test_the_oldest_is_what_was_looked_up_and_nothing_waiting_has_no_age() -> None:
    backlog = Backlog()
    assert backlog.demand(E, 0.0).oldest_age_s is None
    backlog.added(E, 1, 10.0)
    backlog.oldest(E, 5.0)
    assert backlog.demand(E, 11.0).oldest_age_s == 6.0
    backlog.started(E, [1])
    assert backlog.demand(E, 11.0).oldest_age_s is None
    backlog.added(E, 1, 12.0)
    assert backlog.demand(E, 12.0).oldest_age_s == 0.0


@given(st.lists(st.tuples(st.floats(0, 500), st.integers(1, 9)), max_size=60))
def test_the_rate_of_arrivals_is_that_of_the_last_minute_and_its_memory_is_bounded(
    arrivals: list[tuple[float, int]],
) -> None:
    backlog, now = Backlog(), 0.0
    for at, count in sorted(arrivals):
        now = at
        backlog.added(E, count, now)
    counted = backlog.demand(E, now).arrivals_per_s * RATE_S
    surely = sum(count for at, count in arrivals if now - at <= RATE_S - 1)
    perhaps = sum(count for at, count in arrivals if now - at <= RATE_S + 1)
    assert surely - 1e-6 <= counted <= perhaps + 1e-6
    assert backlog.demand(E, now + 10 * RATE_S).arrivals_per_s == 0


def test_what_has_ended_is_counted_over_restarts_as_long_as_it_is_kept() -> None:
    backlog = Backlog()
    backlog.load({}, (), set(), {("e", TaskState.SUCCEEDED): 7})
    backlog.added(E, 2, 0.0)
    backlog.final(E, TaskState.SUCCEEDED)
    backlog.final(E, TaskState.EXPIRED)
    assert backlog.kept(E) == {TaskState.SUCCEEDED: 8, TaskState.EXPIRED: 1}
    totals = backlog.totals(E, 0.0)
    assert (totals.arrived, totals.ended[TaskState.SUCCEEDED], totals.ended[TaskState.FAILED]) == (2, 1, 0)
    backlog.forgotten({("e", TaskState.SUCCEEDED): 5})
    assert backlog.kept(E)[TaskState.SUCCEEDED] == 3
    assert backlog.totals(E, 0.0).ended == totals.ended, "what was counted goes on"
