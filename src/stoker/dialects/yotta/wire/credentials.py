"""Log-ins at registries. Passwords go in and never come out."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field

from stoker.dialects.yotta.wire.base import Wire
from stoker.domain.images import HUB
from stoker.domain.secrets import ANY_REGISTRY, Credential
from stoker.domain.times import iso

Type = Literal["DOCKER_HUB", "GCR", "ECR", "ACR", "PRIVATE"]
# The registry of each type, or what the hosts of all its registries lie below.
REGISTRIES: dict[Type, str] = {
    "DOCKER_HUB": HUB,
    "GCR": "gcr.io",
    "ECR": "amazonaws.com",
    "ACR": "azurecr.io",
    "PRIVATE": ANY_REGISTRY,
}
Filled = Annotated[str, Field(min_length=1, max_length=1_024)]


class CredentialIn(Wire):
    """A new log-in."""

    name: Filled
    type: Type
    username: Filled
    password: Filled


class CredentialPatch(Wire):
    """What is to be changed; what is left out stays."""

    name: Filled | None = None
    username: Filled | None = None
    password: Filled | None = None


class CredentialOut(Wire):
    id: int
    name: str
    type: Type
    created_at: str

    @classmethod
    def of(cls, credential: Credential) -> Self:
        return cls(
            id=credential.number,
            name=credential.name,
            type=type_of(credential.registry),
            created_at=iso(credential.created_at),
        )


def type_of(registry: str) -> Type:
    """The type of a log-in at this registry."""
    for type, host in REGISTRIES.items():
        if registry == host or registry.endswith(f".{host}"):
            return type
    return "PRIVATE"
