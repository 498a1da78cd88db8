"""The frame of the native API: who is let in, how mistakes are told, what describes it."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from api.client import Api, Exchange, run, spec
from stoker.api.actions import ROUTES
from stoker.api.face import POINTER_CHARS_MAX
from stoker.store.base import Store
from stoker.web import BODY_BYTES_MAX

BODIES: dict[tuple[str, str], Any] = {
    ("POST", "/endpoints"): spec("another"),
    ("PUT", "/endpoints/{ref}"): spec(),
    ("POST", "/endpoints/{ref}:scale"): {"workers": 1},
    ("POST", "/endpoints/{ref}:rollback"): {"revision": 1},
    ("POST", "/endpoints:plan"): spec("third"),
    ("POST", "/keys"): {"name": "k", "scopes": ["read"]},
}


def filled(path: str) -> str:
    return path.replace("{ref}", "e").replace("{name}", "vllm").replace("{worker}", "w").replace("{operation}", "o")


def is_problem(answer: Any, status: int) -> dict[str, Any]:
    assert answer.status == status, answer.body
    assert answer.headers["content-type"] == "application/problem+json"
    found: dict[str, Any] = answer.json
    assert found["status"] == status
    assert found["title"]
    assert found["detail"]
    assert found["type"] == "about:blank"
    return found


def test_every_route_demands_a_key_that_is_known() -> None:
    async def body(api: Api) -> None:
        await api.create()
        before = await api.dump()
        for method, path in api.routes():
            for key in ("", "sk-nobody-knows-this-one", "sk-" + "x" * 10_000):
                answer = await api.call(method, filled(path), BODIES.get((method, path)), key=key)
                is_problem(answer, 401)
                assert answer.headers["www-authenticate"] == "Bearer"
        assert await api.dump() == before

    run(body)


def test_without_a_key_no_mistake_in_a_body_is_explained() -> None:
    async def body(api: Api) -> None:
        for data in (b"{", b"x" * (BODY_BYTES_MAX + 1)):
            is_problem(await api.call("POST", "/endpoints", body=data, key=""), 401)

    run(body)


def test_a_key_may_stand_in_either_header_and_the_bearer_wins() -> None:
    async def body(api: Api) -> None:
        own = api.secret
        for headers, status in (
            ({"x-api-key": own}, 200),
            ({"authorization": f"bearer {own}"}, 200),
            ({"authorization": f"Basic {own}"}, 401),
            ({"authorization": "Bearer "}, 401),
            ({"authorization": "Bearer wrong", "x-api-key": own}, 401),
        ):
            assert (await api.call("GET", "/info", key="", headers=headers)).status == status, headers

    run(body)


@pytest.mark.parametrize(
    ("data", "status", "said"),
    [
        pytest.param(b"{", 400, "not JSON", id="no JSON"),
        pytest.param(b'{"name": "\xff"}', 400, "body", id="no UTF-8"),
        pytest.param(b"[" * 100_000, 400, "body", id="nested beyond reading"),
        pytest.param(b'{"a":' * 400 + b"1" + b"}" * 400, 422, "no such field", id="nested"),
        pytest.param(b'{"slots":' + b"9" * 5_000 + b"}", 400, "body", id="a number of 5,000 digits"),
        pytest.param(b'{"name": "\\ud83d"}', 400, "surrogate", id="half a character"),
        pytest.param(b'{"\\uDE00": 1}', 400, "surrogate", id="half a character in a name"),
        pytest.param(b'"' + b"x" * BODY_BYTES_MAX + b'"', 413, "at most", id="too much"),
        pytest.param(b"", 422, "required", id="nothing"),
        pytest.param(b'"x"', 422, "an object", id="text"),
        pytest.param(b"[]", 422, "an object", id="a list"),
        pytest.param(b"null", 422, "an object", id="null"),
    ],
)
def test_a_body_that_cannot_be_read_is_told_so(data: bytes, status: int, said: str) -> None:
    async def body(api: Api) -> None:
        before = await api.dump()
        answer = await api.call("POST", "/endpoints", body=data, headers={"idempotency-key": "k"})
        assert said in json.dumps(is_problem(answer, status))
        assert await api.dump() == before

    run(body)


def test_a_body_that_does_not_say_it_is_json_is_told_to() -> None:
    async def body(api: Api) -> None:
        for kind in ("", "text/plain", "application/x-www-form-urlencoded", "text/json"):
            answer = await api.call("POST", "/endpoints", spec(), headers={"content-type": kind})
            assert "application/json" in is_problem(answer, 415)["detail"]
        for index, kind in enumerate(("application/json; charset=utf-8", "Application/JSON", "application/x+json")):
            answer = await api.call("POST", "/endpoints", spec(f"e{index}"), headers={"content-type": kind})
            assert answer.status == 201
        whole = json.dumps(spec("\N{GRINNING FACE}"))
        assert "\\ud83d\\ude00" in whole
        assert (await api.call("POST", "/endpoints", body=whole.encode())).status == 201

    run(body)


def test_unknown_addresses_and_methods_are_problems_too() -> None:
    async def body(api: Api) -> None:
        is_problem(await api.call("GET", "/nothing"), 404)
        answer = await api.call("PATCH", "/endpoints/e")
        is_problem(answer, 405)
        assert answer.headers["allow"]

    run(body)


def test_a_pointer_is_bounded_and_escaped() -> None:
    async def body(api: Api) -> None:
        answer = await api.call("POST", "/endpoints", {**spec(), "a/b~c": 1, "x" * 100_000: 1})
        pointers = {problem["pointer"] for problem in is_problem(answer, 422)["errors"]}
        assert "/a~1b~0c" in pointers
        assert max(map(len, pointers)) == POINTER_CHARS_MAX

    run(body)


def test_a_fault_of_stoker_is_a_problem_that_tells_nothing_of_its_inside() -> None:
    async def body(api: Api) -> None:
        def broken(*_: object) -> Any:
            raise RuntimeError("the inside")

        store: Store = api.world.store
        store.read = broken  # type: ignore[method-assign,assignment]
        exchange = Exchange(api.app, "GET", "/api/v1/endpoints", {"x-api-key": api.secret}, b"")
        start = await exchange.sent()
        message = await exchange.sent()
        assert (start["status"], b"the inside" in message["body"]) == (500, False)
        assert json.loads(message["body"])["status"] == 500
        with pytest.raises(RuntimeError, match="the inside"):
            await exchange.sent()

    run(body)


def test_the_description_renders_and_names_every_route() -> None:
    async def body(api: Api) -> None:
        answer = await Exchange(api.app, "GET", "/api/openapi.json", {}, b"").answer()
        assert answer.status == 200
        described = {(method.upper(), path) for path, methods in answer.json["paths"].items() for method in methods}
        assert described == set(ROUTES)
        assert answer.json["servers"] == [{"url": "/api/v1"}]
        for path, methods in answer.json["paths"].items():
            for method, operation in methods.items():
                assert operation.get("description"), f"{method} {path} does not say what it does"
        page = await Exchange(api.app, "GET", "/api/docs", {}, b"").answer()
        assert page.status == 200
        assert re.search(rb"/api/openapi\.json", page.body)

    run(body)
