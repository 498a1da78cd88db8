"""Idempotency-Key: a request that is sent again is not run again."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from api.client import Answer, Api, run, spec
from stoker.domain.access import Scope
from stoker.store.tables import idempotency


async def post(api: Api, path: str, value: object, key: str, *, caller: str | None = None) -> Answer:
    return await api.call("POST", path, value, key=caller, headers={"idempotency-key": key})


async def remembered(api: Api) -> list[Any]:
    return (await api.dump())[idempotency.name]


def test_the_same_request_again_is_answered_again_and_not_run() -> None:
    async def body(api: Api) -> None:
        first = await post(api, "/endpoints", spec(), "k")
        assert (first.status, first.headers.get("idempotent-replayed")) == (201, None)
        before = await api.dump()
        again = await post(api, "/endpoints", spec(), "k")
        assert (again.status, again.headers["idempotent-replayed"]) == (201, "true")
        assert again.json == first.json
        assert again.headers["content-type"] == first.headers["content-type"]
        assert await api.dump() == before

    run(body)


def test_the_same_key_for_another_request_is_refused() -> None:
    async def body(api: Api) -> None:
        await api.create("a")
        await api.create("b")
        await post(api, "/endpoints", spec(), "k")
        assert (await post(api, "/endpoints", spec("other"), "k")).status == 422
        assert (await post(api, "/endpoints/a:stop", None, "s")).status == 202
        other_path = await post(api, "/endpoints/b:stop", None, "s")
        assert (other_path.status, "another request" in other_path.json["detail"]) == (422, True)
        assert (await api.call("GET", "/endpoints/b")).json["phase"] == "active"

    run(body)


def test_keys_of_different_routes_do_not_meet() -> None:
    async def body(api: Api) -> None:
        await api.create("a")
        assert (await post(api, "/endpoints/a:stop", None, "k")).status == 202
        assert (await post(api, "/endpoints/a:start", None, "k")).status == 202
        assert (await post(api, "/endpoints", spec(), "k")).status == 201

    run(body)


def test_an_answer_is_for_its_own_caller() -> None:
    async def body(api: Api) -> None:
        secret = spec(launch={"command": ["x"], "env": {"TOKEN": "very-secret"}})
        await post(api, "/endpoints", secret, "k")
        reader, deployer = await api.key(Scope.READ), await api.key(Scope.DEPLOY)
        for caller, status in ((reader, 403), (deployer, 422)):
            answer = await post(api, "/endpoints", secret, "k", caller=caller)
            assert (answer.status, b"very-secret" in answer.body) == (status, False)
        assert (await post(api, "/endpoints", secret, "k", caller="sk-unknown")).status == 401

    run(body)


def test_while_the_first_still_runs_the_second_is_a_conflict() -> None:
    async def body(api: Api) -> None:
        api.world.gateway.silent = True
        running = asyncio.create_task(post(api, "/endpoints", spec(), "k"))
        await asyncio.sleep(0.5)
        assert (await post(api, "/endpoints", spec(), "k")).status == 409
        assert (await running).status == 201
        assert (await post(api, "/endpoints", spec(), "k")).headers["idempotent-replayed"] == "true"

    run(body)


def test_a_refused_request_does_not_use_its_key_up() -> None:
    async def body(api: Api) -> None:
        reader = await api.key(Scope.READ)
        for value, caller, status in (
            ({"name": "x"}, None, 422),
            (spec(slots=-1), None, 422),
            (spec(), reader, 403),
        ):
            assert (await post(api, "/endpoints", value, "k", caller=caller)).status == status
        assert (await post(api, "/endpoints/nothing:stop", None, "k")).status == 404
        assert await remembered(api) == []
        assert (await post(api, "/endpoints", spec(), "k")).status == 201

    run(body)


def test_a_request_that_failed_inside_may_be_sent_again() -> None:
    async def body(api: Api) -> None:
        write, failing = api.world.store.write, [False]

        async def perhaps(command: Any) -> Any:
            # Not the reservation of the Idempotency-Key itself.
            if failing[0] and "Keys" in repr(command):
                raise OSError("the disk is full")
            return await write(command)

        api.world.store.write = perhaps  # type: ignore[method-assign]
        failing[0] = True
        with pytest.raises(OSError, match="disk is full"):
            await post(api, "/keys", {"name": "k", "scopes": ["read"]}, "k")
        failing[0] = False
        assert (await post(api, "/keys", {"name": "k", "scopes": ["read"]}, "k")).status == 201

    run(body)


def test_a_secret_is_not_stored_and_not_shown_again() -> None:
    async def body(api: Api) -> None:
        wanted = {"name": "k", "scopes": ["read"]}
        first = await post(api, "/keys", wanted, "k")
        secret = first.json["secret"]
        assert secret not in repr(await api.dump())
        again = await post(api, "/keys", wanted, "k")
        assert (again.status, again.json["secret"], again.json["key"]) == (201, None, first.json["key"])

    run(body)


def test_a_key_has_bounds_and_other_methods_have_no_use_for_one() -> None:
    async def body(api: Api) -> None:
        await api.create("a")
        for key in ("", "k" * 256):
            assert (await post(api, "/endpoints", spec(), key)).status == 422
        for method, value in (("GET", None), ("PUT", spec("a")), ("PUT", spec("a", slots=3))):
            answer = await api.call(method, "/endpoints/a", value, headers={"idempotency-key": "k"})
            assert (answer.status, answer.headers.get("idempotent-replayed")) == (200, None)
        assert await remembered(api) == []

    run(body)
