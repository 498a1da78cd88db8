"""The supervisor's pure parts: pauses, sockets, and what it refuses. Its processes are tested with the whole."""

from __future__ import annotations

import os
import socket
import time
from pathlib import Path

import pytest

from stoker import supervisor
from stoker.listening import bind
from stoker.roles import Order
from stoker.settings import Settings, read
from stoker.supervisor import RESTART_PAUSES_S, STEADY_S, Role


def role() -> Role:
    made = Role("r", [], (), {})
    made.started_at = time.monotonic()
    return made


def test_the_first_restart_is_immediate_and_the_pauses_grow_to_a_limit() -> None:
    dying = role()
    pauses = [dying.next_pause_s() for _ in range(len(RESTART_PAUSES_S) + 3)]
    assert pauses == [*RESTART_PAUSES_S, *[RESTART_PAUSES_S[-1]] * 3]
    assert pauses[0] == 0
    assert pauses == sorted(pauses)


def test_a_role_that_lived_long_starts_with_a_clean_slate() -> None:
    dying = role()
    for _ in range(5):
        dying.next_pause_s()
    dying.started_at = time.monotonic() - STEADY_S
    assert dying.next_pause_s() == 0


def test_an_order_to_a_role_that_is_gone_is_heard_by_nobody() -> None:
    gone = role()
    gone.order(Order.DRAIN)
    reading, gone.lifeline = os.pipe()
    os.close(reading)
    gone.order(Order.DRAIN)
    gone.let_go()
    gone.let_go()


def test_the_master_key_is_for_control_alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("STOKER_MASTER_KEY", "a key")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    settings = Settings(data_dir=tmp_path, port=port)
    sockets = bind(settings, {})
    roles = supervisor.Supervisor(settings, sockets, say=lambda _: None)
    sockets.close()
    assert roles.control.environ["STOKER_MASTER_KEY"] == "a key"
    assert "STOKER_MASTER_KEY" not in roles.gateway.environ


def test_roles_learn_what_the_command_line_has_overridden() -> None:
    settings = Settings(host="::", port=1234, log_level="debug")
    environ = supervisor.role_environ(settings, {"STOKER_PORT": "1", "PATH": "/bin"})
    assert environ == {
        "PATH": "/bin",
        "STOKER_HOST": "::",
        "STOKER_PORT": "1234",
        "STOKER_LOG_LEVEL": "debug",
        "STOKER_VIRTUAL_GPUS": "[]",
    }


def test_pretended_cards_of_the_command_line_reach_the_roles_as_they_are(tmp_path: Path) -> None:
    said = read({}, data_dir=tmp_path, overrides={"virtual_gpus": ["a5000:4", "h100:2:80"]})
    environ = supervisor.role_environ(said, {})
    assert read(environ, data_dir=tmp_path).virtual_gpus == said.virtual_gpus
