"""What all types share: numbers that may come as texts, objects that may come as lists of one, and the error."""

from __future__ import annotations

import re
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

T = TypeVar("T")
_DIGITS = re.compile(r"-?[0-9]{1,18}\Z")


def camel(name: str) -> str:
    """The API's name of a field."""
    first, *rest = name.split("_")
    return first + "".join(word.capitalize() for word in rest)


class Wire(BaseModel):
    """A request or an answer. Fields that are not known are ignored: newer clients have more of them."""

    model_config = ConfigDict(alias_generator=camel, populate_by_name=True, serialize_by_alias=True)


def _number(value: Any) -> Any:
    if isinstance(value, str) and _DIGITS.match(value):
        return int(value)
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError("a whole number is needed")
    return value


def _only(value: Any) -> Any:
    return value[0] if isinstance(value, list) and len(value) == 1 else value


# The cloud's own command line sends numbers back as the texts in which it got them.
Number = Annotated[
    int,
    BeforeValidator(_number, json_schema_input_type=int | Annotated[str, Field(pattern=r"^-?[0-9]{1,18}$")]),
]
# Older editions of the API have lists of one where others have the object.
Single = Annotated[T, BeforeValidator(_only)]


class Empty(Wire):
    """Clients read every answer as JSON: there is always some."""


class ErrorOut(BaseModel):
    """An error's answer, for its description alone."""

    code: int
    reason: str
    message: str
    metadata: dict[str, Any]
