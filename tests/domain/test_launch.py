"""What may be launched: everything else is refused, at its place."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from stoker.domain.errors import Invalid
from stoker.domain.launch import LaunchSpec


@pytest.mark.parametrize(
    ("make", "pointer"),
    [
        (lambda: LaunchSpec(), "/launch"),
        (lambda: LaunchSpec(model="m", image="i"), "/launch"),
        (lambda: LaunchSpec(model="m", command=("c",)), "/launch"),
        (lambda: LaunchSpec(image="i", parameters=("--p",)), "/launch/parameters"),
        (lambda: LaunchSpec(command=("a", "b\0")), "/launch/command/1"),
        (lambda: LaunchSpec(model="m", parameters=("x" * 8_193,)), "/launch/parameters/0"),
        (lambda: LaunchSpec(command=("c",), env={"1A": ""}), "/launch/env"),
        (lambda: LaunchSpec(command=("c",), env={"A\n": ""}), "/launch/env"),
        (lambda: LaunchSpec(command=("c",), env={"A=B": ""}), "/launch/env"),
        (lambda: LaunchSpec(command=("c",), env={"A": "\0"}), "/launch/env/A"),
        (lambda: LaunchSpec(command=("c",), port=0), "/launch/port"),
        (lambda: LaunchSpec(command=("c",), port=65_536), "/launch/port"),
    ],
)
def test_what_makes_no_sense_cannot_be_launched(make: Callable[[], object], pointer: str) -> None:
    with pytest.raises(Invalid) as caught:
        make()
    [problem] = caught.value.problems
    assert problem.pointer == pointer
    assert len(problem.detail) < 200


@pytest.mark.parametrize(
    "make",
    [
        lambda: LaunchSpec(image="i", command=("c",), port=65_535),
        lambda: LaunchSpec(command=("c",), env={"_a1": "\n\u2028"}),
    ],
)
def test_what_is_unusual_is_launched(make: Callable[[], object]) -> None:
    make()
