"""How requests are shared out among an endpoint's workers: frozen values that refuse to make no sense."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from stoker.domain.errors import Invalid

# Where a key may stand at addresses that do not say otherwise.
KEY_PLACES = ("bearer", "header:x-api-key")


@dataclass(frozen=True, slots=True, kw_only=True)
class InferenceAddress:
    """An address of an endpoint: requests for `host` (empty: any) whose path is `prefix` or lies below it.

    With `strip` the worker sees the rest of the path; `base` (`/v1`) is put before a rest that is not below it.
    `worker` pins the address to one worker, by id. `keys` says where a key may stand, in the order of looking:
    `bearer`, `header:NAME`, `scheme:WORD` (of Authorization), `query:NAME`. `open`: exactly this path needs no key,
    since the worker itself knows who may ask it there.
    """

    prefix: str
    host: str = ""
    strip: bool = True
    base: str = ""
    worker: str | None = None
    keys: tuple[str, ...] = KEY_PLACES
    open: bool = False


class Balance(StrEnum):
    """Which worker is next. The least loaded one, and among equals SPREAD takes each in turn, PACK the oldest; or FILL:
    the oldest that has a free slot, so that all that are not needed have no request.
    """

    SPREAD = "spread"
    PACK = "pack"
    FILL = "fill"


class Affinity(StrEnum):
    """Requests of one session (`X-Stoker-Session`). SOFT: to the same worker while it has a free slot. STRICT: to the
    same worker or not at all, waiting for it where needed.
    """

    NONE = "none"
    SOFT = "soft"
    STRICT = "strict"


@dataclass(frozen=True, slots=True, kw_only=True)
class Routing:
    """The least loaded worker is taken always. A session is forgotten `session_idle_s` after its last request."""

    balance: Balance | None = None
    session: Affinity = Affinity.NONE
    session_idle_s: float = 3_600.0

    def __post_init__(self) -> None:
        if not 1 <= self.session_idle_s <= 604_800:
            raise Invalid.at("/routing/session_idle_s", "session_idle_s must be between 1 and 604800")
