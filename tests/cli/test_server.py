"""Starting and ending a Stoker of one's own."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from cli.fake_stoker import KEY, Command, FakeStoker
from stoker.cli import server
from stoker.cli.errors import CliError
from stoker.settings import Settings


def _started(code: str) -> subprocess.Popen[bytes]:
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.readline()
    process.stdout.close()
    return process


def test_it_is_ready_when_its_gateway_is(fake: FakeStoker, tmp_path: Path) -> None:
    answers = iter([{"gateway": {"connected": False}}, {"gateway": {"connected": True}}])
    fake.on("GET", "/info", lambda _: next(answers))
    (tmp_path / "admin-key").write_text(KEY)
    settings = Settings(data_dir=tmp_path, port=int(fake.url.rsplit(":", 1)[1]))
    process = _started("import time; print(flush=True); time.sleep(60)")
    try:
        client = server.until_ready(settings, process, tmp_path / "log", timeout_s=60)
    finally:
        process.kill()
        process.wait()
    assert client.key == KEY


def test_a_start_that_fails_shows_the_end_of_the_log(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("the port is taken\n")
    process = _started("print(flush=True); raise SystemExit(3)")
    with pytest.raises(CliError, match="ended with code 3") as caught:
        server.until_ready(Settings(data_dir=tmp_path), process, log, timeout_s=60)
    assert "  the port is taken" in caught.value.details


def test_a_start_that_takes_too_long_is_told(tmp_path: Path) -> None:
    process = _started("import time; print(flush=True); time.sleep(60)")
    try:
        with pytest.raises(CliError, match=r"not ready after 0\.1 s") as caught:
            server.until_ready(Settings(data_dir=tmp_path), process, tmp_path / "log", timeout_s=0.1)
    finally:
        process.kill()
        process.wait()
    assert caught.value.code == 5


@pytest.mark.parametrize(
    ("code", "ended", "timeout_s"),
    [
        pytest.param("import time; print(flush=True); time.sleep(60)", -signal.SIGINT, 60.0, id="at once"),
        pytest.param(
            "import signal, time\nn = []\n"
            "signal.signal(2, lambda *_: n.append(1) or len(n) < 2 or exit(0))\n"
            "print(flush=True)\nwhile True: time.sleep(0.01)",
            0,
            4.0,
            id="at the second request",
        ),
        pytest.param(
            "import signal, time; signal.signal(2, signal.SIG_IGN); print(flush=True); time.sleep(60)",
            None,
            1.0,
            id="by force",
        ),
    ],
)
def test_it_is_ended_whatever_it_takes(code: str, ended: int | None, timeout_s: float) -> None:
    assert server.end(_started(code), timeout_s=timeout_s) == ended


def test_bad_settings_are_bad_usage(stoker: Command) -> None:
    assert stoker("up", "--port", "99999").code == 2


def test_a_folder_that_cannot_be_made_is_told(stoker: Command, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    ran = stoker("up", "--detach", "--data-dir", str(tmp_path / "file" / "data"))
    assert ran.code == 1
    assert ran.err.startswith("error: ")
    assert "Traceback" not in ran.err


@pytest.mark.parametrize(
    ("host", "url"),
    [("127.0.0.1", "http://127.0.0.1:7878"), ("0.0.0.0", "http://127.0.0.1:7878"), ("::", "http://[::1]:7878")],
)
def test_this_machine_reaches_it_at_loopback(host: str, url: str) -> None:
    assert server.local_url(Settings(host=host)) == url
