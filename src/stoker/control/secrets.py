"""Secrets: the one door through which they are made, changed, shown and deleted. Values go in; they come out only for
who may see them, with a record of it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from sqlalchemy import Connection

from stoker.control import audit
from stoker.control.vault import Vault
from stoker.domain.access import Principal
from stoker.domain.authorisation import Action, admit
from stoker.domain.endpoint import Endpoint, EndpointSpec, ProjectId
from stoker.domain.errors import Conflict, Invalid, NotFound
from stoker.domain.launch import LaunchSpec
from stoker.domain.secrets import Secret, check_description, check_secret_name, check_secret_value
from stoker.store import audit as audit_rows
from stoker.store import installation
from stoker.store import secrets as rows
from stoker.store.base import Store

SECRETS_MAX = 1_000


class Secrets:
    """See the module. Methods raise `Invalid`, `NotFound`, `Conflict` or `Forbidden` before they change anything."""

    def __init__(self, store: Store, vault: Vault, *, clock: Callable[[], float], new_id: Callable[[], str]) -> None:
        self._store = store
        self._vault = vault
        self._clock = clock
        self._new_id = new_id

    async def create(self, by: Principal, *, name: str, value: str, description: str = "") -> Secret:
        """A new secret of the caller's project."""
        admit(by, Action.SECRET_CREATE)
        check_secret_name(name)
        check_secret_value(value)
        check_description(description)
        now, new_id = self._clock(), self._new_id()

        def add(tx: Connection) -> Secret:
            if rows.find_secret(tx, name, project=by.project) is not None:
                raise Conflict(f"there is a secret named {name!r} already")
            if rows.count(tx, Secret, project=by.project) >= SECRETS_MAX:
                raise Conflict(f"a project has at most {SECRETS_MAX} secrets")
            secret = Secret(
                id=new_id,
                number=installation.next_number(tx, "secret"),
                project=by.project,
                name=name,
                description=description,
                sealed=self._vault.seal("secret", new_id, value),
                created_at=now,
                updated_at=now,
            )
            rows.add(tx, secret)
            self._audit(tx, by, Action.SECRET_CREATE, secret, after=secret)
            return secret

        return await self._store.write(add)

    async def get(self, by: Principal, reference: str) -> Secret:
        """The secret of that id, number or name, without its value."""
        admit(by, Action.SECRET_READ)
        return await self._store.read(lambda tx: _found(tx, reference, by))

    async def page(self, by: Principal, *, after: int, limit: int) -> tuple[tuple[Secret, ...], int | None]:
        """Secrets with numbers above `after`, and the number to go on after, if there are more."""
        admit(by, Action.SECRET_LIST)
        found = await self._store.read(
            lambda tx: rows.secrets_page(tx, project=by.project, after=after, limit=limit + 1)
        )
        return found[:limit], found[limit - 1].number if len(found) > limit else None

    async def update(
        self, by: Principal, reference: str, *, value: str | None = None, description: str | None = None
    ) -> Secret:
        """Another value, another description, or both; `None` leaves it. Workers get it when they are started."""
        admit(by, Action.SECRET_UPDATE)
        if value is not None:
            check_secret_value(value)
        if description is not None:
            check_description(description)
        now = self._clock()

        def save(tx: Connection) -> Secret:
            before = _found(tx, reference, by)
            sealed = before.sealed if value is None else self._vault.seal("secret", before.id, value)
            changed = replace(before, sealed=sealed, updated_at=now)
            if description is not None:
                changed = replace(changed, description=description)
            rows.save(tx, changed)
            self._audit(tx, by, Action.SECRET_UPDATE, changed, before=before, after=changed)
            return changed

        return await self._store.write(save)

    async def delete(self, by: Principal, reference: str) -> None:
        """Forget it, unless an endpoint refers to it."""
        admit(by, Action.SECRET_DELETE)

        def remove(tx: Connection) -> None:
            secret = _found(tx, reference, by)
            users = rows.users(
                tx,
                lambda spec: secret.name in spec.secrets,
                project=by.project,
                mentioning=secret.name,
            )
            if users:
                raise Conflict(f"the secret {secret.name!r} is used by {_listed(users)}; change them first")
            rows.remove(tx, secret)
            self._audit(tx, by, Action.SECRET_DELETE, secret, before=secret)

        await self._store.write(remove)

    async def reveal(self, by: Principal, reference: str) -> tuple[Secret, str]:
        """The secret with its value; that it was shown is recorded before it is."""
        admit(by, Action.SECRET_REVEAL)

        def show(tx: Connection) -> Secret:
            secret = _found(tx, reference, by)
            self._audit(tx, by, Action.SECRET_REVEAL, secret)
            return secret

        secret = await self._store.write(show)
        return secret, self._vault.open("secret", secret.id, secret.sealed)

    def _audit(
        self,
        tx: Connection,
        by: Principal,
        action: Action,
        secret: Secret,
        *,
        before: Secret | None = None,
        after: Secret | None = None,
    ) -> None:
        audit_rows.add(
            tx,
            audit.draft(
                by,
                action,
                at=self._clock(),
                target=secret.id,
                name=secret.name,
                before=None if before is None else audit.secret_facts(before),
                after=None if after is None else audit.secret_facts(after),
            ),
        )


def _found(tx: Connection, reference: str, by: Principal) -> Secret:
    secret = rows.find_secret(tx, reference, project=by.project)
    if secret is None:
        raise NotFound(f"no secret {reference[:64]!r}; `stoker secrets ls` lists those there are")
    return secret


def _listed(slugs: tuple[str, ...]) -> str:
    shown = ", ".join(slugs[:10])
    return shown if len(slugs) <= 10 else f"{shown} and {len(slugs) - 10} more"


def check_use(by: Principal, spec: EndpointSpec, endpoint: Endpoint) -> None:
    """Secrets that the endpoint did not have are for those who may use all of the project's. Raises `Forbidden`."""
    new = spec.secrets - endpoint.spec.secrets
    if new or spec.credentials - endpoint.spec.credentials:
        admit(by, Action.SECRET_USE)


def check_references(tx: Connection, spec: EndpointSpec, *, project: ProjectId) -> None:
    """Refuse a spec that refers to a secret or a registry credential that there is not. Raises `Invalid`."""
    for place, launch in spec.launch_specs:
        _check_launch(tx, launch, place, project=project)
    signing = spec.webhooks.secret
    if signing is not None:
        found = rows.find_secret(tx, signing, project=project)
        if found is None or found.name != signing:
            raise Invalid.at("/webhooks/secret", f"there is no secret {signing[:64]!r}: stoker secrets set NAME")
    for index, queue in spec.scaling.queues:
        found = rows.find_secret(tx, queue.secret, project=project)
        if found is None or found.name != queue.secret:
            detail = f"there is no secret {queue.secret[:64]!r}: stoker secrets set NAME"
            raise Invalid.at(f"/scaling/triggers/{index}/secret", detail)


def _check_launch(tx: Connection, launch: LaunchSpec, place: str, *, project: ProjectId) -> None:
    for variable, name in launch.references.items():
        found = rows.find_secret(tx, name, project=project)
        if found is None or found.name != name:
            detail = f"there is no secret {name[:64]!r}: stoker secrets set NAME"
            raise Invalid.at(f"{place}/env/{variable}/secret", detail)
    credential = launch.credential
    if credential is not None:
        login = rows.find_credential(tx, credential, project=project)
        if login is None or login.name != credential:
            detail = f"there is no registry credential {credential[:64]!r}: stoker credentials create NAME ..."
            raise Invalid.at(f"{place}/credential", detail)
        try:
            login.registry_for(launch.image or "")
        except Invalid as exc:
            raise Invalid.at(f"{place}/credential", str(exc)) from exc
