"""A new gateway takes over under load: no request lost, no connection or stream cut, no worker given more than its
slots.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection, HTTPException
from pathlib import Path

import pytest

from acceptance.installation import WORKER, Installation, until

pytestmark = [pytest.mark.process, pytest.mark.timeout(300)]
SLOTS = 3


def test_a_new_gateway_takes_over_under_load_without_loss(installation: Installation, tmp_path: Path) -> None:
    installation.up()
    installation.create(low=1, high=1, slots=SLOTS)
    until(installation.ready_workers, what="a worker")
    stop, streaming, go = threading.Event(), threading.Event(), tmp_path / "go"
    answered: list[int] = []
    broken: list[str] = []

    def ask() -> None:
        while not stop.is_set():
            try:
                answered.append(installation.get("/e/e/slow?s=0.02")[0])
            except (OSError, HTTPException) as exc:
                broken.append(repr(exc))

    def ask_on_one_connection() -> None:
        connection = HTTPConnection("127.0.0.1", installation.port, timeout=30)
        # Nothing is tried again on another one.
        connection.connect()
        connection.auto_open = 0
        while not stop.is_set():
            try:
                connection.request("GET", "/e/e/slow?s=0.01", headers={"Authorization": f"Bearer {installation.key}"})
                with connection.getresponse() as response:
                    response.read()
                    answered.append(response.status)
            except (OSError, HTTPException) as exc:
                broken.append(repr(exc))
                break
        connection.close()

    def stream() -> bytes:
        with installation.request("GET", f"/e/e/stream?n=50&pause=0&by={go}") as response:
            assert response.status == 200
            data = response.read1()
            streaming.set()
            return data + response.read()

    before = installation.role("stoker.gateway.main")
    with ThreadPoolExecutor(9) as pool, contextlib.ExitStack() as at_last:
        at_last.callback(stop.set)
        at_last.callback(go.touch)
        long = pool.submit(stream)
        assert streaming.wait(60)
        asking = [pool.submit(ask) for _ in range(5)] + [pool.submit(ask_on_one_connection) for _ in range(3)]
        until(lambda: len(answered) > 20, what="some load")
        done = installation.run("upgrade", "--json")
        assert done.returncode == 0, done.stderr
        assert os.path.exists(f"/proc/{before}"), "the stream is still at the old one"
        after = json.loads(done.stdout)["gateway_pid"]
        assert after != before
        count = len(answered)
        until(lambda: len(answered) > count + 100, what="load at the new one")
        go.touch()
        assert long.result(60).endswith(b"data: 49\n\n")
        until(lambda: not os.path.exists(f"/proc/{before}"), what="the end of the old one")
        count = len(answered)
        until(lambda: len(answered) > count + 50, what="load with all slots again")
        stop.set()
        for each in asking:
            each.result(60)
    assert not broken
    assert set(answered) == {200}
    assert json.loads(installation.get("/e/e/peak")[1])["peak"] <= SLOTS
    assert installation.role("stoker.gateway.main") == after
    page = until(lambda: _page(installation, len(answered) + 1), what="all requests of both gateways on one page")
    assert 'stoker_requests_in_flight{endpoint="e"}' in page
    assert 'stoker_time_to_first_byte_seconds_bucket{endpoint="e",le="0.25"}' in page
    assert "stoker_gateways 1.0" in page
    assert installation.get("/metrics", Authorization="Bearer sk-nobody")[0] == 401


def _page(installation: Installation, count: int) -> str | None:
    """The page of metrics, once it has so many requests."""
    status, text = installation.get("/metrics")
    assert status == 200
    for line in text.decode().splitlines():
        if line.startswith("stoker_request_duration_seconds_count") and float(line.rpartition(" ")[2]) >= count:
            return text.decode()
    return None


def test_requests_that_wait_for_a_cold_start_survive_an_upgrade_asked_for_by_signal(
    installation: Installation, tmp_path: Path
) -> None:
    installation.up()
    go = tmp_path / "go"
    installation.create(high=1, slots=2, launch={"command": [sys.executable, str(WORKER), "{port}", str(go)]})
    before = installation.role("stoker.gateway.main")
    with ThreadPoolExecutor(3) as pool:
        waiting = [pool.submit(installation.get, "/e/e/who") for _ in range(3)]
        until(lambda: installation.traffic("waiting"), what="requests that wait")
        assert installation.process is not None
        installation.process.send_signal(signal.SIGHUP)
        until(lambda: installation.roles("stoker.gateway.main") > {before}, what="the next gateway")
        go.touch()
        assert [each.result(60)[0] for each in waiting] == [200, 200, 200]
    until(lambda: not os.path.exists(f"/proc/{before}"), what="the end of the old gateway")
    assert installation.get("/e/e/who")[0] == 200
