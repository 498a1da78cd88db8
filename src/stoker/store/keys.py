"""API keys and idempotency records: rows and queries."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec
from sqlalchemy import Connection, Row, delete, func, insert, select, update

from stoker.domain.access import ApiKey, KeyId, KeyLimits, Scope, Sealed
from stoker.domain.endpoint import EndpointId, ProjectId
from stoker.store.tables import idempotency, keys

_scopes = msgspec.json.Decoder(frozenset[Scope])
_endpoints = msgspec.json.Decoder(frozenset[EndpointId])


def _key(row: Row[Any]) -> ApiKey:
    return ApiKey(
        id=row.id,
        number=row.number,
        project=row.project,
        name=row.name,
        digest=row.digest,
        hint=row.hint,
        scopes=_scopes.decode(row.scopes),
        endpoints=None if row.endpoints is None else _endpoints.decode(row.endpoints),
        created_at=row.created_at,
        expires_at=row.expires_at,
        revoked_at=row.revoked_at,
        access_id=row.access_id,
        sealed=None if row.sealed is None else Sealed(text=row.sealed, by=row.sealed_by),
        installation=row.installation,
        limits=KeyLimits(rate_per_s=row.rate_per_s, burst=row.burst, concurrency=row.concurrency),
        last_used_at=row.last_used_at,
        description=row.description or "",
    )


def _values(key: ApiKey) -> dict[str, Any]:
    return {
        "name": key.name,
        "description": key.description,
        "endpoints": None if key.endpoints is None else msgspec.json.encode(sorted(key.endpoints)).decode(),
        "expires_at": key.expires_at,
        "rate_per_s": key.limits.rate_per_s,
        "burst": key.limits.burst,
        "concurrency": key.limits.concurrency,
    }


def add(tx: Connection, key: ApiKey) -> None:
    """Insert it."""
    tx.execute(
        insert(keys).values(
            id=key.id,
            number=key.number,
            project=key.project,
            digest=key.digest,
            access_id=key.access_id,
            hint=key.hint,
            scopes=msgspec.json.encode(sorted(key.scopes)).decode(),
            created_at=key.created_at,
            revoked_at=key.revoked_at,
            sealed=None if key.sealed is None else key.sealed.text,
            sealed_by=None if key.sealed is None else key.sealed.by,
            installation=key.installation,
            last_used_at=key.last_used_at,
            **_values(key),
        )
    )


def save(tx: Connection, key: ApiKey) -> None:
    """Write what may be changed of it: name, description, endpoints, expiry and limits."""
    tx.execute(update(keys).where(keys.c.id == key.id).values(**_values(key)))


def used(tx: Connection, at: Mapping[KeyId, float]) -> None:
    """Write when these keys were last used."""
    for key, last in at.items():
        tx.execute(update(keys).where(keys.c.id == key).values(last_used_at=last))


def revoke(tx: Connection, key: KeyId, *, now: float) -> None:
    """Make it useless from now on, its secret included; a key revoked before keeps its time."""
    values = {"revoked_at": now, "sealed": None, "sealed_by": None}
    tx.execute(update(keys).where(keys.c.id == key, keys.c.revoked_at.is_(None)).values(values))


def find(tx: Connection, reference: str, *, project: ProjectId) -> ApiKey | None:
    """The project's key with that id or number."""
    query = select(keys).where(keys.c.project == project)
    if reference.isascii() and reference.isdigit() and len(reference) <= 18:
        row = tx.execute(query.where(keys.c.number == int(reference))).first()
    else:
        row = tx.execute(query.where(keys.c.id == reference)).first()
    return None if row is None else _key(row)


def page(tx: Connection, *, project: ProjectId, after: int, limit: int) -> tuple[ApiKey, ...]:
    """Up to `limit` keys of the project that are not revoked, numbers above `after`, by number."""
    query = select(keys).where(keys.c.project == project, keys.c.number > after, keys.c.revoked_at.is_(None))
    return tuple(_key(row) for row in tx.execute(query.order_by(keys.c.number).limit(limit)))


def count(tx: Connection, *, project: ProjectId) -> int:
    """How many keys of the project are not revoked."""
    query = select(func.count()).select_from(keys).where(keys.c.project == project, keys.c.revoked_at.is_(None))
    return int(tx.execute(query).scalar_one())


def usable(tx: Connection, *, now: float) -> tuple[ApiKey, ...]:
    """All keys of the installation that are neither revoked nor expired."""
    rows = tx.execute(select(keys).where(keys.c.revoked_at.is_(None)))
    return tuple(key for key in map(_key, rows) if key.usable(now))


@dataclass(frozen=True, slots=True)
class Remembered:
    """The answer to an earlier POST with the same Idempotency-Key. `status` and `body` are `None` while it runs."""

    digest: str
    status: int | None
    body: str | None


def begin_once(
    tx: Connection, *, project: ProjectId, route: str, key: str, digest: str, now: float, forget_before: float
) -> Remembered | None:
    """Reserve an Idempotency-Key for the request with that digest: `None` when it is the first, else what is known."""
    where = (idempotency.c.project == project, idempotency.c.route == route, idempotency.c.key == key)
    tx.execute(delete(idempotency).where(*where, idempotency.c.created_at < forget_before))
    row = tx.execute(select(idempotency).where(*where)).first()
    if row is not None:
        return Remembered(row.digest, row.status, row.body)
    tx.execute(insert(idempotency).values(project=project, route=route, key=key, digest=digest, created_at=now))
    return None


def answered(tx: Connection, *, project: ProjectId, route: str, key: str, forget_before: float) -> Remembered | None:
    """What is kept under that key since then; `None` when nothing is."""
    where = (idempotency.c.project == project, idempotency.c.route == route, idempotency.c.key == key)
    row = tx.execute(select(idempotency).where(*where, idempotency.c.created_at >= forget_before)).first()
    return None if row is None else Remembered(row.digest, row.status, row.body)


def finish_once(
    tx: Connection, *, project: ProjectId, route: str, key: str, status: int | None, body: str | None
) -> None:
    """Keep the answer for repetitions; with `status` `None` forget the key, so that the request may be repeated."""
    where = (idempotency.c.project == project, idempotency.c.route == route, idempotency.c.key == key)
    if status is None:
        tx.execute(delete(idempotency).where(*where))
    else:
        tx.execute(update(idempotency).where(*where).values(status=status, body=body))


def forget_running(tx: Connection) -> None:
    """Release the keys of requests that a control which is gone was still running."""
    tx.execute(delete(idempotency).where(idempotency.c.status.is_(None)))
