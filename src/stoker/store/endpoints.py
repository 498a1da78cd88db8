"""Endpoints: rows and queries."""

from __future__ import annotations

from typing import Any

import msgspec
from sqlalchemy import Connection, Row, bindparam, delete, insert, or_, select, update

from stoker.domain.endpoint import Endpoint, EndpointId, EndpointSpec, Failures, Override, Phase, ProjectId, slug_of
from stoker.domain.launch import Launch
from stoker.store.tables import endpoints

_specs = msgspec.json.Decoder(EndpointSpec)
_launches = msgspec.json.Decoder(dict[str, Launch])
_alike = msgspec.json.Decoder(dict[str, tuple[int, ...]])
_overrides = msgspec.json.Decoder(Override)
_failures = msgspec.json.Decoder(dict[str, Failures])


# Made once: putting a statement together takes longer than running it.
_INSERT = insert(endpoints)
_UPDATE = update(endpoints).where(endpoints.c.id == bindparam("the_id"))
_NAMED = select(endpoints.c.id).where(
    endpoints.c.project == bindparam("project"), endpoints.c.name == bindparam("name")
)
_SLUG = select(endpoints.c.id).where(or_(endpoints.c.slug == bindparam("slug"), endpoints.c.id == bindparam("slug")))


def _text(value: object) -> str:
    return msgspec.json.encode(value).decode()


def _endpoint(row: Row[Any]) -> Endpoint:
    return Endpoint(
        id=row.id,
        number=row.number,
        project=row.project,
        slug=row.slug,
        spec=_specs.decode(row.spec),
        launches=_launches.decode(row.launches),
        revision=row.revision,
        launched=row.launched,
        alike=_alike.decode(row.alike),
        phase=Phase(row.phase),
        desired=row.desired,
        override=None if row.override is None else _overrides.decode(row.override),
        failures=_failures.decode(row.failures),
        created_at=row.created_at,
        updated_at=row.updated_at,
    )


def _values(endpoint: Endpoint) -> dict[str, Any]:
    return {
        "name": endpoint.spec.name,
        "spec": _text(endpoint.spec),
        "launches": _text(endpoint.launches),
        "revision": endpoint.revision,
        "launched": endpoint.launched,
        "alike": _text(endpoint.alike),
        "phase": endpoint.phase.value,
        "desired": endpoint.desired,
        "override": None if endpoint.override is None else _text(endpoint.override),
        "failures": _text(endpoint.failures),
        "updated_at": endpoint.updated_at,
    }


def add(tx: Connection, endpoint: Endpoint) -> None:
    """Insert it. The caller has made sure that name and slug are free."""
    tx.execute(
        _INSERT,
        {
            "id": endpoint.id,
            "number": endpoint.number,
            "project": endpoint.project,
            "slug": endpoint.slug,
            "created_at": endpoint.created_at,
            **_values(endpoint),
        },
    )


def save(tx: Connection, endpoint: Endpoint) -> None:
    """Write everything that may change: not its ids, slug, project and age."""
    tx.execute(_UPDATE, {"the_id": endpoint.id, **_values(endpoint)})


def remove(tx: Connection, endpoint: EndpointId) -> None:
    """Forget it; unknown ids are none the worse."""
    tx.execute(delete(endpoints).where(endpoints.c.id == endpoint))


def get(tx: Connection, endpoint: EndpointId) -> Endpoint | None:
    """The endpoint of that id."""
    row = tx.execute(select(endpoints).where(endpoints.c.id == endpoint)).first()
    return None if row is None else _endpoint(row)


def find(tx: Connection, reference: str, *, project: ProjectId) -> Endpoint | None:
    """The project's endpoint with that id, slug, number or exact name; the first kind that matches wins."""
    of_project = select(endpoints).where(endpoints.c.project == project)
    row = tx.execute(of_project.where(or_(endpoints.c.id == reference, endpoints.c.slug == reference))).first()
    if row is None and reference.isascii() and reference.isdigit() and len(reference) <= 18:
        row = tx.execute(of_project.where(endpoints.c.number == int(reference))).first()
    if row is None:
        row = tx.execute(of_project.where(endpoints.c.name == reference)).first()
    return None if row is None else _endpoint(row)


def page(tx: Connection, *, project: ProjectId, after: int, limit: int) -> tuple[Endpoint, ...]:
    """Up to `limit` endpoints of the project whose number is above `after`, by number."""
    rows = tx.execute(
        select(endpoints)
        .where(endpoints.c.project == project, endpoints.c.number > after)
        .order_by(endpoints.c.number)
        .limit(limit)
    )
    return tuple(_endpoint(row) for row in rows)


def everything(tx: Connection) -> tuple[Endpoint, ...]:
    """All endpoints of the installation, by number."""
    return tuple(_endpoint(row) for row in tx.execute(select(endpoints).order_by(endpoints.c.number)))


def named(tx: Connection, name: str, *, project: ProjectId) -> EndpointId | None:
    """The project's endpoint of exactly that name."""
    found: EndpointId | None = tx.execute(_NAMED, {"project": project, "name": name}).scalar_one_or_none()
    return found


def free_slug(tx: Connection, name: str, number: int) -> str:
    """A DNS label for a new endpoint: of its name when that is free, else the name and its number. Never digits alone,
    which would be taken for another endpoint's number, nor another endpoint's id.
    """
    suggested = slug_of(name)
    if suggested is not None and not suggested.isdigit() and not _slug_taken(tx, suggested):
        return suggested
    suffix = f"-{number}"
    slug = (suggested or "endpoint")[: 63 - len(suffix)].rstrip("-") + suffix
    # Somebody may have called theirs so; the number alone is unique, and a prefix settles it.
    return slug if not _slug_taken(tx, slug) else f"endpoint-{number}-{number}"


def _slug_taken(tx: Connection, slug: str) -> bool:
    return tx.execute(_SLUG, {"slug": slug}).first() is not None
