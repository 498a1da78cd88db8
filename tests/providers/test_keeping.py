"""What providers keep: the mark of an installation."""

from __future__ import annotations

from pathlib import Path

from stoker.providers import keeping


def test_a_mark_is_made_once_and_is_no_other_installations(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    for folder in (one, two):
        folder.mkdir()
    made = keeping.mark(one)
    assert (keeping.mark(one), len(made)) == (made, 32)
    assert keeping.mark(two) != made


def test_a_mark_that_was_cut_off_as_it_was_written_is_made_anew(tmp_path: Path) -> None:
    (tmp_path / keeping.MARK).touch()
    made = keeping.mark(tmp_path)
    assert made, "two installations without one would end each other's workers"
    assert keeping.mark(tmp_path) == made
