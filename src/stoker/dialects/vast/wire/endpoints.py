"""Endpoints as they are asked for, kept and shown."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, Strict

from stoker.dialects.vast.wire.base import Amount, Identified, Share, Signed, Whole, Wire

State = Literal["active", "suspended", "stopped"]
Name = Annotated[str, Strict(), Field(min_length=1, max_length=255)]
Workers = Annotated[int, Strict(), Field(ge=0, le=1_000)]
DEFAULT_NAME = "default-endpoint"


class ParamsIn(Identified):
    """What capacity an endpoint is to have. Null is not given."""

    min_load: Amount | None = None
    min_cold_load: Amount | None = None
    target_util: Share | None = None
    cold_mult: Amount | None = None
    cold_workers: Workers | None = None
    max_workers: Workers | None = None
    max_queue_time: Amount | None = None
    target_queue_time: Amount | None = None
    inactivity_timeout: Signed | None = None
    overrecruit_ratio: Amount | None = None
    endpoint_state: State | None = None


class EndpointIn(ParamsIn):
    """A new endpoint."""

    endpoint_name: Name | None = None


class EndpointPatch(ParamsIn):
    """A change of one: what is not given stays."""

    endpoint_name: Name | None = None
    endptjob_id: Whole | None = None


class Kept(Wire):
    """What an endpoint was asked for, with what holds where nothing was said. `groups` counts those it ever had."""

    min_load: float = 1.0
    min_cold_load: float = 0.0
    target_util: float = 0.9
    cold_mult: float = 3.0
    cold_workers: int = 5
    max_workers: int = 16
    max_queue_time: float = 30.0
    target_queue_time: float = 10.0
    inactivity_timeout: float | None = None
    overrecruit_ratio: float | None = None
    state: State = "active"
    groups: int = 0


class EndpointOut(Wire):
    """An endpoint. `created_at` is in seconds since the epoch."""

    id: int
    endpoint_name: str
    api_key: str
    user_id: int
    created_at: float
    min_load: float
    min_cold_load: float
    target_util: float
    cold_mult: float
    cold_workers: int
    max_workers: int
    max_queue_time: float
    target_queue_time: float
    inactivity_timeout: float | None
    endpoint_state: State
    auto_delete_in_seconds: float | None = None
    auto_delete_due_24h: bool = False


class EndpointMade(Wire):
    """A new endpoint's number."""

    success: bool = True
    result: int


class EndpointsOut(Wire):
    success: bool = True
    results: list[EndpointOut]


class EndpointShown(Wire):
    success: bool = True
    result: EndpointOut
