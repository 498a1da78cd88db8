"""Volumes: data of a project that outlives workers and endpoints, and how workers are given it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum

from stoker.domain.errors import Invalid
from stoker.domain.limits import within

SIZE_GIB_MAX = 1_000_000.0
MOUNTS_MAX = 16
_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\Z")


class VolumeState(StrEnum):
    """CREATING: recorded, its folder is being made. READY: there. LOST: its folder is gone. DELETING: going."""

    CREATING = "creating"
    READY = "ready"
    LOST = "lost"
    DELETING = "deleting"


@dataclass(frozen=True, slots=True, kw_only=True)
class Volume:
    """A folder that endpoints of the project refer to by name. `size_gib` is what it may hold; `provider` and `region`
    say where it is.
    """

    id: str
    number: int
    project: int
    name: str
    size_gib: float
    provider: str
    region: str
    state: VolumeState
    created_at: float

    @property
    def size_bytes(self) -> int:
        """What it may hold."""
        return int(self.size_gib * 2**30)


@dataclass(frozen=True, slots=True, kw_only=True)
class VolumeUse:
    """What a volume holds, as measured at `at`."""

    bytes: int
    at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class VolumeMount:
    """A volume in an endpoint's spec. `path` is where workers see it, on providers that can put it there (`None`: where
    it is).
    """

    volume: str
    path: str | None = None
    read_only: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Mount:
    """The same for a provider: `source` is the folder on the host; of a volume that the provider itself keeps, `held`
    is the id, and `source` where workers see it.
    """

    name: str
    source: str
    path: str | None
    read_only: bool
    held: str | None = None


def check_volume(name: str, size_gib: float) -> None:
    """Raises `Invalid`."""
    if not _NAME.match(name) or name.isdigit():
        raise Invalid.at(
            "/name",
            "a volume's name has up to 63 small letters, digits and dashes between them, and is no number alone",
        )
    within("/size_gib", size_gib, 0.001, SIZE_GIB_MAX)


def check_mounts(mounts: tuple[VolumeMount, ...]) -> None:
    """Raises `Invalid` with pointers into the spec."""
    if len(mounts) > MOUNTS_MAX:
        raise Invalid.at("/volumes", f"at most {MOUNTS_MAX} volumes")
    for index, mount in enumerate(mounts):
        if not _NAME.match(mount.volume):
            raise Invalid.at(f"/volumes/{index}/volume", "this is the name of a volume")
        path = mount.path
        if path is not None and not _is_path(path):
            raise Invalid.at(f"/volumes/{index}/path", "a path begins with / and is not / itself")
        for other in mounts[:index]:
            if other.volume == mount.volume or (path is not None and other.path == path):
                raise Invalid.at(f"/volumes/{index}", "each volume and each path stands here once")


def _is_path(path: str) -> bool:
    plain = path.isprintable() and ".." not in path.split("/")
    return plain and path.startswith("/") and path != "/" and len(path) <= 1_024


def variable_of(name: str) -> str:
    """The environment variable that tells workers where the volume is.

    >>> variable_of("my-data")
    'STOKER_VOLUME_MY_DATA'
    """
    return "STOKER_VOLUME_" + name.upper().replace("-", "_")
