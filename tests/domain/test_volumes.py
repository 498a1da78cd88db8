"""Volumes that refuse to exist when they make no sense."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stoker.domain.errors import Invalid
from stoker.domain.volumes import VolumeMount, check_mounts, check_volume, variable_of


@pytest.mark.parametrize("name", ["", "A", "a_b", "-a", "a-", "7", "a" * 64, "a/b", ".."])
def test_a_name_that_could_be_no_variable_is_refused(name: str) -> None:
    with pytest.raises(Invalid):
        check_volume(name, 1)


@given(name=st.from_regex(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", fullmatch=True).filter(lambda n: not n.isdigit()))
def test_every_volume_has_a_variable_of_its_own(name: str) -> None:
    check_volume(name, 1)
    assert variable_of(name).isidentifier()
    assert variable_of(name).removeprefix("STOKER_VOLUME_").lower().replace("_", "-") == name


@pytest.mark.parametrize(
    ("mounts", "pointer"),
    [
        ((VolumeMount(volume="a", path="data"),), "/volumes/0/path"),
        ((VolumeMount(volume="a", path="/"),), "/volumes/0/path"),
        ((VolumeMount(volume="a", path="/x/../etc"),), "/volumes/0/path"),
        ((VolumeMount(volume="A"),), "/volumes/0/volume"),
        ((VolumeMount(volume="a"), VolumeMount(volume="a", path="/x")), "/volumes/1"),
        ((VolumeMount(volume="a", path="/x"), VolumeMount(volume="b", path="/x")), "/volumes/1"),
        (tuple(VolumeMount(volume=f"v{n}") for n in range(17)), "/volumes"),
    ],
)
def test_mounts_that_make_no_sense_are_refused_at_their_place(mounts: tuple[VolumeMount, ...], pointer: str) -> None:
    with pytest.raises(Invalid) as caught:
        check_mounts(mounts)
    assert [problem.pointer for problem in caught.value.problems] == [pointer]
