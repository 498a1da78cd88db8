"""The folder of fetched weights: what is whole is seen, what is half is not, and nothing stays of what is removed."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from stoker.domain.models import FetchFailed, WeightsKey
from stoker.models.cache import Cache, found_in

A, B = WeightsKey("a" * 32), WeightsKey("b" * 32)


def test_half_a_model_is_none_until_all_of_it_is_moved_into_place(tmp_path: Path) -> None:
    cache = Cache(tmp_path / "models", bytes_max=None)
    (cache.parts(A) / "m.gguf").write_bytes(b"12345")
    assert cache.completed(A) is None
    path = cache.complete(A)
    assert cache.completed(A) == path == tmp_path / "models" / A / "files" / "m.gguf"
    assert cache.complete(A) == path, "killed after the move, it is asked again"
    assert cache.sizes() == {A: 5}


def test_what_is_removed_and_what_nobody_knows_leaves_nothing(tmp_path: Path) -> None:
    cache = Cache(tmp_path, bytes_max=None)
    for key in (A, B):
        (cache.parts(key) / "m").write_bytes(b"1")
    (tmp_path / f".{B}").mkdir()
    (tmp_path / "notes").mkdir()
    cache.tidy(frozenset({A}))
    assert sorted(p.name for p in tmp_path.iterdir()) == [A, "notes"]
    cache.remove(A)
    cache.remove(A)
    assert cache.sizes() == {}


def test_there_is_room_as_far_as_the_limit_and_the_disk_go(tmp_path: Path) -> None:
    limited = Cache(tmp_path / "none" / "yet", bytes_max=1000, reserve_bytes=0)
    assert limited.missing(400, kept=500)[0] <= 0
    missing, why = limited.missing(600, kept=500)
    assert (missing, "models_cache_gib" in why) == (100, True)
    free = shutil.disk_usage(tmp_path).free
    missing, why = Cache(tmp_path, bytes_max=None).missing(free, kept=0)
    assert missing > 0
    assert "the disk has" in why


def test_a_split_model_is_its_first_part_and_several_are_nobodys_choice(tmp_path: Path) -> None:
    for number in (1, 2):
        (tmp_path / f"m-0000{number}-of-00002.gguf").touch()
    assert found_in(tmp_path).name == "m-00001-of-00002.gguf"
    (tmp_path / "other.gguf").touch()
    with pytest.raises(FetchFailed, match="several GGUF files"):
        found_in(tmp_path)
