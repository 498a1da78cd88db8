"""Nothing is lost: a mixed load through a real `stoker up` while workers come, are drained and killed, and control is.

Every response must be complete and right, or an honest 429 or 503 before its first byte. Only what was under way on a
killed worker ends: its streams visibly cut, exactly as many as there were.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from http.client import HTTPException
from pathlib import Path
from typing import Any, Final

import msgspec
from data_plane.answers import PATH
from data_plane.chaos_load import Account, StreamRun
from data_plane.processes import BENCH, python
from data_plane.report import Part, Row

from acceptance.installation import Installation, until

_NAME: Final = "chaos"
_WORKERS: Final = (2, 4)
# A stream's end and a kill so close together that nobody can tell which came first.
_TIE_S: Final = 0.5
_DEATHS: Final = {"kill worker", "kill control"}
_START_S: Final = 60.0


class Storm:
    """What is done to an installation, and when."""

    def __init__(self, site: Installation) -> None:
        self._site = site
        # Killed workers with the time.
        self.killed: dict[str, float] = {}
        self.done: dict[str, int] = {}

    def rage(self, seconds: float) -> None:
        """Go on for so long, and on a slow machine until there was each kind of death."""
        end = time.monotonic() + seconds
        steps = (self._add, self._kill_worker, self._drain, self._kill_control, self._kill_worker, self._drain)
        for number in range(10_000):
            over_s = time.monotonic() - end
            if over_s >= (0.0 if self.done.keys() >= _DEATHS else _START_S):
                return
            step = steps[number % len(steps)]
            if step():
                name = step.__name__.strip("_").replace("_", " ")
                self.done[name] = self.done.get(name, 0) + 1
            time.sleep(max(0.0, min(2.0, end - time.monotonic())))

    def _call(self, ask: Callable[[], Any]) -> Any:
        """Ask control, which may be away for a moment."""

        def answered() -> Any:
            with contextlib.suppress(AssertionError, OSError, HTTPException):
                return (ask(),)
            return None

        return until(answered, what="control", within_s=_START_S)[0]

    def _scale(self, workers: int) -> bool:
        self._call(lambda: self._site.api("POST", f"/endpoints/{_NAME}:scale", {"workers": workers}))
        return True

    def _add(self) -> bool:
        return self._scale(_WORKERS[1])

    def _drain(self) -> bool:
        return self._scale(_WORKERS[0])

    def _kill_worker(self) -> bool:
        ready = self._call(lambda: self._site.ready_workers(_NAME))
        if len(ready) < 2:
            return False
        worker = ready[0]["id"]
        for pid in self._site.worker_pids():
            with contextlib.suppress(OSError):
                if f"/{worker}\0".encode() in Path(f"/proc/{pid}/environ").read_bytes():
                    self.killed[worker] = time.monotonic()
                    os.kill(pid, signal.SIGKILL)
                    return True
        return False

    def _kill_control(self) -> bool:
        os.kill(self._site.role("stoker.serving"), signal.SIGKILL)
        return True


def run(*, quick: bool) -> Part:
    """The account, and whatever of it must not be."""
    seconds = 12.0 if quick else 60.0
    part = Part("chaos", f"{seconds:g} s of posts, uploads and streams while workers and control are killed")
    with tempfile.TemporaryDirectory(prefix="bench") as name:
        site = Installation(Path(name) / "stoker")
        try:
            site.up()
            _create(site)
            account, storm = _run(site, seconds)
        finally:
            site.close()
    for kind in sorted({*account.right, "post", "upload", "stream"}):
        part.rows.append(Row(f"{kind}s, complete and right", {"count": account.right.get(kind, 0)}))
    part.rows += [Row(f"refused: {what}", {"count": count}) for what, count in sorted(account.refused.items())]
    part.rows += [Row(f"done: {what}", {"count": count}) for what, count in sorted(storm.done.items())]
    _judge(part, account, storm.killed)
    return part


def _create(site: Installation) -> None:
    command = ["/usr/bin/env", f"PYTHONPATH={BENCH}", sys.executable, "-m", "data_plane.worker", "{port}"]
    bounds = {"min": _WORKERS[0], "max": _WORKERS[1]}
    site.create(_NAME, low=bounds["min"], high=bounds["max"], slots=16, launch={"command": command})
    until(lambda: len(site.ready_workers(_NAME)) >= _WORKERS[0], what="workers", within_s=_START_S)


def _run(site: Installation, seconds: float) -> tuple[Account, Storm]:
    storm = Storm(site)
    below = f"/e/{_NAME}"
    command = python("chaos_load", str(site.port), below + PATH, below + "/upload", site.key, str(seconds))
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=BENCH) as load:
        # Let the load begin, and end in peace.
        time.sleep(1.0)
        storm.rage(seconds - 3.0)
        assert load.stdout is not None
        text = load.stdout.read()
    return msgspec.json.decode(text, type=Account), storm


def _judge(part: Part, account: Account, killed: dict[str, float]) -> None:
    part.broken += [f"{count} x {what}" for what, count in account.wrong.items()]
    cut = [stream for stream in account.streams if not stream.whole]
    for stream in cut:
        at = killed.get(stream.worker)
        if at is None or stream.ended_at < at:
            part.broken.append(f"a stream of worker {stream.worker} was cut, which nobody had killed")
    under_way = [stream for stream in account.streams if _under_way(stream, killed)]
    if len(under_way) != len(cut):
        part.broken.append(f"{len(cut)} streams were cut, and {len(under_way)} under way on workers that were killed")
    part.rows.append(Row("streams of killed workers", {"count": len(under_way)}))
    part.rows.append(Row("streams cut", {"count": len(cut)}))
    for lost in account.lost:
        if not any(lost.began_at <= at + _TIE_S and lost.ended_at >= at for at in killed.values()):
            part.broken.append(f"the {lost.kind} of {lost.ended_at - lost.began_at:.3f} s failed with its worker alive")
    part.rows.append(Row("502, on killed workers", {"count": len(account.lost)}))


def _under_way(stream: StreamRun, killed: dict[str, float]) -> bool:
    at = killed.get(stream.worker)
    if at is None or stream.began_at > at + _TIE_S:
        return False
    return stream.ended_at > at + (_TIE_S if stream.whole else 0.0)
