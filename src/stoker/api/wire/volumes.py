"""Volumes as they are said and answered. Pure."""

from __future__ import annotations

from typing import Self

from pydantic import BaseModel, Field

from stoker.api.wire.base import In, iso
from stoker.domain.volumes import Volume, VolumeUse


class VolumeIn(In):
    """A new, empty volume."""

    name: str
    size_gib: float
    provider: str = Field(default="process", max_length=64)
    region: str = Field(default="local", max_length=64)


class VolumePatchIn(In):
    size_gib: float


class VolumeOut(BaseModel):
    """A volume. `used_bytes` was measured at `measured_at`; null before the first time."""

    id: str
    number: int
    name: str
    size_gib: float
    provider: str
    region: str
    state: str
    used_bytes: int | None
    measured_at: str | None
    over_quota: bool
    created_at: str | None

    @classmethod
    def of(cls, volume: Volume, use: VolumeUse | None) -> Self:
        return cls(
            id=volume.id,
            number=volume.number,
            name=volume.name,
            size_gib=volume.size_gib,
            provider=volume.provider,
            region=volume.region,
            state=volume.state,
            used_bytes=None if use is None else use.bytes,
            measured_at=None if use is None else iso(use.at),
            over_quota=use is not None and use.bytes > volume.size_bytes,
            created_at=iso(volume.created_at),
        )
