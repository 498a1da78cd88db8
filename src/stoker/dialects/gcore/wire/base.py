"""What all types share: strict numbers, names, pages, times and the error."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated, Any, Generic, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, Strict, StringConstraints

from stoker.domain.errors import Invalid
from stoker.domain.times import iso

Whole = Annotated[int, Strict()]
Flag = Annotated[bool, Strict()]
Text = Annotated[str, StringConstraints(min_length=1, max_length=1_024)]
LABEL = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"
DOTTED = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$"

T = TypeVar("T")


class Wire(BaseModel):
    """A request or an answer. Fields that are not known are ignored: newer clients have more of them."""

    model_config = ConfigDict(populate_by_name=True)


class Page(BaseModel, Generic[T]):
    """A part of a list, and how many there are in all."""

    count: int
    results: list[T]

    @classmethod
    def of(cls, items: Sequence[T], *, limit: int, offset: int) -> Self:
        return cls(count=len(items), results=list(items[offset : offset + limit]))


class ErrorOut(Wire):
    """An error's answer, for its description alone."""

    exception_class: str
    message: str
    request_id: str
    invalid_fields: dict[str, list[str]] = Field(default_factory=dict)
    info: dict[str, Any] = Field(default_factory=dict)


def moment(at: float) -> str:
    """A time in RFC 3339."""
    return iso(at, timespec="microseconds")


def seconds(at: datetime | None, where: str) -> float | None:
    """A time of a request since the epoch; without a zone it is UTC. Raises `Invalid`."""
    if at is None:
        return None
    try:
        return (at if at.tzinfo is not None else at.replace(tzinfo=UTC)).timestamp()
    except OverflowError:
        raise Invalid.at(where, "there is no such time") from None


def bare_moment(at: float) -> str:
    """A time of a task, which has no zone there: it is UTC."""
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%S")
