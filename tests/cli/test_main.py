"""The command as a whole: what it loads, how it finds Stoker, how it fails."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from cli.fake_stoker import KEY, Command, FakeStoker, Raw, problem
from stoker.cli.client import Client
from stoker.cli.errors import EXIT_CODES, CliError
from stoker.cli.main import main
from stoker.cli.session import Session

HEAVY = (
    *("fastapi", "pydantic", "sqlalchemy", "aiohttp", "uvicorn", "uvloop", "xllamacpp", "psutil", "alembic"),
    *("ruamel", "structlog", "asyncio", "rich", "http.client", "ssl", "msgspec", "httptools", "pynvml"),
)


@pytest.mark.parametrize("arguments", [[], ["--help"], ["--version"]])
def test_help_loads_nothing_heavy(arguments: list[str]) -> None:
    code = f"""
import sys
from stoker.cli.main import main
sys.stdout = sys.stderr
if {arguments!r}:
    main({arguments!r})
sys.__stdout__.write(" ".join(name for name in {HEAVY!r} if name in sys.modules))
"""
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=60, text=True, check=True)
    assert ended.stdout == ""


def test_help_names_the_exit_codes(stoker: Command) -> None:
    assert " ".join(stoker("--help").out.split()).endswith(EXIT_CODES)


def test_it_runs_as_a_module() -> None:
    command = [sys.executable, "-m", "stoker.cli.main", "--version"]
    ended = subprocess.run(command, capture_output=True, timeout=60, text=True, check=True)
    assert ended.stdout.startswith("stoker ")


@pytest.mark.parametrize("arguments", [("nonsense",), ("ls", "--nonsense"), ("show",)])
def test_bad_usage_has_an_exit_code_of_its_own(stoker: Command, arguments: tuple[str, ...]) -> None:
    assert stoker(*arguments).code == 2


def test_a_stoker_that_is_not_there_has_an_exit_code_of_its_own(stoker: Command) -> None:
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        ran = stoker("ls", "--url", f"http://127.0.0.1:{reserved.getsockname()[1]}")
    assert ran.code == 3
    assert "Stoker does not answer at" in ran.err
    assert "stoker up" in ran.err


@pytest.mark.parametrize("url", ["127.0.0.1:7878", "ftp://x", "http://", "http://x:port", "http://[::1"])
def test_an_address_that_is_none_is_bad_usage(stoker: Command, url: str) -> None:
    assert stoker("ls", "--url", url).code == 2


@pytest.mark.parametrize("key", ["sk-a\nb", "sk-\u00e9", "sk-\ud800"])
def test_a_key_that_no_header_can_have_is_bad_usage(stoker: Command, fake: FakeStoker, key: str) -> None:
    ran = stoker("ls", "--key", key)
    assert (ran.code, ran.err) == (2, "error: the key has characters that no key has; look at --key or STOKER_KEY\n")
    assert fake.asked == []


@pytest.mark.parametrize(
    "arguments",
    [
        ("deploy", "smollm2", "--vcpu", "nan"),
        ("keys", "create", "bob", "--rate", "inf"),
        ("volumes", "create", "data", "--size", "-inf"),
    ],
)
def test_a_number_that_is_not_finite_is_bad_usage(
    stoker: Command, fake: FakeStoker, arguments: tuple[str, ...]
) -> None:
    ran = stoker(*arguments)
    assert (ran.code, ran.err) == (2, "error: a number must be finite: neither NaN nor infinite\n")
    assert fake.asked == []


def test_a_refusal_with_one_problem_is_told_once(stoker: Command, fake: FakeStoker) -> None:
    fake.on("POST", "/keys", (422, problem(422, "/name: too long", ("/name", "too long"))))
    assert stoker("keys", "create", "bob").err == "error: /name: too long\n"


def test_names_that_the_terminal_has_no_characters_for_are_shown_all_the_same(fake: FakeStoker) -> None:
    fake.add("\u00fcber")
    fake.add("other")
    code = "import sys; from stoker.cli.main import main; sys.exit(main(['ls']) or main(['ls', '--json']))"
    ended = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONIOENCODING": "ascii", "STOKER_URL": fake.url, "STOKER_KEY": KEY},
        capture_output=True,
        timeout=60,
        text=True,
        check=False,
    )
    assert (ended.returncode, ended.stderr) == (0, "")
    table, bracket, document = ended.stdout.partition("[")
    assert "\\xfcber" in table
    assert "other" in table
    assert {each["name"] for each in json.loads(bracket + document)} == {"\u00fcber", "other"}


def test_a_key_that_is_not_known_is_refused_with_advice(stoker: Command) -> None:
    ran = stoker("ls", "--key", "sk-wrong")
    assert ran.code == 1
    assert "this key is not known" in ran.err
    assert "STOKER_KEY" in ran.err


@pytest.mark.parametrize(
    ("answer", "code", "text"),
    [
        pytest.param(Raw((b"<html>",), status=200), 1, "is it a Stoker?", id="another server"),
        pytest.param(Raw((b"no",), status=503), 3, "starting or stopping", id="a gateway alone"),
        pytest.param((503, problem(503, "the store is busy")), 1, "the store is busy", id="an answer of control"),
        pytest.param(Raw((b"no",), status=418), 1, "was answered with status 418", id="something strange"),
    ],
)
def test_strange_answers_are_told(stoker: Command, fake: FakeStoker, answer: object, code: int, text: str) -> None:
    fake.on("GET", "/endpoints", answer)
    ran = stoker("ls")
    assert ran.code == code
    assert text in ran.err


def test_a_folder_that_is_a_file_is_told_in_words(stoker: Command, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.touch()
    ran = stoker("up", "--detach", "--data-dir", str(path))
    assert (ran.code, ran.err) == (1, f"error: {path}: File exists\n")


def test_the_running_stoker_is_found_in_the_data_folder(
    fake: FakeStoker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("STOKER_URL", "STOKER_KEY", "STOKER_DATA_DIR"):
        monkeypatch.delenv(name, raising=False)
    fake.add("chat")
    (tmp_path / "address").write_text(fake.url + "/\n")
    (tmp_path / "admin-key").write_text(f"{KEY}\n")
    assert main(["ls", "--json", "--data-dir", str(tmp_path)]) == 0
    assert json.loads(capsys.readouterr().out)[0]["name"] == "chat"


def test_the_admin_key_goes_to_its_own_stoker_only(tmp_path: Path) -> None:
    (tmp_path / "address").write_text("http://127.0.0.1:7000\n")
    (tmp_path / "admin-key").write_text("sk-admin\n")
    assert Session(data_dir=tmp_path).client.key == "sk-admin"
    assert Session(data_dir=tmp_path, url="http://127.0.0.1:7000/").client.key == "sk-admin"
    assert Session(data_dir=tmp_path, url="http://elsewhere:7000").client.key is None
    assert Session(data_dir=tmp_path, url="http://elsewhere:7000", key="sk-own").client.key == "sk-own"


def test_a_stoker_may_live_below_a_path(fake: FakeStoker) -> None:
    fake.answers[("GET", "/below/api/v1/info")] = {"version": "1"}
    assert Client(f"{fake.url}/below/", KEY).get("/info") == {"version": "1"}


def test_a_stoker_that_says_nothing_is_unreachable() -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        client = Client(f"http://127.0.0.1:{silent.getsockname()[1]}", None, timeout_s=0.05)
        with pytest.raises(CliError, match="did not answer in time") as caught:
            client.get("/info")
    assert caught.value.code == 3
