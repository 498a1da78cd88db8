"""Secrets and registry credentials through the native API: values go in, reach workers, and come out for few."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from api.client import Api, run, spec
from stoker.domain.access import Scope
from stoker.store.installation import DEFAULT_PROJECT

VALUE = "hunter2-is-the-value"
PASSWORD = "hunter3-is-the-password"
CREDENTIAL = {"name": "reg", "registry": "ghcr.io", "username": "me", "password": PASSWORD}


async def secret(api: Api, name: str = "token", value: str = VALUE) -> Any:
    answer = await api.call("POST", "/secrets", {"name": name, "value": value, "description": "for tests"})
    assert answer.status == 201, answer.body
    assert value.encode() not in answer.body
    return answer.json


def using(name: str = "token", **more: Any) -> dict[str, Any]:
    env = {"PLAIN": "p", "TOKEN": {"secret": name}}
    return spec(launch={"command": ["serve"], "env": env}, **more)


def test_a_value_is_stored_encrypted_and_shown_nowhere_but_where_it_is_asked_for() -> None:
    async def body(api: Api) -> None:
        made = await secret(api)
        for reference in ("token", str(made["number"]), made["id"]):
            assert (await api.call("GET", f"/secrets/{reference}")).json == made
        assert (await api.call("GET", "/secrets")).json["items"] == [made]
        assert VALUE not in str(await api.dump())
        shown = await api.call("GET", "/secrets/token/value")
        assert shown.json == {"name": "token", "value": VALUE}
        [event] = (await api.call("GET", "/audit?action=secret.reveal")).json["items"]
        assert (event["name"], event["outcome"], event["by"]["name"]) == ("token", "done", "admin")
        assert (await api.call("GET", "/secrets/token/value", key=await api.key(Scope.DEPLOY))).status == 403

    run(body)


def test_a_worker_is_started_with_the_value_of_that_moment_and_no_record_has_it() -> None:
    async def body(api: Api) -> None:
        await secret(api)
        made = await api.call("POST", "/endpoints", using(min=1))
        assert made.status == 201, made.body
        assert made.json["endpoint"]["spec"]["launch"]["env"] == {"PLAIN": "p", "TOKEN": {"secret": "token"}}
        await asyncio.sleep(5)
        [first] = api.world.provider.workers.values()
        assert first.spec.env == {"PLAIN": "p", "TOKEN": VALUE}
        changed = await api.call("PATCH", "/secrets/token", {"value": "another-value"})
        assert changed.status == 200
        await api.call("POST", "/endpoints/e:scale", {"workers": 2})
        await asyncio.sleep(5)
        [_, second] = sorted(api.world.provider.workers.values(), key=lambda w: w.started_at)
        assert second.spec.env["TOKEN"] == "another-value"
        dump = str(await api.dump())
        assert VALUE not in dump
        assert "another-value" not in dump
        reader = await api.call("GET", "/endpoints/e", key=await api.key(Scope.READ))
        assert reader.json["spec"]["launch"]["env"] == {"PLAIN": "***", "TOKEN": {"secret": "token"}}

    run(body)


def test_a_pools_own_launch_is_checked_masked_and_keeps_its_secrets() -> None:
    async def body(api: Api) -> None:
        await secret(api)
        launch = {"command": ["other"], "env": {"PLAIN": VALUE, "TOKEN": {"secret": "token"}}}
        document = spec() | {"pools": [{"provider": "fake"}, {"name": "own", "provider": "fake", "launch": launch}]}
        planned = (await api.call("POST", "/endpoints", spec()), await api.call("POST", "/endpoints:plan", document))
        assert VALUE.encode() not in planned[1].body
        assert [change["pointer"] for change in planned[1].json["changes"]] == ["/pools"]
        assert (await api.call("PUT", "/endpoints/e", document)).status == 200
        reader = await api.key(Scope.READ)
        for path in ("/endpoints/e", "/endpoints/e/revisions"):
            shown = await api.call("GET", path, key=reader)
            assert (shown.status, VALUE.encode() in shown.body) == (200, False), path
        masked = (await api.call("GET", "/endpoints/e", key=reader)).json["spec"]["pools"][1]["launch"]["env"]
        assert masked == {"PLAIN": "***", "TOKEN": {"secret": "token"}}
        audit = await api.call("GET", "/audit")
        assert (audit.status, VALUE.encode() in audit.body) == (200, False)
        assert (await api.call("DELETE", "/secrets/token")).status == 409
        launch["env"] = {"TOKEN": {"secret": "missing"}}
        refused = await api.call("PUT", "/endpoints/e", document)
        assert [e["pointer"] for e in refused.json["errors"]] == ["/pools/1/launch/env/TOKEN/secret"]

    run(body)


def test_a_secret_that_there_is_not_is_refused_at_create_update_and_plan() -> None:
    async def body(api: Api) -> None:
        await api.create()
        before = await api.dump()
        for method, path in (("POST", "/endpoints"), ("PUT", "/endpoints/e"), ("POST", "/endpoints:plan")):
            name = "other" if path == "/endpoints" else "e"
            answer = await api.call(method, path, using("missing") | {"name": name})
            assert answer.status == 422, (path, answer.body)
            assert [e["pointer"] for e in answer.json["errors"]] == ["/launch/env/TOKEN/secret"]
        assert await api.dump() == before

    run(body)


def test_a_secret_is_not_deleted_while_an_endpoint_refers_to_it() -> None:
    async def body(api: Api) -> None:
        await secret(api)
        await secret(api, "unused")
        assert (await api.call("POST", "/endpoints", using())).status == 201
        before = await api.dump()
        refused = await api.call("DELETE", "/secrets/token")
        assert (refused.status, "used by e" in refused.json["detail"]) == (409, True)
        assert await api.dump() == before
        assert (await api.call("DELETE", "/secrets/unused")).status == 204
        assert (await api.call("PUT", "/endpoints/e", spec())).status == 200
        assert (await api.call("DELETE", "/secrets/token")).status == 204
        back = await api.call("POST", "/endpoints/e:rollback", {})
        assert back.status == 422, "going back to a spec whose secret is gone is refused as well"

    run(body)


@pytest.mark.parametrize(
    ("change", "pointer"),
    [
        ({"name": ""}, "/name"),
        ({"name": "12"}, "/name"),
        ({"name": "a b"}, "/name"),
        ({"name": "x" * 64}, "/name"),
        ({"value": ""}, "/value"),
        ({"value": "\0"}, "/value"),
        ({"value": "x" * 40_000}, "/value"),
        ({"description": "x" * 2_000}, "/description"),
        ({"more": 1}, "/more"),
    ],
)
def test_a_secret_that_makes_no_sense_is_refused_without_repeating_it(change: dict[str, Any], pointer: str) -> None:
    async def body(api: Api) -> None:
        before = await api.dump()
        answer = await api.call("POST", "/secrets", {"name": "n", "value": VALUE} | change)
        assert answer.status == 422
        assert [e["pointer"] for e in answer.json["errors"]] == [pointer]
        assert VALUE.encode() not in answer.body
        assert await api.dump() == before

    run(body)


def test_a_name_is_taken_once_in_a_project() -> None:
    async def body(api: Api) -> None:
        await secret(api)
        assert (await api.call("POST", "/secrets", {"name": "token", "value": "v"})).status == 409

    run(body)


def test_a_limited_key_refers_to_no_secret_that_its_endpoint_did_not_have() -> None:
    async def body(api: Api) -> None:
        await secret(api)
        await secret(api, "other")
        made = (await api.call("POST", "/endpoints", using())).json["endpoint"]
        limited = await api.key(Scope.DEPLOY, endpoints=[made["id"]])
        assert (await api.call("PUT", "/endpoints/e", using(slots=2), key=limited)).status == 200
        assert (await api.call("PUT", "/endpoints/e", using("other"), key=limited)).status == 403

    run(body)


def test_a_registry_credential_reaches_the_provider_and_its_password_nobody_else() -> None:
    async def body(api: Api) -> None:
        made = await api.call("POST", "/registry-credentials", CREDENTIAL)
        assert made.status == 201
        launch = {"image": "ghcr.io/me/app:1", "credential": "reg", "port": 8000}
        created = await api.call("POST", "/endpoints", spec(launch=launch, min=1))
        assert created.status == 201, created.body
        await asyncio.sleep(5)
        [worker] = api.world.provider.workers.values()
        assert worker.spec.login is not None
        assert (worker.spec.login.registry, worker.spec.login.username) == ("ghcr.io", "me")
        assert worker.spec.login.password == PASSWORD
        refused = await api.call("DELETE", "/registry-credentials/reg")
        assert (refused.status, "used by e" in refused.json["detail"]) == (409, True)
        elsewhere = await api.call("PATCH", "/registry-credentials/reg", {"registry": "evil.test"})
        assert elsewhere.status == 409, "a password goes to no other registry"
        moved = {"registry": "other.test", "password": "p2"}
        assert (await api.call("PATCH", "/registry-credentials/reg", moved)).json["registry"] == "other.test"
        listed = await api.call("GET", "/registry-credentials")
        assert PASSWORD.encode() not in made.body + listed.body
        assert PASSWORD not in str(await api.dump())

    run(body)


def test_a_registry_credential_that_there_is_not_or_without_an_image_is_refused() -> None:
    async def body(api: Api) -> None:
        for launch in ({"image": "x", "credential": "none"}, {"command": ["x"], "credential": "none"}):
            answer = await api.call("POST", "/endpoints", spec(launch=launch))
            assert [e["pointer"] for e in answer.json["errors"]] == ["/launch/credential"], answer.body

    run(body)


@pytest.mark.parametrize(
    ("change", "pointer"),
    [
        ({"registry": "http://ghcr.io"}, "/registry"),
        ({"registry": "a/b"}, "/registry"),
        ({"username": "a:b"}, "/username"),
        ({"password": ""}, "/password"),
    ],
)
def test_a_registry_credential_that_makes_no_sense_is_refused(change: dict[str, str], pointer: str) -> None:
    async def body(api: Api) -> None:
        answer = await api.call("POST", "/registry-credentials", CREDENTIAL | change)
        assert [e["pointer"] for e in answer.json["errors"]] == [pointer], answer.body

    run(body)


def test_the_master_key_is_rotated_by_the_installation_alone_and_it_is_recorded() -> None:
    async def body(api: Api) -> None:
        await secret(api)
        _, first = await api.world.stoker.keys.create(
            DEFAULT_PROJECT, name="first", scopes=frozenset({Scope.ADMIN}), installation=True
        )
        before = (await api.call("GET", "/master-key", key=first)).json
        assert (before["sealed"], before["left"], before["old"]) == (1, 0, [])
        after = (await api.call("POST", "/master-key:rotate", key=first)).json
        assert (after["sealed"], after["left"], after["old"]) == (1, 0, [])
        assert after["current"] != before["current"]
        assert (await api.call("GET", "/secrets/token/value")).json["value"] == VALUE
        [event] = (await api.call("GET", "/audit?action=master_key.rotate")).json["items"]
        assert (event["before"], event["after"]) == ({"id": before["current"]}, {"id": after["current"]})

    run(body)


def test_a_rotation_that_was_killed_goes_on_with_the_next_start() -> None:
    async def body(api: Api) -> None:
        await secret(api)
        before = await api.world.stoker.vault.renew()
        assert (await api.world.stoker.vault.state()).left == 1
        await api.world.crash()
        await api.world.boot()
        state = await api.world.stoker.vault.state()
        assert (state.left, state.old) == (0, ())
        assert state.current != before

    run(body)
