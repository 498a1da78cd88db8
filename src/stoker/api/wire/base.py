"""What all wire types share: strict requests, pages of a list, times. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any, Generic, TypeVar

from pydantic import BaseModel, ConfigDict, Strict

from stoker.domain import times
from stoker.domain.errors import Invalid, Problem

T = TypeVar("T")


def iso(at: float | None) -> str | None:
    """A time in seconds since the epoch as ISO 8601 in UTC, to the millisecond."""
    return None if at is None else times.iso(at)


@contextmanager
def below(pointer: str) -> Iterator[None]:
    """Problems found inside are at places below `pointer`."""
    try:
        yield
    except Invalid as exc:
        problems = tuple(Problem(pointer + problem.pointer, problem.detail) for problem in exc.problems)
        raise Invalid(str(exc), problems=problems) from exc


# A number is a number: neither a text that looks like one nor true.
Whole = Annotated[int, Strict()]
Number = Annotated[float, Strict()]
# And a switch is true or false, not "yes" or 1.
Switch = Annotated[bool, Strict()]


class In(BaseModel):
    """A request: unknown fields are refused, so that a typing error is no silent default. Numbers must be finite."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)


def fields_of(value: Any) -> dict[str, Any]:
    return {name: getattr(value, name) for name in value.__dataclass_fields__}


class Page(BaseModel, Generic[T]):
    """One page of a list. `next` is the `cursor` of the page after it, null on the last."""

    items: list[T]
    next: str | None = None
