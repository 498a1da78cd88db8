"""Projects, secrets, registry credentials, audit events and what keys can do beyond being made."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest

from cli.fake_stoker import CREATED, Command, FakeStoker, page, problem

KEY = {
    "id": "k-1",
    "number": 1,
    "name": "ci",
    "hint": "sk-abc",
    "access_id": None,
    "scopes": ["invoke"],
    "endpoints": None,
    "created_at": CREATED,
    "expires_at": None,
    "last_used_at": CREATED,
}
SECRET = {"id": "s-1", "number": 1, "name": "hf", "description": "", "created_at": CREATED, "updated_at": CREATED}
CREDENTIAL = {
    "id": "c-1",
    "number": 1,
    "name": "reg",
    "registry": "ghcr.io",
    "username": "me",
    "created_at": CREATED,
    "updated_at": CREATED,
}
PROJECT = {"id": "p-2", "number": 2, "name": "team", "created_at": CREATED}


class Stdin(io.StringIO):
    """Standard input that is no terminal."""

    def __init__(self, data: bytes) -> None:
        super().__init__()
        self.buffer = io.BytesIO(data)  # type: ignore[misc]

    def isatty(self) -> bool:
        return False


def test_a_command_acts_for_the_project_that_is_named(stoker: Command, fake: FakeStoker) -> None:
    fake.on("GET", "/secrets", page([SECRET]))
    assert stoker("secrets", "ls", "--project", "team").code == 0
    assert fake.asked[-1].headers["x-stoker-project"] == "team"
    stoker("secrets", "ls")
    assert "x-stoker-project" not in fake.asked[-1].headers
    assert stoker("secrets", "ls", "--project", "a\nb").code == 2


def test_projects_are_made_listed_renamed_and_deleted(stoker: Command, fake: FakeStoker) -> None:
    fake.on("POST", "/projects", (201, PROJECT))
    fake.on("GET", "/projects", page([PROJECT]))
    fake.on("GET", "/projects/team", PROJECT)
    fake.on("PATCH", "/projects/team", PROJECT | {"name": "crew"})
    fake.on("DELETE", "/projects/team", {})
    assert stoker("projects", "create", "team").out == "project team has number 2\n"
    assert stoker("projects", "ls").out.splitlines()[1].split()[:2] == ["2", "team"]
    assert "p-2" in stoker("projects", "show", "team").out
    assert stoker("projects", "rename", "team", "crew").out == "project 2 is called crew\n"
    assert stoker("projects", "rm", "team").code == 0
    assert [(one.method, one.body) for one in fake.asked if one.method == "PATCH"] == [("PATCH", {"name": "crew"})]
    assert json.loads(stoker("projects", "ls", "--json").out) == [PROJECT]


@pytest.mark.parametrize("data", [b"hunter2", b"hunter2\n", b"hunter2\r\n"])
def test_a_secret_is_read_from_standard_input_and_made(
    stoker: Command, fake: FakeStoker, monkeypatch: pytest.MonkeyPatch, data: bytes
) -> None:
    monkeypatch.setattr("sys.stdin", Stdin(data))
    fake.on("GET", "/secrets/hf", (404, problem(404, "no secret")))
    fake.on("POST", "/secrets", (201, SECRET))
    ran = stoker("secrets", "set", "hf", "--description", "for models")
    assert (ran.code, "hunter2" in ran.out + ran.err) == (0, False)
    assert fake.of("POST")[0].body == {"name": "hf", "value": "hunter2", "description": "for models"}


def test_a_secret_that_there_is_gets_another_value_from_a_file(
    stoker: Command, fake: FakeStoker, tmp_path: Path
) -> None:
    (tmp_path / "value").write_text("hunter3\n")
    fake.on("GET", "/secrets/hf", SECRET)
    fake.on("PATCH", "/secrets/hf", SECRET)
    assert stoker("secrets", "set", "hf", "--from-file", str(tmp_path / "value")).code == 0
    assert fake.of("PATCH")[0].body == {"value": "hunter3"}


@pytest.mark.parametrize("content", [None, b"\xff\xfe", b"x" * 200_000])
def test_a_value_that_cannot_be_read_is_sent_nowhere(
    stoker: Command, fake: FakeStoker, tmp_path: Path, content: bytes | None
) -> None:
    if content is not None:
        (tmp_path / "value").write_bytes(content)
    assert stoker("secrets", "set", "hf", "--from-file", str(tmp_path / "value")).code == 2
    assert fake.of("POST") == []


def test_a_secret_is_shown_without_its_value_unless_that_is_asked_for(stoker: Command, fake: FakeStoker) -> None:
    fake.on("GET", "/secrets/hf", SECRET)
    fake.on("GET", "/secrets/hf/value", {"name": "hf", "value": "hunter2"})
    assert "hunter2" not in stoker("secrets", "show", "hf").out
    assert stoker("secrets", "show", "hf", "--reveal").out == "hunter2\n"


def test_a_secret_is_deleted_unless_it_is_used(stoker: Command, fake: FakeStoker) -> None:
    fake.on("GET", "/secrets/hf", SECRET)
    fake.on("DELETE", "/secrets/hf", (409, problem(409, "the secret 'hf' is used by chat; change them first")))
    ran = stoker("secrets", "rm", "hf")
    assert (ran.code, "used by chat" in ran.err) == (1, True)
    fake.on("DELETE", "/secrets/hf", {})
    assert stoker("secrets", "rm", "hf").out == "secret hf is deleted\n"


@pytest.mark.parametrize(("left", "code"), [(0, 0), (2, 1)])
def test_the_master_key_is_rotated(stoker: Command, fake: FakeStoker, left: int, code: int) -> None:
    fake.on("POST", "/master-key:rotate", {"current": "abc", "sealed": 3, "old": [], "left": left})
    ran = stoker("secrets", "rotate-master-key")
    assert (ran.code, ran.out) == (code, "3 secrets under the master key abc\n")


def test_registry_credentials_are_made_changed_listed_and_deleted(
    stoker: Command, fake: FakeStoker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", Stdin(b"pw\n"))
    fake.on("POST", "/registry-credentials", (201, CREDENTIAL))
    fake.on("GET", "/registry-credentials", page([CREDENTIAL]))
    fake.on("GET", "/registry-credentials/reg", CREDENTIAL)
    fake.on("PATCH", "/registry-credentials/reg", CREDENTIAL)
    fake.on("DELETE", "/registry-credentials/reg", {})
    assert stoker("credentials", "create", "reg", "--registry", "ghcr.io", "--username", "me").code == 0
    assert fake.of("POST")[0].body == {"name": "reg", "registry": "ghcr.io", "username": "me", "password": "pw"}
    assert stoker("credentials", "ls").out.splitlines()[1].split()[:4] == ["1", "reg", "ghcr.io", "me"]
    assert stoker("credentials", "update", "reg", "--username", "you").code == 0
    assert fake.of("PATCH")[0].body == {"username": "you"}
    assert stoker("credentials", "update", "reg").code == 2
    assert stoker("credentials", "rm", "reg").code == 0


def test_audit_events_are_shown_with_what_changed(stoker: Command, fake: FakeStoker) -> None:
    event: dict[str, Any] = {
        "number": 5,
        "at": CREATED,
        "project": 1,
        "by": {"id": "k-1", "name": "ci"},
        "action": "key.update",
        "target": "k-2",
        "name": "web",
        "before": {"name": "old", "hint": "x"},
        "after": {"name": "web", "hint": "x"},
        "outcome": "done",
        "operation": None,
    }
    fake.on("GET", "/audit", page([event, event | {"by": None, "before": None, "after": None}]))
    lines = stoker("audit", "--action", "key.", "--limit", "2").out.splitlines()
    assert lines[1].split()[2:] == ["ci", "key.update", "web", "done", "name:", '"old"', "->", '"web"']
    assert lines[2].split()[2] == "stoker"
    assert fake.asked[-1].query == {"action": "key.", "limit": "2"}
    assert stoker("audit", "--limit", "0").code == 2


def test_a_signing_key_prints_id_and_secret(stoker: Command, fake: FakeStoker) -> None:
    fake.on("POST", "/keys", (201, {"key": KEY | {"access_id": "EXOabc"}, "secret": "shh"}))
    ran = stoker("keys", "create", "exo", "--exoscale", "--scope", "deploy", "--rate", "5", "--burst", "9")
    assert ran.out == "EXOabc\nshh\n"
    body = fake.of("POST")[0].body
    assert (body["kind"], body["rate_per_s"], body["burst"]) == ("signing", 5.0, 9)


def test_a_key_is_changed_and_shown(stoker: Command, fake: FakeStoker) -> None:
    fake.add("chat")
    fake.on("GET", "/keys", page([KEY]))
    fake.on("PATCH", "/keys/k-1", KEY)
    fake.on("GET", "/keys/k-1/secret", {"key": KEY, "secret": "sk-abcdef"})
    change = ("--unlimited", "--concurrency", "3", "--expires", "never", "--endpoint", "chat")
    ran = stoker("keys", "update", "ci", *change)
    assert ran.code == 0, ran.err
    assert fake.of("PATCH")[0].body == {
        "rate_per_s": None,
        "burst": None,
        "concurrency": 3,
        "expires_in_s": None,
        "endpoints": ["0190-1"],
    }
    assert stoker("keys", "update", "ci").code == 2
    assert "sk-abcdef" not in stoker("keys", "show", "ci").out
    assert stoker("keys", "show", "ci", "--reveal").out == "sk-abcdef\n"


def test_a_deployment_refers_to_secrets_and_credentials_by_name(stoker: Command, fake: FakeStoker) -> None:
    stoker("deploy", "--image", "ghcr.io/me/app", "--credential", "reg", "--secret", "TOKEN=hf", "--env", "A=b")
    launch = fake.of("POST")[0].body["launch"]
    assert (launch["env"], launch["credential"]) == ({"A": "b", "TOKEN": {"secret": "hf"}}, "reg")
    assert stoker("deploy", "--image", "x", "--secret", "TOKEN").code == 2
