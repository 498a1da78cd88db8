"""Composition root of control: settings → store, providers, loops, faces. The only file that wires.

`Stoker.__init__` is the list of what control consists of; `Supplies`, `Queue`, `Demand` and `Books` are such lists too,
each in its own room. Run by `stoker.serving`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial

from starlette.applications import Starlette

from stoker import faces, scrape
from stoker.control import draining, ids
from stoker.control.books import Books, segments_of
from stoker.control.credentials import Credentials
from stoker.control.demand import Demand
from stoker.control.endpoints import Endpoints, Limits
from stoker.control.feed import Feed
from stoker.control.fleet import Fleet
from stoker.control.keyring import Keyring
from stoker.control.keys import Keys
from stoker.control.logs import Logs
from stoker.control.loop import Loop
from stoker.control.managed import Callbacks, Managed, Providers
from stoker.control.master_key import MasterKey
from stoker.control.measuring import Network
from stoker.control.once import Once
from stoker.control.prober import Prober
from stoker.control.projects import Projects
from stoker.control.pulling import completed
from stoker.control.queue_depths import Messages
from stoker.control.reconciler import Reconciler
from stoker.control.retention import Retention, kept_of
from stoker.control.sayings import Sayings
from stoker.control.scaling import Sources
from stoker.control.scarcity import Scarcity
from stoker.control.secrets import Secrets
from stoker.control.signals import Gateway
from stoker.control.signing import Signing
from stoker.control.supplies import Supplies
from stoker.control.table import Publisher
from stoker.control.templates import Templates
from stoker.control.vault import Vault
from stoker.control.views import Views
from stoker.domain.endpoint import EndpointId
from stoker.domain.task import QueueDemand
from stoker.domain.worker import WorkerSpec
from stoker.link.server import LinkServer
from stoker.models.fetcher import Fetcher
from stoker.providers.base import Provider
from stoker.queue.attempts import SocketAttempts
from stoker.queue.room import Control, Queue
from stoker.settings import Settings
from stoker.store.base import Store
from stoker.telemetry.traffic import TrafficMeter
from stoker.web import Services, Start

LOOK_PERIOD_S = 1.0
RELEASE_PERIOD_S = 2.0
RETENTION_PERIOD_S = 300.0


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

        self.settings, self.store, self.clock, self._new_id = settings, store, clock, new_id
        self._dialects = faces.found()
        self.fleet = Fleet(store)
        # What is asked for.
        self.gateway = self._wire_gateway()
        hosts = faces.hosts_of(self._dialects)
        self.link = LinkServer(incarnation=new_id(), term=term, listener=self.gateway, management_hosts=hosts)
        self.publisher = self._wire_publisher()
        # Who may ask, and what is secret.
        self.vault = Vault(store, keyring)
        self.projects = Projects(store, clock=clock, new_id=new_id)
        self.keys = Keys(store, self.link, self.vault, clock=clock, changed=self.gateway.publish_again)
        # What runs.
        self.supplies = self._wire_supplies(fetcher, providers)
        self.queue = self._wire_queue()
        self.sayings = Sayings(self.fleet, clock=clock)
        self.providers = self._wire_providers(providers)
        self.prober = Prober(network.check, lists=network.lists)
        self.reconciler = self._wire_reconciler()
        self.demand = self._wire_demand(messages)
        # What is told and kept.
        self.books = self._wire_books(network)
        self.endpoints = self._wire_endpoints()
        self.services = self._wire_services()
        self.retention = Retention(store, kept_of(settings), clock=clock)
        self._tasks: list[asyncio.Task[None]] = []
        self.failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def _wire_gateway(self) -> Gateway:
        return Gateway(
            self.fleet,
            TrafficMeter(),
            clock=self.clock,
            attached=lambda e: self.keys.attached_to(e),
            used=lambda keys: self.keys.used(keys),
            told=lambda report, incarnation: self.books.usage.reported(report, incarnation=incarnation),
            shown=lambda tickets: self.demand.reservations.used(tickets),
            hold=lambda endpoint: self.supplies.provisions.hold(endpoint),
            sources=self._wire_sources(),
            taken=lambda endpoint: self.queue.pulls.taken(endpoint),
        )

    def _wire_sources(self) -> Sources:
        return Sources(
            tasks=self._tasks_waiting,
            measured=lambda worker: self.books.measuring.of(worker),
            custom=lambda worker, now: self.books.custom.of(worker, now=now),
            learned=lambda endpoint, now: self.books.learning.readings(endpoint, now=now),
            depths=lambda endpoint, now: self.demand.depths.of(endpoint, now=now),
            announced=lambda e: self.demand.load.readings(e, faces.trial_of(self._dialects, e)),
            auto=lambda endpoint, setting, sample, learn: self.books.experiences.look(
                endpoint, setting, sample, learn=learn
            ),
            holds=lambda endpoint, now: self.books.experiences.holds_s(endpoint, now),
        )

    def _wire_publisher(self) -> Publisher:
        return Publisher(
            self.link,
            domains=self.settings.domains,
            addresses=partial(faces.addresses_of, self._dialects),
            expected_start_s=lambda endpoint: self.books.learning.expected_start_s(endpoint),
        )

    def _wire_supplies(self, fetcher: Fetcher, providers: Mapping[str, Provider]) -> Supplies:
        return Supplies(
            self.fleet,
            self.vault,
            fetcher,
            self.settings,
            providers,
            told=self._tell_waiting,
            clock=self.clock,
            new_id=self._new_id,
        )

    def _wire_queue(self) -> Queue:
        settings = self.settings
        control = Control(
            gateways=lambda: self.link.attempts,
            slots=self._slots,
            changed=self.gateway.demand_changed,
            ready=lambda worker: self.reconciler.worker_ready(worker),
            unhealthy=lambda worker, why: self.reconciler.worker_unhealthy(worker, why),
        )
        queue = Queue(
            self.fleet,
            self.vault,
            settings.paths.tasks,
            settings.paths.streams,
            attempts=lambda spool: SocketAttempts(settings.paths.run, spool),
            control=control,
            output_bytes_max=int(settings.attempt_mib * 2**20),
            rules=settings.allow_private_urls,
            url=settings.url,
            clock=self.clock,
            new_id=self._new_id,
            forms=faces.forms_of(self._dialects),
        )
        self.gateway.freed_listeners.append(queue.dispatcher.freed)
        return queue

    def _wire_providers(self, providers: Mapping[str, Provider]) -> Providers:
        callbacks = Callbacks(
            seen=lambda *args: self.reconciler.snapshot_taken(*args),
            acknowledged=lambda worker: self.reconciler.start_acknowledged(worker),
            refused=lambda worker, why: self.reconciler.start_refused(worker, why),
            complete=self._complete,
            said=self.sayings.say,
        )
        prices = self.settings.prices_of
        return Providers(
            {
                name: Managed(name, provider, callbacks, clock=self.clock, prices=prices(name))
                for name, provider in providers.items()
            }
        )

    def _wire_reconciler(self) -> Reconciler:
        fleet, residence_s = self.fleet, self.settings.eviction_residence_s
        reconciler = Reconciler(
            fleet,
            self.providers,
            self.gateway,
            provisions=self.supplies.provisions,
            prober=self.prober,
            scarcity=Scarcity(fleet, self.providers, self.gateway, residence_s=residence_s, clock=self.clock),
            clock=self.clock,
            new_id=self._new_id,
        )
        self.prober.attach(reconciler)
        self.gateway.attach(self.link, self.publisher, reconciler)
        return reconciler

    def _wire_demand(self, messages: Messages | None) -> Demand:
        return Demand(
            self.fleet,
            self.link,
            self.gateway,
            self.reconciler,
            self.providers,
            self.vault,
            rules=self.settings.allow_private_urls,
            messages=messages,
            clock=self.clock,
            new_id=self._new_id,
        )

    def _wire_books(self, network: Network) -> Books:
        traffic, kept, changed = self.gateway.traffic, segments_of(self.settings), self.gateway.publish_again
        return Books(self.fleet, self.providers, traffic, kept, network.fetch, clock=self.clock, changed=changed)

    def _wire_endpoints(self) -> Endpoints:
        return Endpoints(
            self.fleet,
            self.providers,
            self.gateway,
            self.link,
            self.reconciler,
            catalogue=self.supplies.models,
            downloads=self.supplies.downloads,
            models=self.settings.models,
            images=self.settings.images,
            regions=self.settings.regions,
            limits=Limits(operation_timeout_s=self.settings.operation_timeout_s),
            clock=self.clock,
            new_id=self._new_id,
        )

    def _wire_services(self) -> Services:
        store, settings, clock, new_id = self.store, self.settings, self.clock, self._new_id
        return Services(
            endpoints=self.endpoints,
            keys=self.keys,
            projects=self.projects,
            secrets=Secrets(store, self.vault, clock=clock, new_id=new_id),
            credentials=Credentials(store, self.vault, clock=clock, new_id=new_id),
            master_key=MasterKey(store, self.vault, clock=clock),
            models=self.supplies.models,
            volumes=self.supplies.volumes,
            reservations=self.demand.reservations,
            load=self.demand.load,
            signing=Signing(settings.paths.signing_key),
            tasks=self.queue.tasks,
            pulls=self.queue.pulls,
            templates=Templates(store, clock=clock, new_id=new_id),
            views=Views(
                self.fleet,
                self.providers,
                self.gateway,
                self.link,
                self.supplies.provisions,
                settings,
                self.books.measuring,
                troubled=self.demand.depths.error,
                expected_start_s=self.books.learning.expected_start_s,
                clock=clock,
            ),
            logs=Logs(self.fleet, self.providers),
            feed=Feed(self.fleet, clock=clock),
            usage=self.books.usage,
            learning=self.books.learning,
            once=Once(store, clock=clock, kept_s=settings.idempotency_kept_s),
            clock=clock,
            url=settings.url,
            zone=settings.zone,
        )

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
        await self.gateway.scaling.load(now=now)
        await self.providers.begin()
        await self.supplies.load()
        await self.queue.start()
        await self.reconciler.resume()
        self.link.open()
        self._tasks = [asyncio.create_task(loop.run()) for loop in self._loops()]
        self._tasks.append(asyncio.create_task(self.reconciler.run()))
        self._tasks.append(asyncio.create_task(self.sayings.run()))
        self._tasks.append(asyncio.create_task(self.store.lasts()))
        for task in self._tasks:
            task.add_done_callback(self._ended)

    def _loops(self) -> tuple[Loop, ...]:
        return (
            Loop("look", self.gateway.look, period_s=LOOK_PERIOD_S),
            Loop("release ports", self.gateway.release, period_s=RELEASE_PERIOD_S),
            *self.keys.loops(),
            *self.demand.loops(),
            *self.books.loops(),
            *self.supplies.loops(),
            *self.queue.loops(),
            Loop("retention", self.forget_old, period_s=RETENTION_PERIOD_S),
            *self.providers.loops(),
        )

    def _tasks_waiting(self, endpoint: EndpointId, now: float) -> QueueDemand:
        """What could go now and what runs, beside requests at the gateway: tasks, and requests that are announced."""
        tasks, (waiting, _) = self.queue.demand(endpoint, now), self.demand.load.waiting(endpoint)
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
        await draining.drain(self.fleet, self.publisher, self.gateway, self.reconciler, self.providers, hurry=hurry)

    async def close(self) -> None:
        """Stop all loops; workers go on."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.queue.close()
        await self.supplies.downloads.close()
        await self.demand.close()
        await self.prober.close()
        await self.reconciler.close()
        await self.link.close()
        await self.providers.close()
        await self.books.usage.close()
        await self.store.close()

    def faces(self) -> Starlette:
        """All HTTP faces as one application."""
        metrics = scrape.route(
            self.gateway.metrics,
            self.keys,
            endpoints=self.fleet.endpoints,
            queue=self.queue.totals,
            scaled=self.services.views.scaled,
            gateways=lambda: self.link.gateways,
            anybody=self.settings.metrics_open,
        )
        return faces.make(self.services, self._dialects, metrics, cors_origins=self.settings.cors_origins)
