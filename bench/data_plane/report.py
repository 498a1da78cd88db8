"""What a part of the benchmark found, and how it is printed: figures, bars, and what was lost or broken. Pure."""

from __future__ import annotations

import msgspec


class Row(msgspec.Struct):
    """Figures of one peer."""

    name: str
    figures: dict[str, float]


class Bar(msgspec.Struct):
    """A figure that the gateway is held to: it is kept when `value` is at most `at_most`."""

    name: str
    value: float
    at_most: float
    note: str = ""

    @property
    def kept(self) -> bool:
        """Is it?"""
        return self.value <= self.at_most


class Part(msgspec.Struct):
    """One part. `broken` says what was lost or wrong: the only thing that makes a run fail, since timing depends on
    the machine.
    """

    name: str
    title: str
    rows: list[Row] = []
    bars: list[Bar] = []
    broken: list[str] = []
    notes: list[str] = []

    def bar(self, name: str, value: float, at_most: float, note: str = "") -> None:
        """Add a bar."""
        self.bars.append(Bar(name, value, at_most, note))

    def to_text(self) -> str:
        """Tables for people."""
        lines = [f"{self.name}: {self.title}"]
        columns = list(dict.fromkeys(name for row in self.rows for name in row.figures))
        if columns:
            lines.append(f"  {'':28}" + "".join(f"{name:>16}" for name in columns))
        for row in self.rows:
            cells = "".join(f"{_figure(row.figures.get(name)):>16}" for name in columns)
            lines.append(f"  {row.name:28}{cells}")
        for bar in self.bars:
            kept = "kept" if bar.kept else "MISSED"
            note = f" ({bar.note})" if bar.note else ""
            lines.append(f"  bar: {bar.name}: {_figure(bar.value)}, at most {_figure(bar.at_most)}{note}: {kept}")
        lines += [f"  {note}" for note in self.notes]
        lines += [f"  BROKEN: {what}" for what in self.broken]
        return "\n".join(lines) + "\n"


def _figure(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:,.0f}" if abs(value) >= 1_000 or value == int(value) else f"{value:.3g}"
