"""Projects, and the record of who changed what in them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from stoker.domain.access import KeyId
from stoker.domain.endpoint import NAME_CHARS_MAX, ProjectId
from stoker.domain.errors import Invalid

# Long enough for a spec with a few variables; what is longer is told by its size.
AUDITED_CHARS_MAX = 8_192
MASK = "***"


@dataclass(frozen=True, slots=True, kw_only=True)
class Project:
    """A tenant: owns every other object. Its `number` is what objects refer to it by."""

    id: str
    number: ProjectId
    name: str
    created_at: float


def check_project_name(name: str) -> None:
    """Raises `Invalid`. A name that reads as a number would be taken for one."""
    if not name.strip() or len(name) > NAME_CHARS_MAX or not name.isprintable():
        raise Invalid.at("/name", f"a project's name has between 1 and {NAME_CHARS_MAX} printable characters")
    if name.isdigit():
        raise Invalid.at("/name", "a project's name is not a number alone")
    if not name.isascii() or name != name.strip():
        raise Invalid.at("/name", "a project's name has ASCII characters only, as it stands in a header")


class Outcome(StrEnum):
    """DONE: in effect with the record. ACCEPTED: an operation carries it out."""

    DONE = "done"
    ACCEPTED = "accepted"


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditDraft:
    """A change about to be recorded. `by` is `None` for what Stoker does of its own accord. `before` and `after` have
    no secrets in them: whoever makes the draft has masked them.
    """

    at: float
    project: ProjectId
    action: str
    by: KeyId | None = None
    target: str = ""
    name: str = ""
    before: Mapping[str, Any] | None = None
    after: Mapping[str, Any] | None = None
    outcome: Outcome = Outcome.DONE
    operation: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditEvent:
    """A recorded change. `before` and `after` are JSON texts; `key_name` is the present name of the key `by`."""

    number: int
    at: float
    project: ProjectId
    by: KeyId | None
    key_name: str | None
    action: str
    target: str
    name: str
    before: str | None
    after: str | None
    outcome: Outcome
    operation: str | None
