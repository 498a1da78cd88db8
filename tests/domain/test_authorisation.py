"""The table of who may do what, read with every kind of key."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stoker.domain.access import KeyId, Principal, Scope, reach
from stoker.domain.authorisation import TABLE, Action, Reach, admit, authorise, permits, visible
from stoker.domain.endpoint import EndpointId, ProjectId
from stoker.domain.errors import Forbidden, NotFound

MINE, OTHER = EndpointId("mine"), EndpointId("other")
ONE, TWO = ProjectId(1), ProjectId(2)

lists = st.none() | st.frozensets(st.sampled_from([MINE, OTHER]))
principals = st.builds(
    Principal,
    key=st.just(KeyId("k")),
    project=st.sampled_from([ONE, TWO]),
    scopes=st.frozensets(st.sampled_from(Scope)),
    endpoints=lists,
    installation=st.booleans(),
)
actions = st.sampled_from(Action)


def test_every_action_has_its_row() -> None:
    assert set(TABLE) == set(Action)


@given(principals, actions, st.sampled_from([None, MINE, OTHER]), lists)
def test_nothing_of_another_project_exists(
    by: Principal, action: Action, endpoint: EndpointId | None, limited_to: frozenset[EndpointId] | None
) -> None:
    other = ProjectId(3 - by.project)
    with pytest.raises(NotFound):
        authorise(by, action, project=other, endpoint=endpoint, limited_to=limited_to)


@given(principals, actions)
def test_nobody_does_what_no_scope_of_theirs_contains(by: Principal, action: Action) -> None:
    if TABLE[action].scope not in reach(by.scopes):
        with pytest.raises(Forbidden, match=TABLE[action].scope):
            admit(by, action)


@given(principals, actions)
def test_a_limited_key_does_nothing_to_the_whole_project_the_machine_or_the_installation(
    by: Principal, action: Action
) -> None:
    if by.endpoints is not None and TABLE[action].reach in (Reach.PROJECT, Reach.HOST, Reach.INSTALLATION):
        assert not permits(by, action)


@given(principals, actions)
def test_only_keys_of_the_installation_do_something_to_it(by: Principal, action: Action) -> None:
    if TABLE[action].reach is Reach.INSTALLATION and permits(by, action):
        assert by.installation
    if TABLE[action].reach is Reach.HOST and permits(by, action):
        assert by.installation or by.project == ONE


@given(principals, st.sampled_from([a for a in Action if TABLE[a].reach is Reach.ENDPOINT]))
def test_an_endpoint_beyond_a_keys_list_does_not_exist_for_it(by: Principal, action: Action) -> None:
    seen = visible(by, action, project=by.project, endpoint=MINE)
    assert seen == (permits(by, action) and (by.endpoints is None or MINE in by.endpoints))
    if by.endpoints is not None and MINE not in by.endpoints:
        with pytest.raises(NotFound):
            authorise(by, action, project=by.project, endpoint=MINE)


@given(principals, st.sampled_from([a for a in Action if TABLE[a].reach is Reach.KEY]), lists)
def test_a_key_that_reaches_further_does_not_exist_for_a_limited_one(
    by: Principal, action: Action, limited_to: frozenset[EndpointId] | None
) -> None:
    seen = visible(by, action, project=by.project, limited_to=limited_to)
    within = by.endpoints is None or (limited_to is not None and limited_to <= by.endpoints)
    assert seen == (permits(by, action) and within)


@given(principals, actions)
def test_a_wider_scope_never_may_less(by: Principal, action: Action) -> None:
    admin = Principal(
        key=by.key,
        project=by.project,
        scopes=frozenset({Scope.ADMIN}),
        endpoints=by.endpoints,
        installation=by.installation,
    )
    assert permits(admin, action) or not permits(by, action)
