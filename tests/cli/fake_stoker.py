"""A fake Stoker: a small HTTP server that answers as the native API does, and remembers what it was asked."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

KEY = "sk-test"
CREATED = "2026-01-02T03:04:05.000Z"


@dataclass(frozen=True)
class Asked:
    """One request as it arrived."""

    method: str
    path: str
    query: dict[str, str]
    body: Any
    headers: dict[str, str]


@dataclass(frozen=True)
class Raw:
    """An answer that is no JSON document: it is sent in these pieces."""

    pieces: tuple[bytes, ...]
    content_type: str = "text/plain"
    status: int = 200


@dataclass
class FakeStoker:
    """Answers by method and path: a value, (status, value), a `Raw`, or a function of the request that gives one."""

    url: str = ""
    asked: list[Asked] = field(default_factory=list)
    answers: dict[tuple[str, str], Any] = field(default_factory=dict)
    endpoints: dict[str, dict[str, Any]] = field(default_factory=dict)

    def on(self, method: str, path: str, answer: Any) -> None:
        """Answer this, below `/api/v1` unless the path starts with /v1."""
        self.answers[(method, path if path.startswith("/v1") else f"/api/v1{path}")] = answer

    def add(self, name: str, **more: Any) -> dict[str, Any]:
        """An endpoint that exists."""
        made = endpoint(name, number=len(self.endpoints) + 1) | more
        self.endpoints[made["id"]] = made
        return made

    def find(self, reference: str) -> dict[str, Any] | None:
        for made in self.endpoints.values():
            if reference in (made["id"], made["slug"], str(made["number"]), made["name"]):
                return made
        return None

    def of(self, method: str) -> list[Asked]:
        """What was asked with that method."""
        return [one for one in self.asked if one.method == method]

    def answer(self, request: Asked) -> Any:
        found = self.answers.get((request.method, request.path))
        if found is not None:
            return found(request) if callable(found) else found
        if request.headers.get("authorization") != f"Bearer {KEY}":
            return 401, problem(401, "this key is not known")
        return self._native(request)

    def _native(self, request: Asked) -> Any:
        parts = request.path.removeprefix("/api/v1/").split("/")
        if parts == ["endpoints"]:
            return self._create(request) if request.method == "POST" else page(list(self.endpoints.values()))
        if parts[0] == "operations":
            return operation(parts[1])
        if parts[0] != "endpoints":
            return 404, problem(404, "there is nothing at this address")
        reference, _, verb = unquote(parts[1]).partition(":")
        found = self.find(reference)
        if found is None:
            return 404, problem(404, f"no endpoint {reference!r}; `stoker ls` lists those there are")
        if len(parts) > 2:
            return Raw(()) if parts[2] == "logs" else page([])
        return self._act(request, found, verb)

    def _create(self, request: Asked) -> Any:
        made = self.add(request.body["name"], spec=spec(request.body))
        return 201, {"endpoint": made, "operation": operation("create", ended=False)}

    def _act(self, request: Asked, found: dict[str, Any], verb: str) -> Any:
        if request.method == "GET":
            return found
        if request.method == "DELETE":
            del self.endpoints[found["id"]]
        if request.method == "PUT":
            same = found["spec"] == spec(request.body)
            found["spec"] = spec(request.body)
            return {"endpoint": found, "operation": None if same else operation("update")}
        if verb == "stop":
            found["state"] = "stopped"
        return 202, {"endpoint": found, "operation": operation(verb or "delete")}


def spec(body: dict[str, Any]) -> dict[str, Any]:
    """A spec as the API completes it."""
    defaults = {
        "launch": {"model": None, "image": None, "command": []},
        "pools": [{"bounds": {"min": 0, "max": 1}}],
        "access": "project",
    }
    return defaults | body


def endpoint(name: str, *, number: int = 1, state: str = "idle", **body: Any) -> dict[str, Any]:
    """An endpoint as the API shows it."""
    slug = name.lower().replace(" ", "-")
    return {
        "id": f"0190-{number}",
        "number": number,
        "slug": slug,
        "name": name,
        "state": state,
        "state_reason": "",
        "revision": 1,
        "desired": 0,
        "workers": {},
        "override": None,
        "spec": spec({"name": name, "launch": {"model": "smollm2"}} | body),
        "launch": {
            "engine": "llamacpp",
            "command": ["serve"],
            "image": None,
            "slots": 4,
            "models": ["smollm2", slug],
            "notes": [],
        },
        "urls": {"inference": f"http://stoker/e/{slug}", "openai": "http://stoker/v1"},
        "traffic": None,
        "created_at": CREATED,
        "updated_at": CREATED,
    }


def worker(number: int, *, state: str = "ready", name: str = "chat", **more: Any) -> dict[str, Any]:
    """A worker as the API shows it."""
    return {
        "id": f"w-{number:04}",
        "number": number,
        "endpoint": {"id": "0190-1", "slug": name, "name": name},
        "state": state,
        "reason": "",
        "revision": 1,
        "pool": "default",
        "address": "127.0.0.1:20001",
        "gpus": [],
        "virtual": False,
        "price_per_hour": None,
        "currency": None,
        "in_flight": 0,
        "start_s": 1.25,
        "created_at": CREATED,
        "ended_at": None,
    } | more


def operation(kind: str, *, state: str = "success", ended: bool = True, message: str = "") -> dict[str, Any]:
    """An operation as the API shows it."""
    return {
        "id": kind,
        "kind": kind,
        "state": state if ended else "pending",
        "message": message,
        "created_at": CREATED,
        "ended_at": CREATED if ended else None,
    }


def event(number: int, message: str, *, level: str = "info") -> dict[str, Any]:
    """An event as the API shows it."""
    return {"number": number, "at": CREATED, "level": level, "kind": "x", "message": message, "worker": None}


def page(items: list[Any], after: str | None = None) -> dict[str, Any]:
    """One page of a list."""
    return {"items": items, "next": after}


def problem(status: int, detail: str, *errors: tuple[str, str]) -> dict[str, Any]:
    """A problem document."""
    body: dict[str, Any] = {"type": "about:blank", "title": "No", "status": status, "detail": detail}
    return body | ({"errors": [{"pointer": pointer, "detail": text} for pointer, text in errors]} if errors else {})


def _handler(fake: FakeStoker) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def handle_one(self) -> None:
            parts = urlsplit(self.path)
            raw = self.rfile.read(int(self.headers.get("content-length") or 0))
            request = Asked(
                self.command,
                parts.path,
                dict(parse_qsl(parts.query)),
                json.loads(raw) if raw else None,
                {name.lower(): value for name, value in self.headers.items()},
            )
            fake.asked.append(request)
            answer = fake.answer(request)
            status, value = answer if isinstance(answer, tuple) else (200, answer)
            if not isinstance(value, Raw):
                value = Raw((json.dumps(value).encode(),), "application/json", status)
            self.send_response(value.status)
            self.send_header("Content-Type", value.content_type)
            self.end_headers()
            for piece in value.pieces:
                self.wfile.write(piece)
                self.wfile.flush()

        do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = handle_one

        def log_message(self, format: str, *args: object) -> None:
            pass

    return Handler


class _Server(ThreadingHTTPServer):
    # Many clients may come at once.
    request_queue_size = 128


@contextmanager
def serving() -> Iterator[FakeStoker]:
    """A fake Stoker on a free port."""
    stoker = FakeStoker()
    with _Server(("127.0.0.1", 0), _handler(stoker)) as server:
        stoker.url = f"http://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield stoker
        finally:
            server.shutdown()
            thread.join(timeout=10)


@dataclass(frozen=True)
class Ran:
    """How a command ended."""

    code: int
    out: str
    err: str


Command = Callable[..., Ran]
