"""Identifiers and secrets."""

from __future__ import annotations

import uuid

from hypothesis import given
from hypothesis import strategies as st

from stoker.control import ids


@given(st.floats(0, 2**40))
def test_an_id_is_a_uuid_of_version_7_that_begins_with_its_time(now: float) -> None:
    made = uuid.UUID(ids.uuid7(now))
    assert (made.version, made.variant) == (7, uuid.RFC_4122)
    assert made.int >> 80 == int(now * 1000) & (1 << 48) - 1


def test_ids_of_later_milliseconds_sort_after_those_of_earlier_ones() -> None:
    made = [ids.uuid7(1_780_000_000 + step / 500) for step in range(2_000)]
    assert made == sorted(made)


def test_ids_of_one_millisecond_differ() -> None:
    assert len({ids.uuid7(1.0) for _ in range(10_000)}) == 10_000


def test_a_secret_has_256_random_bits_after_its_prefix() -> None:
    made = {ids.api_key() for _ in range(100)}
    assert len(made) == 100
    assert {len(secret) for secret in made} == {len("sk-") + 43}
    assert all(secret.startswith("sk-") for secret in made)
