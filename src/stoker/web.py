"""The frame of every HTTP face: what a face may use of Stoker, and how it recognises its callers.

A face is a FastAPI application below a prefix. It renders its own errors; it holds no state and reaches nothing but
what `Services` offers. A dialect is a face that speaks another cloud's API.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass

from starlette.exceptions import HTTPException
from starlette.requests import Request

from stoker.control.credentials import Credentials
from stoker.control.endpoints import Endpoints
from stoker.control.feed import Feed
from stoker.control.keys import Keys
from stoker.control.learning import Learning
from stoker.control.load import Load
from stoker.control.logs import Logs
from stoker.control.master_key import MasterKey
from stoker.control.models import Models, Pruned
from stoker.control.once import Answer, Once, Ticket
from stoker.control.projects import Projects
from stoker.control.reservations import Reservations
from stoker.control.secrets import Secrets
from stoker.control.signing import Signing
from stoker.control.templates import Templates
from stoker.control.usage import Usage
from stoker.control.vault import MasterKeyState
from stoker.control.views import Views
from stoker.control.volumes import Volumes
from stoker.domain.access import Principal
from stoker.domain.endpoint import Endpoint
from stoker.domain.load import Trial
from stoker.domain.routing import InferenceAddress
from stoker.domain.worker import Worker
from stoker.queue.drafts import Submitted
from stoker.queue.following import Event
from stoker.queue.forms import Ending, WebhookForm
from stoker.queue.pulls import Pulls
from stoker.queue.tasks import Tasks

__all__ = [
    "BODY_BYTES_MAX",
    "Answer",
    "Dialect",
    "Ending",
    "Event",
    "MasterKeyState",
    "Pruned",
    "Services",
    "Start",
    "Submitted",
    "Ticket",
    "WebhookForm",
    "bearer_or_api_key",
    "check_characters",
    "principal_of",
    "read_body",
    "services_of",
]

BODY_BYTES_MAX = 4 * 1024 * 1024
# Half of a character outside the basic plane, in JSON's spelling.
_HALF = re.compile(rb"\\u[dD][89a-fA-F]")


@dataclass(frozen=True, slots=True)
class Services:
    """What faces may use. `clock` gives seconds since the epoch; `url` is the address that Stoker hands out, `zone`
    how it is called where a cloud's client asks for zones.
    """

    endpoints: Endpoints
    keys: Keys
    projects: Projects
    secrets: Secrets
    credentials: Credentials
    master_key: MasterKey
    models: Models
    templates: Templates
    volumes: Volumes
    reservations: Reservations
    load: Load
    signing: Signing
    tasks: Tasks
    pulls: Pulls
    views: Views
    logs: Logs
    feed: Feed
    usage: Usage
    learning: Learning
    once: Once
    clock: Callable[[], float]
    url: str
    zone: str


def _none(_endpoint: Endpoint, _workers: Sequence[Worker]) -> Sequence[InferenceAddress]:
    return ()


@dataclass(frozen=True, slots=True)
class Start:
    """What is known when a worker is started: the address that Stoker hands out, the port that the worker is to listen
    on (`None`: its provider will say), and the token that it shows to be known by.
    """

    endpoint: Endpoint
    worker: Worker
    url: str
    port: int | None
    token: str


def _no_trial(_endpoint: Endpoint) -> Trial | None:
    return None


async def _nothing(_start: Start) -> Mapping[str, str]:
    return {}


@dataclass(frozen=True, slots=True, kw_only=True)
class Dialect:
    """What a folder of `stoker/dialects/` offers as `DIALECT` in its `__init__`, which imports nothing heavy.

    Its face is below `/{name}`, and at the root of `hosts`, that cloud's own API hosts. `face` is `module:function`,
    imported at the first request; the function makes an application of `Services`. `addresses` are the inference
    addresses that an endpoint with these workers has in this dialect: requests for them never pass control. `webhooks`
    is how the ends of tasks are told whose draft says `webhook_form=name`. `environ` is what workers find in their
    environment, beside what their owner says; `trial` what they are to measure first.
    """

    name: str
    face: str
    hosts: tuple[str, ...] = ()
    addresses: Callable[[Endpoint, Sequence[Worker]], Sequence[InferenceAddress]] = _none
    webhooks: WebhookForm | None = None
    environ: Callable[[Start], Awaitable[Mapping[str, str]]] = _nothing
    trial: Callable[[Endpoint], Trial | None] = _no_trial


def services_of(request: Request) -> Services:
    """The services of the face that this request came to."""
    services = request.app.state.services
    assert isinstance(services, Services)
    return services


def bearer_or_api_key(request: Request) -> str | None:
    """The key in `Authorization: Bearer` or `X-API-Key`; the first one wins."""
    scheme, _, value = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer" and value.strip():
        return value.strip()
    return request.headers.get("x-api-key")


def principal_of(request: Request) -> Principal:
    """Who calls, acting for the project that `X-Stoker-Project` names. Raises `Unauthenticated`, and `NotFound` for a
    project that does not exist for the caller.
    """
    services = services_of(request)
    caller = services.keys.principal(bearer_or_api_key(request))
    return services.projects.acting(caller, request.headers.get("x-stoker-project"))


async def read_body(request: Request, *, bytes_max: int = BODY_BYTES_MAX) -> bytes:
    """The whole body, which `Request.body` gives again. Raises `HTTPException` for one that is too long."""
    chunks: list[bytes] = []
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > bytes_max:
            raise HTTPException(413, f"a body has at most {bytes_max} bytes")
        chunks.append(chunk)
    # Where `Request.body` keeps what it has read.
    request._body = body = b"".join(chunks)
    return body


def check_characters(body: bytes) -> None:
    """JSON can spell half a character alone, which can be neither stored nor shown. Raises `HTTPException`."""
    if not _HALF.search(body):
        return
    with contextlib.suppress(ValueError, RecursionError):
        # What is no JSON at all is told by whoever reads it.
        value = json.loads(body)
        try:
            json.dumps(value, ensure_ascii=False).encode()
        except UnicodeEncodeError as exc:
            raise HTTPException(400, "the body has half of a surrogate pair in it, which is no character") from exc
