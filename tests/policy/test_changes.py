"""Differences between documents."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from stoker.domain.views import FieldChange
from stoker.policy.changes import differences

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=10,
)


def test_lists_of_objects_are_compared_one_by_one_and_plain_lists_as_a_whole() -> None:
    before = {"pools": [{"max": 1}], "command": ["a", "b"], "x/y": 1}
    after = {"pools": [{"max": 2}, {"max": 3}], "command": ["a", "c"]}
    assert differences(before, after) == (
        FieldChange("/pools/0/max", 1, 2),
        FieldChange("/pools/1", None, {"max": 3}),
        FieldChange("/command", ["a", "b"], ["a", "c"]),
        FieldChange("/x~1y", 1, None),
    )


@given(values)
def test_nothing_differs_from_itself(value: Any) -> None:
    assert differences(value, value) == ()


@given(
    st.dictionaries(st.text(max_size=4), values, max_size=4), st.dictionaries(st.text(max_size=4), values, max_size=4)
)
def test_what_differs_is_found_unless_it_is_only_an_absent_null(before: dict[str, Any], after: dict[str, Any]) -> None:
    def known(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: known(item) for key, item in value.items() if item is not None}
        return [known(item) for item in value] if isinstance(value, list) else value

    if known(before) != known(after):
        assert differences(before, after)
