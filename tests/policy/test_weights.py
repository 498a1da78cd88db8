"""What to do about weights."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stoker.domain.endpoint import ProjectId
from stoker.domain.models import ModelSource, SourceKind, Weights, WeightsKey, WeightsState
from stoker.policy.weights import BACKOFF_MAX_S, due, hold_of, retry_at, room, steps, wants

SOURCE = ModelSource(kind=SourceKind.URL, location="https://x.test/m.gguf")
ABSENT = Weights(
    key=WeightsKey("k"),
    source=SOURCE,
    sha256=None,
    project=ProjectId(1),
    token_secret=None,
    state=WeightsState.ABSENT,
    asked=False,
    used_at=0.0,
)
FAILED = replace(ABSENT, state=WeightsState.FAILED, error="no", failures=1)


@given(failures=st.integers(1, 10_000), after_s=st.none() | st.floats(0, 1e9), now=st.floats(0, 1e9))
def test_tries_are_further_and_further_apart_but_never_too_far(
    failures: int, after_s: float | None, now: float
) -> None:
    first, second = (retry_at(n, now=now, after_s=after_s) for n in (failures, failures + 1))
    assert now < first <= second <= now + BACKOFF_MAX_S


def test_a_server_that_asks_for_a_pause_gets_it() -> None:
    assert retry_at(1, now=10.0, after_s=60.0) == 70.0


@pytest.mark.parametrize(
    ("weights", "wanted", "expected"),
    [
        pytest.param(ABSENT, True, True, id="wanted"),
        pytest.param(ABSENT, False, False, id="wanted by nobody"),
        pytest.param(replace(ABSENT, asked=True), False, True, id="asked for"),
        pytest.param(replace(ABSENT, state=WeightsState.DOWNLOADING), True, True, id="left behind by a dead control"),
        pytest.param(replace(ABSENT, state=WeightsState.READY), True, False, id="here"),
        pytest.param(FAILED, True, False, id="failed for good"),
        pytest.param(replace(FAILED, retry_at=99.0), True, True, id="failed, and it is time"),
        pytest.param(replace(FAILED, retry_at=101.0), True, False, id="failed a moment ago"),
    ],
)
def test_what_is_fetched_now(weights: Weights, wanted: bool, expected: bool) -> None:
    assert due(weights, wanted=wanted, now=100.0) is expected


def test_an_endpoint_at_rest_wants_weights_once_and_takes_them_back_from_nobody() -> None:
    assert wants(ABSENT, desired=0, fetched_before=False)
    assert not wants(ABSENT, desired=0, fetched_before=True)
    assert wants(ABSENT, desired=1, fetched_before=True)
    assert wants(replace(ABSENT, state=WeightsState.DOWNLOADING), desired=0, fetched_before=True)


KEYS = st.integers(0, 7).map(lambda n: WeightsKey(f"k{n}"))


@given(
    kept=st.dictionaries(KEYS, st.tuples(st.floats(0, 100), st.integers(0, 50))),
    protected=st.frozensets(KEYS),
    missing=st.integers(-10, 300),
)
def test_room_is_made_by_the_least_recently_used_and_never_by_what_is_protected(
    kept: dict[WeightsKey, tuple[float, int]], protected: frozenset[WeightsKey], missing: int
) -> None:
    weights = [replace(ABSENT, key=key, used_at=used_at) for key, (used_at, _) in kept.items()]
    sizes = {key: size for key, (_, size) in kept.items()}
    chosen = room(weights, sizes, missing_bytes=missing, protected=protected)
    free = {key: size for key, size in sizes.items() if key not in protected}
    if chosen is None:
        assert sum(free.values()) < missing
        return
    assert not set(chosen) & protected
    assert sum(sizes[key] for key in chosen) >= missing
    # Without the last one it would not have been enough, and none that stays was used longer ago.
    assert not chosen or sum(sizes[key] for key in chosen[:-1]) < missing
    stays = [kept[key][0] for key, size in free.items() if key not in chosen and size > 0]
    assert all(kept[key][0] <= used_at for key in chosen for used_at in stays)


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [(None, 0, None), (None, 9, None), (None, 10, 10), (9, 31, 30), (30, 39, None), (95, 100, None), (5, None, None)],
)
def test_every_ten_per_cent_are_told_once(before: int | None, after: int | None, expected: int | None) -> None:
    assert steps(before, after) == expected


@given(percents=st.lists(st.integers(0, 100), max_size=40).map(sorted))
def test_no_step_is_told_twice(percents: list[int]) -> None:
    told = [step for a, b in zip([None, *percents], percents, strict=False) if (step := steps(a, b)) is not None]
    assert told == sorted(set(told))


def test_what_an_endpoint_waits_for_is_said() -> None:
    half = replace(ABSENT, state=WeightsState.DOWNLOADING, done_bytes=43, total_bytes=100)
    cases = [
        (None, "not in the catalogue", True),
        (ABSENT, "downloading model m", False),
        (half, "downloading model 43 %", False),
        (FAILED, "cannot be fetched: no", True),
        (replace(FAILED, retry_at=130.0), "next try in 30 s: no", False),
    ]
    for weights, text, failed in cases:
        hold = hold_of(weights, "m", rate_bytes_per_s=None, now=100.0)
        assert hold is not None
        assert text in hold.reason
        assert (hold.failed, hold.left_s) == (failed, None)
    assert hold_of(replace(ABSENT, state=WeightsState.READY), "m", rate_bytes_per_s=None, now=0) is None
    hold = hold_of(half, "m", rate_bytes_per_s=3.0, now=0)
    assert hold is not None
    assert hold.left_s == 19.0
