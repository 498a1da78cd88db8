"""Drafts of audit events: who did what to what, with secrets masked. Written by the doors, in their transactions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from stoker.domain.access import ApiKey, Principal
from stoker.domain.authorisation import Action
from stoker.domain.endpoint import Endpoint, EndpointSpec, ProjectId
from stoker.domain.models import Model
from stoker.domain.operation import Operation
from stoker.domain.project import MASK, AuditDraft, Outcome
from stoker.domain.secrets import Credential, Secret


def draft(
    by: Principal | None,
    action: Action,
    *,
    at: float,
    project: ProjectId | None = None,
    target: str = "",
    name: str = "",
    before: Mapping[str, Any] | None = None,
    after: Mapping[str, Any] | None = None,
    operation: str | None = None,
) -> AuditDraft:
    """One event, of the caller's project unless another is named. With an `operation` it is accepted, else done."""
    if project is None:
        assert by is not None, "what Stoker does of its own accord has to name the project"
        project = by.project
    return AuditDraft(
        at=at,
        project=project,
        action=action.value,
        by=None if by is None else by.key,
        target=target,
        name=name,
        before=before,
        after=after,
        outcome=Outcome.DONE if operation is None else Outcome.ACCEPTED,
        operation=operation,
    )


def endpoint_facts(endpoint: Endpoint) -> dict[str, Any]:
    """What of an endpoint its owner decides."""
    override = endpoint.override
    return {
        "phase": endpoint.phase.value,
        "revision": endpoint.revision,
        "override": None if override is None else override.workers,
        "spec": spec_facts(endpoint.spec),
    }


def spec_facts(spec: EndpointSpec) -> dict[str, Any]:
    """A spec without the values of its environment; names of secrets are no secrets."""
    facts: dict[str, Any] = msgspec.to_builtins(spec)
    for launch in (facts["launch"], *(pool["launch"] for pool in facts["pools"] if pool["launch"])):
        env = launch["env"]
        launch["env"] = {name: MASK if isinstance(value, str) else value for name, value in env.items()}
    return facts


def key_facts(key: ApiKey) -> dict[str, Any]:
    """A key without anything that opens something."""
    return {
        "name": key.name,
        "hint": key.hint,
        "scopes": sorted(key.scopes),
        "endpoints": None if key.endpoints is None else sorted(key.endpoints),
        "expires_at": key.expires_at,
        "installation": key.installation,
        "revealable": key.revealable,
        **msgspec.to_builtins(key.limits),
    }


def secret_facts(secret: Secret) -> dict[str, Any]:
    """A secret without its value."""
    return {"description": secret.description, "value": MASK}


def model_facts(model: Model) -> dict[str, Any]:
    """A model. The query of a URL, where secrets travel, is none of it."""
    return {
        "source": f"{model.source.kind}: {model.source}",
        "aliases": list(model.aliases),
        "sha256": model.sha256,
        "token_secret": model.token_secret,
        "pinned": model.pinned,
    }


def credential_facts(credential: Credential) -> dict[str, Any]:
    """A registry credential without its password."""
    return {"registry": credential.registry, "username": credential.username, "password": MASK}


def endpoint_draft(
    by: Principal, action: Action, before: Endpoint | None, after: Endpoint, operation: Operation, *, at: float
) -> AuditDraft:
    """What is written of a change of an endpoint, whose outcome is that of its operation."""
    return draft(
        by,
        action,
        at=at,
        target=after.id,
        name=after.spec.name,
        before=None if before is None else endpoint_facts(before),
        after=endpoint_facts(after),
        operation=operation.id,
    )
