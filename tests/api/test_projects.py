"""Projects and audit events through the native API."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from api.client import Answer, Api, run, spec
from stoker.control.retention import Retention, kept_of
from stoker.domain.access import KeyDraft, Scope
from stoker.domain.endpoint import ProjectId
from stoker.store.installation import DEFAULT_PROJECT


async def first(api: Api) -> str:
    """The key of the installation."""
    made = api.world.stoker.keys.create(
        DEFAULT_PROJECT, name="first", scopes=frozenset({Scope.ADMIN}), installation=True
    )
    return (await made)[1]


async def call(api: Api, key: str, project: str, method: str, path: str, value: object = None) -> Answer:
    return await api.call(method, path, value, key=key, headers={"x-stoker-project": project})


async def events(api: Api, key: str | None = None, query: str = "", project: str = "1") -> list[Any]:
    answer = await api.call("GET", f"/audit{query}", key=key, headers={"x-stoker-project": project})
    assert answer.status == 200, answer.body
    items: list[Any] = answer.json["items"]
    return items


def test_a_project_is_made_renamed_and_deleted_when_it_is_empty() -> None:
    async def body(api: Api) -> None:
        key = await first(api)
        made = (await api.call("POST", "/projects", {"name": "team"}, key=key)).json
        assert made["number"] == 2
        for reference in ("team", "2", made["id"]):
            assert (await api.call("GET", f"/projects/{reference}", key=key)).json == made
        listed = (await api.call("GET", "/projects", key=key)).json["items"]
        assert [p["name"] for p in listed] == ["default", "team"]
        assert (await api.call("GET", "/projects")).json["items"] == [listed[0]], "others see their own"
        renamed = await api.call("PATCH", "/projects/team", {"name": "crew"}, key=key)
        assert renamed.json == made | {"name": "crew"}
        assert (await api.call("GET", "/projects/team", key=key)).status == 404
        assert (await api.call("DELETE", "/projects/crew", key=key)).status == 204
        assert (await call(api, key, "crew", "GET", "/endpoints")).status == 404
        again = await api.call("POST", "/projects", {"name": "crew"}, key=key)
        assert again.json["number"] == 3, "a number is never used twice"

    run(body)


def test_a_project_with_something_in_it_is_not_deleted() -> None:
    async def body(api: Api) -> None:
        key = await first(api)
        await api.call("POST", "/projects", {"name": "team"}, key=key)
        for path, value, gone in (
            ("/endpoints", spec(), "/endpoints/e"),
            ("/secrets", {"name": "s", "value": "v"}, "/secrets/s"),
            ("/registry-credentials", {"name": "c", "registry": "r", "username": "u", "password": "p"}, None),
            ("/keys", {"name": "k", "scopes": ["read"]}, None),
        ):
            made = await call(api, key, "team", "POST", path, value)
            assert made.status == 201, made.body
            before = await api.dump()
            refused = await api.call("DELETE", "/projects/team", key=key)
            assert (refused.status, "1 " in refused.json["detail"]) == (409, True)
            assert await api.dump() == before
            inner = made.json.get("key", made.json)
            gone = gone or f"{path}/{inner['id']}"
            assert (await call(api, key, "team", "DELETE", gone)).status in (202, 204)
            if path == "/endpoints":
                for _ in range(50):
                    if not (await call(api, key, "team", "GET", path)).json["items"]:
                        break
        assert (await api.call("DELETE", "/projects/team", key=key)).status == 204
        assert (await api.call("DELETE", "/projects/default", key=key)).status == 409

    run(body)


@pytest.mark.parametrize("name", ["", " ", "7", "x" * 256, "a\nb", "Zürich", " a"])
def test_a_name_that_makes_no_sense_is_refused(name: str) -> None:
    async def body(api: Api) -> None:
        key = await first(api)
        before = await api.dump()
        answer = await api.call("POST", "/projects", {"name": name}, key=key)
        assert [e["pointer"] for e in answer.json["errors"]] == ["/name"]
        assert (await api.call("POST", "/projects", {"name": "default"}, key=key)).status == 409
        assert await api.dump() == before

    run(body)


def test_projects_have_names_and_endpoints_of_their_own() -> None:
    async def body(api: Api) -> None:
        key = await first(api)
        await api.call("POST", "/projects", {"name": "team"}, key=key)
        mine = await api.create("chat")
        theirs = await call(api, key, "team", "POST", "/endpoints", spec("chat"))
        assert theirs.status == 201, "names are unique in a project"
        assert theirs.json["endpoint"]["project"] == 2
        assert theirs.json["endpoint"]["slug"] != mine["slug"], "slugs are unique in the installation"
        assert [e["id"] for e in (await api.call("GET", "/endpoints")).json["items"]] == [mine["id"]]
        draft = KeyDraft(name="tenant", scopes=frozenset({Scope.ADMIN}))
        _, tenant = await api.world.stoker.keys.make(draft, project=ProjectId(2), by=None)
        seen = (await api.call("GET", "/endpoints", key=tenant)).json["items"]
        assert [e["id"] for e in seen] == [theirs.json["endpoint"]["id"]]

    run(body)


def test_every_change_through_every_door_is_recorded_with_who_and_what() -> None:
    async def body(api: Api) -> None:
        steps: list[tuple[str, str, Any, str]] = [
            ("POST", "/endpoints", spec(), "endpoint.create"),
            ("PUT", "/endpoints/e", spec(slots=3), "endpoint.update"),
            ("POST", "/endpoints/e:rollback", {"revision": 1}, "endpoint.update"),
            ("POST", "/endpoints/e:scale", {"workers": 1}, "endpoint.scale"),
            ("POST", "/endpoints/e:stop", None, "endpoint.stop"),
            ("POST", "/endpoints/e:start", None, "endpoint.start"),
            ("DELETE", "/endpoints/e", None, "endpoint.delete"),
            ("POST", "/secrets", {"name": "s", "value": "hunter2"}, "secret.create"),
            ("PATCH", "/secrets/s", {"value": "hunter3"}, "secret.update"),
            ("GET", "/secrets/s/value", None, "secret.reveal"),
            ("DELETE", "/secrets/s", None, "secret.delete"),
            (
                "POST",
                "/registry-credentials",
                {"name": "c", "registry": "r", "username": "u", "password": "hunter4"},
                "credential.create",
            ),
            ("PATCH", "/registry-credentials/c", {"username": "v"}, "credential.update"),
            ("DELETE", "/registry-credentials/c", None, "credential.delete"),
            ("POST", "/keys", {"name": "k", "scopes": ["read"], "revealable": True}, "key.create"),
            ("PATCH", "/keys/2", {"name": "l"}, "key.update"),
            ("GET", "/keys/2/secret", None, "key.reveal"),
            ("DELETE", "/keys/2", None, "key.revoke"),
        ]
        for method, path, value, action in steps:
            answer = await api.call(method, path, value)
            assert answer.status in (200, 201, 202, 204), (path, answer.body)
            [newest] = await events(api, query="?limit=1")
            assert newest["action"] == action, path
            assert newest["by"]["name"] == "admin"
            operation = answer.json.get("operation") if answer.body and "operation" in answer.json else None
            assert newest["operation"] == (operation and operation["id"])
            assert newest["outcome"] == ("accepted" if operation else "done")
        dump = str((await api.dump())["audit"])
        assert "hunter" not in dump
        [scaled] = await events(api, query="?action=endpoint.scale")
        assert (scaled["before"]["override"], scaled["after"]["override"]) == (None, 1)
        assert {e["action"] for e in await events(api, query="?action=key.")} >= {"key.create", "key.revoke"}
        assert [e["action"] for e in await events(api, query="?target=s")] == [
            "secret.delete",
            "secret.reveal",
            "secret.update",
            "secret.create",
        ]

    run(body)


def test_what_is_refused_is_not_recorded_as_a_change() -> None:
    async def body(api: Api) -> None:
        await api.create()
        before = await events(api)
        assert (await api.call("POST", "/endpoints", spec())).status == 409
        assert (await api.call("PUT", "/endpoints/e", spec("e", slots=0))).status == 422
        assert (await api.call("DELETE", "/endpoints/e", key=await api.key(Scope.READ))).status == 403
        assert [e for e in await events(api) if e["action"].startswith("endpoint.")] == [
            e for e in before if e["action"].startswith("endpoint.")
        ]

    run(body)


def test_the_environment_is_masked_and_what_is_long_is_told_by_its_size() -> None:
    async def body(api: Api) -> None:
        await api.create(launch={"command": ["x"], "env": {"TOKEN": "hunter2"}})
        [event] = await events(api, query="?action=endpoint.create")
        assert event["after"]["spec"]["launch"]["env"] == {"TOKEN": "***"}
        await api.create("long", launch={"command": ["x" * 8_000, "y" * 8_000]})
        [event] = await events(api, query="?action=endpoint.create&target=long")
        assert list(event["after"]) == ["too_long"]

    run(body)


def test_audit_events_come_in_pages_newest_first_and_belong_to_a_project() -> None:
    async def body(api: Api) -> None:
        key = await first(api)
        await api.call("POST", "/projects", {"name": "team"}, key=key)
        for index in range(5):
            await api.call("POST", "/secrets", {"name": f"s{index}", "value": "v"})
        await call(api, key, "team", "POST", "/secrets", {"name": "theirs", "value": "v"})
        query, names = "/audit?action=secret.&limit=2", []
        cursor = None
        while True:
            page = (await api.call("GET", query + (f"&cursor={cursor}" if cursor else ""))).json
            names += [event["name"] for event in page["items"]]
            cursor = page["next"]
            if cursor is None:
                break
        assert names == ["s4", "s3", "s2", "s1", "s0"]
        assert [e["name"] for e in await events(api, key, "?action=secret.", "team")] == ["theirs"]

    run(body)


def test_audit_events_are_kept_up_to_their_number() -> None:
    async def body(api: Api) -> None:
        stoker = api.world.stoker
        stoker.retention = Retention(stoker.store, replace(kept_of(stoker.settings), audit=3), clock=stoker.clock)
        for index in range(6):
            await api.call("POST", "/secrets", {"name": f"s{index}", "value": "v"})
        await api.world.stoker.forget_old()
        assert [e["name"] for e in await events(api)] == ["s5", "s4", "s3"]

    run(body)
