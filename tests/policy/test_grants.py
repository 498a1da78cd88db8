"""Nobody gives what they lack."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stoker.domain.access import ApiKey, KeyDraft, KeyId, KeyLimits, KeyPatch, Principal, Scope, reach
from stoker.domain.endpoint import EndpointId, ProjectId
from stoker.domain.errors import Forbidden, Invalid
from stoker.policy.grants import check_expiry, check_grant, check_name, check_reach, patched

scopes = st.frozensets(st.sampled_from(list(Scope)), min_size=1)
endpoints = st.none() | st.frozensets(st.sampled_from([EndpointId(name) for name in "abc"]))


def principal(held: frozenset[Scope], only: frozenset[EndpointId] | None, installation: bool = False) -> Principal:
    return Principal(key=KeyId("k"), project=ProjectId(1), scopes=held, endpoints=only, installation=installation)


def key(**more: Any) -> ApiKey:
    values: dict[str, Any] = {
        "id": KeyId("k"),
        "number": 1,
        "project": ProjectId(1),
        "name": "k",
        "digest": "d",
        "hint": "sk-",
        "scopes": frozenset({Scope.READ}),
        "created_at": 0.0,
        **more,
    }
    return ApiKey(**values)


@given(scopes, endpoints, st.booleans(), scopes, endpoints, st.booleans())
def test_a_key_reaches_no_further_than_the_one_that_made_it(
    held: frozenset[Scope],
    only: frozenset[EndpointId] | None,
    installation: bool,
    asked: frozenset[Scope],
    limited: frozenset[EndpointId] | None,
    whole: bool,
) -> None:
    by = principal(held, only, installation)
    draft = KeyDraft(name="n", scopes=asked, endpoints=limited, installation=whole and limited is None)
    further = not reach(asked) <= reach(held)
    wider = only is not None and (limited is None or not limited <= only)
    higher = draft.installation and not installation
    if further or wider or higher:
        with pytest.raises(Forbidden):
            check_grant(by, draft)
    else:
        check_grant(by, draft)


@given(endpoints, endpoints)
def test_a_limited_key_cannot_widen_another(
    only: frozenset[EndpointId] | None, after: frozenset[EndpointId] | None
) -> None:
    by = principal(frozenset({Scope.ADMIN}), only)
    if only is not None and (after is None or not after <= only):
        with pytest.raises(Forbidden):
            check_reach(by, key(endpoints=after))
    else:
        check_reach(by, key(endpoints=after))


def test_a_key_of_the_installation_cannot_be_limited() -> None:
    by = principal(frozenset({Scope.ADMIN}), None, installation=True)
    with pytest.raises(Invalid):
        check_reach(by, key(installation=True, endpoints=frozenset()))


@pytest.mark.parametrize("name", ["", " ", "x" * 256, "a\nb"])
def test_names_that_cannot_be_read_are_refused(name: str) -> None:
    with pytest.raises(Invalid):
        check_name(name)


@pytest.mark.parametrize(
    ("expires_in_s", "fine"), [(None, True), (1.0, True), (0.0, False), (-1.0, False), (1e12, False)]
)
def test_a_key_expires_in_the_future_or_never(expires_in_s: float | None, fine: bool) -> None:
    if fine:
        check_expiry(expires_in_s)
    else:
        with pytest.raises(Invalid):
            check_expiry(expires_in_s)


def test_a_patch_changes_what_it_names_and_nothing_else() -> None:
    before = key(limits=KeyLimits(rate_per_s=5.0, burst=10, concurrency=2), expires_at=50.0)
    assert patched(before, KeyPatch(fields=frozenset()), now=7.0) == before
    after = patched(before, KeyPatch(fields=frozenset({"name", "concurrency"}), name="new", concurrency=None), now=7.0)
    assert (after.name, after.limits, after.expires_at) == ("new", KeyLimits(rate_per_s=5.0, burst=10), 50.0)
    sooner = patched(before, KeyPatch(fields=frozenset({"expires_in_s"}), expires_in_s=3.0), now=7.0)
    assert sooner.expires_at == 10.0
    with pytest.raises(Invalid, match="burst needs a rate_per_s"):
        patched(before, KeyPatch(fields=frozenset({"rate_per_s"})), now=7.0)
