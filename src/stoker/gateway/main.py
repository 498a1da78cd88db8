"""The gateway as a process: inherited listening socket and lifeline, one event loop, drain at the end.

Started by the supervisor: `python -m stoker.starting stoker.gateway.main --data-dir D --listen-fd N --lifeline-fd M`.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import os
import resource
import secrets
import shutil
import signal
import socket
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import structlog
import uvloop

from stoker import settings as settings_module
from stoker import tls
from stoker.gateway.connection import ClientConnection
from stoker.gateway.handover import Successor, Takeover
from stoker.gateway.proxy import TICK_S, Gateway
from stoker.paths import Paths
from stoker.roles import Lifeline, Order
from stoker.settings import Settings
from stoker.telemetry.logs import log_to_stderr
from stoker.timeslice import ask_for_short_slices

log = structlog.get_logger(__name__)

DRAIN_S_MAX: Final = 30.0
TABLE_WAIT_S: Final = 10.0
BACKLOG: Final = 4_096
HANDSHAKE_S_MAX: Final = 10.0
SHUTDOWN_S_MAX: Final = 2.0
# Descriptors that are not clients or their upstreams: sockets of control, files, the loop's own.
_DESCRIPTORS_RESERVED: Final = 128


def main(arguments: Sequence[str] | None = None) -> int:
    """Run until the lifeline ends or SIGTERM comes. The exit status."""
    # Ctrl-C is for the supervisor alone, which then ends its roles in order.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parser = argparse.ArgumentParser(prog="stoker-gateway")
    parser.add_argument("--data-dir", type=Path, required=True)
    parser.add_argument("--listen-fd", type=int, required=True)
    parser.add_argument("--lifeline-fd", type=int, required=True)
    parser.add_argument("--ready-fd", type=int, help="of a successor: where it says that the one before may leave")
    options = parser.parse_args(arguments)
    settings = settings_module.read(os.environ, data_dir=options.data_dir)
    log_to_stderr(settings.log_level)
    # Where workers use all the CPUs there are, requests would wait behind their slices.
    refused = ask_for_short_slices()
    if refused is not None:
        log.debug("ordinary_slices", reason=refused)
    listening = socket.socket(fileno=options.listen_fd)
    uvloop.run(serve(settings, listening, options.lifeline_fd, ready=options.ready_fd))
    return 0


async def serve(settings: Settings, listening: socket.socket, lifeline: int, *, ready: int | None = None) -> None:
    """Serve on the socket until the pipe `lifeline` ends or says something or SIGTERM comes; then finish what goes on.

    With `ready`, a line on that pipe says that it could take over; it does when control has told it what is left.
    """
    loop = asyncio.get_running_loop()
    line = Lifeline.open(lifeline)
    loop.add_signal_handler(signal.SIGTERM, line.end)
    incarnation = secrets.token_hex(8)
    succeeds = ready is not None
    gateway = Gateway(settings, incarnation=incarnation, time=loop.time, clients_max=_clients_max(), successor=succeeds)
    gateway.load()
    if not succeeds:
        _clear_up(settings.paths)
    internal = await listen_inside(gateway, settings.paths.attempts_socket(incarnation))
    link = loop.create_task(gateway.link.run())
    ticking = loop.create_task(_tick(gateway))
    takeover = None if ready is None else await _take_over(gateway, settings.paths, ready)
    secure = tls.listening(settings.tls_cert, settings.tls_key) if settings.tls_cert and settings.tls_key else None
    server = await loop.create_server(
        lambda: ClientConnection(gateway),
        sock=listening,
        backlog=BACKLOG,
        ssl=secure,
        ssl_handshake_timeout=None if secure is None else HANDSHAKE_S_MAX,
        # Nobody answers for what a client sends after it was told of the end.
        ssl_shutdown_timeout=None if secure is None else SHUTDOWN_S_MAX,
    )
    if takeover is not None:
        takeover.start()
    _settle_memory()
    log.info("gateway_serving", address=str(listening.getsockname()))
    try:
        # Whatever the order: the gateway has no workers to end, and always finishes what it has begun.
        if await line.next() is Order.LEAVE:
            server.close()
            # What was accepted just now becomes a client first.
            await asyncio.sleep(0)
            await _leave(gateway, line, settings)
    finally:
        server.close()
        if takeover is not None:
            takeover.close()
        gateway.drain()
        await _finish(gateway)
        ticking.cancel()
        await asyncio.gather(ticking, return_exceptions=True)
        gateway.close()
        await gateway.report_last()
        link.cancel()
        await asyncio.gather(link, return_exceptions=True)
        # Last of all: a socket that nobody listens at says that no attempt runs here any more.
        internal.close()
        settings.paths.attempts_socket(incarnation).unlink(missing_ok=True)
    log.info("gateway_stopped")


async def _take_over(gateway: Gateway, paths: Paths, ready: int) -> Takeover:
    """Say on the pipe `ready` that the gateway before may leave, and wait for the table without what it still needs."""
    # What it passes on waits until this one serves.
    takeover = Takeover(paths.handover_socket, lambda peer: ClientConnection(gateway, relayed=peer))
    os.write(ready, b"ready\n")
    os.close(ready)
    # Without control the last table has to do.
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(gateway.keeper.heard.wait(), TABLE_WAIT_S)
    return takeover


async def listen_inside(gateway: Gateway, path: Path) -> asyncio.AbstractServer:
    """Open the internal listener, for this user alone."""
    loop = asyncio.get_running_loop()
    return await loop.create_unix_server(lambda: ClientConnection(gateway.internal), sock=_bind_inside(path))


def _bind_inside(path: Path) -> socket.socket:
    path.unlink(missing_ok=True)
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(str(path))
    path.chmod(0o600)
    return listening


def _clear_up(paths: Paths) -> None:
    """Remove what gateways that were killed have left: nobody can ask for it any more. One that is still on its way out
    keeps what it has.
    """
    leaving = set()
    for path in paths.run.glob("a-*.sock"):
        if _is_listening(path):
            leaving.add(path.name)
        else:
            path.unlink(missing_ok=True)
    for folder in paths.attempts.glob("*"):
        if paths.attempts_socket(folder.name).name not in leaving:
            shutil.rmtree(folder, ignore_errors=True)


def _is_listening(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        probe.setblocking(False)
        try:
            probe.connect(str(path))
        except (ConnectionRefusedError, FileNotFoundError):
            return False
        except OSError:
            # Its queue is full, or it may not be asked: somebody is there.
            return True
        return True


async def _leave(gateway: Gateway, line: Lifeline, settings: Settings) -> None:
    """A successor takes new requests: finish those here, for up to `upgrade_drain_s` or until told to hurry."""
    try:
        successor = Successor(settings.paths.handover_socket, gateway, gateway.upstreams.view)
    except OSError as exc:
        log.warning("connections_not_passed_on", error=str(exc))
        successor = None
    gateway.leave(successor)
    ended = asyncio.ensure_future(gateway.finished())
    hurried = asyncio.ensure_future(line.next())
    await asyncio.wait([ended, hurried], timeout=settings.upgrade_drain_s, return_when=asyncio.FIRST_COMPLETED)
    for task in (ended, hurried):
        task.cancel()


async def _tick(gateway: Gateway) -> None:
    while True:
        await asyncio.sleep(TICK_S)
        try:
            gateway.tick()
        except Exception:
            # One bad sweep must not end the deadlines of everybody.
            log.exception("tick_failed")


async def _finish(gateway: Gateway) -> None:
    try:
        await asyncio.wait_for(gateway.emptied.wait(), DRAIN_S_MAX)
    except TimeoutError:
        log.warning("drain_cut", connections=len(gateway.clients))


def _clients_max() -> int:
    """Half of the descriptors that this process may have: each client may need one to a worker."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        soft = hard
    if soft == resource.RLIM_INFINITY:
        return 1_000_000
    return max(16, (soft - _DESCRIPTORS_RESERVED) // 2)


def _settle_memory() -> None:
    # What is there now stays. Exchanges leave no cycles behind, so that looking for them often is wasted time.
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 20)


if __name__ == "__main__":
    sys.exit(main())
