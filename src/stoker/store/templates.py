"""Templates: rows and queries. Rows are never changed, only added and removed."""

from __future__ import annotations

from typing import Any

import msgspec
from sqlalchemy import Connection, Row, delete, func, insert, select

from stoker.domain.endpoint import ProjectId
from stoker.domain.templates import Template
from stoker.store.tables import templates


def _template(row: Row[Any]) -> Template:
    return Template(
        id=row.id,
        number=row.number,
        project=row.project,
        name=row.name,
        version=row.version,
        spec=msgspec.json.decode(row.spec),
        digest=row.digest,
        created_at=row.created_at,
    )


def add(tx: Connection, template: Template) -> None:
    """Insert a version."""
    tx.execute(
        insert(templates).values(
            id=template.id,
            number=template.number,
            project=template.project,
            name=template.name,
            version=template.version,
            spec=msgspec.json.encode(template.spec).decode(),
            digest=template.digest,
            created_at=template.created_at,
        )
    )


def find(tx: Connection, name: str, version: int | None, *, project: ProjectId) -> Template | None:
    """That version of the project's template (`None`: the newest)."""
    query = select(templates).where(templates.c.project == project, templates.c.name == name)
    if version is not None:
        query = query.where(templates.c.version == version)
    row = tx.execute(query.order_by(templates.c.version.desc()).limit(1)).first()
    return None if row is None else _template(row)


def get(tx: Connection, reference: str, *, project: ProjectId) -> Template | None:
    """The version with that id or number."""
    query = select(templates).where(templates.c.project == project)
    if reference.isascii() and reference.isdigit() and len(reference) <= 18:
        row = tx.execute(query.where(templates.c.number == int(reference))).first()
    else:
        row = tx.execute(query.where(templates.c.id == reference)).first()
    return None if row is None else _template(row)


def versions(tx: Connection, name: str, *, project: ProjectId) -> tuple[Template, ...]:
    """All versions of a template, newest first."""
    query = select(templates).where(templates.c.project == project, templates.c.name == name)
    return tuple(_template(row) for row in tx.execute(query.order_by(templates.c.version.desc())))


def page(tx: Connection, *, project: ProjectId, after: int, limit: int) -> tuple[Template, ...]:
    """Up to `limit` versions of the project's templates with numbers above `after`, by number."""
    query = select(templates).where(templates.c.project == project, templates.c.number > after)
    return tuple(_template(row) for row in tx.execute(query.order_by(templates.c.number).limit(limit)))


def count(tx: Connection, *, project: ProjectId) -> int:
    """How many versions of templates the project has."""
    query = select(func.count()).select_from(templates).where(templates.c.project == project)
    return int(tx.execute(query).scalar_one())


def remove(tx: Connection, name: str, *, project: ProjectId) -> None:
    """Forget all versions of a template."""
    tx.execute(delete(templates).where(templates.c.project == project, templates.c.name == name))
