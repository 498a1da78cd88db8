"""Secrets and registry credentials: rows and queries, and what is common to all that is encrypted."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from typing import Any

from sqlalchemy import Connection, Row, Table, delete, func, insert, select, update

from stoker.domain.access import Sealed
from stoker.domain.endpoint import EndpointSpec, ProjectId
from stoker.domain.secrets import Credential, Secret
from stoker.store import endpoints as endpoint_rows
from stoker.store.tables import credentials, endpoints, keys, secrets, task_keys

# Where something encrypted is stored, and what its place is called when it is encrypted.
SEALED: tuple[tuple[str, Table], ...] = (
    ("secret", secrets),
    ("credential", credentials),
    ("key", keys),
    ("webhook", task_keys),
)


def place_of(kind: str, id: str) -> str:
    """The place that something encrypted belongs to, and can be opened at."""
    return f"{kind}/{id}"


def _sealed(row: Row[Any]) -> Sealed:
    return Sealed(text=row.sealed, by=row.sealed_by)


def _secret(row: Row[Any]) -> Secret:
    return Secret(
        id=row.id,
        number=row.number,
        project=row.project,
        name=row.name,
        description=row.description,
        sealed=_sealed(row),
        created_at=row.created_at,
        updated_at=row.updated_at,
    )


def _credential(row: Row[Any]) -> Credential:
    return Credential(
        id=row.id,
        number=row.number,
        project=row.project,
        name=row.name,
        registry=row.registry,
        username=row.username,
        sealed=_sealed(row),
        created_at=row.created_at,
        updated_at=row.updated_at,
    )


def _values(thing: Secret | Credential) -> dict[str, Any]:
    more: dict[str, Any] = (
        {"description": thing.description}
        if isinstance(thing, Secret)
        else {"registry": thing.registry, "username": thing.username}
    )
    return {
        **more,
        "name": thing.name,
        "sealed": thing.sealed.text,
        "sealed_by": thing.sealed.by,
        "updated_at": thing.updated_at,
    }


def _table(thing: Secret | Credential) -> Table:
    return secrets if isinstance(thing, Secret) else credentials


def add(tx: Connection, thing: Secret | Credential) -> None:
    """Insert it. The caller has made sure that the name is free."""
    tx.execute(
        insert(_table(thing)).values(
            id=thing.id,
            number=thing.number,
            project=thing.project,
            created_at=thing.created_at,
            **_values(thing),
        )
    )


def save(tx: Connection, thing: Secret | Credential) -> None:
    """Write everything that may change."""
    table = _table(thing)
    tx.execute(update(table).where(table.c.id == thing.id).values(**_values(thing)))


def remove(tx: Connection, thing: Secret | Credential) -> None:
    """Forget it."""
    table = _table(thing)
    tx.execute(delete(table).where(table.c.id == thing.id))


def find_secret(tx: Connection, reference: str, *, project: ProjectId) -> Secret | None:
    """The project's secret with that id, number or name."""
    row = _find(tx, secrets, reference, project)
    return None if row is None else _secret(row)


def find_credential(tx: Connection, reference: str, *, project: ProjectId) -> Credential | None:
    """The project's registry credential with that id, number or name."""
    row = _find(tx, credentials, reference, project)
    return None if row is None else _credential(row)


def _find(tx: Connection, table: Table, reference: str, project: ProjectId) -> Row[Any] | None:
    of_project = select(table).where(table.c.project == project)
    if reference.isascii() and reference.isdigit() and len(reference) <= 18:
        return tx.execute(of_project.where(table.c.number == int(reference))).first()
    return tx.execute(of_project.where((table.c.id == reference) | (table.c.name == reference))).first()


def secrets_page(tx: Connection, *, project: ProjectId, after: int, limit: int) -> tuple[Secret, ...]:
    """Up to `limit` secrets of the project with numbers above `after`, by number."""
    return tuple(_secret(row) for row in _page(tx, secrets, project, after, limit))


def credentials_page(tx: Connection, *, project: ProjectId, after: int, limit: int) -> tuple[Credential, ...]:
    """Up to `limit` registry credentials of the project with numbers above `after`, by number."""
    return tuple(_credential(row) for row in _page(tx, credentials, project, after, limit))


def _page(tx: Connection, table: Table, project: ProjectId, after: int, limit: int) -> Iterable[Row[Any]]:
    query = select(table).where(table.c.project == project, table.c.number > after)
    return tx.execute(query.order_by(table.c.number).limit(limit))


def count(tx: Connection, thing: type[Secret] | type[Credential], *, project: ProjectId) -> int:
    """How many the project has."""
    table = secrets if thing is Secret else credentials
    return int(tx.execute(select(func.count()).select_from(table).where(table.c.project == project)).scalar_one())


def users(
    tx: Connection, uses: Callable[[EndpointSpec], bool], *, project: ProjectId, mentioning: str
) -> tuple[str, ...]:
    """Slugs of the project's endpoints whose spec `uses` something; `mentioning` is a name that all of them have."""
    query = select(endpoints.c.id).where(
        endpoints.c.project == project, endpoints.c.spec.contains(f'"{mentioning}"', autoescape=True)
    )
    found = [endpoint_rows.get(tx, row.id) for row in tx.execute(query).all()]
    return tuple(endpoint.slug for endpoint in found if endpoint is not None and uses(endpoint.spec))


# Rotation of the master key


def sealed_after(
    tx: Connection, kind: str, *, by: Collection[str], after: str, limit: int
) -> tuple[tuple[str, Sealed], ...]:
    """Id and content of up to `limit` things of that kind with ids above `after` that these master keys encrypt."""
    table = dict(SEALED)[kind]
    query = select(table.c.id, table.c.sealed, table.c.sealed_by).where(
        table.c.sealed_by.in_(list(by)), table.c.id > after
    )
    found = tx.execute(query.order_by(table.c.id).limit(limit))
    return tuple((row.id, Sealed(text=row.sealed, by=row.sealed_by)) for row in found)


def reseal(tx: Connection, kind: str, id: str, sealed: Sealed) -> None:
    """Replace what is encrypted."""
    table = dict(SEALED)[kind]
    tx.execute(update(table).where(table.c.id == id).values(sealed=sealed.text, sealed_by=sealed.by))


def sealed_by(tx: Connection) -> dict[str, int]:
    """How much is encrypted, by the id of its master key."""
    counts: dict[str, int] = {}
    for _, table in SEALED:
        query = (
            select(table.c.sealed_by, func.count()).where(table.c.sealed_by.is_not(None)).group_by(table.c.sealed_by)
        )
        for by, number in tx.execute(query):
            counts[by] = counts.get(by, 0) + int(number)
    return counts
