"""Which workers a changed spec leaves as they are."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builders import endpoint
from stoker.domain.endpoint import Endpoint, EndpointSpec, Failures, PoolSpec, Revision, ScaleBounds
from stoker.domain.hardware import HardwareRequest
from stoker.domain.launch import Launch
from stoker.domain.probe import Probe, Probes
from stoker.policy.revisions import revise

OLD = Launch(engine=None, command=("run",))
NEW = Launch(engine=None, command=("run", "2"))
FAILED = Failures(count=2, last_at=1.0, last_reason="x")


def changed(spec: EndpointSpec, launch: Launch = OLD, *earlier: Revision) -> Endpoint:
    before = endpoint(failures=FAILED)
    return revise(before, spec, {pool.name: launch for pool in spec.pools}, earlier, now=9.0)


def test_a_change_that_no_worker_depends_on_keeps_all_of_them_and_what_is_known_of_failures() -> None:
    spec = endpoint().spec
    for other in (
        replace(spec, name="other"),
        replace(spec, labels={"a": "b"}),
        replace(spec, pools=(replace(spec.pools[0], hardware=HardwareRequest(price_max=1.0)),)),
    ):
        after = changed(other)
        assert (after.revision, after.launched, after.updated_at) == (2, 1, 9.0)
        assert after.runs("default", 1)
        assert after.failures == {"default": FAILED}


def test_other_bounds_keep_workers_and_are_another_try() -> None:
    after = changed(replace(endpoint().spec, pools=(PoolSpec(bounds=ScaleBounds(min=1, max=9)),)))
    assert (after.launched, after.runs("default", 1), after.failures) == (1, True, {})


@pytest.mark.parametrize(
    "spec",
    [
        pytest.param(replace(endpoint().spec, slots=7), id="requests at once"),
        pytest.param(replace(endpoint().spec, probes=Probes(liveness=Probe(path="/live"))), id="how it is probed"),
        pytest.param(replace(endpoint().spec, pools=(PoolSpec(provider="other"),)), id="where it runs"),
        pytest.param(replace(endpoint().spec, pools=(PoolSpec(hardware=HardwareRequest(gpu_count=1)),)), id="hardware"),
    ],
)
def test_a_change_that_workers_depend_on_replaces_them(spec: EndpointSpec) -> None:
    after = changed(spec)
    assert not after.runs("default", 1)
    assert (after.launched, after.failures) == (2, {})


def test_one_pool_may_change_alone() -> None:
    two = replace(endpoint().spec, pools=(PoolSpec(), PoolSpec(name="more")))
    before = replace(endpoint(), spec=two, launches={"default": OLD, "more": OLD})
    after = revise(before, two, {"default": OLD, "more": NEW}, (), now=1.0)
    assert (after.runs("default", 1), after.runs("more", 1), after.launched) == (True, False, 2)


@given(st.lists(st.sampled_from([OLD, NEW]), min_size=1, max_size=6))
def test_going_back_keeps_whoever_still_runs_the_same(launches: list[Launch]) -> None:
    current = endpoint()
    earlier: list[Revision] = []
    for launch in launches:
        following = revise(current, current.spec, {"default": launch}, earlier, now=1.0)
        earlier.append(current.as_revision())
        current = following
    history = {r.number: r.launches["default"] for r in (*earlier, current.as_revision())}
    for number, launch in history.items():
        assert current.runs("default", number) == (launch == launches[-1])
