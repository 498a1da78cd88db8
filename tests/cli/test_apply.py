"""`stoker apply`: files, and the place of what is wrong in them."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest

from cli.fake_stoker import Command, FakeStoker, problem

CHAT = """\
name: chat
launch:
  model: smollm2
  parameters: [--max-model-len, 4k]
pools:
  - bounds: {min: 0, max: 2}
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "endpoints.yaml"
    path.write_text(CHAT)
    return path


def test_what_is_missing_is_created(stoker: Command, fake: FakeStoker, file: Path) -> None:
    ran = stoker("apply", "-f", str(file))
    assert (ran.code, ran.out) == (0, "chat created\n")
    assert fake.of("POST")[0].body == {
        "name": "chat",
        "launch": {"model": "smollm2", "parameters": ["--max-model-len", "4k"]},
        "pools": [{"bounds": {"min": 0, "max": 2}}],
    }


def test_what_is_there_is_updated_and_then_unchanged(stoker: Command, fake: FakeStoker, file: Path) -> None:
    fake.add("chat")
    assert stoker("apply", "-f", str(file)).out == "chat updated\n"
    assert stoker("apply", "-f", str(file)).out == "chat unchanged\n"
    assert [asked.path for asked in fake.of("PUT")] == ["/api/v1/endpoints/0190-1"] * 2


def test_a_name_that_is_another_ones_number_creates(stoker: Command, fake: FakeStoker, file: Path) -> None:
    fake.add("chat")
    file.write_text(CHAT.replace("name: chat", "name: '1'"))
    assert stoker("apply", "-f", str(file)).out == "1 created\n"


def test_several_documents_and_files_are_applied_in_order(stoker: Command, fake: FakeStoker, file: Path) -> None:
    file.write_text(f"---\n{CHAT}---\n{CHAT.replace('chat', 'second')}---\n")
    other = file.with_name("other.yaml")
    other.write_text(CHAT.replace("chat", "third"))
    ran = stoker("apply", "-f", str(file), "-f", str(other), "--json")
    assert [change["endpoint"]["name"] for change in json.loads(ran.out)] == ["chat", "second", "third"]


def test_standard_input_is_a_file_too(stoker: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(CHAT))
    assert stoker("apply", "-f", "-").out == "chat created\n"


@pytest.mark.parametrize(
    ("pointer", "place"),
    [
        pytest.param("/name", "1:1", id="a field"),
        pytest.param("/launch/model", "3:3", id="a field of a field"),
        pytest.param("/launch/parameters/1", "4:33", id="an item of a list"),
        pytest.param("/pools/0/bounds/max", "6:22", id="in braces"),
        pytest.param("/pools/0/hardware/gpu_count", "6:5", id="a field that is missing: what it should be in"),
        pytest.param("", "1:1", id="the document"),
    ],
)
def test_a_refusal_names_the_place_in_the_file(
    stoker: Command, fake: FakeStoker, file: Path, pointer: str, place: str
) -> None:
    fake.on("POST", "/endpoints", (422, problem(422, "no", (pointer, "it is wrong"), ("/access", "this too"))))
    ran = stoker("apply", "-f", str(file))
    assert ran.code == 2
    assert f"error: {file}:{place}: it is wrong" in ran.err
    assert f"{file}:1:1: this too" in ran.err


@pytest.mark.parametrize(
    ("text", "place", "message"),
    [
        pytest.param("name: [a", "1:9", "", id="no YAML"),
        pytest.param("name: a\nname: b\n", "2:1", "duplicate key", id="the same field twice"),
        pytest.param("- name: a\n", "1:1", "a mapping", id="a list"),
        pytest.param("launch: {}\n", "1:1", "needs a name", id="no name"),
        pytest.param("launch: {}\nname: 3\n", "2:1", "needs a name, which is a text", id="a name that is a number"),
        pytest.param("name: a\nx:\n  1: b\n", "2:1", "put it in quotes", id="a field that is a number"),
        pytest.param("name: a\nx: .nan\n", "2:1", "no place here", id="not a number"),
        pytest.param("name: a\n---\nname: a\n", "3:1", "'a' is also at", id="the same name twice"),
    ],
)
def test_what_cannot_be_read_is_refused_at_its_place(
    stoker: Command, fake: FakeStoker, file: Path, text: str, place: str, message: str
) -> None:
    file.write_text(text)
    ran = stoker("apply", "-f", str(file))
    assert ran.code == 2
    assert f"{file}:{place}: " in ran.err
    assert message in ran.err
    assert fake.asked == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param(f"name: a\nx: {'[' * 800}{']' * 800}\n", "nested too deeply", id="nested without end"),
        pytest.param("name: a\nx: 2026-13-45\n", "put it in quotes", id="a date that no calendar has"),
        pytest.param(f"name: a\nx: {'9' * 5000}\n", "put it in quotes", id="a number of thousands of digits"),
        pytest.param(
            "name: a\nx: &x0 [1, 2]\n" + "".join(f"y{n}: &x{n} [*x{n - 1}, *x{n - 1}]\n" for n in range(1, 40)),
            "more than 100000 values",
            id="aliases of aliases",
        ),
    ],
)
def test_what_would_never_be_read_is_refused_at_once(
    stoker: Command, fake: FakeStoker, file: Path, text: str, message: str
) -> None:
    file.write_text(text)
    ran = stoker("apply", "-f", str(file))
    assert (ran.code, ran.err.count("\n")) == (2, 1)
    assert message in ran.err
    assert fake.asked == []


@pytest.mark.parametrize("text", ["", "---\n---\n", "# nothing\n"])
def test_a_file_without_endpoints_is_said(stoker: Command, file: Path, text: str) -> None:
    file.write_text(text)
    ran = stoker("apply", "-f", str(file))
    assert ran.code == 2
    assert "no endpoints in it" in ran.err


def test_a_missing_file_is_said(stoker: Command, tmp_path: Path) -> None:
    ran = stoker("apply", "-f", str(tmp_path / "missing.yaml"))
    assert ran.code == 2
    assert "No such file" in ran.err


def test_anchors_and_dates_become_plain_values(stoker: Command, fake: FakeStoker, file: Path) -> None:
    file.write_text("name: a\nlabels: &l {day: 2026-01-02}\nannotations: {<<: *l, x: y}\nlaunch: {env: *l}\n")
    assert stoker("apply", "-f", str(file)).code == 0
    body = fake.of("POST")[0].body
    assert body["annotations"] == {"day": "2026-01-02", "x": "y"}
    assert body["launch"]["env"] == {"day": "2026-01-02"}


def test_a_plan_is_shown_as_what_would_change(stoker: Command, fake: FakeStoker, file: Path) -> None:
    pool = {"name": "default", "launch": {"notes": []}, "replaced": 2, "obstacle": None}
    change = {"pointer": "/pools/0/bounds/max", "before": 1, "after": 2}
    plan = {"action": "update", "revision": 3, "changes": [change], "pools": [pool], "pools_removed": ["eu"]}
    fake.on("POST", "/endpoints:plan", plan)
    assert stoker("plan", "-f", str(file)).out.splitlines() == [
        "~ chat gets revision 3",
        "    /pools/0/bounds/max: 1 -> 2",
        "    pool default: 2 workers replaced",
        "    pool eu: goes, with its workers",
    ]
    assert json.loads(stoker("plan", "-f", str(file), "--json").out) == [plan]
