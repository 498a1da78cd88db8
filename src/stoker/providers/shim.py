"""Owns one local worker, whatever becomes of Stoker: holds its lock and its pipes, stamps its output, records its end.

Run as `python -I -S shim.py FOLDER` by the process provider. Standard library only, one thread, no polling. The folder:
`spec.json` (what to run), `lock` (held while this lives; contains its process id), `started` (it has run: it never runs
again), `log` and `log.1` (stamped output), `stop.json` (grace of a stop, read at SIGTERM), `exit.json` (how it ended).
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import json
import os
import selectors
import signal
import sys
import time

# Exit codes of the starting process, which its caller understands. 0: the worker is owned, and runs or has ended.
HELD, ENDED, NO_SPEC = 3, 4, 5

# Whoever lists workers may hold a shared lock for a moment.
LOCK_TRIES, LOCK_PAUSE_S = 50, 0.01
# What a command leaves behind when it ends by itself gets this long after SIGTERM.
LEFTOVER_GRACE_S = 1.0
# When nobody said, or nothing that makes sense: what somebody else's SIGTERM means.
GRACE_S, GRACE_MAX_S = 10.0, 86_400.0
# Killed again, since a process may have been made meanwhile; ever less often, since one may hang in a driver.
KILL_AGAIN_S, KILL_AGAIN_MAX_S = 0.05, 2.0
# `select` refuses what the kernel's timers cannot hold.
WAIT_MAX_S = 3600.0
LINE_BYTES_MAX, READ_BYTES = 16 * 1024, 64 * 1024
DESCRIPTORS_MAX = 1_048_576
# Somebody outside its descendants may hold the worker's output open: its end is not waited for any longer than this.
DRAIN_S = 0.5
# A rotated log must have room for the longest line.
LOG_HALF_MIN = 2 * LINE_BYTES_MAX

_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36


def _prctl(option: int, value: int) -> None:
    """On Linux; elsewhere a killed shim leaves its command behind."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0)


def _write(folder: str, name: str, value: object) -> None:
    """Atomically: a reader finds all of it or nothing."""
    path = os.path.join(folder, name)
    descriptor = os.open(path + ".new", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        os.write(descriptor, json.dumps(value).encode())
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    os.replace(path + ".new", path)


def _lock(folder: str) -> int | None:
    path = os.path.join(folder, "lock")
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    for _ in range(LOCK_TRIES):
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(LOCK_PAUSE_S)
            continue
        # The folder may have been put away in between: a lock on a file that is not there keeps nobody out.
        return descriptor if os.path.samestat(os.fstat(descriptor), os.stat(path)) else None
    return None


class Log:
    """Stamped lines in `log`, which becomes `log.1` before it outgrows half of the limit (and 32 KiB)."""

    def __init__(self, folder: str, bytes_max: int) -> None:
        self._path = os.path.join(folder, "log")
        self._half = max(LOG_HALF_MIN, bytes_max // 2)
        self._descriptor = self._open()
        self._size = os.fstat(self._descriptor).st_size
        self._rest = {"stdout": b"", "stderr": b""}
        self._at_us = 0

    def _open(self) -> int:
        return os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)

    def take(self, stream: str, data: bytes) -> None:
        """Output as it comes; a line is written when it is complete or too long."""
        *lines, rest = (self._rest[stream] + data).split(b"\n")
        while len(rest) > LINE_BYTES_MAX:
            lines.append(rest[:LINE_BYTES_MAX])
            rest = rest[LINE_BYTES_MAX:]
        self._rest[stream] = rest
        if lines:
            self._append(stream, lines)

    def finish(self) -> None:
        """Write what is left of a last line without an end."""
        for stream, rest in self._rest.items():
            if rest:
                self._append(stream, [rest])
                self._rest[stream] = b""

    def _append(self, stream: str, lines: list[bytes]) -> None:
        out = bytearray()
        # A full disk must not end the worker: the lines are lost, it goes on.
        with contextlib.suppress(OSError):
            for line in lines:
                for start in range(0, max(1, len(line)), LINE_BYTES_MAX):
                    piece = self._stamp(stream) + line[start : start + LINE_BYTES_MAX].rstrip(b"\r") + b"\n"
                    if self._size + len(out) + len(piece) > self._half:
                        self._write(out)
                        out.clear()
                        self._rotate()
                    out += piece
            self._write(out)

    def _stamp(self, stream: str) -> bytes:
        """The time, but later than that of the line before: by it a reader finds the place where it was."""
        self._at_us = max(self._at_us + 1, int(time.time() * 1e6))
        return b"%d.%06d %b " % (*divmod(self._at_us, 1_000_000), stream.encode())

    def _write(self, out: bytearray) -> None:
        rest = bytes(out)
        try:
            while rest:
                rest = rest[os.write(self._descriptor, rest) :]
        except OSError:
            # Half a line would spoil the next one as well.
            os.ftruncate(self._descriptor, self._size)
            raise
        self._size += len(out)

    def _rotate(self) -> None:
        # Missing when the last rotation came only half the way.
        with contextlib.suppress(FileNotFoundError):
            os.replace(self._path, self._path + ".1")
        descriptor = self._open()
        os.close(self._descriptor)
        self._descriptor, self._size = descriptor, 0


def _spawn(spec: dict[str, object], stdout: int, stderr: int) -> tuple[int, str]:
    """Start the command in a session of its own. Its process id; and why it could not be executed, as an error number
    and a text, else nothing.
    """
    argv, env, cwd = spec["argv"], spec["env"], spec["cwd"]
    assert isinstance(argv, list)
    assert isinstance(env, dict)
    reading, writing = os.pipe2(os.O_CLOEXEC)
    shim = os.getpid()
    pid = os.fork()
    if pid == 0:
        try:
            os.setsid()
            _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
            if os.getppid() != shim:
                os._exit(1)
            signal.set_wakeup_fd(-1)
            # All, since who started this may have ignored some.
            for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
                signal.signal(number, signal.SIG_DFL)
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
            os.dup2(stdout, 1)
            os.dup2(stderr, 2)
            os.chdir(str(cwd))
            os.execvpe(argv[0], argv, env)
        except (OSError, ValueError) as exc:
            code = getattr(exc, "errno", None) or 0
            os.write(writing, f"{code} {os.strerror(code) if code else exc}".encode(errors="replace")[:512])
        finally:
            os._exit(127)
    os.close(writing)
    error = os.read(reading, 512)
    os.close(reading)
    return pid, error.decode(errors="replace")


def descendants(pid: int) -> list[int]:
    """All processes below this one, nearest first. Linux only; elsewhere none are found."""
    # By the parents that all processes name: a process's list of children has a part for each of its threads.
    children: dict[int, list[int]] = {}
    for name in os.listdir("/proc") if sys.platform == "linux" else ():
        if name.isdigit():
            with contextlib.suppress(OSError), open(f"/proc/{name}/stat", "rb") as file:
                parent = int(file.read().rpartition(b")")[2].split()[1])
                children.setdefault(parent, []).append(int(name))
    found = list(children.get(pid, ()))
    for child in found:
        found.extend(children.get(child, ()))
    return found


class Shim:
    """The life of one worker: `start`, then `live`. From the moment that this is made, SIGTERM means to stop it."""

    def __init__(self, folder: str, spec: dict[str, object]) -> None:
        self._folder = folder
        self._log = Log(folder, int(str(spec["log_bytes"])))
        self._selector = selectors.DefaultSelector()
        self._main: int | None = None
        self._status: int | None = None
        self._kill_at: float | None = None
        self._kill_again_s = KILL_AGAIN_S
        self._stopping = False
        self._ended_by_stop = False
        self._spec = spec
        wake_reading, wake_writing = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        signal.set_wakeup_fd(wake_writing, warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGCHLD):
            signal.signal(number, lambda *_: None)
        for number in (signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        self._selector.register(wake_reading, selectors.EVENT_READ, None)

    def start(self) -> None:
        """Run the command; one that cannot be executed has ended. Raises `OSError` when nothing has run."""
        ends = {}
        for stream in ("stdout", "stderr"):
            reading, ends[stream] = os.pipe2(os.O_CLOEXEC)
            os.set_blocking(reading, False)
            self._selector.register(reading, selectors.EVENT_READ, stream)
        pid, error = _spawn(self._spec, ends["stdout"], ends["stderr"])
        for end in ends.values():
            os.close(end)
        if error:
            os.waitpid(pid, 0)
            self._not_executed(error)
        else:
            self._main = pid

    def _not_executed(self, error: str) -> None:
        argv = self._spec["argv"]
        assert isinstance(argv, list)
        number, _, text = error.partition(" ")
        reason = f"cannot run {argv[0]!r}: {text}"
        self._log.take("stderr", f"{reason}\n".encode(errors="replace"))
        self._record(127 if int(number) == errno.ENOENT else 126, reason)

    def live(self) -> None:
        """Until nothing of the worker is left."""
        if self._main is None:
            return
        try:
            while not self._turn():
                pass
            self._drain()
            self._record(*self._outcome())
        except Exception as exc:
            self._signal_all(signal.SIGKILL)
            self._record(None, f"its shim failed: {exc}")
            raise

    def _turn(self) -> bool:
        """Wait for something and deal with it. True when nothing of the worker is left."""
        wait_s = None if self._kill_at is None else min(WAIT_MAX_S, max(0.0, self._kill_at - time.monotonic()))
        for key, _ in self._selector.select(wait_s):
            if key.data is not None:
                self._read(key.fd, key.data)
            elif signal.SIGTERM in os.read(key.fd, 4096):
                self._stop()
        if self._kill_at is not None and time.monotonic() >= self._kill_at:
            self._signal_all(signal.SIGKILL)
            self._kill_at = time.monotonic() + self._kill_again_s
            self._kill_again_s = min(2 * self._kill_again_s, KILL_AGAIN_MAX_S)
        return self._reap()

    def _stop(self) -> None:
        kill_at = time.monotonic() + self._grace_s()
        # Asked again: a shorter grace counts, a longer one comes too late.
        self._kill_at = kill_at if self._kill_at is None else min(self._kill_at, kill_at)
        if not self._stopping:
            self._stopping = True
            # A process that was paused would not see its SIGTERM.
            for number in (signal.SIGCONT, signal.SIGTERM):
                if self._main is None or self._status is not None:
                    self._signal_all(number)
                else:
                    with contextlib.suppress(ProcessLookupError, PermissionError):
                        os.killpg(self._main, number)

    def _grace_s(self) -> float:
        try:
            with open(os.path.join(self._folder, "stop.json"), "rb") as file:
                grace_s = float(json.load(file)["grace_s"])
        except (OSError, ValueError, KeyError, TypeError):
            return GRACE_S
        return min(grace_s, GRACE_MAX_S) if grace_s >= 0 else GRACE_S

    def _signal_all(self, number: int, *, group_too: bool = True) -> None:
        for pid in descendants(os.getpid()):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                if group_too or os.getpgid(pid) != self._main:
                    os.kill(pid, number)

    def _reap(self) -> bool:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return True
            if pid == 0:
                return False
            if pid == self._main:
                self._status = status
                self._ended_by_stop = self._stopping
                # The worker is over; whatever it started goes with it. The group was told by a stop, and has its grace.
                self._signal_all(signal.SIGTERM, group_too=not self._stopping)
                if self._kill_at is None:
                    self._kill_at = time.monotonic() + LEFTOVER_GRACE_S

    def _read(self, descriptor: int, stream: str) -> bool:
        """Take what is there. False at the end of the stream, or when there is nothing."""
        try:
            data = os.read(descriptor, READ_BYTES)
        except BlockingIOError:
            return False
        if data:
            self._log.take(stream, data)
            return True
        self._selector.unregister(descriptor)
        os.close(descriptor)
        return False

    def _drain(self) -> None:
        """Take what is left in the pipes."""
        for key in list(self._selector.get_map().values()):
            deadline = time.monotonic() + DRAIN_S
            if key.data is not None:
                while time.monotonic() < deadline and self._read(int(key.fd), key.data):
                    pass

    def _outcome(self) -> tuple[int, str]:
        assert self._status is not None
        code = os.waitstatus_to_exitcode(self._status)
        # Real-time signals have no names.
        name = signal.Signals(-code).name if -code in list(signal.Signals) else "unnamed"
        reason = f"exited with code {code}" if code >= 0 else f"killed by signal {-code} ({name})"
        return code, f"stopped: {reason}" if self._ended_by_stop else reason

    def _record(self, code: int | None, reason: str) -> None:
        self._log.finish()
        _write(self._folder, "exit.json", {"code": code, "at": time.time(), "reason": reason})


def _own(folder: str, lock: int, spec: dict[str, object], acknowledge: int) -> None:
    """The part that goes on in the background, holding the lock."""
    os.setsid()
    os.chdir("/")
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)
    shim = Shim(folder, spec)
    # Only now, since whoever reads it may signal it.
    os.pwrite(lock, str(os.getpid()).encode(), 0)
    _write(folder, "started", time.time())
    try:
        shim.start()
    except OSError:
        # No process could be made: nothing has run, and it may be tried again.
        os.unlink(os.path.join(folder, "started"))
        raise
    nothing = os.open(os.devnull, os.O_RDWR)
    for standard in (0, 1, 2):
        os.dup2(nothing, standard)
    # Whoever waits for it may have lost patience; the worker runs all the same.
    with contextlib.suppress(OSError):
        os.write(acknowledge, b"1")
    os.close(acknowledge)
    shim.live()


def main(folder: str) -> int:
    """Returns in the process that was called when the worker's owner, another process by then, has started it."""
    # Whoever started this may have left descriptors open; held here they would outlive it by the life of a worker.
    os.closerange(3, DESCRIPTORS_MAX)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    started = os.path.join(folder, "started")
    # Before the lock, which means to everybody that a worker runs.
    if os.path.exists(started):
        return ENDED
    try:
        lock = _lock(folder)
        if lock is None:
            return HELD
        if os.path.exists(started):
            return ENDED
        os.ftruncate(lock, 0)
        with open(os.path.join(folder, "spec.json"), "rb") as file:
            spec = json.load(file)
    except FileNotFoundError as exc:
        sys.stderr.write(f"the worker's folder is gone: {exc}\n")
        return NO_SPEC
    reading, writing = os.pipe2(os.O_CLOEXEC)
    if os.fork() == 0:
        os.close(reading)
        _own(folder, lock, spec, writing)
        return 0
    os.close(writing)
    return 0 if os.read(reading, 1) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
