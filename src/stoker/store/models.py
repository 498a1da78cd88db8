"""Models and weights: rows and queries."""

from __future__ import annotations

from typing import Any

import msgspec
from sqlalchemy import Connection, Row, delete, func, insert, select, update

from stoker.domain.endpoint import ProjectId
from stoker.domain.models import Model, ModelSource, Weights, WeightsKey, WeightsState
from stoker.store.tables import models, weights

_aliases = msgspec.json.Decoder(tuple[str, ...])
_sources = msgspec.json.Decoder(ModelSource)


def _text(value: object) -> str:
    return msgspec.json.encode(value).decode()


def _model(row: Row[Any]) -> Model:
    return Model(
        id=row.id,
        number=row.number,
        project=row.project,
        name=row.name,
        aliases=_aliases.decode(row.aliases),
        source=_sources.decode(row.source),
        sha256=row.sha256,
        token_secret=row.token_secret,
        pinned=row.pinned,
        key=row.weights,
        created_at=row.created_at,
        updated_at=row.updated_at,
    )


def _weights(row: Row[Any]) -> Weights:
    return Weights(
        key=row.key,
        source=_sources.decode(row.source),
        sha256=row.sha256,
        project=row.project,
        token_secret=row.token_secret,
        state=WeightsState(row.state),
        asked=row.asked,
        used_at=row.used_at,
        path=row.path,
        done_bytes=row.done_bytes,
        total_bytes=row.total_bytes,
        error=row.error,
        failures=row.failures,
        retry_at=row.retry_at,
    )


def add(tx: Connection, model: Model) -> None:
    """Insert it. The caller has made sure that its names are free."""
    tx.execute(
        insert(models).values(
            id=model.id,
            number=model.number,
            project=model.project,
            name=model.name,
            aliases=_text(model.aliases),
            source=_text(model.source),
            sha256=model.sha256,
            token_secret=model.token_secret,
            pinned=model.pinned,
            weights=model.key,
            created_at=model.created_at,
            updated_at=model.updated_at,
        )
    )


def save(tx: Connection, model: Model) -> None:
    """Write what may change of it."""
    values = {"aliases": _text(model.aliases), "pinned": model.pinned, "updated_at": model.updated_at}
    tx.execute(update(models).where(models.c.id == model.id).values(**values))


def remove(tx: Connection, model: Model) -> None:
    """Forget it."""
    tx.execute(delete(models).where(models.c.id == model.id))


def find(tx: Connection, reference: str, *, project: ProjectId) -> Model | None:
    """The project's model with that id, number, name or alias."""
    of_project = select(models).where(models.c.project == project)
    if reference.isascii() and reference.isdigit() and len(reference) <= 18:
        row = tx.execute(of_project.where(models.c.number == int(reference))).first()
        return None if row is None else _model(row)
    exact = of_project.where((models.c.id == reference) | (models.c.name == reference))
    row = tx.execute(exact).first()
    return named(tx, reference, project=project) if row is None else _model(row)


def named(tx: Connection, name: str, *, project: ProjectId) -> Model | None:
    """The project's model of that name, or that alias."""
    of_project = select(models).where(models.c.project == project)
    row = tx.execute(of_project.where(models.c.name == name)).first()
    if row is not None:
        return _model(row)
    mentioned = of_project.where(models.c.aliases.contains(_text(name), autoescape=True))
    found = (_model(row) for row in tx.execute(mentioned))
    return next((model for model in found if name in model.aliases), None)


def page(tx: Connection, *, project: ProjectId, after: int, limit: int) -> tuple[Model, ...]:
    """Up to `limit` models of the project with numbers above `after`, by number."""
    query = select(models).where(models.c.project == project, models.c.number > after)
    return tuple(_model(row) for row in tx.execute(query.order_by(models.c.number).limit(limit)))


def count(tx: Connection, *, project: ProjectId) -> int:
    """How many the project has."""
    query = select(func.count()).select_from(models).where(models.c.project == project)
    return int(tx.execute(query).scalar_one())


def everything(tx: Connection) -> tuple[Model, ...]:
    """All models of all projects."""
    return tuple(_model(row) for row in tx.execute(select(models).order_by(models.c.number)))


def sharing(tx: Connection, key: WeightsKey) -> tuple[Model, ...]:
    """The models of all projects that these weights are of."""
    return tuple(_model(row) for row in tx.execute(select(models).where(models.c.weights == key)))


def all_weights(tx: Connection) -> tuple[Weights, ...]:
    """All weights that some model has."""
    return tuple(_weights(row) for row in tx.execute(select(weights)))


def find_weights(tx: Connection, key: WeightsKey) -> Weights | None:
    """The weights of that key."""
    row = tx.execute(select(weights).where(weights.c.key == key)).first()
    return None if row is None else _weights(row)


def put_weights(tx: Connection, value: Weights) -> None:
    """Write them, new or known."""
    values = {
        "source": _text(value.source),
        "sha256": value.sha256,
        "project": value.project,
        "token_secret": value.token_secret,
        "state": value.state.value,
        "asked": value.asked,
        "used_at": value.used_at,
        "path": value.path,
        "done_bytes": value.done_bytes,
        "total_bytes": value.total_bytes,
        "error": value.error,
        "failures": value.failures,
        "retry_at": value.retry_at,
    }
    if tx.execute(update(weights).where(weights.c.key == value.key).values(**values)).rowcount == 0:
        tx.execute(insert(weights).values(key=value.key, **values))


def remove_weights(tx: Connection, key: WeightsKey) -> None:
    """Forget them."""
    tx.execute(delete(weights).where(weights.c.key == key))
