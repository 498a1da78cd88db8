"""When a worker has a job no longer, though it said nothing of it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stoker.policy.leases import Fate, Heard, fate

ROW = {"began_at": 0.0, "named_at": 50.0, "worker_at": 55.0}


def of(*, gone: bool = False, now: float = 60.0, **more: float) -> Fate | None:
    return fate(Heard(**{**ROW, **more}), gone=gone, lease_s=30, execution_timeout_s=100, now=now)


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        pytest.param(of(), None, id="named a moment ago"),
        pytest.param(of(gone=True), Fate.ENDED, id="its worker is gone"),
        pytest.param(of(now=100.0, named_at=99.0, worker_at=99.0), Fate.TIMED_OUT, id="too long"),
        pytest.param(of(now=85.0, named_at=50.0), Fate.SILENT, id="a worker that says nothing at all"),
        pytest.param(of(now=80.0, worker_at=79.0), Fate.FORGOTTEN, id="a worker that speaks of other things"),
        pytest.param(of(now=89.0, named_at=88.0, worker_at=88.0, asked_at=60.0), None, id="asked to give it up"),
        pytest.param(of(now=90.0, named_at=88.0, worker_at=88.0, asked_at=60.0), Fate.STOPPED, id="and did not"),
        pytest.param(of(gone=True, asked_at=60.0), Fate.STOPPED, id="asked to give it up, and gone"),
    ],
)
def test_what_has_become_of_a_job(found: Fate | None, expected: Fate | None) -> None:
    assert found is expected


TIMES = st.floats(0, 1_000)


@given(TIMES, TIMES, TIMES, st.none() | TIMES, st.booleans(), st.floats(3, 100), st.floats(1, 1_000), TIMES)
def test_a_job_is_held_only_by_a_worker_that_is_there_and_speaks_of_it(
    began: float,
    named: float,
    heard: float,
    asked: float | None,
    gone: bool,
    lease_s: float,
    timeout_s: float,
    now: float,
) -> None:
    known = Heard(began_at=began, named_at=named, worker_at=heard, asked_at=asked)
    found = fate(known, gone=gone, lease_s=lease_s, execution_timeout_s=timeout_s, now=now)
    held = (
        not gone
        and now - named < lease_s
        and now - heard < lease_s
        and now - began < timeout_s
        and (asked is None or now - asked < lease_s)
    )
    assert (found is None) is held
    assert (found is Fate.STOPPED) <= (asked is not None), "nothing is cancelled that nobody cancelled"


@given(TIMES, st.floats(3, 100))
def test_what_lapsed_stays_lapsed(later: float, lease_s: float) -> None:
    known = Heard(began_at=0, named_at=0, worker_at=0)
    fates = [
        fate(known, gone=False, lease_s=lease_s, execution_timeout_s=10_000, now=now)
        for now in (lease_s, lease_s + later)
    ]
    assert None not in fates
