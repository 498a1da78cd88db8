"""The role of control: opens the store, serves the faces, and obeys its lifeline until it ends.

Run by the supervisor as `python -m stoker.starting stoker.serving`, with inherited sockets.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import structlog
from sqlalchemy import Connection

from stoker import __version__
from stoker.app import Stoker
from stoker.control import admin_key
from stoker.control import keyring as keyrings
from stoker.control.measuring import Network, RealNetwork
from stoker.domain.errors import Conflict, Invalid, StokerError, Unavailable, Unsupported
from stoker.front import Front
from stoker.models.opening import open_fetcher
from stoker.net import GuardedSession
from stoker.providers.base import Provider
from stoker.providers.opening import open_providers
from stoker.roles import REFUSED, Lifeline, Order, hold
from stoker.settings import Settings
from stoker.settings import read as read_settings
from stoker.store import installation
from stoker.store import keys as key_rows
from stoker.store.base import Store
from stoker.store.opening import open_store
from stoker.telemetry.logs import log_to_stderr

log = structlog.get_logger(__name__)

T = TypeVar("T")

# A previous control may still be on its way out.
LOCK_WAIT_S = 30.0


def steady_clock() -> Callable[[], float]:
    """Seconds since the epoch, as they were at the start plus the time since: steps of the wall clock, which would
    make old lists look new and idle endpoints busy, change nothing.
    """
    offset = time.time() - time.monotonic()
    return lambda: offset + time.monotonic()


@dataclass(frozen=True, slots=True)
class Outside:
    """Workers and how they are spoken to, for those who have no machines."""

    providers: Mapping[str, Provider]
    network: Network


@contextlib.asynccontextmanager
async def opened(settings: Settings, store: Store, outside: Outside | None = None) -> AsyncIterator[Stoker]:
    """Control on this store and the real clock, not started yet; with the real providers unless there is an `outside`.
    Closes the store.
    """

    def begin(tx: Connection) -> int:
        installation.add_default_project(tx, now=time.time())
        key_rows.forget_running(tx)
        return installation.next_term(tx)

    term = await store.write(begin)
    keyring = keyrings.opened(settings.paths.master_key, os.environ)
    network = RealNetwork()
    downloading = GuardedSession(settings.allow_private_urls)
    stoker = Stoker(
        settings,
        store,
        open_providers(settings) if outside is None else outside.providers,
        keyring=keyring,
        fetcher=open_fetcher(settings, downloading),
        term=term,
        clock=steady_clock(),
        network=network.network if outside is None else outside.network,
    )
    try:
        yield stoker
    finally:
        await stoker.close()
        await network.close()
        await downloading.close()


async def serve(
    settings: Settings, *, http: socket.socket, link: socket.socket, lifeline: Lifeline, outside: Outside | None = None
) -> None:
    """The role: until the lifeline ends or says to drain, or the store is lost."""
    front = Front(http)
    order = asyncio.ensure_future(lifeline.next())
    try:
        store = await _store(settings, front, order)
        async with opened(settings, store, outside) as stoker:
            await stoker.link.serve(link)
            await stoker.start()
            await admin_key.ensure(stoker.keys, settings.paths.admin_key)
            front.show(stoker.faces())
            log.info("control_ready", version=__version__, pid=os.getpid())
            if await _unless_failed(order, stoker.failed) is Order.DRAIN:
                hurry = asyncio.Event()
                waiting = asyncio.create_task(_hurry(lifeline, hurry))
                await _unless_failed(asyncio.ensure_future(stoker.drain(hurry=hurry)), stoker.failed)
                waiting.cancel()
            stoker.queue.let_go()
            await front.close()
    finally:
        order.cancel()
        await front.close()


async def _store(settings: Settings, front: Front, order: asyncio.Future[Order]) -> Store:
    """The store, once it is there. Raises `Unavailable` when it is not, or an order comes first."""

    def waiting(why: str) -> None:
        log.warning("database_waiting", reason=why)
        front.wait(why)

    paths = settings.paths
    opening = asyncio.ensure_future(
        open_store(settings.database, file=paths.database, data_dir=settings.data_dir, waiting=waiting)
    )
    either: list[asyncio.Future[Any]] = [opening, order]
    await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
    if not opening.done():
        opening.cancel()
        await asyncio.wait([opening])
        raise Unavailable("control was to end before it had its database")
    return opening.result()


async def _unless_failed(work: asyncio.Future[T], failed: asyncio.Future[None]) -> T:
    """What `work` comes to. Raises when control has failed before."""
    either: list[asyncio.Future[Any]] = [work, failed]
    await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
    if failed.done() and not work.done():
        work.cancel()
        await asyncio.wait([work])
        failed.result()
    return work.result()


async def _hurry(lifeline: Lifeline, hurry: asyncio.Event) -> None:
    # A second order to drain, or the end of the supervisor: nobody waits for streams any more.
    await lifeline.next()
    hurry.set()


def main() -> None:
    """`python -m stoker.serving --data-dir D --http-fd N --link-fd N --lifeline-fd N`."""
    parser = argparse.ArgumentParser(prog="stoker.serving")
    parser.add_argument("--data-dir", type=Path, required=True)
    for name in ("--http-fd", "--link-fd", "--lifeline-fd"):
        parser.add_argument(name, type=int, required=True)
    arguments = parser.parse_args()
    # Ctrl-C is for the supervisor alone, which says over the lifeline what is to be done.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    settings = read_settings(os.environ, data_dir=arguments.data_dir)
    log_to_stderr(settings.log_level)
    with hold(settings.paths.control_lock, wait_s=LOCK_WAIT_S):
        http = socket.socket(fileno=arguments.http_fd)
        link = socket.socket(fileno=arguments.link_fd)

        async def run() -> None:
            lifeline = Lifeline.open(arguments.lifeline_fd)
            asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, lifeline.end)
            await serve(settings, http=http, link=link, lifeline=lifeline)

        import uvloop

        try:
            uvloop.run(run())
        except StokerError as exc:
            sys.stderr.write(f"stoker: {exc}\n")
            sys.exit(REFUSED if isinstance(exc, Conflict | Invalid | Unsupported) else 1)


if __name__ == "__main__":
    main()
