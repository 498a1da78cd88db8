"""What all types share: null is `not given`, numbers are numbers, fields that are not known are ignored."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, Strict

INT_MAX = 2**53
Whole = Annotated[int, Strict(), Field(ge=0, le=INT_MAX)]
Amount = Annotated[float, Strict(), Field(ge=0, le=1e9, allow_inf_nan=False)]
Share = Annotated[float, Strict(), Field(gt=0, le=1, allow_inf_nan=False)]
Signed = Annotated[float, Strict(), Field(ge=-1e9, le=1e9, allow_inf_nan=False)]
Flag = Annotated[bool, Strict()]
Text = Annotated[str, Strict(), Field(max_length=1_024)]


class Wire(BaseModel):
    """A request or an answer."""

    model_config = ConfigDict(extra="ignore")


class Identified(Wire):
    """What clients repeat in most bodies, and who they are where they say it there."""

    api_key: Text | None = None
    client_id: Any = None
    autoscaler_instance: Any = None


class Done(Wire):
    """It is done."""

    success: bool = True


class Made(Wire):
    """It is made: some clients read `id`, some `result`."""

    success: bool = True
    id: int
    result: int


class Deleted(Wire):
    """It is gone, with these workers."""

    success: bool = True
    deleted_workers: list[int]
    failed_workers: list[int] = []


class ErrorOut(Wire):
    """An error's answer, for its description alone."""

    success: bool = False
    error: str
    msg: str


class EngineErrorOut(Wire):
    """The same of the engine's own paths."""

    error: str
    error_msg: str
