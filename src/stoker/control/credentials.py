"""Registry credentials: the one door through which they are made, changed and deleted. Passwords only go in."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from sqlalchemy import Connection

from stoker.control import audit
from stoker.control.vault import Vault
from stoker.domain.access import Principal
from stoker.domain.authorisation import Action, admit
from stoker.domain.errors import Conflict, NotFound
from stoker.domain.secrets import Credential, check_login, check_secret_name, check_secret_value
from stoker.store import audit as audit_rows
from stoker.store import installation
from stoker.store import secrets as rows
from stoker.store.base import Store

CREDENTIALS_MAX = 1_000


class Credentials:
    """See the module. Methods raise `Invalid`, `NotFound`, `Conflict` or `Forbidden` before they change anything."""

    def __init__(self, store: Store, vault: Vault, *, clock: Callable[[], float], new_id: Callable[[], str]) -> None:
        self._store = store
        self._vault = vault
        self._clock = clock
        self._new_id = new_id

    async def create(self, by: Principal, *, name: str, registry: str, username: str, password: str) -> Credential:
        """A new registry credential of the caller's project."""
        admit(by, Action.CREDENTIAL_CREATE)
        check_secret_name(name)
        check_login(registry, username)
        check_secret_value(password, "/password")
        now, new_id = self._clock(), self._new_id()

        def add(tx: Connection) -> Credential:
            if rows.find_credential(tx, name, project=by.project) is not None:
                raise Conflict(f"there is a registry credential named {name!r} already")
            if rows.count(tx, Credential, project=by.project) >= CREDENTIALS_MAX:
                raise Conflict(f"a project has at most {CREDENTIALS_MAX} registry credentials")
            credential = Credential(
                id=new_id,
                number=installation.next_number(tx, "credential"),
                project=by.project,
                name=name,
                registry=registry,
                username=username,
                sealed=self._vault.seal("credential", new_id, password),
                created_at=now,
                updated_at=now,
            )
            rows.add(tx, credential)
            self._audit(tx, by, Action.CREDENTIAL_CREATE, None, credential)
            return credential

        return await self._store.write(add)

    async def get(self, by: Principal, reference: str) -> Credential:
        """The registry credential of that id, number or name, without its password."""
        admit(by, Action.CREDENTIAL_READ)
        return await self._store.read(lambda tx: _found(tx, reference, by))

    async def page(self, by: Principal, *, after: int, limit: int) -> tuple[tuple[Credential, ...], int | None]:
        """Registry credentials with numbers above `after`, and the number to go on after, if there are more."""
        admit(by, Action.CREDENTIAL_LIST)
        found = await self._store.read(
            lambda tx: rows.credentials_page(tx, project=by.project, after=after, limit=limit + 1)
        )
        return found[:limit], found[limit - 1].number if len(found) > limit else None

    async def update(
        self,
        by: Principal,
        reference: str,
        *,
        name: str | None = None,
        registry: str | None = None,
        username: str | None = None,
        password: str | None = None,
    ) -> Credential:
        """Another name, registry, user name or password; `None` leaves it. One that endpoints refer to keeps its name.
        A password stays with the registry that it was given for: another registry needs a password too.
        """
        admit(by, Action.CREDENTIAL_UPDATE)
        if name is not None:
            check_secret_name(name)
        if password is not None:
            check_secret_value(password, "/password")
        now = self._clock()

        def save(tx: Connection) -> Credential:
            before = _found(tx, reference, by)
            changed = replace(
                before,
                name=name or before.name,
                registry=registry or before.registry,
                username=username or before.username,
                updated_at=now,
            )
            if changed.name != before.name:
                _check_unused(tx, before)
                if rows.find_credential(tx, changed.name, project=by.project) is not None:
                    raise Conflict(f"there is a registry credential named {changed.name!r} already")
            check_login(changed.registry, changed.username)
            if password is not None:
                changed = replace(changed, sealed=self._vault.seal("credential", before.id, password))
            elif changed.registry != before.registry:
                raise Conflict("another registry needs its password: the one that is stored is not sent elsewhere")
            rows.save(tx, changed)
            self._audit(tx, by, Action.CREDENTIAL_UPDATE, before, changed)
            return changed

        return await self._store.write(save)

    async def delete(self, by: Principal, reference: str) -> None:
        """Forget it, unless an endpoint refers to it."""
        admit(by, Action.CREDENTIAL_DELETE)

        def remove(tx: Connection) -> None:
            credential = _found(tx, reference, by)
            _check_unused(tx, credential)
            rows.remove(tx, credential)
            self._audit(tx, by, Action.CREDENTIAL_DELETE, credential, None)

        await self._store.write(remove)

    def _audit(
        self, tx: Connection, by: Principal, action: Action, before: Credential | None, after: Credential | None
    ) -> None:
        credential = after or before
        assert credential is not None
        audit_rows.add(
            tx,
            audit.draft(
                by,
                action,
                at=self._clock(),
                target=credential.id,
                name=credential.name,
                before=None if before is None else audit.credential_facts(before),
                after=None if after is None else audit.credential_facts(after),
            ),
        )


def _check_unused(tx: Connection, credential: Credential) -> None:
    name = credential.name
    users = rows.users(tx, lambda s: name in s.credentials, project=credential.project, mentioning=name)
    if users:
        shown = ", ".join(users[:10])
        raise Conflict(f"the registry credential {name!r} is used by {shown}; change them first")


def _found(tx: Connection, reference: str, by: Principal) -> Credential:
    credential = rows.find_credential(tx, reference, project=by.project)
    if credential is None:
        raise NotFound(f"no registry credential {reference[:64]!r}; `stoker credentials ls` lists those there are")
    return credential
