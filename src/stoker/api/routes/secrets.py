"""Secrets, registry credentials and the master key that they are encrypted under."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.responses import Response

from stoker.api.once import OnceRoute
from stoker.api.routes.context import Caller, Cursor, Limit, after_of, cursor_of
from stoker.api.wire.base import Page
from stoker.api.wire.tenancy import (
    CredentialIn,
    CredentialOut,
    CredentialPatchIn,
    MasterKeyOut,
    SecretIn,
    SecretOut,
    SecretPatchIn,
    SecretValueOut,
)
from stoker.web import MasterKeyState

router = APIRouter(route_class=OnceRoute, tags=["secrets"])


@router.post("/secrets", status_code=201)
async def create_secret(body: SecretIn, context: Caller) -> SecretOut:
    """Make a secret. Endpoints refer to it by name: `env: {TOKEN: {secret: NAME}}`."""
    secret = await context.services.secrets.create(
        context.principal, name=body.name, value=body.value.get_secret_value(), description=body.description
    )
    return SecretOut.of(secret)


@router.get("/secrets")
async def list_secrets(context: Caller, limit: Limit = 100, cursor: Cursor = None) -> Page[SecretOut]:
    """The project's secrets without their values, oldest first."""
    found, last = await context.services.secrets.page(context.principal, after=after_of(cursor), limit=limit)
    return Page(items=[SecretOut.of(secret) for secret in found], next=cursor_of(last))


@router.get("/secrets/{ref}")
async def get_secret(ref: str, context: Caller) -> SecretOut:
    """A secret by id, number or name, without its value."""
    return SecretOut.of(await context.services.secrets.get(context.principal, ref))


@router.get("/secrets/{ref}/value")
async def reveal_secret(ref: str, context: Caller) -> SecretValueOut:
    """A secret's value. That it was shown is in the audit events."""
    secret, value = await context.services.secrets.reveal(context.principal, ref)
    return SecretValueOut(name=secret.name, value=value)


@router.patch("/secrets/{ref}")
async def update_secret(ref: str, body: SecretPatchIn, context: Caller) -> SecretOut:
    """Another value or description. Workers get the value when they start."""
    value = None if body.value is None else body.value.get_secret_value()
    secret = await context.services.secrets.update(context.principal, ref, value=value, description=body.description)
    return SecretOut.of(secret)


@router.delete("/secrets/{ref}", status_code=204)
async def delete_secret(ref: str, context: Caller) -> Response:
    """Forget it; refused while an endpoint refers to it."""
    await context.services.secrets.delete(context.principal, ref)
    return Response(status_code=204)


@router.get("/master-key")
async def get_master_key(context: Caller) -> MasterKeyOut:
    """Which master key encrypts, and what is left under old ones."""
    return _state(await context.services.master_key.state(context.principal))


@router.post("/master-key:rotate")
async def rotate_master_key(context: Caller) -> MasterKeyOut:
    """Encrypt everything under a new master key. One that was interrupted is gone on with."""
    return _state(await context.services.master_key.rotate(context.principal))


def _state(state: MasterKeyState) -> MasterKeyOut:
    return MasterKeyOut(current=state.current, sealed=state.sealed, old=list(state.old), left=state.left)


@router.post("/registry-credentials", status_code=201)
async def create_credential(body: CredentialIn, context: Caller) -> CredentialOut:
    """Keep a log-in at a container registry. Launches with an image refer to it: `credential: NAME`."""
    credential = await context.services.credentials.create(
        context.principal,
        name=body.name,
        registry=body.registry,
        username=body.username,
        password=body.password.get_secret_value(),
    )
    return CredentialOut.of(credential)


@router.get("/registry-credentials")
async def list_credentials(context: Caller, limit: Limit = 100, cursor: Cursor = None) -> Page[CredentialOut]:
    """The project's registry credentials without their passwords, oldest first."""
    found, last = await context.services.credentials.page(context.principal, after=after_of(cursor), limit=limit)
    return Page(items=[CredentialOut.of(credential) for credential in found], next=cursor_of(last))


@router.get("/registry-credentials/{ref}")
async def get_credential(ref: str, context: Caller) -> CredentialOut:
    """A registry credential by id, number or name, without its password."""
    return CredentialOut.of(await context.services.credentials.get(context.principal, ref))


@router.patch("/registry-credentials/{ref}")
async def update_credential(ref: str, body: CredentialPatchIn, context: Caller) -> CredentialOut:
    """Another registry, user name or password."""
    credential = await context.services.credentials.update(
        context.principal,
        ref,
        registry=body.registry,
        username=body.username,
        password=None if body.password is None else body.password.get_secret_value(),
    )
    return CredentialOut.of(credential)


@router.delete("/registry-credentials/{ref}", status_code=204)
async def delete_credential(ref: str, context: Caller) -> Response:
    """Forget it; refused while an endpoint refers to it."""
    await context.services.credentials.delete(context.principal, ref)
    return Response(status_code=204)
