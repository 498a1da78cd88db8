"""Keys through the native API."""

from __future__ import annotations

import asyncio

from api.client import Api, run
from stoker.domain.access import Scope


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
