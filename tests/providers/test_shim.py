"""The shim on its own: its log, its patience, what it costs, and that nothing in its start can go wrong halfway."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from providers.workers import alive
from stoker.providers import shim
from stoker.providers.shim import LINE_BYTES_MAX, Log, descendants


def until(holds: Callable[[], object], *, what: str, within_s: float = 60.0) -> None:
    deadline = time.monotonic() + within_s
    while not holds():
        assert time.monotonic() < deadline, f"no {what} within {within_s} s"
        time.sleep(0.01)


def written(folder: Path) -> list[tuple[str, bytes]]:
    """All lines of a log, oldest first, as (stream, text); every one must have its stamp."""
    data = b"".join((folder / name).read_bytes() for name in ("log.1", "log") if (folder / name).exists())
    assert not data or data.endswith(b"\n")
    found = []
    for line in data.split(b"\n")[:-1]:
        stamp, stream, text = line.split(b" ", 2)
        assert abs(float(stamp) - time.time()) < 60
        found.append((stream.decode(), text))
    return found


class TestLog:
    def test_lines_are_written_when_they_are_complete(self, tmp_path: Path) -> None:
        log = Log(str(tmp_path), 1_000_000)
        log.take("stdout", b"one\ntw")
        log.take("stderr", b"else\r\n")
        assert written(tmp_path) == [("stdout", b"one"), ("stderr", b"else")]
        log.take("stdout", b"o\n\n")
        log.take("stdout", b"the end")
        log.finish()
        log.finish()
        assert written(tmp_path)[2:] == [("stdout", b"two"), ("stdout", b""), ("stdout", b"the end")]

    @pytest.mark.parametrize("piece", [1_000, 65_536])
    def test_a_line_over_the_limit_is_split_and_none_of_it_is_lost(self, tmp_path: Path, piece: int) -> None:
        log = Log(str(tmp_path), 1_000_000)
        data = bytes(33 + index % 90 for index in range(5 * LINE_BYTES_MAX // 2))
        for start in range(0, len(data), piece):
            log.take("stdout", data[start : start + piece])
        log.take("stdout", b"\nnext\n")
        *parts, last = [text for _, text in written(tmp_path)]
        assert b"".join(parts) == data
        assert [len(part) for part in parts] == [LINE_BYTES_MAX, LINE_BYTES_MAX, LINE_BYTES_MAX // 2]
        assert last == b"next"

    def test_memory_for_a_line_without_an_end_is_bounded(self, tmp_path: Path) -> None:
        log = Log(str(tmp_path), 4_000_000)
        for _ in range(100):
            log.take("stdout", b"\0" * 10_000)
        before = sum(len(text) for _, text in written(tmp_path))
        log.finish()
        assert 1_000_000 - before <= LINE_BYTES_MAX
        assert sum(len(text) for _, text in written(tmp_path)) == 1_000_000

    @pytest.mark.parametrize(
        "line",
        [pytest.param(b"", id="empty"), pytest.param(b"x" * 99, id="short"), pytest.param(b"y" * 16_000, id="long")],
    )
    def test_the_two_files_never_outgrow_the_limit_and_hold_the_end(self, tmp_path: Path, line: bytes) -> None:
        limit = 150_000
        log = Log(str(tmp_path), limit)
        for number in range(60):
            many = max(1, 60_000 // (len(line) + 8))
            log.take("stdout", b"".join(b"%s%d.%d\n" % (line, number, index) for index in range(many)))
            sizes = [(tmp_path / name).stat().st_size for name in ("log", "log.1") if (tmp_path / name).exists()]
            assert max(sizes) <= limit // 2
        texts = [text.removeprefix(line) for _, text in written(tmp_path)]
        assert texts[-1] == b"59.%d" % (many - 1)
        positions = [tuple(map(int, text.split(b"."))) for text in texts]
        assert positions == sorted(positions)
        assert len(positions) == (positions[-1][0] - positions[0][0]) * many + positions[-1][1] - positions[0][1] + 1

    def test_a_full_disk_loses_lines_and_nothing_else(self, tmp_path: Path) -> None:
        (tmp_path / "log").symlink_to("/dev/full")
        log = Log(str(tmp_path), 1_000_000)
        log.take("stdout", b"lost\n")
        (tmp_path / "log").unlink()
        log.take("stdout", b"rest")
        log.finish()
        assert not (tmp_path / "log").exists()

    def test_half_a_line_that_did_not_fit_is_taken_back(self, tmp_path: Path) -> None:
        script = (
            "import resource, signal, sys; sys.path.insert(0, sys.argv[2]); from stoker.providers.shim import Log\n"
            "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
            "log = Log(sys.argv[1], 1_000_000); log.take('stdout', b'first\\n')\n"
            "resource.setrlimit(resource.RLIMIT_FSIZE, (100, resource.RLIM_INFINITY))\n"
            "log.take('stdout', b'x' * 200 + b'\\n')\n"
            "resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))\n"
            "log.take('stdout', b'last\\n')"
        )
        source = str(Path(shim.__file__).parents[2])
        subprocess.run([sys.executable, "-c", script, str(tmp_path), source], check=True, timeout=30)
        assert [text for _, text in written(tmp_path)] == [b"first", b"last"]

    def test_a_rotation_that_came_only_half_the_way_is_completed(self, tmp_path: Path) -> None:
        log = Log(str(tmp_path), 0)
        (tmp_path / "log").rename(tmp_path / "log.1")
        for number in range(1_000):
            log.take("stdout", b"%d " % number + b"x" * 100 + b"\n")
        assert written(tmp_path)[-1][1].startswith(b"999 ")
        assert (tmp_path / "log").exists()


def prepared(folder: Path, *argv: str) -> Path:
    (folder / "work").mkdir(parents=True)
    content = {
        "argv": argv,
        "env": {"PATH": os.environ["PATH"], "STOKER_WORKER_FOLDER": str(folder)},
        "cwd": str(folder / "work"),
        "log_bytes": 100_000,
    }
    (folder / "spec.json").write_text(json.dumps(content))
    return folder


def launch(folder: Path) -> subprocess.Popen[bytes]:
    argv = [sys.executable, "-I", "-S", shim.__file__, str(folder)]
    return subprocess.Popen(argv, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, env={}, start_new_session=True)


def started(folder: Path) -> tuple[int, str]:
    """Run the shim; its exit code and what it said."""
    with launch(folder) as process:
        _, said = process.communicate(timeout=60)
    return process.returncode, said.decode()


@contextmanager
def owned(folder: Path) -> Iterator[int]:
    """The process id of the shim that owns this folder; it and its worker are ended in the end."""
    pid = int((folder / "lock").read_text())
    try:
        yield pid
    finally:
        left = [pid, *descendants(pid)]
        (folder / "stop.json").write_text('{"grace_s": 0}')
        if alive(pid):
            os.kill(pid, signal.SIGTERM)
        until(lambda: not any(map(alive, left)), what="end of the shim")


def ending(folder: Path) -> tuple[object, str]:
    until((folder / "exit.json").exists, what="end")
    recorded = json.loads((folder / "exit.json").read_text())
    return recorded["code"], recorded["reason"]


def files_of(pid: int) -> set[str]:
    found = set()
    with contextlib.suppress(FileNotFoundError):
        for name in os.listdir(f"/proc/{pid}/fd"):
            with contextlib.suppress(FileNotFoundError):
                found.add(os.readlink(f"/proc/{pid}/fd/{name}"))
    return found


def status(pid: int) -> dict[str, str]:
    return dict(line.split(":\t", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())


@pytest.mark.process
class TestShim:
    def test_an_idle_worker_costs_no_time_and_little_memory(self, tmp_path: Path) -> None:
        folder = prepared(tmp_path / "a", "sleep", "300")
        assert started(folder) == (0, "")
        with owned(folder) as pid:

            def rests() -> bool:
                """Nothing wakes it for a while, once it has done all there was to do."""
                before = status(pid)["voluntary_ctxt_switches"]
                time.sleep(0.4)
                return status(pid)["voluntary_ctxt_switches"] == before

            until(rests, what="rest")
            assert int(status(pid)["VmRSS"].split()[0]) < 20 * 1024

    def test_it_answers_that_a_worker_runs_or_has_run(self, tmp_path: Path) -> None:
        folder = prepared(tmp_path / "a", "sh", "-c", "echo >> runs; read _; exec sleep 300")
        assert started(folder)[0] == 0
        with owned(folder):
            assert started(folder)[0] == shim.ENDED
        assert started(folder)[0] == shim.ENDED
        assert (folder / "work" / "runs").read_text() == "\n"

    def test_without_a_folder_or_a_spec_nothing_runs_and_it_says_so(self, tmp_path: Path) -> None:
        code, said = started(tmp_path / "a")
        assert code == shim.NO_SPEC
        assert "folder is gone" in said
        (tmp_path / "a").mkdir()
        assert started(tmp_path / "a")[0] == shim.NO_SPEC
        assert not (tmp_path / "a" / "started").exists()

    def test_a_failure_before_the_command_ran_is_told_and_may_be_tried_again(self, tmp_path: Path) -> None:
        folder = prepared(tmp_path / "a", "true")
        (folder / "log").mkdir()
        code, said = started(folder)
        assert code == 1
        assert "Is a directory" in said
        (folder / "log").rmdir()
        assert started(folder)[0] == 0
        assert ending(folder) == (0, "exited with code 0")

    def test_a_worker_survives_that_nobody_waits_for_its_start_any_more(self, tmp_path: Path) -> None:
        folder = prepared(tmp_path / "a", "sleep", "300")
        # Opening it for writing waits for a reader: the shim has its lock by then, and has not run its command.
        os.mkfifo(folder / "log")
        with launch(folder) as process:
            until(lambda: descendants(process.pid), what="owner")
            [pid] = descendants(process.pid)
            os.kill(process.pid, signal.SIGKILL)
            process.wait(60)
            reading = os.open(folder / "log", os.O_RDONLY)
            try:
                until((folder / "started").exists, what="start")
                with owned(folder) as owner:
                    assert owner == pid
                    until(lambda: descendants(owner), what="command")
                    until(lambda: os.readlink(f"/proc/{owner}/fd/2") == os.devnull, what="life in the background")
                    until(lambda: status(owner)["State"].startswith("S"), what="rest")
                    assert descendants(owner)
                    assert not (folder / "exit.json").exists()
                # Let go of by the owner's end only, so the worker ran under it until then.
                assert ending(folder)[1].startswith("stopped: killed by signal")
            finally:
                os.close(reading)

    @pytest.mark.parametrize("grace", ['{"grace_s": NaN}', '{"grace_s": -1}', '{"grace_s": 1e300}', "[]", "{", None])
    def test_a_grace_that_makes_no_sense_still_stops(self, tmp_path: Path, grace: str | None) -> None:
        folder = prepared(
            tmp_path / "a", "sh", "-c", "trap 'sleep 0.1; exit 5' TERM; : > ready; while :; do sleep 0.05; done"
        )
        assert started(folder)[0] == 0
        with owned(folder) as pid:
            until((folder / "work" / "ready").exists, what="trap")
            if grace is not None:
                (folder / "stop.json").write_text(grace)
            os.kill(pid, signal.SIGTERM)
            assert ending(folder) == (5, "stopped: exited with code 5")

    @pytest.mark.parametrize(
        ("script", "expected"),
        [
            pytest.param("kill -SEGV $$", (-11, "killed by signal 11 (SIGSEGV)"), id="signal"),
            pytest.param("kill -40 $$", (-40, "killed by signal 40 (unnamed)"), id="real-time signal"),
            pytest.param("exec >&- 2>&-; sleep 0.1; exit 9", (9, "exited with code 9"), id="closed its output"),
        ],
    )
    def test_it_records_how_the_command_ended(self, tmp_path: Path, script: str, expected: tuple[int, str]) -> None:
        folder = prepared(tmp_path / "a", "sh", "-c", script)
        assert started(folder)[0] == 0
        assert ending(folder) == expected

    def test_a_hangup_or_an_interrupt_of_a_terminal_does_not_end_it(self, tmp_path: Path) -> None:
        folder = prepared(tmp_path / "a", "sleep", "300")
        assert started(folder)[0] == 0
        with owned(folder) as pid:
            for number in (signal.SIGHUP, signal.SIGINT):
                os.kill(pid, number)
            assert alive(pid)
            assert os.getsid(pid) == pid
            assert os.getsid(descendants(pid)[0]) != pid

    def test_the_lock_of_a_folder_that_was_put_away_counts_for_nothing(self, tmp_path: Path) -> None:
        folder = prepared(tmp_path / "a", "true")
        (folder / "lock").write_text("")
        with (folder / "lock").open("rb") as held:
            fcntl.flock(held, fcntl.LOCK_SH)
            with launch(folder) as process:
                # It waits for the lock, for a while.
                until(lambda: str(folder / "lock") in files_of(process.pid), what="lock")
                folder.rename(tmp_path / "elsewhere")
                fcntl.flock(held, fcntl.LOCK_UN)
                # The other one when this test was too slow for it.
                assert process.wait(60) in (shim.NO_SPEC, shim.HELD)
                assert process.stderr is not None
                process.stderr.read()
        assert not (tmp_path / "elsewhere" / "started").exists()


@pytest.mark.process
def test_descendants_are_found_below_threads_too() -> None:
    script = (
        "import subprocess, threading; "
        "threading.Thread(target=lambda: subprocess.run(['sh', '-c', 'sleep 300 & wait'])).start()"
    )
    with subprocess.Popen([sys.executable, "-I", "-S", "-c", script], start_new_session=True) as process:
        try:
            until(lambda: len(descendants(process.pid)) == 2, what="grandchild")
        finally:
            os.killpg(process.pid, signal.SIGKILL)
    assert descendants(process.pid) == []
