"""Listening sockets: what is taken over, what is private, and what is refused."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from stoker import listening
from stoker.domain.errors import Unavailable
from stoker.settings import Settings


def test_a_port_that_is_taken_is_told_with_what_to_do(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(listening, "BIND_WAIT_S", 0.0)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(Unavailable, match=rf"127\.0\.0\.1:{port}.*--port"):
            listening.bind(Settings(data_dir=tmp_path, port=port), {})


def test_an_address_that_is_not_of_this_machine_is_told_with_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match=r"192\.0\.2\.1.*--host"):
        listening.bind(Settings(data_dir=tmp_path, host="192.0.2.1"), {})


def test_sockets_are_private_and_left_over_ones_are_replaced(tmp_path: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    settings = Settings(data_dir=tmp_path, port=port)
    for _ in range(2):
        sockets = listening.bind(settings, {})
        assert settings.paths.run.stat().st_mode & 0o777 == 0o700
        for path in (settings.paths.control_socket, settings.paths.link_socket):
            assert path.stat().st_mode & 0o777 == 0o600
        sockets.close()


def test_a_folder_for_sockets_that_somebody_else_made_is_refused(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path / "data")
    (tmp_path / "theirs").mkdir()
    settings.data_dir.mkdir()
    settings.paths.run.symlink_to(tmp_path / "theirs")
    with pytest.raises(Unavailable, match="not a folder of this user"):
        listening.bind(settings, {})
    assert list((tmp_path / "theirs").iterdir()) == []


@pytest.mark.skipif(os.getuid() != 0, reason="only root can make a folder of somebody else")
def test_a_folder_of_another_user_is_refused(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path)
    settings.paths.run.mkdir()
    os.chown(settings.paths.run, 12_345, 12_345)
    with pytest.raises(Unavailable, match="not a folder of this user"):
        listening.bind(settings, {})


# Puts a listening socket where systemd would, and says for whom it is.
SYSTEMD = """
import os, socket, sys
from pathlib import Path
from stoker.listening import bind
from stoker.settings import Settings
listening = socket.socket()
listening.bind(("127.0.0.1", 0))
listening.listen()
os.dup2(listening.fileno(), 3)
environ = {"LISTEN_FDS": sys.argv[3], "LISTEN_PID": sys.argv[2] or str(os.getpid())}
sockets = bind(Settings(data_dir=Path(sys.argv[1]), port=int(sys.argv[4])), environ)
print(sockets.public.getsockname()[1] == listening.getsockname()[1])
"""


@pytest.mark.parametrize(
    ("pid", "count", "taken"),
    [
        pytest.param("", "1", "True", id="for this process"),
        pytest.param("1", "1", "False", id="for another process"),
        pytest.param("", "0", "False", id="none"),
    ],
)
def test_a_socket_of_systemd_is_taken_over_when_it_is_meant_for_this_process(
    tmp_path: Path, pid: str, count: str, taken: str
) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    ended = subprocess.run(
        [sys.executable, "-c", SYSTEMD, str(tmp_path), pid, count, str(port)],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert ended.stdout.strip() == taken
