"""The command line, run against a fake Stoker."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from cli.fake_stoker import KEY, Command, FakeStoker, Ran, serving
from stoker.cli.main import main


@pytest.fixture
def fake() -> Iterator[FakeStoker]:
    """A fake Stoker on a free port."""
    with serving() as stoker:
        yield stoker


@pytest.fixture
def stoker(
    fake: FakeStoker, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> Command:
    """Run the command line against the fake, as a person would, without a terminal."""
    monkeypatch.setenv("STOKER_URL", fake.url)
    monkeypatch.setenv("STOKER_KEY", KEY)
    monkeypatch.setenv("STOKER_DATA_DIR", str(tmp_path / "data"))

    def run(*arguments: str) -> Ran:
        code = main(arguments)
        captured = capsys.readouterr()
        return Ran(code, captured.out, captured.err)

    return run
