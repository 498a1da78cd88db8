"""Which output goes: the old, the too much, and that of what is forgotten."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from stoker.domain.endpoint import EndpointId
from stoker.domain.logging import Logging
from stoker.domain.worker import WorkerId
from stoker.policy.retention import Output, outdated

E, F = EndpointId("e"), EndpointId("f")


@given(
    st.lists(st.tuples(st.sampled_from((E, F, None)), st.integers(0, 100), st.floats(0, 1_000)), max_size=30),
    st.floats(0, 1_000),
    st.integers(0, 500),
)
def test_what_stays_is_young_and_within_the_bytes_and_of_what_is_known(
    given_: list[tuple[EndpointId | None, int, float]], retention_s: float, bytes_max: int
) -> None:
    outputs = [Output(WorkerId(f"w{i}"), size, at) for i, (_, size, at) in enumerate(given_)]
    endpoints = {WorkerId(f"w{i}"): e for i, (e, _, _) in enumerate(given_) if e is not None}
    # F is deleted: its workers are remembered for a moment longer.
    rules = {E: Logging(retention_s=retention_s, bytes_max=bytes_max)}
    gone = outdated(outputs, endpoints=endpoints, rules=rules, now=1_000)
    stay = [output for output in outputs if output.worker not in gone]
    assert all(endpoints.get(output.worker) == E for output in stay)
    assert all(1_000 - output.at <= retention_s for output in stay)
    assert sum(output.bytes for output in stay) <= bytes_max
    young = [o for o in outputs if endpoints.get(o.worker) == E and 1_000 - o.at <= retention_s]
    if sum(o.bytes for o in outputs if endpoints.get(o.worker) == E) <= bytes_max:
        assert stay == young, "nothing goes without a reason"


def test_the_newest_stay() -> None:
    outputs = [Output(WorkerId(name), 10, at) for name, at in (("old", 1.0), ("new", 3.0), ("middle", 2.0))]
    gone = outdated(
        outputs,
        endpoints=dict.fromkeys((output.worker for output in outputs), E),
        rules={E: Logging(bytes_max=20)},
        now=4.0,
    )
    assert gone == {"old"}
