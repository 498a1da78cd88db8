"""Keys, engines and the schema of endpoint documents."""

from __future__ import annotations

import json

import pytest

from cli.fake_stoker import CREATED, Command, FakeStoker, page

KEYS = [
    {
        "id": f"k-{number}",
        "number": number,
        "name": name,
        "hint": "sk-abc",
        "scopes": ["invoke"],
        "endpoints": None,
        "created_at": CREATED,
        "expires_at": None,
        "last_used_at": None,
    }
    for number, name in ((1, "ci"), (2, "web"), (3, "web"))
]


def test_a_new_keys_secret_is_all_that_is_on_stdout(stoker: Command, fake: FakeStoker) -> None:
    fake.add("chat")
    fake.on("POST", "/keys", (201, {"key": KEYS[0], "secret": "sk-secret"}))
    ran = stoker("keys", "create", "ci", "--scope", "read", "--endpoint", "chat", "--expires", "30d")
    assert (ran.code, ran.out) == (0, "sk-secret\n")
    expected = {"name": "ci", "scopes": ["read"], "endpoints": ["0190-1"], "expires_in_s": 30 * 86_400.0}
    assert fake.of("POST")[0].body == expected


def test_a_key_may_only_invoke_unless_more_is_said(stoker: Command, fake: FakeStoker) -> None:
    fake.on("POST", "/keys", (201, {"key": KEYS[0], "secret": "sk-secret"}))
    stoker("keys", "create", "ci")
    assert fake.of("POST")[0].body["scopes"] == ["invoke"]
    assert stoker("keys", "create", "ci", "--scope", "everything").code == 2


def test_keys_are_listed_without_secrets(stoker: Command, fake: FakeStoker) -> None:
    fake.on("GET", "/keys", page(KEYS))
    assert stoker("keys", "ls").out.splitlines()[1].split()[:6] == ["1", "ci", "sk-abc", "invoke", "all", "never"]


@pytest.mark.parametrize("which", ["ci", "1", "k-1"])
def test_a_key_is_revoked_by_name_number_or_id(stoker: Command, fake: FakeStoker, which: str) -> None:
    fake.on("GET", "/keys", page(KEYS))
    fake.on("DELETE", "/keys/k-1", {})
    assert stoker("keys", "rm", which).code == 0
    assert len(fake.of("DELETE")) == 1


@pytest.mark.parametrize(("which", "code"), [("web", 2), ("nobody", 4)])
def test_a_key_that_is_not_clear_is_not_revoked(stoker: Command, fake: FakeStoker, which: str, code: int) -> None:
    fake.on("GET", "/keys", page(KEYS))
    assert stoker("keys", "rm", which).code == code
    assert fake.of("DELETE") == []


def test_engines_and_their_parameters_are_listed(stoker: Command, fake: FakeStoker) -> None:
    fake.on("GET", "/engines", page(["llamacpp", "vllm"]))
    assert stoker("engines").out == "llamacpp\nvllm\n"
    parameter = {
        "name": "dtype",
        "flags": ["--dtype"],
        "type": "enum",
        "default": "auto",
        "allowed": ["auto", "half"],
        "section": "",
        "description": "Type of weights.",
    }
    fake.on("GET", "/engines/vllm/parameters", page([parameter]))
    line = stoker("engines", "vllm", "--version", "0.15.1").out.splitlines()[1]
    assert line.split() == ["--dtype", "auto,half", "auto", "Type", "of", "weights."]
    assert fake.asked[-1].query == {"version": "0.15.1"}


def test_the_schema_of_the_endpoint_document_is_printed_without_a_stoker(stoker: Command, fake: FakeStoker) -> None:
    ran = stoker("schema")
    assert ran.code == 0
    assert json.loads(ran.out)["title"] == "Stoker endpoint"
    assert ran.out == stoker("schema", "--json").out
    assert fake.asked == []
