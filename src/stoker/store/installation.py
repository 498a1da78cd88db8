"""What there is once per installation: counters, projects, and the term of the control that writes."""

from __future__ import annotations

from sqlalchemy import Connection, bindparam, insert, select, update

from stoker.domain.endpoint import FIRST_PROJECT
from stoker.store.tables import counters, projects

DEFAULT_PROJECT = FIRST_PROJECT
# The same everywhere, as its number and its name.
DEFAULT_PROJECT_ID = "00000000-0000-7000-8000-000000000001"

# Made once: putting a statement together takes longer than running it.
_LAST = select(counters.c.value).where(counters.c.kind == bindparam("kind"))
_COUNT = update(counters).where(counters.c.kind == bindparam("the_kind"))


def next_number(tx: Connection, kind: str, count: int = 1) -> int:
    """The first of `count` fresh numbers for objects of `kind`, from 1 up; a number is never given out twice."""
    last = tx.execute(_LAST, {"kind": kind}).scalar_one_or_none()
    if last is None:
        tx.execute(insert(counters).values(kind=kind, value=count))
        return 1
    tx.execute(_COUNT, {"the_kind": kind, "value": last + count})
    return int(last) + 1


def next_term(tx: Connection) -> int:
    """The term of a control that starts now: higher than that of every one before it."""
    return next_number(tx, "term")


def add_default_project(tx: Connection, *, now: float) -> None:
    """Project 1, `default`, unless it is there."""
    if tx.execute(select(projects.c.id).where(projects.c.id == DEFAULT_PROJECT)).first() is None:
        tx.execute(insert(projects).values(id=DEFAULT_PROJECT, uuid=DEFAULT_PROJECT_ID, name="default", created_at=now))


def peek_number(tx: Connection, kind: str) -> int:
    """The number that `next_number` would give out."""
    last = tx.execute(_LAST, {"kind": kind}).scalar_one_or_none()
    return int(last or 0) + 1
