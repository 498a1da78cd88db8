"""Composition root of control: settings → store, providers, loops, faces. The only file that wires.

Run by the supervisor as `python -m stoker.starting stoker.app`, with inherited sockets; exits when its lifeline ends.
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
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import structlog
from sqlalchemy import Connection
from starlette.applications import Starlette

from stoker import __version__, faces, scrape
from stoker.control import admin_key, ids
from stoker.control import keyring as keyrings
from stoker.control.away import away_of
from stoker.control.books import Books, segments_of
from stoker.control.credentials import Credentials
from stoker.control.downloads import Downloads
from stoker.control.endpoints import Endpoints, Limits
from stoker.control.fleet import Fleet, Watch
from stoker.control.keyring import Keyring
from stoker.control.keys import Keys
from stoker.control.load import Load
from stoker.control.logs import Logs
from stoker.control.loop import Loop
from stoker.control.managed import Callbacks, Managed, Providers
from stoker.control.master_key import MasterKey
from stoker.control.measuring import Network, RealNetwork
from stoker.control.models import Models
from stoker.control.once import Once
from stoker.control.prober import Prober
from stoker.control.projects import Projects
from stoker.control.provisions import Provisions
from stoker.control.pulling import completed
from stoker.control.queue_depths import PERIOD_S as DEPTHS_PERIOD_S
from stoker.control.queue_depths import Messages, QueueDepths
from stoker.control.reconciler import Reconciler
from stoker.control.reservations import Reservations
from stoker.control.retention import Retention, kept_of
from stoker.control.sayings import Sayings
from stoker.control.scaling import Sources
from stoker.control.scarcity import Scarcity
from stoker.control.secrets import Secrets
from stoker.control.signals import Gateway
from stoker.control.signing import Signing
from stoker.control.sqs import SqsQueues
from stoker.control.table import Publisher
from stoker.control.templates import Templates
from stoker.control.vault import Vault
from stoker.control.views import Views
from stoker.control.volumes import Volumes
from stoker.domain.endpoint import EndpointId
from stoker.domain.errors import Conflict, Invalid, StokerError, Unavailable, Unsupported
from stoker.domain.task import QueueDemand
from stoker.domain.worker import WorkerSpec
from stoker.link.server import LinkServer
from stoker.models.fetcher import Fetcher
from stoker.models.opening import open_fetcher
from stoker.net import GuardedSession
from stoker.providers.base import HoldsVolumes, Provider
from stoker.providers.opening import open_providers
from stoker.queue.attempts import SocketAttempts
from stoker.queue.room import Queue
from stoker.roles import REFUSED, Lifeline, Order, hold
from stoker.serving import Front
from stoker.settings import Settings
from stoker.settings import read as read_settings
from stoker.store import installation
from stoker.store import keys as key_rows
from stoker.store.base import Store
from stoker.store.opening import open_store
from stoker.telemetry.logs import log_to_stderr
from stoker.telemetry.traffic import TrafficMeter
from stoker.web import Services, Start

log = structlog.get_logger(__name__)

T = TypeVar("T")

LOOK_PERIOD_S = 1.0
# Whether workers have fallen silent, who report every few seconds.
SILENCE_PERIOD_S = 15.0
RELEASE_PERIOD_S = 2.0
RETENTION_PERIOD_S = 300.0
USES_PERIOD_S = 60.0
PUT_AWAY_WAIT_S = 5.0
# A previous control may still be on its way out.
LOCK_WAIT_S = 30.0


class Stoker:
    """Control, wired. `start` it, then serve `faces`; `drain` ends the workers too, `close` leaves them."""

    def __init__(
        self,
        settings: Settings,
        store: Store,
        providers: Mapping[str, Provider],
        *,
        keyring: Keyring,
        fetcher: Fetcher,
        term: int,
        clock: Callable[[], float],
        network: Network,
        messages: Messages | None = None,
    ) -> None:
        """`messages` asks queues elsewhere (default: over the network)."""

        def new_id() -> str:
            return ids.uuid7(clock())

        self.settings = settings
        self.clock = clock
        self.store = store
        self.fleet = Fleet(store)
        self.gateway = Gateway(
            self.fleet,
            TrafficMeter(),
            clock=clock,
            attached=lambda e: self.keys.attached_to(e),
            used=lambda keys: self.keys.used(keys),
            told=lambda report, incarnation: self.books.usage.reported(report, incarnation=incarnation),
            shown=lambda tickets: self.reservations.used(tickets),
            hold=lambda endpoint: self.provisions.hold(endpoint),
            sources=Sources(
                tasks=self._demand,
                measured=lambda worker: self.books.measuring.of(worker),
                custom=lambda worker, now: self.books.custom.of(worker, now=now),
                learned=lambda endpoint, now: self.books.learning.readings(endpoint, now=now),
                depths=lambda endpoint, now: self.depths.of(endpoint, now=now),
                announced=lambda endpoint: self.load.readings(endpoint, faces.trial_of(self._dialects, endpoint)),
                auto=lambda endpoint, setting, sample, learn: self.books.experiences.look(
                    endpoint, setting, sample, learn=learn
                ),
                holds=lambda endpoint, now: self.books.experiences.holds_s(endpoint, now),
            ),
            taken=lambda endpoint: self.queue.pulls.taken(endpoint),
        )
        self._dialects = faces.found()
        self.link = LinkServer(
            incarnation=new_id(),
            term=term,
            listener=self.gateway,
            management_hosts=faces.hosts_of(self._dialects),
        )
        self.publisher = Publisher(
            self.link,
            domains=settings.domains,
            addresses=partial(faces.addresses_of, self._dialects),
            expected_start_s=lambda endpoint: self.books.learning.expected_start_s(endpoint),
        )
        self.vault = Vault(store, keyring)
        self.projects = Projects(store, clock=clock, new_id=new_id)
        self.keys = Keys(store, self.link, self.vault, clock=clock, changed=lambda e: self.gateway.publish_again(e))
        self.prober = Prober(network.check, lists=network.lists)
        self.downloads = Downloads(
            self.fleet,
            fetcher,
            self.vault,
            at_once=settings.downloads_at_once,
            clock=clock,
            told=self._tell_waiting,
            away=away_of(settings, providers),
        )
        self.volumes = Volumes(
            self.fleet,
            settings.volumes_folder,
            clock=clock,
            new_id=new_id,
            told=self._tell_waiting,
            held={name: provider for name, provider in providers.items() if isinstance(provider, HoldsVolumes)},
        )
        self.provisions = Provisions(self.downloads, self.volumes)
        self.queue = Queue(
            self.fleet,
            self.vault,
            settings.paths.tasks,
            settings.paths.streams,
            attempts=lambda spool: SocketAttempts(settings.paths.run, spool),
            gateways=lambda: self.link.attempts,
            slots=self._slots,
            changed=self.gateway.demand_changed,
            ready=lambda worker: self.reconciler.worker_ready(worker),
            unhealthy=lambda worker, why: self.reconciler.worker_unhealthy(worker, why),
            output_bytes_max=int(settings.attempt_mib * 2**20),
            rules=settings.allow_private_urls,
            url=settings.url,
            clock=clock,
            new_id=new_id,
            forms=faces.forms_of(self._dialects),
        )
        self.gateway.freed_listeners.append(self.queue.dispatcher.freed)
        self.sayings = Sayings(self.fleet, clock=clock)
        callbacks = Callbacks(
            seen=lambda *args: self.reconciler.snapshot_taken(*args),
            acknowledged=lambda worker: self.reconciler.start_acknowledged(worker),
            refused=lambda worker, why: self.reconciler.start_refused(worker, why),
            complete=self._complete,
            said=self.sayings.say,
        )
        managed = {
            name: Managed(name, p, callbacks, clock=clock, prices=settings.prices_of(name))
            for name, p in providers.items()
        }
        self.providers = Providers(managed)
        self.books = Books(
            self.fleet,
            self.providers,
            self.gateway.traffic,
            segments_of(settings),
            network.fetch,
            clock=clock,
            changed=self.gateway.publish_again,
        )
        self.sqs = SqsQueues(settings.allow_private_urls, self.vault.secret, clock=clock)
        self.depths = QueueDepths(self.fleet, messages or self.sqs.messages, clock=clock)
        self.reconciler = Reconciler(
            self.fleet,
            self.providers,
            self.gateway,
            provisions=self.provisions,
            prober=self.prober,
            scarcity=Scarcity(
                self.fleet, self.providers, self.gateway, residence_s=settings.eviction_residence_s, clock=clock
            ),
            clock=clock,
            new_id=new_id,
        )
        self.prober.attach(self.reconciler)
        self.gateway.attach(self.link, self.publisher, self.reconciler)
        self.reservations = Reservations(self.fleet, self.link, self.gateway, clock=clock, new_id=new_id)
        self.load = Load(
            self.fleet,
            self.reservations,
            self.reconciler,
            changed=self.gateway.demand_changed,
            machines=self.providers.machines,
            proves=self.vault.is_of_worker,
            clock=clock,
        )
        self.signing = Signing(settings.paths.signing_key)
        self.models = Models(
            store,
            self.downloads,
            named=settings.models,
            rules=settings.allow_private_urls,
            clock=clock,
            new_id=new_id,
        )
        self.endpoints = Endpoints(
            self.fleet,
            self.providers,
            self.gateway,
            self.link,
            self.reconciler,
            catalogue=self.models,
            downloads=self.downloads,
            models=settings.models,
            images=settings.images,
            regions=settings.regions,
            limits=Limits(operation_timeout_s=settings.operation_timeout_s),
            clock=clock,
            new_id=new_id,
        )
        self.services = Services(
            endpoints=self.endpoints,
            keys=self.keys,
            projects=self.projects,
            secrets=Secrets(store, self.vault, clock=clock, new_id=new_id),
            credentials=Credentials(store, self.vault, clock=clock, new_id=new_id),
            master_key=MasterKey(store, self.vault, clock=clock),
            models=self.models,
            volumes=self.volumes,
            reservations=self.reservations,
            load=self.load,
            signing=self.signing,
            tasks=self.queue.tasks,
            pulls=self.queue.pulls,
            templates=Templates(store, clock=clock, new_id=new_id),
            views=Views(
                self.fleet,
                self.providers,
                self.gateway,
                self.link,
                self.provisions,
                settings,
                self.books.measuring,
                troubled=self.depths.error,
                clock=clock,
            ),
            logs=Logs(self.fleet, self.providers),
            usage=self.books.usage,
            learning=self.books.learning,
            once=Once(store, clock=clock, kept_s=settings.idempotency_kept_s),
            clock=clock,
            url=settings.url,
            zone=settings.zone,
        )
        self.retention = Retention(store, kept_of(settings), clock=clock)
        self._tasks: list[asyncio.Task[None]] = []
        self.failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def start(self) -> None:
        """Load what is known, look at what runs, then let the gateway and everybody else in."""
        now = self.clock()
        await self.fleet.load(now=now)
        await self.projects.load()
        await self.keys.load()
        await self.vault.check()
        # A rotation that was killed is gone on with.
        await self.vault.rotate()
        await self.books.load()
        for managed in self.providers.all():
            managed.listen()
            await managed.refresh()
            await managed.observer.observe()
        await self.downloads.load()
        await self.volumes.load()
        await self.queue.start()
        await self.reconciler.resume()
        self.link.open()
        loops = [
            Loop("look", self.gateway.look, period_s=LOOK_PERIOD_S),
            Loop("queue depths", self.depths.step, period_s=DEPTHS_PERIOD_S),
            Loop("forget reservations", self.reservations.sweep, period_s=LOOK_PERIOD_S),
            Loop("forget announcements", self.load.sweep, period_s=SILENCE_PERIOD_S),
            Loop("expire keys", self.keys.expire, period_s=LOOK_PERIOD_S),
            Loop("save uses of keys", self.keys.save_used, period_s=USES_PERIOD_S),
            Loop("release ports", self.gateway.release, period_s=RELEASE_PERIOD_S),
            *self.books.loops(),
            self.downloads.loop,
            self.volumes.loop,
            *self.queue.loops(),
            Loop("retention", self.forget_old, period_s=RETENTION_PERIOD_S),
            *(managed.observer.loop for managed in self.providers.all()),
            *(managed.inventory for managed in self.providers.all()),
        ]
        self._tasks = [asyncio.create_task(loop.run()) for loop in loops]
        self._tasks.append(asyncio.create_task(self.reconciler.run()))
        self._tasks.append(asyncio.create_task(self.sayings.run()))
        self._tasks.append(asyncio.create_task(self.store.lasts()))
        for task in self._tasks:
            task.add_done_callback(self._ended)

    def _demand(self, endpoint: EndpointId, now: float) -> QueueDemand:
        """What could go now and what runs, beside requests at the gateway: tasks, and requests that are announced."""
        tasks, (waiting, _) = self.queue.demand(endpoint, now), self.load.waiting(endpoint)
        return replace(tasks, queued=tasks.queued + waiting, ready=tasks.ready + waiting) if waiting else tasks

    async def _complete(self, spec: WorkerSpec) -> WorkerSpec:
        """What a worker is started with beside what is recorded: secrets, and what dialects hand to it."""
        spec = await completed(self.vault, self.settings.url, spec)
        endpoint, worker = self.fleet.endpoint(spec.endpoint), self.fleet.worker(spec.id)
        if endpoint is None or worker is None:
            return spec
        token = self.vault.worker_token(spec.id)
        given = await faces.environ_of(self._dialects, Start(endpoint, worker, self.settings.url, spec.port, token))
        return replace(spec, env={**given, **spec.env})

    def _slots(self, endpoint: EndpointId) -> int:
        """How many requests its workers take at once, as the gateway knows them."""
        entry = self.link.endpoint(endpoint)
        return 0 if entry is None else sum(worker.slots for worker in entry.workers if not worker.draining)

    def _tell_waiting(self, endpoint: EndpointId) -> None:
        self.gateway.publish_again(endpoint)
        self.reconciler.wake(endpoint)

    def _ended(self, task: asyncio.Task[None]) -> None:
        """A loop that ends by itself is a fault that no loop can mend: the whole role is to be started anew."""
        if not task.cancelled() and not self.failed.done():
            self.failed.set_exception(task.exception() or RuntimeError("a loop of control has ended"))

    async def forget_old(self) -> None:
        """Retention: every table, and what the books keep in files."""
        await self.retention.step()
        await self.books.trim(usage_kept_s=self.settings.usage_days * 86_400.0)

    async def drain(self, *, hurry: asyncio.Event) -> None:
        """Refuse requests, let those in flight finish, end every worker. `hurry` cuts what still runs."""
        self.publisher.closing = True
        self.reconciler.closing = True
        for endpoint in self.fleet.endpoints():
            self.gateway.publish(endpoint)
        self.reconciler.wake_all()
        with self.fleet.watching() as watch:
            await self._drained(watch, hurry)
        # What providers still keep of ended workers is looked at once more, so that no folder or container stays.
        for managed in self.providers.all():
            await managed.observer.observe()
            await managed.actions.finished(timeout_s=PUT_AWAY_WAIT_S)

    async def _drained(self, watch: Watch, hurry: asyncio.Event) -> None:
        hurried, said = False, 0
        while live := [worker for worker in self.fleet.all_workers() if not worker.gone]:
            if hurry.is_set() and not hurried:
                hurried = True
                await self.reconciler.cut()
            if len(live) != said:
                said = len(live)
                log.info("draining", workers=said)
            await watch.changed(timeout_s=0.5)

    async def close(self) -> None:
        """Stop all loops; workers go on."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.queue.close()
        await self.downloads.close()
        await self.sqs.close()
        await self.prober.close()
        await self.reconciler.close()
        await self.link.close()
        for managed in self.providers.all():
            await managed.close()
        await self.books.usage.close()
        await self.store.close()

    def faces(self) -> Starlette:
        """All HTTP faces as one application."""
        metrics = scrape.route(
            self.gateway.metrics,
            self.keys,
            endpoints=self.fleet.endpoints,
            queue=self.queue.totals,
            gateways=lambda: self.link.gateways,
            anybody=self.settings.metrics_open,
        )
        return faces.make(self.services, self._dialects, metrics, cors_origins=self.settings.cors_origins)


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
            stoker.queue.pulls.close()
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
    """`python -m stoker.app --data-dir D --http-fd N --link-fd N --lifeline-fd N`."""
    parser = argparse.ArgumentParser(prog="stoker.app")
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
