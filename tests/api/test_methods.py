"""Addresses and methods that no route has, HEAD and OPTIONS everywhere, and pages of other origins."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import pytest
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from api.client import Answer, Api, Exchange, run
from stoker import faces
from stoker.api.methods import allowed

PAGE = "https://console.example"


def is_problem(answer: Answer, status: int) -> Any:
    assert answer.status == status, answer.body
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json["status"] == status
    assert answer.json["detail"]
    return answer.json


async def _metrics(_request: Request) -> PlainTextResponse:
    return PlainTextResponse("page")


Ask = Callable[..., Awaitable[Answer]]


def asking(body: Callable[[Api, Ask], Awaitable[None]], *, cors_origins: tuple[str, ...] = ()) -> None:
    """Run `body` with a function that calls any address with the admin's key."""

    async def main(api: Api) -> None:
        app = faces.make(api.world.stoker.services, (), Route("/metrics", _metrics), cors_origins=cors_origins)

        async def ask(method: str, path: str, headers: Mapping[str, str] | None = None, *, key: bool = True) -> Answer:
            sent = {"authorization": f"Bearer {api.secret}"} if key else {}
            return await Exchange(app, method, path, {**sent, **(headers or {})}, b"").answer()

        await body(api, ask)

    run(main)


METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS", "BREW")
NOWHERE = (
    "/",
    "/nothing",
    "/nothing/",
    "/metrics/",
    "/api",
    "/api/",
    "/api/v1",
    "/api/v1/",
    "/api/v2/endpoints",
    "/api/v1/nothing",
    "/api/v1/endpoints/",
    "/api/v1/endpoints/a/b/c",
    "/api/v1//endpoints",
    "/api/docs/",
    "/api/openapi.json/x",
)


def test_where_nothing_is_every_method_gets_a_problem() -> None:
    async def body(_api: Api, ask: Ask) -> None:
        for path in NOWHERE:
            for method in METHODS:
                for key in (True, False):
                    told = is_problem(await ask(method, path, key=key), 404)
                    assert told["detail"] == "there is nothing at this address", (method, path)

    asking(body)


NOT_TAKEN = (
    ("BREW", "/api/v1/endpoints", "GET, HEAD, OPTIONS, POST"),
    ("DELETE", "/api/v1/endpoints", "GET, HEAD, OPTIONS, POST"),
    ("POST", "/api/v1/endpoints/e", "DELETE, GET, HEAD, OPTIONS, PUT"),
    ("POST", "/api/v1/info", "GET, HEAD, OPTIONS"),
    ("HEAD", "/api/v1/endpoints:plan", "OPTIONS, POST"),
    ("POST", "/metrics", "GET, HEAD"),
    ("DELETE", "/api/docs", "GET, HEAD"),
    ("OPTIONS", "/api/openapi.json", "GET, HEAD"),
)


def test_a_method_that_an_address_does_not_take_is_told_which_it_does() -> None:
    async def body(_api: Api, ask: Ask) -> None:
        for method, path, allow in NOT_TAKEN:
            answer = await ask(method, path)
            is_problem(answer, 405)
            assert sorted(answer.headers["allow"].split(", ")) == allow.split(", "), (method, path)

    asking(body)


def test_every_route_says_its_methods_to_anybody() -> None:
    async def body(api: Api, ask: Ask) -> None:
        for method, path in api.routes():
            target = re.sub(r"\{[^}]*\}", "x", path.replace("{name}", "vllm"))
            answer = await ask("OPTIONS", f"/api/v1{target}", key=False)
            assert (answer.status, answer.body) == (204, b""), path
            assert method in answer.headers["allow"].split(", "), path

    asking(body)


def test_head_is_get_without_its_body_and_takes_the_same_key() -> None:
    async def body(api: Api, ask: Ask) -> None:
        await api.create()
        for path in ("/api/v1/endpoints", "/api/v1/endpoints/e", "/api/v1/info", "/api/openapi.json", "/api/docs"):
            got, head = await ask("GET", path), await ask("HEAD", path)
            assert (head.status, head.headers["content-type"]) == (200, got.headers["content-type"])
            if path.startswith("/api/v1"):
                # Servers drop what applications send beyond the head; here it is not made at all.
                assert head.body == b""
                assert head.headers["content-length"] == str(len(got.body)) or path.endswith("info")
        assert (await ask("HEAD", "/api/v1/endpoints", key=False)).status == 401
        assert (await ask("HEAD", "/api/v1/endpoints/nobody")).status == 404

    asking(body)


def test_head_of_what_would_stream_for_ever_ends() -> None:
    async def body(api: Api, ask: Ask) -> None:
        await api.create(min=1)
        answer = await ask("HEAD", "/api/v1/endpoints/e/logs?follow=true")
        assert (answer.status, answer.body) == (200, b"")

    asking(body)


def test_allowed_knows_nothing_of_what_is_not_there() -> None:
    assert allowed("/nothing") == ()
    assert allowed("/endpoints") == ("GET", "HEAD", "OPTIONS", "POST")


def _cors(answer: Answer) -> list[str]:
    return [name for name in answer.headers if name.startswith("access-control-")]


def test_no_page_of_another_origin_may_call_unless_the_settings_let_it() -> None:
    async def body(_api: Api, ask: Ask) -> None:
        preflight = {"origin": PAGE, "access-control-request-method": "GET"}
        for answer in (
            await ask("GET", "/api/v1/info", {"origin": PAGE}),
            await ask("OPTIONS", "/api/v1/info", preflight),
        ):
            assert _cors(answer) == []

    asking(body)


@pytest.mark.parametrize(("origins", "said"), [((PAGE,), PAGE), (("*",), "*")])
def test_a_page_of_an_allowed_origin_may_call_and_read_errors(origins: tuple[str, ...], said: str) -> None:
    async def body(_api: Api, ask: Ask) -> None:
        for method, path, status, key in (
            ("GET", "/api/v1/info", 200, True),
            ("GET", "/api/v1/info", 401, False),
            ("GET", "/api/v1/nothing", 404, True),
            ("DELETE", "/api/v1/info", 405, True),
            ("GET", "/api/v1/endpoints?limit=x", 422, True),
        ):
            answer = await ask(method, path, {"origin": PAGE}, key=key)
            assert (answer.status, answer.headers["access-control-allow-origin"]) == (status, said)
            assert "Retry-After" in answer.headers["access-control-expose-headers"]
            assert "access-control-allow-credentials" not in answer.headers

    asking(body, cors_origins=origins)


def test_a_page_of_an_allowed_origin_may_ask_before_it_sends() -> None:
    async def body(_api: Api, ask: Ask) -> None:
        asked = {
            "origin": PAGE,
            "access-control-request-method": "PATCH",
            "access-control-request-headers": "authorization, content-type, idempotency-key, x-stoker-project",
        }
        answer = await ask("OPTIONS", "/api/v1/keys/k", asked, key=False)
        assert (answer.status, answer.body) == (204, b"")
        assert answer.headers["access-control-allow-origin"] == PAGE
        assert "PATCH" in answer.headers["access-control-allow-methods"]
        for wrong in (
            {"origin": "https://evil.example"},
            {"access-control-request-method": "BREW"},
            {"access-control-request-headers": "x-something"},
        ):
            refused = await ask("OPTIONS", "/api/v1/keys/k", asked | wrong, key=False)
            assert "cors_origins" in is_problem(refused, 403)["detail"]

    asking(body, cors_origins=(PAGE,))


def test_a_page_of_another_origin_is_not_let_in_by_the_one_that_is() -> None:
    async def body(_api: Api, ask: Ask) -> None:
        for origin in ("https://evil.example", "null", PAGE + ".evil.example", PAGE.upper()):
            answer = await ask("GET", "/api/v1/info", {"origin": origin})
            assert "access-control-allow-origin" not in answer.headers
            assert "Origin" in answer.headers["vary"], "caches keep them apart"

    asking(body, cors_origins=(PAGE,))
