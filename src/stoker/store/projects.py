"""Projects: rows and queries."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, Row, delete, func, insert, select, update

from stoker.domain.endpoint import ProjectId
from stoker.domain.project import Project
from stoker.store.tables import (
    attempts,
    credentials,
    deliveries,
    endpoints,
    idempotency,
    keys,
    models,
    projects,
    secrets,
    task_keys,
    tasks,
    templates,
    volumes,
)


def _project(row: Row[Any]) -> Project:
    return Project(id=row.uuid, number=row.id, name=row.name, created_at=row.created_at)


def add(tx: Connection, project: Project) -> None:
    """Insert it."""
    tx.execute(
        insert(projects).values(id=project.number, uuid=project.id, name=project.name, created_at=project.created_at)
    )


def rename(tx: Connection, project: ProjectId, name: str) -> None:
    """Give it another name."""
    tx.execute(update(projects).where(projects.c.id == project).values(name=name))


def everything(tx: Connection) -> tuple[Project, ...]:
    """All projects, by number."""
    return tuple(_project(row) for row in tx.execute(select(projects).order_by(projects.c.id)))


def name_taken(tx: Connection, name: str) -> bool:
    """Is there a project of that name?"""
    return tx.execute(select(projects.c.id).where(projects.c.name == name)).first() is not None


def contents(tx: Connection, project: ProjectId) -> dict[str, int]:
    """How many objects of each kind the project has, of which there are any. A revoked key is none."""
    held = {
        "endpoints": select(func.count()).select_from(endpoints).where(endpoints.c.project == project),
        "keys": select(func.count()).select_from(keys).where(keys.c.project == project, keys.c.revoked_at.is_(None)),
        "secrets": select(func.count()).select_from(secrets).where(secrets.c.project == project),
        "volumes": select(func.count()).select_from(volumes).where(volumes.c.project == project),
        "templates": select(func.count()).select_from(templates).where(templates.c.project == project),
        "tasks": select(func.count())
        .select_from(tasks)
        .where(tasks.c.project == project, tasks.c.state.in_(["queued", "running"])),
        "models": select(func.count()).select_from(models).where(models.c.project == project),
        "registry credentials": select(func.count()).select_from(credentials).where(credentials.c.project == project),
    }
    counts = {kind: int(tx.execute(query).scalar_one()) for kind, query in held.items()}
    return {kind: count for kind, count in counts.items() if count}


def remove(tx: Connection, project: ProjectId) -> None:
    """Forget an empty project with its revoked keys and ended tasks. Its audit events stay."""
    tx.execute(delete(keys).where(keys.c.project == project))
    tx.execute(delete(idempotency).where(idempotency.c.project == project))
    of_project = select(tasks.c.number).where(tasks.c.project == project)
    tx.execute(delete(attempts).where(attempts.c.task.in_(of_project)))
    tx.execute(delete(task_keys).where(task_keys.c.task.in_(of_project)))
    tx.execute(delete(deliveries).where(deliveries.c.project == project))
    tx.execute(delete(tasks).where(tasks.c.project == project))
    tx.execute(delete(projects).where(projects.c.id == project))
