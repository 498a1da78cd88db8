"""Scopes, keys and principals."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import pytest

from stoker.domain.access import ApiKey, KeyId, Principal, Scope, digest_of, reach
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


@pytest.mark.parametrize("endpoints", [None, frozenset({MINE}), frozenset[EndpointId]()])
@pytest.mark.parametrize("scope", Scope)
@pytest.mark.parametrize("target", [None, MINE, OTHER])
def test_a_principal_may_what_its_scopes_and_its_endpoints_both_allow(
    endpoints: frozenset[EndpointId] | None, scope: Scope, target: EndpointId | None
) -> None:
    caller = Principal(key=KeyId("k"), project=ProjectId(1), scopes=frozenset({D}), endpoints=endpoints)
    within = target is None or endpoints is None or target in endpoints
    assert caller.may(scope, target) is (scope in {D, I, R} and within)


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
