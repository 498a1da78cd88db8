"""Which worker a session's requests go to. Pure and bounded: the session that was used least recently is forgotten."""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

SESSIONS_MAX: Final = 20_000
SESSION_CHARS_MAX: Final = 256


class Sessions:
    """The sessions of one endpoint. Times are the caller's, in seconds."""

    __slots__ = ("_known",)

    def __init__(self) -> None:
        self._known: OrderedDict[bytes, tuple[str, float]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._known)

    def worker_of(self, session: bytes, now: float, *, idle_s: float) -> str | None:
        """The worker that it went to last; `None` for one that is not known, or was not used for `idle_s`."""
        known = self._known.get(session)
        if known is None:
            return None
        if now - known[1] > idle_s:
            del self._known[session]
            return None
        return known[0]

    def note(self, session: bytes, worker: str, now: float) -> None:
        """A request of this session goes to this worker."""
        self._known[session] = (worker, now)
        self._known.move_to_end(session)
        if len(self._known) > SESSIONS_MAX:
            self._known.popitem(last=False)

    def forget(self, session: bytes) -> None:
        """Its worker is gone; the next request begins it anew."""
        self._known.pop(session, None)
