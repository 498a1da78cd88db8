"""Scopes, keys and principals."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import pytest

from stoker.domain.access import ApiKey, KeyId, Scope, digest_of, reach
from stoker.domain.endpoint import EndpointId, ProjectId

A, D, I, R = Scope.ADMIN, Scope.DEPLOY, Scope.INVOKE, Scope.READ  # noqa: E741
MINE, OTHER = EndpointId("mine"), EndpointId("other")


@pytest.mark.parametrize(
    ("scopes", "reached"),
    [
        pytest.param({A}, {A, D, I, R}, id="admin reaches everything"),
        pytest.param({D}, {D, I, R}, id="who may deploy may look and call"),
        pytest.param({I}, {I}, id="who may call may not look"),
        pytest.param({R}, {R}, id="who may look may not call"),
        pytest.param({I, R}, {I, R}, id="several add up"),
        pytest.param(set(), set(), id="none reaches nothing"),
    ],
)
def test_a_scope_contains_narrower_ones(scopes: set[Scope], reached: set[Scope]) -> None:
    assert reach(frozenset(scopes)) == reached


def test_a_key_is_usable_until_it_expires_or_is_revoked() -> None:
    key = ApiKey(
        id=KeyId("k"),
        number=1,
        project=ProjectId(1),
        name="k",
        digest="",
        hint="",
        scopes=frozenset({R}),
        created_at=0.0,
        expires_at=10.0,
    )
    assert [key.usable(now) for now in (0.0, 9.9, 10.0)] == [True, True, False]
    assert replace(key, expires_at=None).usable(1e12)
    assert not replace(key, revoked_at=5.0).usable(1.0)


def test_a_digest_is_sha_256_in_hexadecimal() -> None:
    assert digest_of("sk-x") == hashlib.sha256(b"sk-x").hexdigest()
