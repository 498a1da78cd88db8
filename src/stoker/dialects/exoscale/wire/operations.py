"""Operations as they are answered, and the reasons of those that failed."""

from __future__ import annotations

from typing import Literal, Self

from stoker.dialects.exoscale.wire.base import Wire

State = Literal["pending", "success", "failure", "timeout"]
Reason = Literal[
    "incorrect",
    "unknown",
    "unavailable",
    "forbidden",
    "busy",
    "fault",
    "partial",
    "not-found",
    "interrupted",
    "unsupported",
    "conflict",
]
_PATHS = {"get-deployment": "ai/deployment", "get-model": "ai/model", "get-ai-api-key": "ai/api-key"}


class Reference(Wire):
    """What an operation is about: `command` is the operation that gets it, `link` is below the API's own address."""

    id: str
    link: str
    command: str

    @classmethod
    def to(cls, command: str, id: str) -> Self:
        return cls(id=id, link=f"/v2/{_PATHS[command]}/{id}", command=command)


class OperationOut(Wire):
    """A change under way or ended. `reason` is there when it did not succeed: clients fail without it."""

    id: str
    state: State
    reason: Reason | None = None
    message: str | None = None
    reference: Reference
