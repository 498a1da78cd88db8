"""Volumes: rows and queries."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, Row, delete, func, insert, select, update

from stoker.domain.endpoint import ProjectId
from stoker.domain.volumes import Volume, VolumeState
from stoker.store.tables import volumes


def _volume(row: Row[Any]) -> Volume:
    return Volume(
        id=row.id,
        number=row.number,
        project=row.project,
        name=row.name,
        size_gib=row.size_gib,
        provider=row.provider,
        region=row.region,
        state=VolumeState(row.state),
        created_at=row.created_at,
    )


def add(tx: Connection, volume: Volume) -> None:
    """Insert it. The caller has made sure that the name is free."""
    tx.execute(
        insert(volumes).values(
            id=volume.id,
            number=volume.number,
            project=volume.project,
            name=volume.name,
            size_gib=volume.size_gib,
            provider=volume.provider,
            region=volume.region,
            state=volume.state.value,
            created_at=volume.created_at,
        )
    )


def save(tx: Connection, volume: Volume) -> None:
    """Write what may change of it."""
    values = {"size_gib": volume.size_gib, "state": volume.state.value}
    tx.execute(update(volumes).where(volumes.c.id == volume.id).values(**values))


def remove(tx: Connection, volume: Volume) -> None:
    """Forget it."""
    tx.execute(delete(volumes).where(volumes.c.id == volume.id))


def find(tx: Connection, reference: str, *, project: ProjectId) -> Volume | None:
    """The project's volume with that id, number or name."""
    query = select(volumes).where(volumes.c.project == project)
    if reference.isascii() and reference.isdigit() and len(reference) <= 18:
        row = tx.execute(query.where(volumes.c.number == int(reference))).first()
    else:
        row = tx.execute(query.where((volumes.c.id == reference) | (volumes.c.name == reference))).first()
    return None if row is None else _volume(row)


def named(tx: Connection, name: str, *, project: ProjectId) -> Volume | None:
    """The project's volume of exactly that name."""
    row = tx.execute(select(volumes).where(volumes.c.project == project, volumes.c.name == name)).first()
    return None if row is None else _volume(row)


def page(tx: Connection, *, project: ProjectId, after: int, limit: int) -> tuple[Volume, ...]:
    """Up to `limit` volumes of the project with numbers above `after`, by number."""
    query = select(volumes).where(volumes.c.project == project, volumes.c.number > after)
    return tuple(_volume(row) for row in tx.execute(query.order_by(volumes.c.number).limit(limit)))


def count(tx: Connection, *, project: ProjectId) -> int:
    """How many the project has."""
    return int(tx.execute(select(func.count()).select_from(volumes).where(volumes.c.project == project)).scalar_one())


def everything(tx: Connection) -> tuple[Volume, ...]:
    """All volumes of all projects."""
    return tuple(_volume(row) for row in tx.execute(select(volumes).order_by(volumes.c.number)))
