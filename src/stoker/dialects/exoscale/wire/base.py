"""What all types share: names with dashes, strict numbers, times with a zone."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Strict, StringConstraints

Whole = Annotated[int, Strict()]
Text = Annotated[str, StringConstraints(min_length=1)]


def dashed(name: str) -> str:
    """The API's name of a field."""
    return name.replace("_", "-")


class Wire(BaseModel):
    """A request or an answer. Fields that are not known are ignored: newer clients have more of them."""

    model_config = ConfigDict(alias_generator=dashed, populate_by_name=True, serialize_by_alias=True)


class ProblemOut(Wire):
    """An error's answer, for its description alone."""

    type: str
    title: str
    status: int
    detail: str
    error: str
    errors: list[dict[str, str]] = []
    deployments: list[str] = []
