"""What a person sees: data on stdout, everything else on stderr, readable without colour.

Rich is loaded only when something goes to a terminal; a pipe gets plain columns that are never cut.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from io import TextIOWrapper
from typing import TYPE_CHECKING, Any, TextIO

from stoker.cli.errors import CliError

if TYPE_CHECKING:
    from rich.console import Console
    from rich.status import Status

# The colour of a state, where colours are wanted; the word alone says the same.
STYLES = {
    **dict.fromkeys(("ready", "success", "ok"), "green"),
    **dict.fromkeys(("starting", "updating", "pending", "draining", "stopping", "warning"), "yellow"),
    **dict.fromkeys(("failing", "failed", "failure", "timeout", "error", "wrong"), "red"),
    **dict.fromkeys(("stopped", "idle", "cold", "-"), "dim"),
}


def is_terminal(stream: TextIO) -> bool:
    """Does a person look at this stream? Not when `TERM` says that it can do nothing."""
    return stream.isatty() and os.environ.get("TERM") != "dumb"


def console(stream: TextIO) -> Console:
    """Rich on that stream. It respects NO_COLOR itself."""
    from rich.console import Console

    return Console(file=stream, highlight=False)


def lenient() -> None:
    """Show what the terminal's character set lacks as escapes: a name must not keep anybody from seeing the others."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def line(text: str = "") -> None:
    """A line of data."""
    sys.stdout.write(visible(text) + "\n")
    sys.stdout.flush()


def note(text: str) -> None:
    """A line about what goes on."""
    sys.stderr.write(visible(text) + "\n")
    sys.stderr.flush()


def visible(text: str) -> str:
    """Without the control characters by which the output of a worker could take over a terminal."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c in "\n\t" else "\ufffd" for c in text)


def document(value: object) -> None:
    """A value as JSON."""
    sys.stdout.write(as_json(value, indent=2) + "\n")


def as_json(value: object, *, indent: int | None = None) -> str:
    """A value as JSON that standard output can have: what its character set lacks is escaped as JSON does it."""
    whole = (sys.stdout.encoding or "").lower().startswith("utf")
    return json.dumps(value, indent=indent, ensure_ascii=not whole)


def fail(error: CliError) -> None:
    """An error, on stderr."""
    label = "error:"
    if is_terminal(sys.stderr) and not os.environ.get("NO_COLOR"):
        label = "\x1b[1;31merror:\x1b[0m"
    sys.stderr.write(f"{label} {visible(str(error))}\n")
    for pointer, detail in error.problems:
        if str(error) not in (detail, f"{pointer}: {detail}"):
            sys.stderr.write(f"  {visible(pointer or '/')}: {visible(detail)}\n")
    for detail in error.details:
        sys.stderr.write(f"  {visible(detail)}\n")


def table(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Rows below their headings. `None` is shown as `-`."""
    cells = [[visible("-" if cell is None else str(cell)) for cell in row] for row in rows]
    if is_terminal(sys.stdout):
        _rich_table(columns, cells)
        return
    widths = [max(len(row[index]) for row in (columns, *cells)) for index in range(len(columns))]
    for row in (columns, *cells):
        line("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def _rich_table(columns: Sequence[str], cells: Sequence[Sequence[str]]) -> None:
    from rich.table import Table
    from rich.text import Text

    grid = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        grid.add_column(column, overflow="fold")
    for row in cells:
        grid.add_row(*(Text(cell, STYLES.get(cell.split(" ")[0], "")) for cell in row))
    console(sys.stdout).print(grid)


def price(amount: float | None, currency: str | None) -> str | None:
    """What something costs in an hour, where it is known."""
    return None if amount is None else f"{amount:.4g} {currency or ''}".rstrip()


def facts(pairs: Sequence[tuple[str, object]]) -> None:
    """Names and values, one pair a line; pairs whose value is `None` or empty are left out."""
    kept = [(name, str(value)) for name, value in pairs if value not in (None, "", [], {})]
    width = max((len(name) for name, _ in kept), default=0)
    for name, value in kept:
        first, *rest = value.split("\n")
        line(f"{name.ljust(width)}  {first}")
        for further in rest:
            line(f"{' ' * width}  {further}")


class Progress:
    """What goes on during a wait, on stderr: lines with the seconds since its start, and on a terminal a spinner."""

    def __init__(self, stream: TextIO, status: Status | None, *, quiet: bool) -> None:
        self._stream = stream
        self._status = status
        self._quiet = quiet
        self._started = time.monotonic()

    @property
    def elapsed_s(self) -> float:
        """Seconds since the wait began."""
        return time.monotonic() - self._started

    def say(self, text: str) -> None:
        """Something that happened."""
        if self._quiet:
            return
        stamped = f"{self.elapsed_s:6.1f}s  {visible(text)}"
        if self._status is None:
            self._stream.write(stamped + "\n")
            self._stream.flush()
        else:
            self._status.console.print(stamped, markup=False, soft_wrap=True)

    def now(self, text: str) -> None:
        """What is being waited for; without a terminal it is not shown."""
        if self._status is not None:
            from rich.markup import escape

            self._status.update(f"{escape(visible(text))} ({self.elapsed_s:.0f}s)")


@contextmanager
def progress(text: str, *, quiet: bool = False) -> Iterator[Progress]:
    """A `Progress` for the time of the block."""
    if quiet or not is_terminal(sys.stderr):
        yield Progress(sys.stderr, None, quiet=quiet)
        return
    from rich.markup import escape

    with console(sys.stderr).status(escape(text)) as status:
        yield Progress(sys.stderr, status, quiet=False)


def counts(workers: dict[str, int]) -> str:
    """Workers by state, as in `1 ready, 1 starting`."""
    return ", ".join(f"{number} {state}" for state, number in workers.items() if number) or "none"


def plural(number: int, noun: str) -> str:
    """A number with its noun, as in `2 workers`."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def either(value: Any, otherwise: str = "-") -> str:
    """The value as text, or `otherwise` where it is unknown."""
    return otherwise if value is None else str(value)
