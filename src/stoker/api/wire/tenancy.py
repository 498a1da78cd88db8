"""Projects, secrets, registry credentials, the master key and audit events. Values go in and are not answered. Pure."""

from __future__ import annotations

import json
from typing import Any, Self

from pydantic import BaseModel, Field, SecretStr

from stoker.api.wire.base import In, iso
from stoker.domain.project import AuditEvent, Project
from stoker.domain.secrets import Credential, Secret


class ProjectIn(In):
    """A project to be made, or its new name."""

    name: str


class ProjectOut(BaseModel):
    id: str
    number: int
    name: str
    created_at: str | None

    @classmethod
    def of(cls, project: Project) -> Self:
        return cls(id=project.id, number=project.number, name=project.name, created_at=iso(project.created_at))


class SecretIn(In):
    """A secret to be made."""

    name: str
    value: SecretStr
    description: str = ""


class SecretPatchIn(In):
    """What is to be changed of a secret; what is left out stays."""

    value: SecretStr | None = None
    description: str | None = None


class SecretOut(BaseModel):
    """A secret without its value."""

    id: str
    number: int
    project: int
    name: str
    description: str
    created_at: str | None
    updated_at: str | None

    @classmethod
    def of(cls, secret: Secret) -> Self:
        return cls(
            id=secret.id,
            number=secret.number,
            project=secret.project,
            name=secret.name,
            description=secret.description,
            created_at=iso(secret.created_at),
            updated_at=iso(secret.updated_at),
        )


class SecretValueOut(BaseModel):
    name: str
    value: str


class CredentialIn(In):
    """A log-in at a container registry, to be made."""

    name: str
    registry: str = Field(description="host, perhaps with a port, as in ghcr.io; * for whichever an image comes from")
    username: str
    password: SecretStr


class CredentialPatchIn(In):
    """What is to be changed of a registry credential; what is left out stays."""

    registry: str | None = None
    username: str | None = None
    password: SecretStr | None = None


class CredentialOut(BaseModel):
    """A registry credential without its password."""

    id: str
    number: int
    project: int
    name: str
    registry: str
    username: str
    created_at: str | None
    updated_at: str | None

    @classmethod
    def of(cls, credential: Credential) -> Self:
        return cls(
            id=credential.id,
            number=credential.number,
            project=credential.project,
            name=credential.name,
            registry=credential.registry,
            username=credential.username,
            created_at=iso(credential.created_at),
            updated_at=iso(credential.updated_at),
        )


class MasterKeyOut(BaseModel):
    """The id of the key that encrypts, how much it does, and how much is left under `old` ones."""

    current: str
    sealed: int
    old: list[str]
    left: int


class AuditKeyOut(BaseModel):
    id: str
    name: str | None


class AuditOut(BaseModel):
    """A change: who (null: Stoker itself) did what to what. Secrets are masked. An accepted one is carried out by the
    `operation`.
    """

    number: int
    at: str | None
    project: int
    by: AuditKeyOut | None
    action: str
    target: str
    name: str
    before: Any
    after: Any
    outcome: str
    operation: str | None

    @classmethod
    def of(cls, event: AuditEvent) -> Self:
        return cls(
            number=event.number,
            at=iso(event.at),
            project=event.project,
            by=None if event.by is None else AuditKeyOut(id=event.by, name=event.key_name),
            action=event.action,
            target=event.target,
            name=event.name,
            before=None if event.before is None else json.loads(event.before),
            after=None if event.after is None else json.loads(event.after),
            outcome=event.outcome.value,
            operation=event.operation,
        )
