"""When an endpoint is looked at again though nothing happens."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builders import endpoint, worker
from stoker.domain.endpoint import Endpoint, EndpointId, Failures, Override
from stoker.domain.operation import Operation, OperationId, OperationKind, OperationState
from stoker.domain.worker import Worker, WorkerState
from stoker.policy.deadlines import ROOM_LOOK_S, next_look
from stoker.policy.lifecycle import STABLE_S

S = WorkerState
NOW = 1_000.0


def look(which: Endpoint, workers: list[Worker], *, until: tuple[float, ...] = (), room: bool = False) -> float | None:
    pending = [
        Operation(
            id=OperationId("o"),
            number=1,
            kind=OperationKind.CREATE,
            endpoint=EndpointId("e"),
            state=OperationState.PENDING,
            created_at=0.0,
            deadline_at=at,
            revision=1,
        )
        for at in until
    ]
    return next_look(which, workers, pending, start_timeout_s=lambda _: 600.0, room_wanted=room, now=NOW)


FAILING = {"default": Failures(count=1, last_at=NOW, last_reason="x")}


@pytest.mark.parametrize(
    ("which", "workers", "until", "room", "when"),
    [
        (endpoint(), [worker(1, S.READY, ready_at=990.0)], (), False, None),
        (endpoint(), [], (1_500.0, 1_200.0), False, 1_200.0),
        (endpoint(), [], (900.0,), False, None),
        (endpoint(), [], (), True, NOW + ROOM_LOOK_S),
        (replace(endpoint(), override=Override(workers=1, until=1_100.0)), [], (), False, 1_100.0),
        (replace(endpoint(), failures=FAILING), [], (), False, NOW + 1.0),
        (replace(endpoint(), failures=FAILING), [worker(1, S.READY, ready_at=980.0)], (), False, NOW + 1.0),
        (endpoint(), [worker(1, S.STARTING, started_at=990.0)], (), False, 1_590.0),
        (endpoint(), [worker(1, S.DRAINING, drain_deadline=1_050.0)], (), False, 1_050.0),
        (endpoint(), [worker(1, S.DRAINING, drain_deadline=NOW)], (1_001.0,), True, NOW),
    ],
)
def test_the_next_thing_to_come_decides(
    which: Endpoint, workers: list[Worker], until: tuple[float, ...], room: bool, when: float | None
) -> None:
    assert look(which, workers, until=until, room=room) == when


def test_a_worker_that_is_steady_ends_the_memory_of_failures() -> None:
    failing = replace(endpoint(), failures={"default": Failures(count=9, last_at=NOW, last_reason="x")})
    assert look(failing, [worker(1, S.READY, ready_at=999.0)]) == 999.0 + STABLE_S


@given(st.lists(st.floats(0, 2_000), max_size=4), st.lists(st.floats(1_000.1, 2_000), max_size=3), st.booleans())
def test_it_is_never_in_the_past_and_nothing_comes_before_it(
    until: list[float], deadlines: list[float], room: bool
) -> None:
    workers = [worker(n, S.DRAINING, drain_deadline=at) for n, at in enumerate(deadlines, start=1)]
    when = look(endpoint(), workers, until=tuple(until), room=room)
    later = [at for at in (*until, *deadlines) if at > NOW]
    assert when is None or when > NOW
    assert (when is None) == (not later and not room)
    assert when is None or all(when <= at for at in later)
