"""Where requests with one head lead, remembered by `gateway.proxy` while the table stays as it is. Pure data."""

from __future__ import annotations

from stoker.gateway.access import Caller
from stoker.gateway.admission import Admission


class Way:
    """Found when the table had seen so many `changes`: who asks, for what, and the `head` for a worker.

    `pin` is the only worker that will do. `in_v1`: the endpoint was found by a model's name, which no head says.
    """

    __slots__ = ("admission", "caller", "changes", "head", "in_v1", "pin", "sandboxed")

    def __init__(self, changes: int, caller: Caller, admission: Admission, head: bytes) -> None:
        self.changes = changes
        self.caller = caller
        self.admission = admission
        self.head = head
        self.pin: str | None = None
        self.sandboxed = True
        self.in_v1 = False
