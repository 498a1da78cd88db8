"""`stoker demo`, played against a fake Stoker whose pool follows the requests."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from cli.fake_stoker import KEY, Asked, FakeStoker, Raw, operation, page, worker
from stoker.cli import demo, demo_view
from stoker.cli.client import Client
from stoker.cli.errors import CliError


@dataclass
class Pool:
    """Wakes at the first request, grows to `most` when many have come, and is empty again after some looks at it."""

    fake: FakeStoker
    most: int = 2
    asked: int = 0
    looks: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        made = self.fake.add("smollm2")
        self.fake.on("POST", "/endpoints", (201, {"endpoint": made, "operation": operation("create")}))
        self.fake.on("GET", f"/endpoints/{made['id']}", lambda _: made | {"workers": self.look()})
        self.fake.on("GET", f"/endpoints/{made['id']}/workers", page([worker(2), worker(1, start_s=0.5)]))
        self.fake.on("POST", "/v1/chat/completions", self.answer)

    def look(self) -> dict[str, int]:
        with self.lock:
            self.looks += 1
            if self.looks > 5:
                return {"ready": 0}
            return {"ready": min(self.most, self.asked // 2)}

    def answer(self, asked: Asked) -> Any:
        with self.lock:
            self.asked += 1
            self.looks = 0
        usage = {"completion_tokens": 2}
        if asked.body.get("stream"):
            events: list[Any] = [{"choices": [{"delta": {"content": text}}]} for text in ("a", "b")]
            lines = [f"data: {json.dumps(event)}\n\n" for event in (*events, {"choices": [], "usage": usage})]
            return Raw((*(line.encode() for line in lines), b"data: [DONE]\n\n"), "text/event-stream")
        return {"choices": [{"message": {"content": "fine"}}], "usage": usage}


def test_the_pool_goes_from_zero_to_two_and_back(fake: FakeStoker, capsys: pytest.CaptureFixture[str]) -> None:
    Pool(fake)
    report = demo.Report()
    demo.play(Client(fake.url, KEY), demo_view.View(), report)
    assert (report.peak, report.failures) == (2, [])
    assert report.succeeded >= 2 + demo.BURST
    assert report.cold_start_s == 0.5
    assert report.first is not None
    assert report.first.tokens == 2
    assert None not in (report.deploy_s, report.second_s, report.zero_s, report.burst_s)
    out = capsys.readouterr().out
    assert "two questions while nothing runs" in out
    assert "workers 2 ready" in out
    assert "back at zero workers" in out


def test_a_failed_request_ends_it_and_is_kept(fake: FakeStoker) -> None:
    Pool(fake)
    fake.on("POST", "/v1/chat/completions", (503, {"error": {"message": "its workers do not start"}}))
    report = demo.Report()
    demo.play(Client(fake.url, KEY), demo_view.View(), report)
    assert report.failures == ["its workers do not start"] * 2
    assert report.burst_s is None


def test_a_second_worker_that_never_comes_is_an_error(fake: FakeStoker) -> None:
    Pool(fake, most=1)
    with pytest.raises(CliError, match="no second worker was ready"):
        demo.play(Client(fake.url, KEY), demo_view.View(), demo.Report())


def test_the_report_says_what_was_not_reached(capsys: pytest.CaptureFixture[str]) -> None:
    demo_view.summary(demo.Report().rows())
    lines = dict(line.rsplit("  ", 1) for line in capsys.readouterr().out.splitlines())
    assert {name.strip(): value for name, value in lines.items()}["cold start of a worker"] == "-"


def test_processes_of_a_data_folder_are_found(tmp_path: Path) -> None:
    assert demo.processes_of(tmp_path) == []
    environ = {"STOKER_WORKER_FOLDER": str(tmp_path / "workers" / "1")}
    command = [sys.executable, "-c", "print(flush=True); input()"]
    with subprocess.Popen(command, env=environ, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as left:
        assert left.stdout is not None
        # It has said something, so its environment is its own and no longer that of this process.
        left.stdout.readline()
        assert demo.processes_of(tmp_path) == [left.pid]
        left.kill()
