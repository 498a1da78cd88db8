"""The rule of the HPA."""

from __future__ import annotations

import pytest

from stoker.simulate.rules.kubernetes import hpa


@pytest.mark.parametrize(
    ("present", "target", "current", "expected"),
    [
        pytest.param(8, 0.5, 1, 16, id="as many as the target needs"),
        pytest.param(2.9, 2.8, 1, 1, id="a difference within the tolerance changes nothing"),
        pytest.param(0, 2.8, 5, 1, id="never to zero"),
    ],
)
def test_the_recommendation_is_in_proportion(present: float, target: float, current: int, expected: int) -> None:
    assert hpa(present, target, current) == expected
