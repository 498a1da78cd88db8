"""What can go wrong, in the caller's terms. Faces turn these into status codes; nothing here knows HTTP.

StokerError
├── Invalid           the request makes no sense; `problems` says where
│   └── TooLarge      a part of it is larger than it may be
├── NotFound          no such object, or none that this caller may see
├── Conflict          it makes sense, but not in the present state
├── Unauthenticated   no credential, or one that is not known
├── Forbidden         a known caller who may not do this
├── Saturated         a limit is full; try again later
├── Unavailable       something that is needed does not answer now
└── Unsupported       understood, but this installation cannot do it
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing wrong with an input. `pointer` is a JSON pointer into it, as in `/pools/0/max`."""

    pointer: str
    detail: str


class StokerError(Exception):
    """Something that the caller can understand; the message says what to do next."""


class Invalid(StokerError):
    """The input is not acceptable. Nothing was changed."""

    def __init__(self, message: str, *, problems: tuple[Problem, ...] = ()) -> None:
        super().__init__(message)
        self.problems = problems

    @classmethod
    def at(cls, pointer: str, detail: str) -> Self:
        """The usual case: one problem at one place, which is also the message."""
        return cls(detail, problems=(Problem(pointer, detail),))


class TooLarge(Invalid):
    """A part of the input is larger than is taken. Nothing was changed."""


class NotFound(StokerError):
    """No such object, or none that this caller may see."""


class Conflict(StokerError):
    """Not possible in the present state: a name is taken, a change is under way."""


class Unauthenticated(StokerError):
    """No credential was given, or it is unknown, expired or revoked."""


class Forbidden(StokerError):
    """The credential is known but does not reach this far."""


class Saturated(StokerError):
    """A queue or a limit is full."""


class Unavailable(StokerError):
    """A part that is needed does not answer at present."""


class Unsupported(StokerError):
    """Understood, but not something that this installation can do."""
