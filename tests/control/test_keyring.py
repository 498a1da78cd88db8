"""Master keys: what they seal opens for them alone, at its own place, and survives every step of a renewal."""

from __future__ import annotations

import base64
import os
import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stoker.control import keyring
from stoker.domain.access import Sealed
from stoker.domain.errors import Conflict, Invalid, Unavailable

RING = keyring.fresh()


@given(st.text(max_size=200), st.text(min_size=1, max_size=50))
def test_what_is_sealed_opens_again_at_its_place_and_at_no_other(plain: str, place: str) -> None:
    sealed = RING.seal(plain, place)
    assert RING.open(sealed, place) == plain
    with pytest.raises(Unavailable):
        RING.open(sealed, place + "x")


def test_the_same_value_looks_different_every_time_and_never_like_itself() -> None:
    first, second = RING.seal("hunter2", "p"), RING.seal("hunter2", "p")
    assert first.text != second.text
    assert "hunter2" not in first.text
    assert base64.b64encode(b"hunter2").decode() not in first.text


@pytest.mark.parametrize("change", [lambda t: t[:-8], lambda t: "1.AAAA" + t[6:], lambda t: "1.!", lambda t: ""])
def test_what_was_tampered_with_does_not_open(change: object) -> None:
    sealed = RING.seal("v", "p")
    with pytest.raises(Unavailable):
        RING.open(Sealed(text=change(sealed.text), by=sealed.by), "p")  # type: ignore[operator]


def test_another_master_key_is_named_when_it_is_missing() -> None:
    sealed = keyring.fresh().seal("v", "p")
    with pytest.raises(Unavailable, match=sealed.by):
        RING.open(sealed, "p")


def test_the_file_is_made_once_for_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "master-key"
    first = keyring.open_file(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert keyring.open_file(path).current == first.current
    assert [p.name for p in tmp_path.iterdir()] == ["master-key"]


def test_a_renewed_key_encrypts_and_the_old_one_is_kept_until_it_is_forgotten(tmp_path: Path) -> None:
    path = tmp_path / "master-key"
    ring = keyring.open_file(path)
    sealed = ring.seal("v", "p")
    before = ring.renew()
    assert (sealed.by, ring.old) == (before, (before,))
    assert ring.seal("v", "p").by == ring.current != before
    # As a control that was killed here finds it.
    again = keyring.open_file(path)
    assert (again.current, again.old) == (ring.current, ring.old)
    assert again.open(sealed, "p") == "v"
    ring.forget_old()
    assert keyring.open_file(path).old == ()
    assert ring.open(sealed, "p") == "v", "who had read it before may still open it"
    with pytest.raises(Unavailable):
        keyring.open_file(path).open(sealed, "p")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_keys_of_the_environment_are_the_operators_to_change(tmp_path: Path) -> None:
    texts = [base64.b64encode(os.urandom(32)).decode() for _ in range(2)]
    ring = keyring.opened(tmp_path / "master-key", {keyring.VARIABLE: f"{texts[0]}, {texts[1]}"})
    assert ring.external
    assert len(ring.old) == 1
    with pytest.raises(Conflict, match=keyring.VARIABLE):
        ring.renew()
    ring.forget_old()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("text", ["", "short", base64.b64encode(b"x" * 31).decode(), "!" * 44])
def test_a_file_that_holds_no_key_is_refused_and_left_alone(tmp_path: Path, text: str) -> None:
    path = tmp_path / "master-key"
    path.write_text(text)
    with pytest.raises(Invalid):
        keyring.open_file(path)
    assert path.read_text() == text
