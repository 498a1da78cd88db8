"""Workergroups as they are asked for, kept and shown."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field, Strict

from stoker.dialects.vast.wire.base import Amount, Identified, Share, Text, Whole, Wire
from stoker.dialects.vast.wire.endpoints import Name, Workers

Long = Annotated[str, Strict(), Field(max_length=1_500)]


class GroupIn(Identified):
    """A new workergroup, or a change of one. Null is not given."""

    endpoint_name: Name | None = None
    endpoint_id: Whole | None = None
    template_hash: Text | None = None
    template_id: Whole | None = None
    search_params: Long | list[Any] | dict[str, Any] | None = None
    launch_args: Long | None = None
    gpu_ram: Amount | None = None
    min_load: Amount | None = None
    min_cold_load: Amount | None = None
    target_util: Share | None = None
    cold_mult: Amount | None = None
    cold_workers: Workers | None = None
    max_workers: Workers | None = None
    test_workers: Workers | None = None
    docker_login_user: Text | None = None
    docker_login_pass: Text | None = None
    docker_login_repo: Text | None = None


class GroupKept(Wire):
    """What a workergroup was asked for; `None` where nothing was said."""

    template_hash: str | None = None
    template_id: int | None = None
    search_params: str | None = None
    launch_args: str | None = None
    gpu_ram: float | None = None
    min_load: float | None = None
    min_cold_load: float | None = None
    target_util: float | None = None
    cold_mult: float | None = None
    cold_workers: int | None = None
    max_workers: int | None = None
    test_workers: int | None = None
    created_at: float | None = None


class GroupOut(Wire):
    """A workergroup. `created_at` is in seconds since the epoch."""

    id: int
    endpoint_id: int
    endpoint_name: str
    template_hash: str | None
    template_id: int | None
    search_params: str
    search_query: dict[str, dict[str, Any]]
    launch_args: str | None
    gpu_ram: float
    min_load: float
    target_util: float
    cold_mult: float
    cold_workers: int
    max_workers: int
    test_workers: int
    api_key: str
    user_id: int
    created_at: float


class GroupsOut(Wire):
    success: bool = True
    results: list[GroupOut]


class Spend(Wire):
    """What a workergroup costs now; `None` where some of its workers have no price."""

    id: int
    hourly_spend: float | None


class SpendOut(Wire):
    """`data_timestamp` is in seconds since the epoch."""

    success: bool = True
    workergroups: list[Spend]
    data_timestamp: float
