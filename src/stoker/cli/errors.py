"""How a command ends: the exit codes, and the one exception that carries one."""

from __future__ import annotations

from enum import IntEnum


class Exit(IntEnum):
    """Exit codes. They are part of the interface: scripts rely on them."""

    OK = 0
    FAILED = 1
    USAGE = 2
    UNREACHABLE = 3
    NOT_FOUND = 4
    TIMED_OUT = 5
    INTERRUPTED = 130


EXIT_CODES = (
    "Exit codes: 0 done; 1 refused or failed; 2 usage or a bad input file; 3 Stoker cannot be reached; "
    "4 not found; 5 timed out waiting; 130 interrupted."
)


class CliError(Exception):
    """Ends the command. The message says what was attempted, what happened and what to do next, `details` says more.

    `problems` are (JSON pointer, text) pairs of an input that was refused; `status` is that of the HTTP answer, if any.
    """

    def __init__(
        self,
        message: str,
        code: Exit = Exit.FAILED,
        *,
        details: tuple[str, ...] = (),
        problems: tuple[tuple[str, str], ...] = (),
        status: int | None = None,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.details = details
        self.problems = problems
        self.status = status
