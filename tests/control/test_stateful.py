"""Whatever happens in whatever order: in the end everything is as it should be, and nothing was lost on the way."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from control.chaos import Chaos, Second, Wanted, chaos
from simulation import virtual
from stoker.domain.errors import Invalid, Unavailable

# Far more than any course of events takes: what is still going on then hangs.
LIMIT_S = 50_000.0


@dataclass(frozen=True)
class Act:
    """One thing that happens: a method of `Chaos` and what it is given. `pause_s` passes after it."""

    what: str
    given: tuple[Any, ...] = ()
    pause_s: float = 0.0


index = st.integers(0, 2)
wanted = st.builds(
    Wanted,
    low=st.integers(0, 2),
    high=st.integers(1, 3),
    slots=st.integers(1, 2),
    gpus=st.integers(0, 1),
    command=st.integers(1, 3),
    cold=st.sampled_from([0, 0, 1, 2]),
    second=st.none() | st.builds(Second, low=st.integers(0, 1), high=st.integers(0, 2), cold=st.integers(0, 1)),
)
which = st.integers(0, 1)
knobs = st.one_of(
    st.tuples(st.just("list_error"), st.sampled_from([None, Unavailable("no list")])),
    st.tuples(
        st.just("start_error"), st.sampled_from([None, None, Unavailable("not now"), Invalid("never"), OSError("disk")])
    ),
    st.tuples(st.just("exit_code"), st.sampled_from([None, None, 1])),
    st.tuples(st.just("list_lag_s"), st.sampled_from([0.0, 0.0, 4.0])),
    st.tuples(st.just("start_s"), st.sampled_from([0.0, 1.5])),
    st.tuples(st.just("stop_s"), st.sampled_from([0.0, 3.0])),
    st.tuples(st.just("deaf"), st.booleans()),
)


def _what(name: str, *given: st.SearchStrategy[Any]) -> st.SearchStrategy[tuple[str, tuple[Any, ...]]]:
    return st.tuples(st.just(name), st.tuples(*given))


what = st.one_of(
    _what("create", wanted),
    _what("update", index, wanted),
    _what("scale", index, st.sampled_from([None, 0, 1, 2, 3]), st.sampled_from([None, 5.0, 40.0])),
    _what("command", index, st.sampled_from(["stop", "start", "delete", "start"])),
    _what("request", index, st.sampled_from([0.5, 3.0, 20.0]), st.integers(1, 4)),
    _what("request", index, st.sampled_from([0.5, 3.0, 20.0]), st.integers(1, 4)),
    _what("crash", index),
    _what("vanish", index),
    _what("sicken", index),
    st.tuples(which, knobs).map(lambda given: ("machine", (given[0], *given[1]))),
    _what("flap", index),
    _what("flap", index),
    _what("cordon", which),
    _what("uncordon", which),
    _what("kill_control", st.sampled_from([0.0, 0.3, 10.0])),
    _what("silence"),
    _what("speak"),
)
acts = st.builds(
    lambda what, pause_s: Act(what[0], what[1], pause_s),
    what,
    st.sampled_from([0.0, 0.0, 0.01, 0.6, 2.2, 7.0, 25.0, 70.0]),
)


async def _play(happenings: list[Act]) -> None:
    async with chaos() as world:
        for act in happenings:
            await getattr(world, act.what)(*act.given)
            await world.wait(act.pause_s)
            assert world.wrongs_now() == []
        await world.calm()
        assert world.unrest() == []
        assert world.wrongs_now() == []


# In parts, so that none comes near the time that a test may take on a busy machine.
@pytest.mark.parametrize("part", range(4))
def test_whatever_happens_everything_comes_to_rest_and_no_request_is_lost(part: int) -> None:
    @settings(
        max_examples=10,
        deadline=None,
        database=None,
        phases=(Phase.explicit, Phase.generate),
        suppress_health_check=[HealthCheck.too_slow],
    )
    @given(wanted, st.lists(acts, min_size=5, max_size=15))
    def holds(first: Wanted, happenings: list[Act]) -> None:
        random.seed(part)
        virtual.run(_play([Act("create", (first,)), *happenings]), limit_s=LIMIT_S)

    holds()


def test_the_watch_sees_what_it_should_see() -> None:
    """A worker ended under a request, by somebody who asks nobody, is found out."""

    async def main() -> Chaos:
        async with chaos() as world:
            await world.create(Wanted(low=1))
            await world.wait(5)
            await world.request(0, 20.0, 1)
            [worker] = list(world.machines.workers)
            await world.machines.stop(worker, grace_s=0)
            return world

    assert virtual.run(main()).wrongs_now() != []
