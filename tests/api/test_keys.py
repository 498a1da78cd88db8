"""Keys through the native API."""

from __future__ import annotations

import asyncio

import pytest

from api.client import Api, run
from stoker.api.wire.base import iso
from stoker.domain.access import Scope, digest_of
from stoker.domain.errors import Unauthenticated
from stoker.link.messages import KeyEntry, Report
from stoker.store.installation import DEFAULT_PROJECT


def test_a_key_is_shown_once_works_at_once_and_is_useless_once_revoked() -> None:
    async def body(api: Api) -> None:
        made = await api.call("POST", "/keys", {"name": "ci", "scopes": ["read"]})
        assert made.status == 201
        key, secret = made.json["key"], made.json["secret"]
        assert secret.startswith("sk-")
        assert secret.startswith(key["hint"])
        assert "secret" not in key
        assert "digest" not in key
        assert (await api.call("GET", "/info", key=secret)).status == 200
        listed = await api.call("GET", "/keys")
        assert secret.encode() not in listed.body
        assert [item["name"] for item in listed.json["items"]] == ["admin", "ci"]
        assert (await api.call("DELETE", f"/keys/{key['number']}")).status == 204
        assert (await api.call("GET", "/info", key=secret)).status == 401
        assert [item["name"] for item in (await api.call("GET", "/keys")).json["items"]] == ["admin"]
        assert (await api.call("DELETE", f"/keys/{key['id']}")).status == 204, "revoked already, which is as wanted"

    run(body)


def test_a_key_expires() -> None:
    async def body(api: Api) -> None:
        made = (await api.call("POST", "/keys", {"name": "k", "scopes": ["read"], "expires_in_s": 60})).json
        assert made["key"]["expires_at"].endswith("Z")
        assert (await api.call("GET", "/info", key=made["secret"])).status == 200
        await asyncio.sleep(60)
        assert (await api.call("GET", "/info", key=made["secret"])).status == 401

    run(body)


def test_a_key_that_makes_no_sense_is_refused_and_not_made() -> None:
    async def body(api: Api) -> None:
        good = {"name": "k", "scopes": ["read"]}
        before = await api.dump()
        for change, status, pointer in (
            ({"name": ""}, 422, "/name"),
            ({"name": "k" * 256}, 422, "/name"),
            ({"name": "a\nb"}, 422, "/name"),
            ({"scopes": []}, 422, "/scopes"),
            ({"scopes": ["root"]}, 422, "/scopes/0"),
            ({"scopes": "read"}, 422, "/scopes"),
            ({"expires_in_s": 0}, 422, "/expires_in_s"),
            ({"expires_in_s": -5}, 422, "/expires_in_s"),
            ({"expires_in_s": 1e300}, 422, "/expires_in_s"),
            ({"expires_in_s": 1e12}, 422, "/expires_in_s"),
            ({"expires_in_s": float("nan")}, 422, "/expires_in_s"),
            ({"endpoints": ["nothing"]}, 404, None),
            ({"secret": "sk-mine"}, 422, "/secret"),
        ):
            answer = await api.call("POST", "/keys", good | change)
            assert answer.status == status, (change, answer.body)
            if pointer is not None:
                assert pointer in [problem["pointer"] for problem in answer.json["errors"]], answer.json
        assert (await api.call("DELETE", "/keys/99")).status == 404
        assert (await api.call("DELETE", "/keys/nobody")).status == 404
        assert await api.dump() == before

    run(body)


def test_a_key_names_endpoints_by_whatever_names_them() -> None:
    async def body(api: Api) -> None:
        made = await api.create("My Chat")
        for reference in ("my-chat", "My Chat", str(made["number"]), made["id"]):
            answer = await api.call("POST", "/keys", {"name": "k", "scopes": ["invoke"], "endpoints": [reference]})
            assert answer.json["key"]["endpoints"] == [made["id"]]

    run(body)


def test_a_limited_admin_cannot_make_a_key_that_reaches_further() -> None:
    async def body(api: Api) -> None:
        mine, other = await api.create("mine"), await api.create("other")
        limited = await api.key(Scope.ADMIN, endpoints=[mine["id"]])
        before = await api.dump()
        wanted = {"name": "k", "scopes": ["read"]}
        assert (await api.call("POST", "/keys", wanted, key=limited)).status == 403
        assert (await api.call("POST", "/keys", wanted | {"endpoints": [other["id"]]}, key=limited)).status == 404
        assert await api.dump() == before
        assert (await api.call("POST", "/keys", wanted | {"endpoints": ["mine"]}, key=limited)).status == 201

    run(body)


def test_keys_come_in_pages() -> None:
    async def body(api: Api) -> None:
        for index in range(4):
            await api.call("POST", "/keys", {"name": f"k{index}", "scopes": ["read"]})
        first = (await api.call("GET", "/keys?limit=3")).json
        second = (await api.call("GET", f"/keys?limit=3&cursor={first['next']}")).json
        names = [key["name"] for key in first["items"] + second["items"]]
        assert names == ["admin", "k0", "k1", "k2", "k3"]
        assert second["next"] is None

    run(body)


def test_a_revealable_key_is_shown_again_and_each_time_is_recorded() -> None:
    async def body(api: Api) -> None:
        wanted = {"name": "k", "scopes": ["read"], "revealable": True}
        made = (await api.call("POST", "/keys", wanted)).json
        assert made["key"]["revealable"]
        assert made["secret"] not in str(await api.dump())
        shown = await api.call("GET", f"/keys/{made['key']['id']}/secret")
        assert shown.json["secret"] == made["secret"]
        events = (await api.call("GET", "/audit?action=key.reveal")).json["items"]
        assert [event["target"] for event in events] == [made["key"]["id"]]
        plain = (await api.call("POST", "/keys", {"name": "p", "scopes": ["read"]})).json["key"]
        assert (await api.call("GET", f"/keys/{plain['id']}/secret")).status == 409
        await api.call("DELETE", f"/keys/{made['key']['id']}")
        assert (await api.call("GET", f"/keys/{made['key']['id']}/secret")).status == 409, "revoked, its secret is gone"

    run(body)


def test_a_signing_key_is_a_pair_whose_secret_is_found_by_its_id_and_is_no_bearer() -> None:
    async def body(api: Api) -> None:
        made = (await api.call("POST", "/keys", {"name": "exo", "scopes": ["deploy"], "kind": "signing"})).json
        access_id, secret = made["key"]["access_id"], made["secret"]
        assert access_id.startswith("EXO")
        assert secret not in str(await api.dump())
        keys = api.world.stoker.keys
        principal, found = keys.signing(access_id)
        assert (principal.key, found) == (made["key"]["id"], secret)
        assert principal.scopes == {Scope.DEPLOY}
        for text in (access_id, secret):
            assert (await api.call("GET", "/info", key=text)).status == 401
        await api.world.crash()
        await api.world.boot()
        assert api.world.stoker.keys.signing(access_id)[1] == secret
        await api.world.stoker.keys.revoke(made["key"]["id"], project=DEFAULT_PROJECT)
        with pytest.raises(Unauthenticated):
            api.world.stoker.keys.signing(access_id)

    run(body)


def test_limits_reach_the_gateway_and_are_changed_at_once() -> None:
    async def body(api: Api) -> None:
        wanted = {"name": "k", "scopes": ["invoke"], "rate_per_s": 2.5, "burst": 10, "concurrency": 4}
        made = (await api.call("POST", "/keys", wanted)).json

        def entry() -> KeyEntry:
            return api.world.stoker.link._keys[digest_of(made["secret"])]

        assert (entry().rate_per_s, entry().burst, entry().concurrency) == (2.5, 10, 4)
        path = f"/keys/{made['key']['id']}"
        changed = (await api.call("PATCH", path, {"rate_per_s": None, "burst": None, "concurrency": 8})).json
        assert (changed["rate_per_s"], changed["burst"], changed["concurrency"]) == (None, None, 8)
        assert (entry().rate_per_s, entry().burst, entry().concurrency) == (None, None, 8)

    run(body)


def test_a_key_gets_another_name_other_endpoints_and_another_end() -> None:
    async def body(api: Api) -> None:
        endpoint = await api.create("chat")
        made = (await api.call("POST", "/keys", {"name": "k", "scopes": ["read"], "expires_in_s": 60})).json
        path = f"/keys/{made['key']['id']}"
        changed = (await api.call("PATCH", path, {"name": "l", "endpoints": ["chat"], "expires_in_s": None})).json
        assert (changed["name"], changed["endpoints"], changed["expires_at"]) == ("l", [endpoint["id"]], None)
        other = await api.create("other")
        assert (await api.call("GET", f"/endpoints/{other['id']}", key=made["secret"])).status == 404
        await asyncio.sleep(100)
        assert (await api.call("GET", "/endpoints/chat", key=made["secret"])).status == 200
        untouched = (await api.call("PATCH", path, {"concurrency": 1})).json
        assert (untouched["name"], untouched["endpoints"]) == ("l", [endpoint["id"]])
        await api.call("DELETE", path)
        assert (await api.call("PATCH", path, {"name": "m"})).status == 409

    run(body)


@pytest.mark.parametrize(
    ("change", "pointer"),
    [
        ({"rate_per_s": 0}, "/rate_per_s"),
        ({"rate_per_s": -1}, "/rate_per_s"),
        ({"burst": 5}, "/burst"),
        ({"rate_per_s": 1, "burst": 0}, "/burst"),
        ({"concurrency": 0}, "/concurrency"),
        ({"concurrency": 10_000_000}, "/concurrency"),
        ({"kind": "magic"}, "/kind"),
        ({"installation": True}, "/installation"),
    ],
)
def test_limits_that_make_no_sense_are_refused(change: dict[str, object], pointer: str) -> None:
    async def body(api: Api) -> None:
        before = await api.dump()
        answer = await api.call("POST", "/keys", {"name": "k", "scopes": ["read"]} | change)
        assert [problem["pointer"] for problem in answer.json["errors"]] == [pointer], answer.body
        assert await api.dump() == before

    run(body)


def test_only_a_key_of_the_installation_makes_another_and_touches_one() -> None:
    async def body(api: Api) -> None:
        key, first = await api.world.stoker.keys.create(
            DEFAULT_PROJECT, name="first", scopes=frozenset({Scope.ADMIN}), installation=True
        )
        wanted = {"name": "k", "scopes": ["admin"], "installation": True}
        assert (await api.call("POST", "/keys", wanted)).status == 403
        for method, path, value in (
            ("PATCH", f"/keys/{key.id}", {"name": "x"}),
            ("DELETE", f"/keys/{key.id}", None),
        ):
            assert (await api.call(method, path, value)).status == 403
        made = await api.call("POST", "/keys", wanted, key=first)
        assert made.json["key"]["installation"]
        assert (await api.call("POST", "/projects", {"name": "p"}, key=made.json["secret"])).status == 201

    run(body)


def test_when_a_key_was_last_used_is_known_from_calls_and_from_the_gateway_and_kept() -> None:
    async def body(api: Api) -> None:
        made = (await api.call("POST", "/keys", {"name": "k", "scopes": ["read"]})).json
        quiet = (await api.call("POST", "/keys", {"name": "q", "scopes": ["invoke"]})).json["key"]
        path = f"/keys/{made['key']['id']}"
        assert (await api.call("GET", path)).json["last_used_at"] is None, "unknown, which is not never"
        await api.call("GET", "/info", key=made["secret"])
        used = (await api.call("GET", path)).json["last_used_at"]
        assert used is not None
        api.world.stoker.gateway.reported(Report(api.world.stoker.link.seq, 1.0, (), keys_used=(quiet["id"],)))
        await asyncio.sleep(61)
        await api.world.crash()
        await api.world.boot()
        keys = api.world.stoker.keys
        principal = keys.principal(api.secret)
        assert iso((await keys.get(principal, made["key"]["id"])).last_used_at) == used
        assert (await keys.get(principal, quiet["id"])).last_used_at is not None

    run(body)
