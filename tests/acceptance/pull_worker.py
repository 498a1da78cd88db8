"""A worker for the tests of tasks that asks for them: takes some time for each, and writes down when it did.

It speaks as RunPod's package does, of which it has the environment. Standard library only; started by Stoker itself.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
import urllib.request
from typing import Any

AT_ONCE = 4
TRIES = 3
ENV = {name: value.replace("$RUNPOD_POD_ID", os.environ["RUNPOD_POD_ID"]) for name, value in os.environ.items()}
TAKE = ENV["RUNPOD_WEBHOOK_GET_JOB"].replace("$ID", ENV["RUNPOD_POD_ID"]) + "&job_in_progress=0"

running: set[str] = set()


def call(url: str, body: bytes | None = None, *, timeout_s: float = 10.0) -> bytes:
    """One request, with this worker's token."""
    request = urllib.request.Request(url, data=body, headers={"Authorization": ENV["RUNPOD_AI_API_KEY"]})
    with urllib.request.urlopen(request, timeout=timeout_s) as response:
        content: bytes = response.read()
        return content


def work(log: int) -> None:
    while True:
        try:
            taken = call(TAKE, timeout_s=90.0)
        except OSError:
            time.sleep(0.1)
            continue
        if taken:
            one(log, json.loads(taken))


def one(log: int, job: dict[str, Any]) -> None:
    running.add(job["id"])
    began = time.monotonic()
    time.sleep(job["input"]["s"])
    entry = {"task": job["id"], "began": began, "ended": time.monotonic(), "whole": True}
    os.write(log, json.dumps(entry).encode() + b"\n")
    for attempt in range(TRIES):
        try:
            url = ENV["RUNPOD_WEBHOOK_POST_OUTPUT"].replace("$ID", job["id"]) + "&isStream=false"
            call(url, json.dumps({"output": job["input"]}).encode())
            break
        except OSError:
            time.sleep(0.2 * attempt)
    running.discard(job["id"])


def ping() -> None:
    while True:
        try:
            call(f"{ENV['RUNPOD_WEBHOOK_PING']}?job_id={','.join(tuple(running))}")
        except OSError:
            time.sleep(0.1)
            continue
        time.sleep(int(ENV["RUNPOD_PING_INTERVAL"]) / 1_000)


def main() -> None:
    log = os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    for _ in range(AT_ONCE):
        threading.Thread(target=work, args=(log,)).start()
    ping()


main()
