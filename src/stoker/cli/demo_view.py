"""What `stoker demo` shows: stamped lines, and on a terminal the pool and the answer as they change."""

from __future__ import annotations

import sys
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from stoker.cli import output

if TYPE_CHECKING:
    from rich.console import Group
    from rich.live import Live

ANSWER_CHARS_MAX = 400
MARKS = {"ready": "●", "draining": "◐", "stopping": "◐"}


@dataclass(slots=True)
class View:
    """Shown as stamped lines, as long as nothing better is there."""

    started: float = field(default_factory=time.monotonic)
    pool: str = ""

    @property
    def elapsed_s(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self.started

    def say(self, text: str) -> None:
        """Something that happened."""
        output.line(f"{self.elapsed_s:6.1f}s  {text}")

    def watch(self, endpoint: Any, workers_max: int) -> None:
        """The endpoint as it is now: said when its workers or its state have changed."""
        pool = f"{endpoint['state']}: {output.counts(endpoint['workers'])}"
        if pool != self.pool:
            self.pool = pool
            self.say(f"workers {output.counts(endpoint['workers'])} ({endpoint['state']})")

    def answer(self, piece: str) -> None:
        """A piece of the answer that streams in: only a terminal shows it before it is whole."""

    def answered(self) -> None:
        """The answer is whole."""


@dataclass(slots=True)
class LiveView(View):
    """The same on a terminal, with the pool and the answer below the lines."""

    live: Live | None = None
    text: deque[str] = field(default_factory=lambda: deque(maxlen=ANSWER_CHARS_MAX))
    picture: tuple[str, str] = ("", "")

    def say(self, text: str) -> None:
        assert self.live is not None
        self.live.console.print(f"{self.elapsed_s:6.1f}s  {output.visible(text)}", markup=False)

    def watch(self, endpoint: Any, workers_max: int) -> None:
        View.watch(self, endpoint, workers_max)
        states = [state for state, number in sorted(endpoint["workers"].items()) for _ in range(number)]
        marks = [MARKS.get(state, "◌") for state in states] + ["○"] * (workers_max - len(states))
        traffic = endpoint["traffic"] or {"in_flight": 0, "waiting": 0}
        numbers = f"{traffic['in_flight']} in flight, {traffic['waiting']} waiting"
        self.picture = (f"{' '.join(marks)}  {endpoint['state']}", numbers)
        self._draw()

    def answer(self, piece: str) -> None:
        self.text.extend(output.visible(piece))
        self._draw()

    def answered(self) -> None:
        self.say(f"streamed answer: {' '.join(''.join(self.text).split())}")
        self.text.clear()
        self._draw()

    def _draw(self) -> None:
        assert self.live is not None
        self.live.update(self._group())

    def _group(self) -> Group:
        from rich.console import Group
        from rich.text import Text

        pool, numbers = self.picture
        style = "green" if "●" in pool else "yellow" if "◌" in pool else "dim"
        lines = [Text.assemble("  workers  ", (pool, style), f"   {numbers}   {self.elapsed_s:.0f}s")]
        if self.text:
            lines.append(Text("  " + "".join(self.text).replace("\n", " "), style="italic"))
        return Group(*lines)


@contextmanager
def showing() -> Iterator[View]:
    """The view that fits standard output, for the time of the block."""
    if not output.is_terminal(sys.stdout):
        yield View()
        return
    from rich.live import Live

    view = LiveView()
    with Live(console=output.console(sys.stdout), refresh_per_second=10, transient=True) as live:
        view.live = live
        yield view


def summary(rows: Sequence[tuple[str, str]]) -> None:
    """What happened, as a table."""
    if not output.is_terminal(sys.stdout):
        output.facts(rows)
        return
    from rich.table import Table

    table = Table(title="What happened", title_justify="left", show_header=False)
    for name, value in rows:
        table.add_row(name, value)
    output.console(sys.stdout).print(table)
