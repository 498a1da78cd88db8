"""From a request to its endpoint: routing, access, and the table of admissions that the link keeps fresh.

No database, no task per request. Everything shared by the connections of the gateway hangs on `Gateway`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final
from urllib.parse import unquote, urlsplit

import structlog

from stoker.gateway import answers, openai
from stoker.gateway.access import Caller, Verdict
from stoker.gateway.admission import Admission, Worker
from stoker.gateway.answers import Answer
from stoker.gateway.connection import ClientConnection
from stoker.gateway.exchange import Exchange
from stoker.gateway.head import Request, upstream_head
from stoker.gateway.ledger import Ledger
from stoker.gateway.parties import ControlLimits, Swept
from stoker.gateway.reports import Reporter
from stoker.gateway.table import Address, Table, TableFile, host_of
from stoker.gateway.upstream import READ_BYTES, Upstreams
from stoker.link.client import LinkClient
from stoker.link.messages import Delta, EndpointEntry, Snapshot
from stoker.settings import Settings

log = structlog.get_logger(__name__)

TICK_S: Final = 0.25
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
        self, settings: Settings, *, incarnation: str, time: Callable[[], float], clients_max: int = 10_000
    ) -> None:
        self.time = time
        self.now = time()
        self.draining = False
        self.emptied = asyncio.Event()
        self.table = Table()
        self.live: set[Swept] = set()
        self.clients: set[ClientConnection] = set()
        self.upstreams = Upstreams()
        self.view = memoryview(bytearray(READ_BYTES))
        self.control_pool = self.upstreams.unix_pool(settings.paths.control_socket)
        self.admissions: dict[str, Admission] = {}
        self.link = LinkClient(settings.paths.link_socket, self, incarnation=incarnation)
        self.ledger = Ledger(self.now)
        self._reporter = Reporter(self.link, self.ledger, self.now)
        self._file = TableFile(settings.paths.table)
        self._unsaved = False
        self._saving: asyncio.Future[None] | None = None
        self._clients_max = clients_max
        self._domains = tuple(f".{domain}".lower().encode() for domain in settings.domains)
        self._own_host = (urlsplit(settings.url).hostname or "").encode()
        self._ticks = 0

    # --- the table ---

    def load(self) -> None:
        """Start from the table that the last gateway left behind, if there is one."""
        saved = self._file.load()
        if saved is not None:
            self._adopt(saved)

    def take_snapshot(self, snapshot: Snapshot) -> None:
        """The link brings the whole table."""
        self._adopt(snapshot)
        self._unsaved = True
        self._reporter.report_all(self.admissions.values(), self.time(), self.table.seq)

    def _adopt(self, snapshot: Snapshot) -> None:
        before = self.table.endpoints.keys() - {entry.id for entry in snapshot.endpoints}
        self.table.replace(snapshot)
        for endpoint in before:
            self._withdraw(endpoint)
        for entry in snapshot.endpoints:
            self._admit_by(entry)

    def take_delta(self, delta: Delta) -> None:
        """The link brings changes."""
        self.table.change(delta)
        self._unsaved = True
        for endpoint in delta.endpoints_gone:
            self._withdraw(endpoint)
        for entry in delta.endpoints:
            self._admit_by(entry)

    def _admit_by(self, entry: EndpointEntry) -> None:
        admission = self.admissions.get(entry.id)
        if admission is None:
            self.admissions[entry.id] = Admission(
                entry, self.time(), on_touched=self._reporter.touched, on_wait=self._reporter.waits
            )
            return
        known = {worker.id: (worker.host, worker.port) for worker in entry.workers if not worker.draining}
        for worker in admission.entry.workers:
            if known.get(worker.id) != (worker.host, worker.port):
                self.upstreams.drop(worker)
        admission.update(entry, self.time())

    def _withdraw(self, endpoint: str) -> None:
        admission = self.admissions.get(endpoint)
        if admission is not None:
            for worker in admission.entry.workers:
                self.upstreams.drop(worker)
            admission.close(self.time())

    def worker_down(self, admission: Admission, worker: Worker, detail: str) -> None:
        """A worker refused a connection."""
        if admission.mark_down(worker):
            log.warning("worker_refuses", endpoint=admission.entry.id, worker=worker.id, error=detail)
            self.upstreams.drop(worker)
            self._reporter.worker_down(admission, worker.id, detail)

    # --- connections ---

    def opened(self, client: ClientConnection) -> bool:
        """A client has connected. False: there are too many."""
        if len(self.clients) >= self._clients_max:
            return False
        self.clients.add(client)
        return True

    def closed(self, client: ClientConnection) -> None:
        """A client's connection is closed."""
        self.clients.discard(client)
        if self.draining and not self.clients:
            self.emptied.set()

    def drain(self) -> None:
        """No keep-alive any more: connections close after their present answer, idle ones now."""
        self.draining = True
        self.link.stop_reconnecting()
        for client in tuple(self.clients):
            client.shut_idle()
        if not self.clients:
            self.emptied.set()

    def close(self) -> None:
        """Cut what is left."""
        for client in tuple(self.clients):
            client.abort()
        self.control_pool.close()
        self.upstreams.close()

    # --- time ---

    def tick(self) -> None:
        """Every quarter of a second: deadlines, reports, and now and then the rest."""
        now = self.now = self.time()
        self._ticks += 1
        look = self._ticks % _LOOK_EVERY == 0
        for admission in tuple(self.admissions.values()):
            admission.expire(now)
        for swept in tuple(self.live):
            if swept in self.live:
                swept.sweep(now, look=look)
        self._reporter.report(self.admissions, self.time(), self.table.seq)
        if self.draining or self._ticks % _SWEEP_EVERY == 0:
            for client in tuple(self.clients):
                client.sweep(now)
            self.upstreams.sweep(now)
            self.control_pool.sweep(now)
            self._forget_withdrawn()
        if self._ticks % _SAVE_EVERY == 0:
            self._save()

    def _forget_withdrawn(self) -> None:
        gone = [
            endpoint
            for endpoint, admission in self.admissions.items()
            if endpoint not in self.table.endpoints and not (admission.in_flight or admission.touched)
        ]
        for endpoint in gone:
            del self.admissions[endpoint]
        self.ledger.forget(gone)

    def _save(self) -> None:
        if not self._unsaved or self.draining or (self._saving is not None and not self._saving.done()):
            return
        self._unsaved = False
        loop = asyncio.get_running_loop()
        self._saving = loop.run_in_executor(None, self._file.save, self.table.to_snapshot())
        self._saving.add_done_callback(_log_save)

    # --- routing ---

    def handle(self, client: ClientConnection, request: Request) -> None:
        """Find out whose request this is, and pass it on."""
        path = request.target.partition(b"?")[0]
        host = host_of(request.host)
        table = self.table
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

    def _health(self, path: bytes) -> Answer:
        if path == b"/healthz" or self.table.present:
            return answers.json_answer({"status": "ok"})
        return _starting(openai=False)

    def _is_inference_host(self, host: bytes) -> bool:
        return bool(self._domains) and host != self._own_host and host.endswith(self._domains)

    def _unknown_endpoint(self, request: Request) -> Answer:
        if not self.table.present:
            return _starting(openai=False)
        if Caller(request, self.table).key is None:
            return _no_key(openai=False)
        return answers.failure(404, "endpoint_not_found", "no endpoint has this address", openai=False)

    def _infer(self, client: ClientConnection, request: Request, address: Address) -> None:
        admission = self.admissions[address.endpoint]
        caller = Caller(request, self.table)
        verdict = caller.may_call(admission.entry)
        if verdict is not Verdict.ALLOWED:
            client.answer(_no_key(openai=False) if verdict is Verdict.UNKNOWN else _forbidden(openai=False))
            return
        target = request.target
        if address.strip_chars:
            target = target[address.strip_chars :]
            if not target.startswith(b"/"):
                target = b"/" + target
        self._start(
            client, request, caller, admission, target, pin=address.pin, sandboxed=not address.hosted, in_v1=False
        )

    def _start(
        self,
        client: ClientConnection,
        request: Request,
        caller: Caller,
        admission: Admission,
        target: bytes,
        *,
        pin: str | None,
        sandboxed: bool,
        in_v1: bool,
    ) -> None:
        head = upstream_head(
            request,
            target,
            forwarded=client.peer,
            keep_authorization=not caller.authorization_verified,
            keep_api_key=not caller.api_key_verified,
            keep_own_cookies=False,
        )
        exchange = Exchange(
            self,
            request,
            client,
            head,
            admission.entry,
            admission=admission,
            key=None if caller.key is None else caller.key.id,
            pin=pin,
            sandboxed=sandboxed,
            openai=in_v1,
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
        exchange = Exchange(self, request, client, head, _CONTROL_LIMITS)
        client.converse(exchange)
        exchange.start()

    # --- /v1 ---

    def _handle_v1(self, client: ClientConnection, request: Request, path: bytes) -> None:
        table = self.table
        if not table.present:
            client.answer(_starting(openai=True))
            return
        caller = Caller(request, table)
        if path == b"/v1/models" and request.method in (b"GET", b"HEAD"):
            client.answer(openai.list_models(table, caller))
        elif path.startswith(b"/v1/models/") and request.method in (b"GET", b"HEAD"):
            client.answer(openai.show_model(table, caller, unquote(path[11:].decode("latin-1"))))
        elif request.endpoint is not None:
            self._invoke(client, request, caller, openai.by_header(table, caller, request.endpoint))
        elif caller.key is None and not table.has_open:
            client.answer(_no_key(openai=True))
        elif request.complete:
            self._invoke_by_body(client, request, caller)
        else:
            reader = openai.BodyReader(
                client, request, self.live, self.now, lambda: self._invoke_by_body(client, request, caller)
            )
            client.converse(reader)
            reader.start()

    def _invoke_by_body(self, client: ClientConnection, request: Request, caller: Caller) -> None:
        model = openai.model_of(request)
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
        self._start(
            client,
            request,
            caller,
            self.admissions[found.id],
            request.target,
            pin=None,
            sandboxed=True,
            in_v1=True,
        )


def _starting(*, openai: bool) -> Answer:
    return answers.failure(503, "starting", "Stoker is starting; try again in a moment", openai=openai)


def _no_key(*, openai: bool) -> Answer:
    reason = "invalid_api_key" if openai else "unauthenticated"
    return answers.failure(401, reason, "a key is needed: Authorization: Bearer sk-...", openai=openai)


def _forbidden(*, openai: bool) -> Answer:
    return answers.failure(403, "forbidden", "this key may not call this endpoint", openai=openai)


def _log_save(saving: asyncio.Future[None]) -> None:
    if not saving.cancelled() and (exc := saving.exception()) is not None:
        log.warning("table_not_saved", error=str(exc))
