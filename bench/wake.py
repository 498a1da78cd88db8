"""How long the first request waits when there is no worker: `python bench/wake.py [--rounds 10] [--json]`.

For a trivial server and for llama.cpp with the small model, in turns: a request to an endpoint without workers through
a real `stoker up`, and the very same command started by hand, asked until it answers. What Stoker adds is the
difference. A worker's first act is to write down the time, which tells how long after the request it was started.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

import ports
from acceptance.installation import WORKER, Installation, until

START_MS_BAR = 50.0
ADDED_MS_BAR = 250.0
CHAT = json.dumps({"messages": [{"role": "user", "content": "Hello"}], "max_tokens": 1}).encode()


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A server: its command with `{port}`, the request that is its first, and how it says that it is healthy."""

    name: str
    command: tuple[str, ...]
    method: str
    path: str
    body: bytes | None
    health: str


def cases(stoker: Installation) -> tuple[Case, ...]:
    """Both of them. The model's command is what Stoker itself would run."""
    stoker.api("POST", "/endpoints", {"name": "model", "launch": {"model": "smollm2"}})
    command = tuple(stoker.api("GET", "/endpoints/model")["launch"]["command"])
    stoker.api("DELETE", "/endpoints/model")
    return (
        Case(
            name="trivial server",
            command=(sys.executable, str(WORKER), "{port}"),
            method="GET",
            path="/who",
            body=None,
            health="/health",
        ),
        Case(
            name="llama.cpp, small model",
            command=command,
            method="POST",
            path="/v1/chat/completions",
            body=CHAT,
            health="/health",
        ),
    )


def stamped(command: tuple[str, ...], stamp: Path) -> list[str]:
    """The command, which first writes down the time."""
    return ["/bin/sh", "-c", f'date +%s.%N > {stamp}; exec "$@"', "sh", *command]


def ask(port: int, case: Case, path: str, key: str | None = None) -> bool:
    """One request. False when nobody answers yet, or not with success."""
    connection = HTTPConnection("127.0.0.1", port, timeout=60)
    headers = {} if key is None else {"Authorization": f"Bearer {key}"}
    body = case.body if path != case.health else None
    method = case.method if path != case.health else "GET"
    try:
        connection.request(method, path, body=body, headers={**headers, "Content-Type": "application/json"})
        answer = connection.getresponse()
        answer.read()
        return answer.status == 200
    except (OSError, HTTPException):
        return False
    finally:
        connection.close()


def direct(case: Case, stamp: Path) -> float:
    """Milliseconds from the start of the command to the end of its first answer, asked every few of them."""
    port = ports.free()
    command = [part.replace("{port}", str(port)).replace("{host}", "127.0.0.1") for part in case.command]
    began = time.time()
    with subprocess.Popen(
        stamped(tuple(command), stamp), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:
        try:
            while not ask(port, case, case.health):
                time.sleep(0.005)
            assert ask(port, case, case.path)
            return (time.time() - began) * 1e3
        finally:
            process.terminate()


def through(stoker: Installation, case: Case, stamp: Path) -> tuple[float, float]:
    """The same of a request through Stoker with no worker there: until the worker's start, and until the answer."""
    stamp.unlink(missing_ok=True)
    began = time.time()
    assert ask(stoker.port, case, f"/e/e{case.path}", stoker.key)
    ended = time.time()
    started = float(stamp.read_text())
    stoker.api("POST", "/endpoints/e:stop")
    until(lambda: not stoker.worker_pids(), what="no worker")
    stoker.api("POST", "/endpoints/e:start")
    return (started - began) * 1e3, (ended - began) * 1e3


def measure(stoker: Installation, case: Case, folder: Path, rounds: int) -> dict[str, Any]:
    """Medians of some rounds, in turns."""
    stamp = folder / "started"
    spec = {
        "name": "e",
        "launch": {"command": stamped(case.command, stamp)},
        "pools": [{"bounds": {"min": 0, "max": 1}}],
        "probes": {"startup": {"path": case.health}},
    }
    stoker.api("POST", "/endpoints", spec)
    starts, answers, directs = [], [], []
    for _ in range(rounds):
        directs.append(direct(case, stamp))
        started, answered = through(stoker, case, stamp)
        starts.append(started)
        answers.append(answered)
    stoker.api("DELETE", "/endpoints/e")
    until(lambda: not stoker.api("GET", "/endpoints")["items"], what="no endpoint")
    median: Callable[[list[float]], float] = statistics.median
    return {
        "server": case.name,
        "start_ms": round(median(starts), 1),
        "start_ms_worst": round(max(starts), 1),
        "answer_ms": round(median(answers), 1),
        "direct_ms": round(median(directs), 1),
        "added_ms": round(median([a - d for a, d in zip(answers, directs, strict=True)]), 1),
    }


def main() -> None:
    """Measure and print a table, or JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        stoker = Installation(Path(name) / "stoker")
        try:
            stoker.up()
            rows = [measure(stoker, case, Path(name), options.rounds) for case in cases(stoker)]
        finally:
            stoker.close()
    if options.json:
        sys.stdout.write(json.dumps(rows) + "\n")
        return
    heads = ("request -> start", "worst", "first answer", "direct", "added")
    sys.stdout.write(f"{'median ms':26}" + "".join(f"{head:>18}" for head in heads) + "\n")
    for row in rows:
        values = [row[key] for key in ("start_ms", "start_ms_worst", "answer_ms", "direct_ms", "added_ms")]
        sys.stdout.write(f"{row['server']:26}" + "".join(f"{value:18.1f}" for value in values) + "\n")
    sys.stdout.write(f"{'bar':26}{START_MS_BAR:18.0f}{'':54}{ADDED_MS_BAR:18.0f}\n")


if __name__ == "__main__":
    main()
