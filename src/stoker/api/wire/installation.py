"""Engines and the installation as they are answered. Pure."""

from __future__ import annotations

from pydantic import BaseModel


class ParameterOut(BaseModel):
    name: str
    flags: list[str]
    type: str
    default: str | None
    allowed: list[str]
    section: str
    description: str


class GatewayOut(BaseModel):
    connected: bool
    uptime_s: float | None


class InfoOut(BaseModel):
    version: str
    url: str
    data_dir: str
    started_at: str | None
    gateway: GatewayOut
    endpoints: int
    workers: int
