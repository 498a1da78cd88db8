"""`stoker templates`, and `stoker deploy --template`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cli.fake_stoker import CREATED, Command, FakeStoker, page, problem


def template(**more: Any) -> dict[str, Any]:
    digest = "ab" * 32
    return {"id": "t-1", "number": 1, "name": "chat", "version": 2, "reference": "chat@2", "digest": digest} | {
        "spec": {"slots": 4},
        "created_at": CREATED,
        **more,
    }


def test_a_template_is_added_from_a_file_and_its_mistakes_are_told_by_line(
    stoker: Command, fake: FakeStoker, tmp_path: Path
) -> None:
    file = tmp_path / "t.yaml"
    file.write_text("slots: 4\nlaunch:\n  model: m\n")
    fake.on("POST", "/templates", (201, template()))
    ran = stoker("templates", "add", "chat", "-f", str(file))
    assert ran.out == "template chat@2 (abababababab)\n"
    assert fake.of("POST")[0].body == {"name": "chat", "spec": {"slots": 4, "launch": {"model": "m"}}}
    fake.on("POST", "/templates", (422, problem(422, "no", ("/spec/launch/model", "no such thing"))))
    ran = stoker("templates", "add", "chat", "-f", str(file))
    assert (ran.code, f"{file}:3:3: no such thing" in ran.err) == (2, True)
    file.write_text("- a\n")
    assert stoker("templates", "add", "chat", "-f", str(file)).code == 2


def test_templates_are_listed_shown_and_deleted(stoker: Command, fake: FakeStoker) -> None:
    fake.on("GET", "/templates", page([template()]))
    fake.on("GET", "/templates/chat", template())
    fake.on("DELETE", "/templates/chat", {})
    assert stoker("templates", "ls").out.splitlines()[1].split()[:4] == ["1", "chat", "2", "abababababab"]
    assert stoker("templates", "show", "chat").out.splitlines()[1] == "slots: 4"
    assert stoker("templates", "rm", "chat").out == "template chat is deleted\n"


def test_deploy_lays_only_what_was_said_over_a_template(stoker: Command, fake: FakeStoker) -> None:
    assert stoker("deploy", "--template", "chat@2", "--no-wait").code == 0
    assert fake.of("POST")[0].body == {"template": "chat@2", "name": "chat"}
    stoker("deploy", "m", "--template", "chat", "--name", "x", "--max", "3", "--env", "A=1", "--no-wait")
    body = fake.of("POST")[1].body
    assert body["launch"] == {"model": "m", "env": {"A": "1"}}
    assert body["pools"][0]["bounds"] == {"min": 0, "max": 3}
    assert set(body) == {"template", "name", "launch", "pools"}
