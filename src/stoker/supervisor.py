"""`stoker up`: binds the sockets, starts the roles, restarts them, holds their lifelines. Standard library only.

It serves nothing itself, so that nothing can stall or kill it: a role that dies leaves its listening socket here, where
connections wait for the next one.
"""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from stoker import tls
from stoker.domain.errors import Unavailable
from stoker.listening import Sockets, bind
from stoker.paths import Paths
from stoker.roles import REFUSED, Held, Order, hold
from stoker.settings import MASTER_KEY_VARIABLE, Settings

# The first restart is immediate; a role that keeps dying is given these pauses, the last one again and again.
RESTART_PAUSES_S = (0.0, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)
# A role that lived this long starts with a clean slate.
STEADY_S = 60.0
# The gateway finishes requests for up to 30 seconds; then nothing more is waited for.
ROLE_END_WAIT_S = 40.0
READY_WAIT_S = 60.0
SUCCESSOR_WAIT_S = 30.0

Say = Callable[[str], None]


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


@dataclass(slots=True)
class Role:
    """One role: how it is started, and the process that runs it now."""

    name: str
    command: list[str]
    inherited: tuple[int, ...]
    environ: Mapping[str, str]
    process: asyncio.subprocess.Process | None = None
    lifeline: int | None = None
    started_at: float = 0.0
    deaths: int = 0
    replaced: asyncio.Event = field(default_factory=asyncio.Event)

    async def start(self, *more: str, passing: tuple[int, ...] = ()) -> None:
        """Start its process, in a process group of its own: Ctrl-C is for the supervisor alone. `more` arguments, and
        the descriptors in `passing`, are for this start alone.
        """
        reading, self.lifeline = os.pipe()
        try:
            self.process = await asyncio.create_subprocess_exec(
                *self.command,
                "--lifeline-fd",
                str(reading),
                *more,
                pass_fds=(*self.inherited, reading, *passing),
                env=dict(self.environ),
                stdin=asyncio.subprocess.DEVNULL,
                process_group=0,
            )
        finally:
            os.close(reading)
        self.started_at = time.monotonic()

    def order(self, order: Order) -> None:
        """Say something over its lifeline; a role that is gone hears nothing."""
        if self.lifeline is not None:
            with contextlib.suppress(BrokenPipeError):
                os.write(self.lifeline, order.encode() + b"\n")

    def let_go(self) -> None:
        """End its lifeline."""
        if self.lifeline is not None:
            os.close(self.lifeline)
            self.lifeline = None

    async def ended(self, wait_s: float) -> None:
        """Wait for its end; kill it after `wait_s`."""
        if self.process is None:
            return
        try:
            await asyncio.wait_for(self.process.wait(), wait_s)
        except TimeoutError:
            _say(f"stoker: the {self.name} did not end within {wait_s:g} s and is killed")
            self.process.kill()
            await self.process.wait()

    async def start_successor(self) -> Role:
        """Start one that takes over from this one, and wait until it could. Raises `Unavailable` when it does not."""
        successor = Role(self.name, self.command, self.inherited, self.environ)
        reading, writing = os.pipe()
        said = b""
        try:
            try:
                await successor.start("--ready-fd", str(writing), passing=(writing,))
            finally:
                os.close(writing)
            said = await _line_of(reading, SUCCESSOR_WAIT_S)
        except (OSError, TimeoutError) as exc:
            _say(f"stoker: a new {self.name}: {exc or 'it says nothing'}")
        finally:
            os.close(reading)
        if not said:
            successor.let_go()
            await successor.ended(ROLE_END_WAIT_S)
            raise Unavailable(f"a new {self.name} does not start; the one that runs goes on")
        return successor

    def succeed(self, successor: Role) -> Role:
        """Become the successor. The one that this was, which is told to leave."""
        old = Role(self.name, self.command, self.inherited, self.environ, self.process, self.lifeline, self.started_at)
        self.process, self.lifeline = successor.process, successor.lifeline
        self.started_at, self.deaths = successor.started_at, 0
        old.order(Order.LEAVE)
        self.replaced.set()
        return old

    def next_pause_s(self) -> float:
        """After a death: how long to wait before the next start."""
        if time.monotonic() - self.started_at >= STEADY_S:
            self.deaths = 0
        self.deaths += 1
        return RESTART_PAUSES_S[min(self.deaths, len(RESTART_PAUSES_S)) - 1]


class Supervisor:
    """Runs the roles until told to stop."""

    def __init__(self, settings: Settings, sockets: Sockets, *, say: Say) -> None:
        self._settings = settings
        self._sockets = sockets
        self._say = say
        data_dir = str(settings.data_dir)
        environ = role_environ(settings, os.environ)
        http, link, public = sockets.control.fileno(), sockets.link.fileno(), sockets.public.fileno()
        control = [sys.executable, "-m", "stoker.starting", "stoker.serving", "--data-dir", data_dir]
        control += ["--http-fd", str(http), "--link-fd", str(link)]
        gateway = [sys.executable, "-m", "stoker.starting", "stoker.gateway.main", "--data-dir", data_dir]
        gateway += ["--listen-fd", str(public)]
        self.control = Role("control", control, (http, link), environ)
        # The role that everybody talks to is not to have what opens all secrets.
        without = {name: value for name, value in environ.items() if name != MASTER_KEY_VARIABLE}
        self.gateway = Role("gateway", gateway, (public,), without)
        self._interrupts: asyncio.Queue[None] = asyncio.Queue()
        self._terminated = asyncio.Event()
        self._was_ready = False
        self._refused = False
        self._had_terminal = _has_terminal()
        self._upgrading: asyncio.Task[None] | None = None
        self._leaving: set[asyncio.Task[None]] = set()

    def upgrade(self) -> None:
        """SIGHUP: replace the gateway by a new one, without loss. One at a time. Or the terminal has gone: stop."""
        if self._had_terminal and not _has_terminal():
            self._terminated.set()
            return
        if self._upgrading is None or self._upgrading.done():
            self._upgrading = asyncio.create_task(self._upgrade())

    async def _upgrade(self) -> None:
        paths = self._settings.paths
        try:
            old = self.gateway.succeed(await self.gateway.start_successor())
        except Unavailable as exc:
            self._say(f"stoker: {exc}")
            paths.upgrade.write_text(f"failed {exc}\n", encoding="utf-8")
            return
        assert self.gateway.process is not None
        self._say("stoker: a new gateway serves; the one before finishes its requests")
        paths.upgrade.write_text(f"done {self.gateway.process.pid}\n", encoding="utf-8")
        task = asyncio.create_task(self._see_off(old))
        self._leaving.add(task)
        task.add_done_callback(self._leaving.discard)

    async def _see_off(self, old: Role) -> None:
        try:
            await old.ended(self._settings.upgrade_drain_s + ROLE_END_WAIT_S)
        finally:
            old.let_go()
            await old.ended(ROLE_END_WAIT_S)

    async def run(self) -> int:
        """The exit code."""
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGINT, self._interrupts.put_nowait, None)
        loop.add_signal_handler(signal.SIGTERM, self._terminated.set)
        loop.add_signal_handler(signal.SIGHUP, self.upgrade)
        keeping = {role.name: asyncio.create_task(self._keep(role)) for role in (self.control, self.gateway)}
        ready = asyncio.create_task(self._tell_ready())
        interrupted = asyncio.create_task(self._interrupts.get())
        terminated = asyncio.create_task(self._terminated.wait())
        await asyncio.wait([interrupted, terminated, *keeping.values()], return_when=asyncio.FIRST_COMPLETED)
        for name, keeper in keeping.items():
            if keeper.done():
                # Roles cannot even be started: no memory, no descriptors. Workers go on; the next start finds them.
                self._say(f"stoker: cannot keep the {name} running: {keeper.exception()}")
                self._terminated.set()
        await _cancel(ready, interrupted, terminated, keeping["control"])
        if self._refused:
            self._say("stoker: control cannot run as things are set; the line above says why")
            drained = False
        elif self._terminated.is_set():
            self._say("stoker: stopping; workers go on and are taken over by the next start")
            self.control.let_go()
            await self.control.ended(ROLE_END_WAIT_S)
            drained = True
        else:
            drained = await self._drain()
        # Nobody accepts there any more: what still comes for control is refused, and the gateway waits for none of it.
        self._sockets.control.close()
        self._sockets.link.close()
        # Kept until here: without a gateway nothing confirms that a worker has finished its requests.
        await _cancel(keeping["gateway"], *([] if self._upgrading is None else [self._upgrading]), *self._leaving)
        self.gateway.let_go()
        await self.gateway.ended(ROLE_END_WAIT_S)
        return 0 if drained else 1

    async def _keep(self, role: Role) -> None:
        """Start a role again whenever it ends."""
        while True:
            if role.process is None or role.process.returncode is not None:
                role.let_go()
                await role.start()
            process = role.process
            assert process is not None
            if await _ended_or_replaced(process, role.replaced):
                continue
            code = await process.wait()
            if code == REFUSED and not self._was_ready:
                # Nothing would change by another try. Later it might: then the gateway serves on meanwhile.
                self._refused = True
                self._terminated.set()
            pause_s = role.next_pause_s()
            when = "now" if pause_s == 0 else f"in {pause_s:g} s"
            self._say(f"stoker: the {role.name} ended ({_how(code)}) and is started again {when}")
            await asyncio.sleep(pause_s)

    async def _drain(self) -> bool:
        """Have control end all workers. True when it did."""
        self._say("stoker: draining: requests in flight are finished first; Ctrl-C again cuts them")
        # A control that died just now knows nothing of the order: it is started once more, to end the workers.
        for _ in range(2):
            if self.control.process is None or self.control.process.returncode is not None:
                self.control.let_go()
                await self.control.start()
            assert self.control.process is not None
            self.control.order(Order.DRAIN)
            hurry = asyncio.create_task(self._hurry())
            code = await self.control.process.wait()
            hurry.cancel()
            if code == 0:
                return True
        self._say("stoker: control could not end the workers; `stoker down` tries again")
        return False

    async def _hurry(self) -> None:
        while True:
            await self._interrupts.get()
            self._say("stoker: cutting the requests in flight")
            self.control.order(Order.DRAIN)

    async def _tell_ready(self) -> None:
        deadline = time.monotonic() + READY_WAIT_S
        while time.monotonic() < deadline:
            if await asyncio.to_thread(answers, self._settings, "/api/v1/info"):
                self._was_ready = True
                self._say(f"stoker: ready at {self._settings.url}")
                return
            await asyncio.sleep(0.05)
        self._say(f"stoker: not ready after {READY_WAIT_S:g} s; see the lines above")


def _has_terminal() -> bool:
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY))
    except OSError:
        return False
    return True


async def _line_of(reading: int, wait_s: float) -> bytes:
    """What comes through a pipe first; empty when its other end is closed. Raises `TimeoutError`."""
    loop = asyncio.get_running_loop()
    readable = asyncio.Event()
    loop.add_reader(reading, readable.set)
    try:
        async with asyncio.timeout(wait_s):
            await readable.wait()
    finally:
        loop.remove_reader(reading)
    return os.read(reading, 64)


async def _ended_or_replaced(process: asyncio.subprocess.Process, replaced: asyncio.Event) -> bool:
    """Wait for one of the two. True when it was replaced."""
    waits = [asyncio.ensure_future(process.wait()), asyncio.ensure_future(replaced.wait())]
    try:
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for wait in waits:
            wait.cancel()
    if not replaced.is_set():
        return False
    replaced.clear()
    return True


async def _cancel(*tasks: asyncio.Task[Any]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def _how(code: int) -> str:
    return f"killed by signal {-code}" if code < 0 else f"exit code {code}"


def role_environ(settings: Settings, environ: Mapping[str, str]) -> dict[str, str]:
    """The environment of a role: that of the supervisor, with what the command line has overridden."""
    database = {} if settings.database is None else {"STOKER_DATABASE": settings.database}
    return {
        **environ,
        **database,
        "STOKER_HOST": settings.host,
        "STOKER_PORT": str(settings.port),
        "STOKER_LOG_LEVEL": settings.log_level,
        **({"STOKER_TLS_CERT": settings.tls_cert} if settings.tls_cert else {}),
        **({"STOKER_TLS_KEY": settings.tls_key} if settings.tls_key else {}),
        "STOKER_VIRTUAL_GPUS": json.dumps([asdict(each) for each in settings.virtual_gpus]),
    }


def answers(settings: Settings, path: str) -> bool:
    """Does Stoker answer there, with whatever it is that is no failure of its own?"""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(settings.host, settings.host)
    connection: http.client.HTTPConnection | None = None
    try:
        if settings.tls_cert:
            context = tls.pinned(settings.paths.certificate)
            connection = http.client.HTTPSConnection(host, settings.port, timeout=5, context=context)
        else:
            connection = http.client.HTTPConnection(host, settings.port, timeout=5)
        connection.request("GET", path)
        return connection.getresponse().status < 500
    except (OSError, http.client.HTTPException):
        return False
    finally:
        if connection is not None:
            connection.close()


def run(settings: Settings, *, say: Say = _say) -> int:
    """Run Stoker until Ctrl-C (drains, stops the workers) or SIGTERM (leaves them). The exit code.

    Raises `Unavailable` when another one runs on this data folder, or the port is taken; `Invalid` for a certificate
    that cannot be used.
    """
    paths = settings.paths
    if settings.tls_cert and settings.tls_key:
        # Better now than in a gateway that is started again and again.
        tls.listening(settings.tls_cert, settings.tls_key)
    settings.data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    try:
        # A moment's patience: whoever asks for the holder holds it as well, for microseconds.
        with hold(paths.supervisor_lock, wait_s=0.3):
            sockets = bind(settings, os.environ)
            try:
                paths.certificate.unlink(missing_ok=True)
                if settings.tls_cert:
                    paths.certificate.write_text(tls.own_certificate(settings.tls_cert), encoding="ascii")
                paths.address.write_text(settings.url + "\n", encoding="ascii")
                return asyncio.run(Supervisor(settings, sockets, say=say).run())
            finally:
                sockets.close()
                for leftover in (paths.control_socket, paths.link_socket, paths.address, paths.certificate):
                    leftover.unlink(missing_ok=True)
    except Held as exc:
        raise Unavailable(
            f"Stoker already runs on {settings.data_dir}: process {exc.pid}{_where(paths)}; "
            "use it, stop it with `stoker down`, or choose another --data-dir"
        ) from exc


def _where(paths: Paths) -> str:
    with contextlib.suppress(OSError):
        return f" at {paths.address.read_text(encoding='ascii').strip()}"
    return ""
