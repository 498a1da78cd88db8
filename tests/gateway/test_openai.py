"""The OpenAI-compatible front: from `model` to an endpoint."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from gateway.loopback import KEY, OTHER_KEY, Site, endpoint, key, run, site, worker
from gateway.wire import Reply

KEYS = (key(), key(OTHER_KEY, project=2), key("sk-one", endpoints=("id-chat",)))


async def complete(s: Site, model: str | None, *headers: str, secret: str = KEY) -> Reply:
    """A chat completion."""
    body: dict[str, Any] = {"messages": [{"role": "user", "content": "x" * 100}]}
    if model is not None:
        body = {"temperature": 1, **body, "model": model}
    return await s.ask("POST", "/v1/chat/completions", *headers, body=json.dumps(body).encode(), secret=secret)


@pytest.mark.parametrize("model", ["chat", "Chat", "model-chat", "id-chat"])
def test_a_model_is_a_slug_a_name_or_what_workers_serve(tmp_path: Path, model: str) -> None:
    async def main() -> None:
        async with worker() as w, site(tmp_path, endpoint(w.entry()), endpoint(slug="other", number=2)) as s:
            assert (await complete(s, model)).status == 200
            [asked] = w.asked
            assert asked.target == "/v1/chat/completions"
            assert json.loads(asked.body)["model"] == model

    run(main)


def test_a_model_served_twice_is_ambiguous_unless_the_key_reaches_only_one(tmp_path: Path) -> None:
    async def main() -> None:
        async with worker() as w:
            one = endpoint(w.entry(), models=("shared",))
            two = endpoint(w.entry("w2"), slug="other", number=2, models=("shared",))
            foreign = endpoint(slug="foreign", number=3, project=2, models=("shared",))
            async with site(tmp_path, one, two, foreign, keys=KEYS) as s:
                reply = await complete(s, "shared")
                error = json.loads(reply.body)["error"]
                assert (reply.status, error["code"], error["candidates"]) == (400, "model_ambiguous", ["chat", "other"])
                assert (await complete(s, "shared", secret="sk-one")).status == 200
                assert (await complete(s, "shared", "X-Stoker-Endpoint: other")).status == 200

    run(main)


def test_an_unknown_model_is_not_found_and_some_known_ones_are_named(tmp_path: Path) -> None:
    async def main() -> None:
        entries = [endpoint(slug=f"e{number:02}", number=number) for number in range(1, 13)]
        async with site(tmp_path, *entries, endpoint(slug="foreign", number=99, project=2)) as s:
            reply = await complete(s, "nothing")
            error = json.loads(reply.body)["error"]
            assert (reply.status, error["code"]) == (404, "model_not_found")
            assert "e01" in error["message"]
            assert "e10 and 2 more" in error["message"]
            assert "foreign" not in error["message"]
            assert (await complete(s, "foreign")).status == 404

    run(main)


def test_a_key_is_needed_unless_the_endpoint_is_open(tmp_path: Path) -> None:
    async def main() -> None:
        async with worker() as w:
            closed, free = endpoint(w.entry()), endpoint(w.entry("w2"), slug="free", number=2, access="open")
            async with site(tmp_path, closed) as s:
                reply = await complete(s, "chat", secret="")
                assert (reply.status, json.loads(reply.body)["error"]["type"]) == (401, "authentication_error")
                await s.control.tell(free)
                for model, status in (("chat", 401), ("free", 200), ("nothing", 401)):
                    assert (await complete(s, model, secret="")).status == status
                    assert (await complete(s, model, secret="sk-unknown")).status == status
                assert (await complete(s, "free", secret=KEY)).status == 200

    run(main)


@pytest.mark.parametrize("reference", ["chat", "id-chat", "1"])
def test_the_header_names_an_endpoint_without_reading_the_body(tmp_path: Path, reference: str) -> None:
    async def main() -> None:
        async with worker() as w, site(tmp_path, endpoint(w.entry()), keys=KEYS) as s:
            assert (await s.ask("POST", "/v1/audio/x", f"X-Stoker-Endpoint: {reference}", body=b"\0")).status == 200
            assert w.asked[0].header("X-Stoker-Endpoint") is None
            named = f"X-Stoker-Endpoint: {reference}"
            assert (await s.ask("POST", "/v1/audio/x", named, body=b"\0", secret="")).status == 401
            assert (await s.ask("POST", "/v1/audio/x", named, body=b"\0", secret=OTHER_KEY)).status == 404
            assert (await s.ask("POST", "/v1/audio/x", "X-Stoker-Endpoint: no", body=b"\0")).status == 404

    run(main)


@pytest.mark.parametrize(
    ("body", "code"),
    [(b"", "invalid_body"), (b"{", "invalid_body"), (b'{"model": 3}', "invalid_body"), (b"{}", "model_missing")],
)
def test_a_body_without_a_model_is_refused(tmp_path: Path, body: bytes, code: str) -> None:
    async def main() -> None:
        async with site(tmp_path, endpoint()) as s:
            reply = await s.ask("POST", "/v1/completions", body=body)
            assert (reply.status, json.loads(reply.body)["error"]["code"]) == (400, code)

    run(main)


def test_a_long_body_is_read_as_a_whole_up_to_a_limit(tmp_path: Path) -> None:
    async def main() -> None:
        async with worker() as w, site(tmp_path, endpoint(w.entry())) as s:
            body = json.dumps({"prompt": "x" * 3_000_000, "model": "chat"}).encode()
            assert (await s.ask("POST", "/v1/completions", "Expect: 100-continue", body=body)).status == 100
            assert (await s.ask("POST", "/v1/completions", body=body)).status == 200
            assert w.asked[-1].body == body
            client = await s.connect()
            await client.send("POST", "/v1/completions", f"Content-Length: {9 * 1024 * 1024}")
            assert (await client.reply()).status == 413
            client.close()

    run(main)


def test_the_list_of_models_is_what_the_key_may_call(tmp_path: Path) -> None:
    async def main() -> None:
        foreign = endpoint(slug="foreign", number=2, project=2)
        async with site(tmp_path, endpoint(created_s=12.5), foreign) as s:
            reply = await s.ask("GET", "/v1/models")
            expected = {"id": "chat", "object": "model", "created": 12, "owned_by": "stoker"}
            assert json.loads(reply.body) == {"object": "list", "data": [expected, {**expected, "id": "model-chat"}]}
            assert json.loads((await s.ask("GET", "/v1/models/chat")).body) == expected
            assert (await s.ask("GET", "/v1/models/foreign")).status == 404
            assert (await s.ask("GET", "/v1/models", secret="")).status == 401

    run(main)
