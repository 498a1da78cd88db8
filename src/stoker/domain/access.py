"""Who may do what: keys, their scopes, and the principal that a verified key makes."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from enum import StrEnum
from typing import NewType

from stoker.domain.endpoint import EndpointId, ProjectId

KeyId = NewType("KeyId", str)
KEY_PREFIX = "sk-"


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
class ApiKey:
    """A recorded key. Only its digest is kept; `hint` is enough of its start to recognise it. `endpoints` limits it to
    those named, when not `None`.
    """

    id: KeyId
    number: int
    project: ProjectId
    name: str
    digest: str
    hint: str
    scopes: frozenset[Scope]
    created_at: float
    endpoints: frozenset[EndpointId] | None = None
    expires_at: float | None = None
    revoked_at: float | None = None

    def usable(self, now: float) -> bool:
        """Neither revoked nor expired at `now`."""
        return self.revoked_at is None and (self.expires_at is None or now < self.expires_at)


@dataclass(frozen=True, slots=True, kw_only=True)
class Principal:
    """A verified caller."""

    key: KeyId
    project: ProjectId
    scopes: frozenset[Scope]
    endpoints: frozenset[EndpointId] | None = None

    def may(self, scope: Scope, endpoint: EndpointId | None = None) -> bool:
        """May it act with `scope`, on `endpoint` when one is named?"""
        if scope not in reach(self.scopes):
            return False
        return endpoint is None or self.endpoints is None or endpoint in self.endpoints
