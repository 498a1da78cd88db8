"""Templates through the native API."""

from __future__ import annotations

from typing import Any

import pytest

from api.client import Api, run
from stoker.domain.access import Scope

PART = {
    "launch": {"command": ["serve"], "env": {"A": "secret-value"}},
    "pools": [{"provider": "fake", "bounds": {"min": 0, "max": 3}}],
    "labels": {"team": "one", "tier": "gold"},
    "slots": 4,
}


async def add(api: Api, spec: Any = None, name: str = "chat") -> Any:
    answer = await api.call("POST", "/templates", {"name": name, "spec": PART if spec is None else spec})
    assert answer.status == 201, answer.body
    return answer.json


def test_an_endpoint_is_what_it_says_laid_over_its_template() -> None:
    async def body(api: Api) -> None:
        await add(api)
        said = {"name": "e", "template": "chat", "labels": {"tier": None, "x": "y"}, "launch": {"env": {"B": "2"}}}
        answer = await api.call("POST", "/endpoints", said)
        assert answer.status == 201, answer.body
        spec = answer.json["endpoint"]["spec"]
        assert (spec["template"], answer.json["endpoint"]["template"]) == (None, "chat@1")
        assert spec["labels"] == {"team": "one", "x": "y"}
        assert spec["launch"]["env"] == {"A": "secret-value", "B": "2"}
        assert (spec["launch"]["command"], spec["slots"], spec["pools"][0]["bounds"]["max"]) == (["serve"], 4, 3)
        plan = await api.call("POST", "/endpoints:plan", said)
        assert plan.json["action"] == "none"
        again = await api.call("PUT", "/endpoints/e", spec)
        assert again.json["endpoint"]["spec"] == spec, "what is shown is whole, and can be put back without a template"
        assert again.json["endpoint"]["template"] is None

    run(body)


def test_versions_never_change_and_endpoints_keep_what_they_took() -> None:
    async def body(api: Api) -> None:
        first = await add(api)
        assert await add(api) == first, "the same content is the same version"
        await api.call("POST", "/endpoints", {"name": "e", "template": "chat"})
        second = await add(api, PART | {"slots": 8})
        assert (second["version"], second["digest"] != first["digest"]) == (2, True)
        assert (await api.call("GET", "/endpoints/e")).json["spec"]["slots"] == 4
        for reference, version in (("chat", 2), ("chat@1", 1), (str(first["number"]), 1), (first["id"], 1)):
            assert (await api.call("GET", f"/templates/{reference}")).json["version"] == version
        pinned = await api.call("POST", "/endpoints", {"name": "old", "template": "chat@1"})
        assert pinned.json["endpoint"]["spec"]["slots"] == 4
        newest = await api.call("PUT", "/endpoints/e", {"name": "e", "template": "chat"})
        assert newest.json["endpoint"]["spec"]["slots"] == 8
        assert [t["version"] for t in (await api.call("GET", "/templates")).json["items"]] == [1, 2]

    run(body)


def test_a_template_that_an_endpoint_names_is_not_deleted() -> None:
    async def body(api: Api) -> None:
        await add(api)
        await api.call("POST", "/endpoints", {"name": "e", "template": "chat"})
        refused = await api.call("DELETE", "/templates/chat")
        assert (refused.status, "is named by e" in refused.json["detail"]) == (409, True)
        await api.call("PUT", "/endpoints/e", {"name": "e", **PART})
        assert (await api.call("DELETE", "/templates/chat")).status == 204
        assert (await api.call("GET", "/templates/chat")).status == 404

    run(body)


@pytest.mark.parametrize(
    ("spec", "pointer"),
    [
        ({"name": "x"}, "/spec/name"),
        ({"template": "other"}, "/spec/template"),
        ({"slotz": 1}, "/spec/slotz"),
        ({"slots": 0}, "/spec/slots"),
        ({"pools": [{"bounds": {"min": 2, "max": 1}}]}, "/spec/pools/0/bounds/min"),
    ],
)
def test_a_part_that_no_endpoint_could_have_is_refused_at_its_place(spec: Any, pointer: str) -> None:
    async def body(api: Api) -> None:
        before = await api.dump()
        answer = await api.call("POST", "/templates", {"name": "t", "spec": spec})
        assert answer.status == 422, answer.body
        assert [error["pointer"] for error in answer.json["errors"]] == [pointer]
        assert await api.dump() == before

    run(body)


def test_a_template_that_there_is_not_is_refused_and_a_part_of_a_launch_is_enough() -> None:
    async def body(api: Api) -> None:
        for named in ("missing", "chat@9", "a@b"):
            answer = await api.call("POST", "/endpoints", {"name": "e", "template": named})
            assert (answer.status, answer.json["errors"][0]["pointer"]) == (422, "/template")
        await add(api, {"launch": {"env": {"A": "1"}}, "pools": PART["pools"]}, "env")
        made = await api.call("POST", "/endpoints", {"name": "e", "template": "env", "launch": {"command": ["x"]}})
        assert made.status == 201, made.body

    run(body)


def test_values_are_hidden_from_those_who_could_not_set_them_and_other_projects_see_nothing() -> None:
    async def body(api: Api) -> None:
        await add(api)
        shown = await api.call("GET", "/templates/chat", key=await api.key(Scope.READ))
        assert shown.json["spec"]["launch"]["env"] == {"A": "***"}

    run(body)


def test_an_idempotent_create_is_the_same_request_whatever_the_template_says_by_then() -> None:
    async def body(api: Api) -> None:
        await add(api)
        headers = {"idempotency-key": "k"}
        first = await api.call("POST", "/endpoints", {"name": "e", "template": "chat"}, headers=headers)
        await add(api, PART | {"slots": 8})
        second = await api.call("POST", "/endpoints", {"name": "e", "template": "chat"}, headers=headers)
        assert second.headers["idempotent-replayed"] == "true"
        assert second.json == first.json

    run(body)
