"""From a request to its endpoint: routing, access, and the table of admissions that the link keeps fresh.

No database, no task per request. Everything shared by the connections of the gateway hangs on `Gateway`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from ipaddress import ip_network
from time import time as wall_time
from typing import Final
from urllib.parse import unquote, urlsplit

from stoker.gateway import answers, openai
from stoker.gateway.access import Caller, Verdict
from stoker.gateway.access_log import AccessLog
from stoker.gateway.admission import Admission, Worker
from stoker.gateway.answers import Answer
from stoker.gateway.attempts import Attempts
from stoker.gateway.bodies import BodyReader
from stoker.gateway.budget import Budget
from stoker.gateway.connection import ClientConnection
from stoker.gateway.exchange import Exchange
from stoker.gateway.handover import Successor
from stoker.gateway.head import Request, upstream_head
from stoker.gateway.internal import Internal
from stoker.gateway.keeper import Keeper
from stoker.gateway.ledger import Ledger
from stoker.gateway.multipart import Field, boundary_of
from stoker.gateway.parties import ControlLimits, Swept
from stoker.gateway.pools import Upstreams
from stoker.gateway.quotas import Quota
from stoker.gateway.results import Spool
from stoker.gateway.table import Address, host_of
from stoker.gateway.upstream import READ_BYTES
from stoker.gateway.way import Way
from stoker.link.messages import EndpointEntry
from stoker.settings import Settings

TICK_S: Final = 0.25
# After the last request of a gateway that leaves: time for control to fetch what attempts have answered.
RESULTS_WAIT_S: Final = 10
# A control that does not read keeps no gateway from ending.
LAST_REPORT_S_MAX: Final = 2.0
# In ticks: looking whether silent clients are still there, sweeping connections, writing the table.
_LOOK_EVERY: Final = 2
_SWEEP_EVERY: Final = 4
_SAVE_EVERY: Final = 4
_CONTROL_LIMITS: Final = ControlLimits()


class Gateway:
    """Table, admissions, upstreams and connections. `now` is the loop's time at the last tick: coarse, but free.

    `emptied` is set when, while draining, the last client has gone.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        incarnation: str,
        time: Callable[[], float],
        wall: Callable[[], float] = wall_time,
        clients_max: int = 10_000,
        successor: bool = False,
    ) -> None:
        self.time = time
        self.now = time()
        self.draining = False
        self.successor: Successor | None = None
        self.emptied = asyncio.Event()
        self.live: set[Swept] = set()
        self.clients: set[ClientConnection] = set()
        self.upstreams = Upstreams()
        self.view = memoryview(bytearray(READ_BYTES))
        self.trusted = tuple(ip_network(network) for network in settings.trusted_proxies)
        self.control_pool = self.upstreams.unix_pool(settings.paths.control_socket)
        self.ledger = Ledger(self.now)
        self.budget = Budget(int(settings.buffer_mib * 1024 * 1024))
        self.wall = wall
        path = settings.access_log
        self.access_log = None if path is None else AccessLog(settings.data_dir / path, wall=wall, time=time)
        self.keeper = Keeper(
            settings.paths, self.upstreams, self.ledger, incarnation=incarnation, successor=successor, time=time
        )
        spool = Spool(
            settings.paths.attempts / incarnation[:6],
            bytes_max=int(settings.attempts_mib * 1024 * 1024),
            result_bytes_max=int(settings.attempt_mib * 1024 * 1024),
        )
        self.attempts = Attempts(spool)
        # The same objects for good: every request asks for them.
        self.table = self.keeper.table
        self.admissions = self.keeper.admissions
        self.link = self.keeper.link
        self.internal = Internal(self, self.admissions, self.attempts)
        self._clients_max = clients_max
        self._domains = tuple(f".{domain}".lower().encode() for domain in settings.domains)
        self._own_host = (urlsplit(settings.url).hostname or "").encode()
        self._ticks = 0

    def load(self) -> None:
        """Start from the table that the last gateway left behind, if there is one."""
        self.keeper.load()

    def worker_down(self, admission: Admission, worker: Worker, detail: str) -> None:
        """A worker refused a connection."""
        self.keeper.worker_down(admission, worker, detail)

    # --- connections ---

    def opened(self, client: ClientConnection) -> bool:
        """A client has connected. False: there are too many."""
        if len(self.clients) >= self._clients_max:
            return False
        self.clients.add(client)
        if self.successor is not None:
            # Accepted a moment before this gateway began to leave.
            client.shut_idle()
        return True

    def closed(self, client: ClientConnection) -> None:
        """A client's connection is closed."""
        self.clients.discard(client)
        if self.draining and not self.clients:
            self.emptied.set()

    def drain(self) -> None:
        """No keep-alive any more: connections close after their present answer, idle ones now."""
        self.link.stop_reconnecting()
        self._shut_idle()

    def leave(self, successor: Successor | None) -> None:
        """Another gateway takes over: say what is needed here still, finish it, take nothing new. With a `successor`,
        connections are passed on to it as soon as nothing is under way on them; else they are closed then.
        """
        self.successor = successor
        self.keeper.leave(self._begun)
        self._shut_idle()

    def _shut_idle(self) -> None:
        self.draining = self.internal.draining = True
        for client in tuple(self.clients):
            client.shut_idle()
        if not self.clients:
            self.emptied.set()

    def _begun(self) -> int:
        """How many requests have begun of which nobody knows yet where they go."""
        reading = sum(isinstance(each, BodyReader) for each in self.live)
        return reading + sum(client.begins for client in self.clients)

    async def finished(self) -> None:
        """Wait until the last client has gone and no attempt runs; its results may be fetched for a moment more."""
        await self.emptied.wait()
        await self.attempts.idle.wait()
        for _ in range(RESULTS_WAIT_S):
            if not len(self.attempts):
                return
            await asyncio.sleep(1.0)

    def close(self) -> None:
        """Cut what is left."""
        for client in tuple(self.clients):
            client.abort()
        self.internal.close()
        if self.successor is not None:
            self.successor.close()
        if self.access_log is not None:
            self.access_log.flush()
            self.access_log.close()
        self.control_pool.close()
        self.upstreams.close()

    async def report_last(self) -> None:
        """Tell control what has ended since the last report; nothing comes after this."""
        # Whoever was cut notes the end of its request in the next turn of the event loop.
        await asyncio.sleep(0)
        self.keeper.report(self.time())
        await self.link.flush(LAST_REPORT_S_MAX)

    # --- time ---

    def tick(self) -> None:
        """Every quarter of a second: deadlines, reports, and now and then the rest."""
        now = self.now = self.time()
        self._ticks += 1
        look = self._ticks % _LOOK_EVERY == 0
        for swept in tuple(self.live):
            if swept in self.live:
                swept.sweep(now, look=look)
        self.keeper.tick(now)
        if self.access_log is not None:
            self.access_log.flush()
        if self.draining or self._ticks % _SWEEP_EVERY == 0:
            for client in tuple(self.clients):
                client.sweep(now)
            self.upstreams.sweep(now)
            self.control_pool.sweep(now)
            self.keeper.sweep(now)
            self.internal.sweep(now)
        if self._ticks % _SAVE_EVERY == 0 and not self.draining:
            self.keeper.save()

    # --- routing ---

    def handle(self, client: ClientConnection, request: Request) -> None:
        """Find out whose request this is, and pass it on."""
        way = self._known_way(request)
        if way is not None and not way.in_v1:
            self._go(client, request, way)
            return
        path = request.target.partition(b"?")[0]
        host = host_of(request.host)
        table = self.table
        if host in table.management_hosts:
            self._manage(client, request, host, path)
            return
        if not (path.startswith(b"/e/") or table.is_host(host) or self._is_inference_host(host)):
            if path in (b"/healthz", b"/readyz"):
                client.answer(self._health(path))
                return
            if path.startswith(b"/v1/"):
                self._handle_v1(client, request, path)
                return
        address = table.find_address(host, path)
        if address is not None:
            self._infer(client, request, address)
        elif path.startswith(b"/e/") or self._is_inference_host(host):
            client.answer(self._unknown_endpoint(request))
        else:
            self._pass_to_control(client, request)

    def _manage(self, client: ClientConnection, request: Request, host: bytes, path: bytes) -> None:
        """At a cloud's own API host there is nothing but what it serves there."""
        address = self.table.find_address(host, path)
        if address is not None:
            self._infer(client, request, address)
        else:
            self._pass_to_control(client, request)

    def _health(self, path: bytes) -> Answer:
        if path == b"/healthz" or self.table.present:
            return answers.json_answer({"status": "ok"})
        return answers.starting(openai=False)

    def _is_inference_host(self, host: bytes) -> bool:
        return bool(self._domains) and host != self._own_host and host.endswith(self._domains)

    def _unknown_endpoint(self, request: Request) -> Answer:
        # A table out of a file may be older than the endpoint: only control's own word says that there is none.
        if not self.table.present or not self.keeper.heard.is_set():
            return answers.starting(openai=False)
        if Caller(request, self.table, self.wall).key is None:
            return answers.no_key(openai=False)
        return answers.failure(404, "endpoint_not_found", "no endpoint has this address", openai=False)

    def _infer(self, client: ClientConnection, request: Request, address: Address) -> None:
        admission = self.admissions[address.endpoint]
        caller = Caller(request, self.table, self.wall, address.keys)
        verdict = caller.may_call(admission.entry)
        if verdict is not Verdict.ALLOWED and not address.is_open(request.target.partition(b"?")[0]):
            client.answer(
                answers.no_key(openai=False) if verdict is Verdict.UNKNOWN else answers.forbidden(openai=False)
            )
            return
        way = self._way(client, request, caller, admission, address.below(caller.target))
        way.pin = address.pin
        way.sandboxed = not address.hosted
        self._go(client, request, way)

    def _known_way(self, request: Request) -> Way | None:
        """Where the same head led before, if that still holds."""
        known = request.known
        if known is None or not isinstance(way := known.way, Way) or way.changes != self.table.changes:
            return None
        key = way.caller.key
        if key is not None:
            if key.expires_at is not None and self.wall() >= key.expires_at:
                return None
            self.table.keys_used.add(key.id)
        return way

    def _way(
        self, client: ClientConnection, request: Request, caller: Caller, admission: Admission, target: bytes
    ) -> Way:
        lines, request.lines = request.lines, caller.lines
        head = upstream_head(
            request,
            target,
            forwarded=client.peer,
            keep_authorization=not caller.authorization_verified,
            keep_api_key=not caller.api_key_verified,
            keep_own_cookies=False,
        )
        request.lines = lines
        way = Way(self.table.changes, caller, admission, head)
        if request.known is not None:
            request.known.way = way
        return way

    def _go(self, client: ClientConnection, request: Request, way: Way) -> None:
        entry = way.admission.entry
        pin = way.pin
        key = way.caller.key
        if entry.tasks_only:
            detail = "this endpoint takes tasks, not requests: its mode is queue"
            client.answer(answers.failure(409, "tasks_only", detail, openai=way.in_v1))
            return
        if request.reservation is not None:
            ticket = request.reservation.decode("latin-1")
            pin = self.keeper.reservations.worker_of(ticket, entry.id, self.time())
            if pin is None:
                detail = "this reservation is not known for this endpoint, or has expired"
                client.answer(answers.failure(410, "reservation_gone", detail, openai=way.in_v1))
                return
        if self.keeper.left:
            # Before the quota: a request that is counted there must also leave it.
            detail = "this gateway was replaced while the request arrived; try again"
            client.answer(answers.failure(503, "stopping", detail, openai=way.in_v1))
            return
        quota: Quota | None = None
        if key is not None and key.limited:
            quota = self.keeper.quotas.of(key, self.time())
            if quota is not None and (over := quota.enter(self.time())) is not None:
                client.answer(answers.refused(over, openai=way.in_v1))
                return
        exchange = Exchange(
            self,
            request,
            client,
            way.head,
            entry,
            admission=way.admission,
            quota=quota,
            key=None if key is None else key.id,
            pin=pin,
            sandboxed=way.sandboxed,
            openai=way.in_v1,
        )
        client.converse(exchange)
        exchange.start()

    def _pass_to_control(self, client: ClientConnection, request: Request) -> None:
        head = upstream_head(
            request,
            request.target,
            forwarded=client.peer,
            keep_authorization=True,
            keep_api_key=True,
            keep_own_cookies=True,
        )
        if request.project is not None:
            # The one word of a client to control that workers must not see.
            head += b"X-Stoker-Project: %b\r\n" % request.project
        exchange = Exchange(self, request, client, head, _CONTROL_LIMITS)
        client.converse(exchange)
        exchange.start()

    # --- /v1 ---

    def _handle_v1(self, client: ClientConnection, request: Request, path: bytes) -> None:
        table = self.table
        if not table.present:
            client.answer(answers.starting(openai=True))
            return
        way = self._known_way(request)
        caller = Caller(request, table, self.wall) if way is None else way.caller
        if path == b"/v1/models" and request.method in (b"GET", b"HEAD"):
            client.answer(openai.list_models(table, caller))
        elif path.startswith(b"/v1/models/") and request.method in (b"GET", b"HEAD"):
            client.answer(openai.show_model(table, caller, unquote(path[11:].decode("latin-1"))))
        elif request.endpoint is not None:
            self._invoke(client, request, caller, openai.by_header(table, caller, request.endpoint))
        elif caller.key is None and not table.has_open:
            client.answer(answers.no_key(openai=True))
        else:
            boundary = boundary_of(request)
            field = None if boundary is None else Field(boundary, b"model")
            if request.complete:
                self._invoke_by_body(client, request, caller, field)
            else:
                reader = BodyReader(
                    client,
                    request,
                    self,
                    lambda: self._invoke_by_body(client, request, caller, field),
                    bytes_max=openai.BODY_BYTES_MAX,
                    openai=True,
                    enough=None if field is None else field.look,
                )
                client.converse(reader)
                reader.start()

    def _invoke_by_body(self, client: ClientConnection, request: Request, caller: Caller, field: Field | None) -> None:
        model = openai.model_of(request, field)
        self._invoke(
            client,
            request,
            caller,
            openai.by_model(self.table, caller, model) if isinstance(model, str) else model,
        )

    def _invoke(
        self, client: ClientConnection, request: Request, caller: Caller, found: EndpointEntry | Answer
    ) -> None:
        if isinstance(found, Answer):
            client.answer(found)
            return
        admission = self.admissions[found.id]
        way = self._known_way(request)
        if way is None or way.admission is not admission:
            way = self._way(client, request, caller, admission, request.target)
            way.in_v1 = True
        self._go(client, request, way)
