"""What is left when something dies: real processes, real signals."""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPException, IncompleteRead
from pathlib import Path

import pytest

from acceptance.installation import Installation, until

pytestmark = [pytest.mark.process, pytest.mark.timeout(300)]


def stream(installation: Installation, chunks: int, pause_s: float, started: threading.Event) -> bytes:
    """Read a whole stream; say when its first bytes are there."""
    with installation.request("GET", f"/e/e/stream?n={chunks}&pause={pause_s}") as response:
        assert response.status == 200
        data = response.read1()
        started.set()
        return data + response.read()


def test_a_killed_control_cuts_no_stream_and_finds_its_workers_again(installation: Installation) -> None:
    installation.up()
    installation.create(low=1)
    until(installation.ready_workers, what="a worker")
    workers = installation.worker_pids()
    started = threading.Event()
    with ThreadPoolExecutor(1) as pool:
        streaming = pool.submit(stream, installation, 20, 0.1, started)
        assert started.wait(60)
        control = installation.role("stoker.serving")
        os.kill(control, signal.SIGKILL)
        assert installation.get("/e/e/who")[0] == 200, "requests are served while control is away"
        status, _ = installation.get("/e/unknown/who")
        assert status == 404
        assert streaming.result(60).endswith(b"data: 19\n\n")
    until(installation.ready, what="the next control")
    assert installation.role("stoker.serving") != control
    [worker] = installation.ready_workers()
    assert worker["state"] == "ready"
    assert installation.worker_pids() == workers, "the same processes, none more"
    installation.create("second", low=1)
    until(lambda: installation.ready_workers("second"), what="a worker of the next control")


def test_a_killed_gateway_refuses_nobody_and_fails_only_what_was_in_flight(installation: Installation) -> None:
    installation.up()
    installation.create(low=1, slots=16)
    until(installation.ready_workers, what="a worker")
    started, stop = threading.Event(), threading.Event()
    refused: list[OSError] = []
    answered: list[int] = []

    def hammer() -> None:
        while not stop.is_set():
            try:
                with socket.create_connection(("127.0.0.1", installation.port), timeout=60):
                    pass
                answered.append(installation.get("/e/e/who", timeout_s=60)[0])
            except ConnectionRefusedError as exc:
                refused.append(exc)
            except (HTTPException, OSError):
                # In flight at the moment of the kill: cut, visibly.
                continue

    with ThreadPoolExecutor(4) as pool:
        streaming = pool.submit(stream, installation, 100, 0.05, started)
        assert started.wait(60)
        hammering = [pool.submit(hammer) for _ in range(3)]
        until(lambda: len(answered) > 20, what="some answers")
        os.kill(installation.role("stoker.gateway.main"), signal.SIGKILL)
        with pytest.raises((IncompleteRead, ConnectionError)):
            streaming.result(60)
        before = len(answered)
        # It refuses faster than it answers, as long as it has no table.
        until(lambda: answered[before:].count(200) > 50, what="answers of the next gateway")
        stop.set()
        for each in hammering:
            each.result(60)
    assert refused == []
    assert set(answered) <= {200, 503}, "a gateway without a table says so, it does not say 404"
    assert answered[-1] == 200


def test_a_killed_worker_is_replaced_and_waiting_requests_go_to_the_new_one(installation: Installation) -> None:
    installation.up()
    installation.create(low=1, high=1, slots=1)
    until(installation.ready_workers, what="a worker")
    # No request before this one: on a connection that was used before, a cut before the first byte may be a stale
    # connection, and the request would rightly be tried again.
    [pid] = installation.worker_pids()
    with ThreadPoolExecutor(2) as pool:
        running = pool.submit(installation.get, "/e/e/slow?s=60")
        until(lambda: installation.traffic("in_flight") == 1, what="a request in flight")
        waiting = pool.submit(installation.get, "/e/e/who")
        until(lambda: installation.traffic("waiting") == 1, what="a request waiting")
        os.kill(pid, signal.SIGKILL)
        status, body = waiting.result(60)
        assert status == 200
        assert int(body) != pid
        assert running.result(60)[0] == 502

    def told() -> set[str]:
        kinds = {event["kind"] for event in installation.api("GET", "/endpoints/e/events")["items"]}
        # The gateway may have found it dead first: then it was given up before its end was seen.
        return kinds & {"worker_failed", "worker_stopped"}

    until(told, what="an event of its end")


def test_a_killed_supervisor_leaves_workers_that_the_next_one_takes_over(installation: Installation) -> None:
    installation.up()
    installation.create(low=2)
    until(lambda: len(installation.ready_workers()) == 2, what="workers")
    workers = installation.worker_pids()
    roles = [installation.role(module) for module in ("stoker.serving", "stoker.gateway.main")]
    assert installation.process is not None
    installation.process.kill()
    installation.process.wait()
    installation.start()
    # The old ones answer for a moment more, on a socket of their own.
    until(lambda: not any(Path(f"/proc/{role}").exists() for role in roles), what="the end of the old roles")
    until(installation.ready, what="the next Stoker")
    until(lambda: len(installation.ready_workers()) == 2, what="the workers again")
    time.sleep(0.5)
    assert installation.worker_pids() == workers, "no orphan, no double"
    assert installation.get("/e/e/who")[0] == 200


def test_a_second_stoker_on_one_folder_says_who_holds_it(installation: Installation) -> None:
    installation.up()
    assert installation.process is not None
    second = installation.run("up", "--port", str(installation.port + 1))
    assert second.returncode == 1
    assert f"process {installation.process.pid}" in second.stderr
    assert str(installation.port) in second.stderr
    assert installation.ready()


def test_interrupting_finishes_requests_and_leaves_no_process(installation: Installation) -> None:
    installation.up()
    installation.create(low=2)
    until(lambda: len(installation.ready_workers()) == 2, what="workers")
    started = threading.Event()
    with ThreadPoolExecutor(1) as pool:
        streaming = pool.submit(stream, installation, 15, 0.1, started)
        assert started.wait(60)
        assert installation.interrupt(signal.SIGINT) == 0
        assert streaming.result(60).endswith(b"data: 14\n\n")
    until(lambda: not installation.processes(), what="the end of all processes")
    installation.up()
    until(lambda: len(installation.ready_workers()) == 2, what="the endpoint after the next start")


def test_terminating_leaves_the_workers_for_the_next_start(installation: Installation) -> None:
    installation.up()
    installation.create(low=1)
    until(installation.ready_workers, what="a worker")
    workers = installation.worker_pids()
    assert installation.interrupt(signal.SIGTERM) == 0
    assert installation.worker_pids() == workers
    installation.up()
    until(installation.ready_workers, what="the worker again")
    assert installation.worker_pids() == workers


def test_callers_that_come_when_control_has_ended_do_not_hold_up_the_end(installation: Installation) -> None:
    installation.up()
    over = threading.Event()
    with ThreadPoolExecutor(2) as pool:
        for _ in range(2):
            pool.submit(knock, installation, over)
        try:
            # Requests that are at the gateway have 30 seconds to end.
            assert installation.interrupt(signal.SIGTERM, wait_s=20) == 0
        finally:
            over.set()


def knock(installation: Installation, over: threading.Event) -> None:
    """Ask control for something again and again, whether or not anybody answers."""
    while not over.is_set():
        try:
            installation.get("/api/v1/endpoints")
        except (OSError, HTTPException):
            over.wait(0.05)


def test_down_ends_what_a_killed_supervisor_left(installation: Installation) -> None:
    installation.up()
    installation.create(low=1)
    until(installation.ready_workers, what="a worker")
    assert installation.process is not None
    installation.process.kill()
    installation.process.wait()
    result = installation.run("down")
    assert result.returncode == 0, result.stderr
    assert "1 leftover worker" in result.stdout + result.stderr
    until(lambda: not installation.processes(), what="the end of all processes")


def test_usage_counts_every_request_once_whatever_is_killed(installation: Installation) -> None:
    installation.up()
    installation.create(low=1)
    until(installation.ready_workers, what="a worker")

    def counted() -> int:
        requests: int = installation.api("GET", "/usage")["total"]["requests"]
        return requests

    for _ in range(3):
        assert installation.get("/e/e/who")[0] == 200
    until(lambda: counted() == 3, what="the first requests")
    for module in ("stoker.serving", "stoker.gateway.main"):
        os.kill(installation.role(module), signal.SIGKILL)
    until(installation.ready, what="the next control")
    for _ in range(2):
        assert installation.get("/e/e/who")[0] == 200
    until(lambda: counted() >= 5, what="all requests")
    os.kill(installation.role("stoker.serving"), signal.SIGKILL)
    until(installation.ready, what="the third control")
    assert counted() == 5
    [item] = installation.api("GET", "/usage?by=key")["items"]
    assert (item["requests"], item["errors"], item["prompt_tokens"]) == (5, 0, None)
