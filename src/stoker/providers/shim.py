"""Owns one local worker, whatever becomes of Stoker: holds its lock and its pipes, stamps its output, records its end.

Run as `python -I -S shim.py FOLDER` by the process provider. Standard library only, one thread, no polling. The folder:
`spec.json` (what to run), `lock` (held while this lives; contains its process id), `started` (it has run), `log` and
`log.1` (stamped output), `stop.json` (grace of a stop, read at SIGTERM), `exit.json` (how it ended).
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
HELD = 3
ENDED = 4
NO_SPEC = 5

# Whoever lists workers may hold a shared lock for a moment.
LOCK_TRIES, LOCK_PAUSE_S = 50, 0.01
# What a command leaves behind when it ends by itself gets this long after SIGTERM.
LEFTOVER_GRACE_S = 1.0
KILL_AGAIN_S = 0.1
LINE_BYTES_MAX = 16 * 1024
READ_BYTES = 64 * 1024
DESCRIPTORS_MAX = 1_048_576
# Somebody outside its descendants may hold the worker's output open: its end is not waited for any longer than this.
DRAIN_S = 0.5

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36


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
    descriptor = os.open(os.path.join(folder, "lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    for _ in range(LOCK_TRIES):
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(LOCK_PAUSE_S)
            continue
        return descriptor
    return None


class Log:
    """Stamped lines in `log`, moved to `log.1` at half of the limit."""

    def __init__(self, folder: str, bytes_max: int) -> None:
        self._path = os.path.join(folder, "log")
        self._half = max(4096, bytes_max // 2)
        self._descriptor = self._open()
        self._size = os.fstat(self._descriptor).st_size
        self._rest = {"stdout": b"", "stderr": b""}

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
        stamp = f"{time.time():.3f} {stream} ".encode()
        out = bytearray()
        for line in lines:
            for start in range(0, max(1, len(line)), LINE_BYTES_MAX):
                out += stamp + line[start : start + LINE_BYTES_MAX].rstrip(b"\r") + b"\n"
        # A full disk must not end the worker: the lines are lost, it goes on.
        with contextlib.suppress(OSError):
            view = memoryview(bytes(out))
            while view:
                view = view[os.write(self._descriptor, view) :]
            self._size += len(out)
            if self._size >= self._half:
                self._rotate()

    def _rotate(self) -> None:
        os.replace(self._path, self._path + ".1")
        os.close(self._descriptor)
        self._descriptor, self._size = self._open(), 0


def _spawn(spec: dict[str, object], stdout: int, stderr: int) -> tuple[int, int | None]:
    """Start the command in a session of its own. Its process id, and the error number when it could not be executed."""
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
            for number in (signal.SIGTERM, signal.SIGCHLD, signal.SIGINT, signal.SIGHUP, signal.SIGPIPE):
                signal.signal(number, signal.SIG_DFL)
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
            os.dup2(stdout, 1)
            os.dup2(stderr, 2)
            os.chdir(str(cwd))
            os.execvpe(argv[0], argv, env)
        except OSError as exc:
            os.write(writing, str(exc.errno).encode())
        finally:
            os._exit(127)
    os.close(writing)
    error = os.read(reading, 16)
    os.close(reading)
    return pid, int(error) if error else None


def _children(pid: int) -> list[int]:
    with contextlib.suppress(OSError), open(f"/proc/{pid}/task/{pid}/children", "rb") as file:
        return [int(child) for child in file.read().split()]
    return []


def descendants(pid: int) -> list[int]:
    """All processes below this one, parents first. Linux only; elsewhere none are found."""
    found: list[int] = []
    todo = [pid]
    while todo:
        for child in _children(todo.pop()):
            found.append(child)
            todo.append(child)
    return found


class Shim:
    """The life of one worker."""

    def __init__(self, folder: str, spec: dict[str, object]) -> None:
        self._folder = folder
        self._log = Log(folder, int(str(spec["log_bytes"])))
        self._selector = selectors.DefaultSelector()
        self._main: int | None = None
        self._status: int | None = None
        self._kill_at: float | None = None
        self._stopping = False
        self._spec = spec

    def run(self, acknowledge: int) -> None:
        """Start the command, say so, and live until nothing of it is left."""
        wake_reading, wake_writing = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        signal.set_wakeup_fd(wake_writing, warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGCHLD):
            signal.signal(number, lambda *_: None)
        for number in (signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        self._selector.register(wake_reading, selectors.EVENT_READ, None)
        ends = {}
        for stream in ("stdout", "stderr"):
            reading, ends[stream] = os.pipe2(os.O_CLOEXEC)
            os.set_blocking(reading, False)
            self._selector.register(reading, selectors.EVENT_READ, stream)
        pid, error = _spawn(self._spec, ends["stdout"], ends["stderr"])
        for end in ends.values():
            os.close(end)
        if error is not None:
            os.waitpid(pid, 0)
            self._not_executed(error)
            os.write(acknowledge, b"1")
            return
        self._main = pid
        os.write(acknowledge, b"1")
        os.close(acknowledge)
        while not self._turn():
            pass
        self._drain()
        self._record()

    def _not_executed(self, error: int) -> None:
        argv = self._spec["argv"]
        assert isinstance(argv, list)
        reason = f"cannot run {argv[0]!r}: {os.strerror(error)}"
        self._log.take("stderr", f"{reason}\n".encode())
        code = 127 if error == errno.ENOENT else 126
        _write(self._folder, "exit.json", {"code": code, "at": time.time(), "reason": reason})

    def _turn(self) -> bool:
        """Wait for something and deal with it. True when nothing of the worker is left."""
        wait_s = None if self._kill_at is None else max(0.0, self._kill_at - time.monotonic())
        for key, _ in self._selector.select(wait_s):
            if key.data is None:
                self._signals(os.read(key.fd, 4096))
            else:
                self._read(key.fd, key.data)
        if self._kill_at is not None and time.monotonic() >= self._kill_at:
            self._signal_all(signal.SIGKILL)
            self._kill_at = time.monotonic() + KILL_AGAIN_S
        return self._reap()

    def _signals(self, numbers: bytes) -> None:
        if signal.SIGTERM in numbers:
            self._stop()

    def _stop(self) -> None:
        grace_s = 10.0
        with contextlib.suppress(OSError, ValueError, KeyError), open(os.path.join(self._folder, "stop.json")) as file:
            grace_s = float(json.load(file)["grace_s"])
        kill_at = time.monotonic() + grace_s
        # Asked again: a shorter grace counts, a longer one comes too late.
        self._kill_at = kill_at if self._kill_at is None else min(self._kill_at, kill_at)
        if not self._stopping:
            self._stopping = True
            # A process that was paused would not see its SIGTERM.
            self._signal_group(signal.SIGCONT)
            self._signal_group(signal.SIGTERM)

    def _signal_group(self, number: int) -> None:
        if self._main is not None and self._status is None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._main, number)
        else:
            self._signal_all(number)

    def _signal_all(self, number: int) -> None:
        for pid in descendants(os.getpid()):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, number)
        if self._main is not None and self._status is None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._main, number)

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
                if self._kill_at is None:
                    # The worker is over; whatever it started goes with it.
                    self._signal_all(signal.SIGTERM)
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
        deadline = time.monotonic() + DRAIN_S
        for key in list(self._selector.get_map().values()):
            if key.data is not None:
                while time.monotonic() < deadline and self._read(int(key.fd), key.data):
                    pass
        self._log.finish()

    def _record(self) -> None:
        assert self._status is not None
        code = os.waitstatus_to_exitcode(self._status)
        reason = f"exited with code {code}" if code >= 0 else f"killed by signal {-code} ({_name(-code)})"
        if self._stopping:
            reason = f"stopped: {reason}"
        _write(self._folder, "exit.json", {"code": code, "at": time.time(), "reason": reason})


def _name(number: int) -> str:
    # Real-time signals have no names.
    return signal.Signals(number).name if number in signal.Signals.__members__.values() else "unnamed"


def _own(folder: str, lock: int, spec: dict[str, object], acknowledge: int) -> None:
    """The part that goes on in the background, holding the lock."""
    os.setsid()
    nothing = os.open(os.devnull, os.O_RDWR)
    for standard in (0, 1, 2):
        os.dup2(nothing, standard)
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)
    os.ftruncate(lock, 0)
    os.pwrite(lock, str(os.getpid()).encode(), 0)
    _write(folder, "started", time.time())
    Shim(folder, spec).run(acknowledge)


def main(folder: str) -> int:
    """Returns in the process that was called; the worker's owner is another one by then."""
    # Whoever started this may have left descriptors open; held here they would outlive it by the life of a worker.
    os.closerange(3, DESCRIPTORS_MAX)
    lock = _lock(folder)
    if lock is None:
        return HELD
    if os.path.exists(os.path.join(folder, "started")):
        return ENDED
    try:
        with open(os.path.join(folder, "spec.json"), "rb") as file:
            spec = json.load(file)
    except FileNotFoundError:
        return NO_SPEC
    reading, writing = os.pipe2(os.O_CLOEXEC)
    if os.fork() == 0:
        code = 1
        try:
            os.close(reading)
            _own(folder, lock, spec, writing)
            code = 0
        finally:
            os._exit(code)
    os.close(writing)
    return 0 if os.read(reading, 1) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
