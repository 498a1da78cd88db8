"""Composition root of control: settings → store, providers, loops, faces. The only file that wires.

Run by `stoker.serving`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import TypeVar

import structlog
from starlette.applications import Starlette

from stoker import faces, scrape
from stoker.control import ids
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
from stoker.control.measuring import Network
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
from stoker.domain.task import QueueDemand
from stoker.domain.worker import WorkerSpec
from stoker.link.server import LinkServer
from stoker.models.fetcher import Fetcher
from stoker.providers.base import HoldsVolumes, Provider
from stoker.queue.attempts import SocketAttempts
from stoker.queue.room import Queue
from stoker.settings import Settings
from stoker.store.base import Store
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
