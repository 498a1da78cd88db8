"""What all types share: names in camel case, strict numbers, the envelope around every answer, and times."""

from __future__ import annotations

from typing import Annotated, Any, Generic, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, Strict
from pydantic.alias_generators import to_camel

from stoker.domain.gpus import spelled

SUCCESS = 10000
# Where tasks go that do not say where to, and the port of endpoints that do not say which.
PORT = 8000
PROCESS_URI = "/v1/chat/completions"
T = TypeVar("T")
Whole = Annotated[int, Strict()]
Url = Annotated[str, Field(max_length=512, pattern=r"^https?://[^\s]+$")]


class Wire(BaseModel):
    """A request or an answer. Fields that are not known are ignored: newer clients have more of them."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True)


class Envelope(BaseModel, Generic[T]):
    """An answer that went well."""

    message: str
    code: Literal[10000] = 10000
    data: T


class FieldError(BaseModel):
    """One thing wrong with a request."""

    pointer: str
    detail: str


class ErrorData(BaseModel):
    """What more there is to say of an error than its message."""

    detail: str
    errors: list[FieldError] = Field(default_factory=list)


class ErrorOut(BaseModel):
    """An error's answer, for its description alone."""

    message: str
    code: int
    data: ErrorData | None = None


def told(message: str, data: T) -> Envelope[T]:
    """The envelope of an answer."""
    return Envelope(message=message, data=data)


def millis(at: float) -> int:
    """A time since the epoch, as it is shown here."""
    return round(at * 1000)


def none_is_absent(value: Any) -> Any:
    """An empty text is as good as none."""
    return None if value == "" else value


def type_of(family: str, vram_gib: float) -> str:
    """How Yotta calls a card; without a size where nothing is known of it."""
    return spelled(family, "yotta", vram_gib=vram_gib).removesuffix("_0G")
