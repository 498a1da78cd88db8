"""The frame of every HTTP face: what a face may use of Stoker, and how it recognises its callers.

A face is a FastAPI application below a prefix. It renders its own errors; it holds no state and reaches nothing but
what `Services` offers. A dialect is a face that speaks another cloud's API.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from starlette.requests import Request

from stoker.control.credentials import Credentials
from stoker.control.endpoints import Endpoints
from stoker.control.keys import Keys
from stoker.control.learning import Learning
from stoker.control.logs import Logs
from stoker.control.master_key import MasterKey
from stoker.control.models import Models, Pruned
from stoker.control.once import Answer, Once, Ticket
from stoker.control.projects import Projects
from stoker.control.reservations import Reservations
from stoker.control.secrets import Secrets
from stoker.control.templates import Templates
from stoker.control.usage import Usage
from stoker.control.vault import MasterKeyState
from stoker.control.views import Views
from stoker.control.volumes import Volumes
from stoker.domain.access import Principal
from stoker.domain.endpoint import Endpoint
from stoker.domain.routing import InferenceAddress
from stoker.domain.worker import Worker

__all__ = [
    "Answer",
    "Dialect",
    "MasterKeyState",
    "Pruned",
    "Services",
    "Ticket",
    "bearer_or_api_key",
    "principal_of",
    "services_of",
]


@dataclass(frozen=True, slots=True)
class Services:
    """What faces may use. `clock` gives seconds since the epoch; `url` is the address that Stoker hands out."""

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
    views: Views
    logs: Logs
    usage: Usage
    learning: Learning
    once: Once
    clock: Callable[[], float]
    url: str


def _none(_endpoint: Endpoint, _workers: Sequence[Worker]) -> Sequence[InferenceAddress]:
    return ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Dialect:
    """What a folder of `stoker/dialects/` offers as `DIALECT` in its `__init__`, which imports nothing heavy.

    Its face is below `/{name}`, and at the root of `hosts`, that cloud's own API hosts. `face` is `module:function`,
    imported at the first request; the function makes an application of `Services`. `addresses` are the inference
    addresses that an endpoint with these workers has in this dialect: requests for them never pass control.
    """

    name: str
    face: str
    hosts: tuple[str, ...] = ()
    addresses: Callable[[Endpoint, Sequence[Worker]], Sequence[InferenceAddress]] = _none


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
