"""Who may do what: keys, their scopes, and the principal that a verified key makes."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NewType

from stoker.domain.endpoint import EndpointId, ProjectId
from stoker.domain.errors import Invalid

KeyId = NewType("KeyId", str)
KEY_PREFIX = "sk-"
# How the key that an endpoint has for itself is called.
OWN_NAME = "key of the endpoint"


class Scope(StrEnum):
    """ADMIN: everything. DEPLOY: create and change endpoints. INVOKE: call them. READ: look at them."""

    ADMIN = "admin"
    DEPLOY = "deploy"
    INVOKE = "invoke"
    READ = "read"


# A wider scope contains the narrower ones: who may deploy may look and call.
IMPLIES = {
    Scope.ADMIN: frozenset(Scope),
    Scope.DEPLOY: frozenset({Scope.DEPLOY, Scope.INVOKE, Scope.READ}),
    Scope.INVOKE: frozenset({Scope.INVOKE}),
    Scope.READ: frozenset({Scope.READ}),
}


def reach(scopes: frozenset[Scope]) -> frozenset[Scope]:
    """All scopes that the given ones contain."""
    return frozenset().union(*(IMPLIES[scope] for scope in scopes))


def digest_of(secret: str) -> str:
    """SHA-256 of a key, in hexadecimal. Enough for keys of 128 random bits or more; it would not be for passwords."""
    return hashlib.sha256(secret.encode()).hexdigest()


@dataclass(frozen=True, slots=True, kw_only=True)
class Sealed:
    """Something encrypted: `text` under the master key whose id is `by`."""

    text: str
    by: str


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyLimits:
    """How much may be asked with one key; `None` is no limit. `rate_per_s` requests begin each second, up to `burst` of
    them at once after a pause; `concurrency` are under way at a time, waiting ones included.
    """

    rate_per_s: float | None = None
    burst: int | None = None
    concurrency: int | None = None

    def __post_init__(self) -> None:
        for name, low, high in (("rate_per_s", 0.001, 1e6), ("burst", 1, 1e6), ("concurrency", 1, 1e6)):
            value = getattr(self, name)
            if value is not None and not low <= value <= high:
                raise Invalid.at(f"/{name}", f"{name} must be between {low:g} and {high:g}")
        if self.burst is not None and self.rate_per_s is None:
            raise Invalid.at("/burst", "burst needs a rate_per_s")


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiKey:
    """A recorded key. `hint` is enough of its start to recognise it. `endpoints` limits it to those named, when not
    `None`. `installation`: it may act for every project.

    Of a bearer key the `digest` is kept, and when it is revealable also the key itself, `sealed`. A signing key has an
    `access_id` instead of a digest, by which its `sealed` secret is looked up.
    """

    id: KeyId
    number: int
    project: ProjectId
    name: str
    digest: str | None
    hint: str
    scopes: frozenset[Scope]
    created_at: float
    endpoints: frozenset[EndpointId] | None = None
    expires_at: float | None = None
    revoked_at: float | None = None
    access_id: str | None = None
    sealed: Sealed | None = None
    installation: bool = False
    limits: KeyLimits = field(default_factory=KeyLimits)
    last_used_at: float | None = None
    description: str = ""

    @property
    def revealable(self) -> bool:
        """Can its secret be shown again?"""
        return self.sealed is not None

    @property
    def owned(self) -> bool:
        """Is it the one that an endpoint has for itself? It can do nothing but call that endpoint."""
        alone = self.endpoints is not None and len(self.endpoints) == 1
        return self.name == OWN_NAME and self.revealable and alone and self.scopes == frozenset({Scope.INVOKE})

    def usable(self, now: float) -> bool:
        """Neither revoked nor expired at `now`."""
        return self.revoked_at is None and (self.expires_at is None or now < self.expires_at)


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyDraft:
    """A key about to be made. `expires_in_s` is in seconds from now. `signing` asks for a pair of id and secret."""

    name: str
    scopes: frozenset[Scope]
    endpoints: frozenset[EndpointId] | None = None
    expires_in_s: float | None = None
    limits: KeyLimits = field(default_factory=KeyLimits)
    revealable: bool = False
    installation: bool = False
    signing: bool = False
    description: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyPatch:
    """What is to be changed of a key; what is not in `fields` stays. `expires_in_s` `None` is no end."""

    fields: frozenset[str]
    name: str = ""
    endpoints: frozenset[EndpointId] | None = None
    expires_in_s: float | None = None
    rate_per_s: float | None = None
    burst: int | None = None
    concurrency: int | None = None
    description: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Principal:
    """A verified caller. `project` is that which it acts for: its own, or any for a key of the `installation`."""

    key: KeyId
    project: ProjectId
    scopes: frozenset[Scope]
    endpoints: frozenset[EndpointId] | None = None
    installation: bool = False
