"""Files of keys: for their owner alone, and never half written."""

from __future__ import annotations

import stat
from pathlib import Path

from stoker import key_files


def test_a_file_is_for_its_owner_alone(tmp_path: Path) -> None:
    key_files.write(tmp_path / "key", b"k")
    assert stat.S_IMODE((tmp_path / "key").stat().st_mode) == 0o600


def test_what_was_there_is_replaced_whoever_could_read_it(tmp_path: Path) -> None:
    (tmp_path / "key").write_bytes(b"one that is longer")
    (tmp_path / "key").chmod(0o644)
    key_files.write(tmp_path / "key", b"k")
    assert (tmp_path / "key").read_bytes() == b"k"
    assert stat.S_IMODE((tmp_path / "key").stat().st_mode) == 0o600


def test_one_that_was_killed_while_it_wrote_is_in_nobodys_way(tmp_path: Path) -> None:
    (tmp_path / "key.new").write_bytes(b"half")
    key_files.write(tmp_path / "key", b"k")
    assert [path.name for path in tmp_path.iterdir()] == ["key"]
