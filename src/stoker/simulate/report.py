"""Results as one HTML page without any other file: cost against attainment, the table, and workers over time."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from html import escape

from stoker.simulate.compare import Result, front
from stoker.simulate.trace import Profile

_WIDTH, _HEIGHT, _MARGIN = 860, 360, 50
_COURSE_POINTS = 600
# Costs that are further apart are shown by their magnitude.
SPREAD = 8.0
# A label takes about so much, in pixels: a line, and a letter.
_LINE, _LETTER = 13.0, 6.2
_COLOURS = ("#2563eb", "#dc2626", "#059669", "#d97706", "#7c3aed", "#0891b2", "#be185d", "#4d7c0f", "#475569")
_STYLE = """
body{font:15px/1.5 system-ui,sans-serif;max-width:920px;margin:2rem auto;padding:0 1rem;color:#1f2937;background:#fff}
table{border-collapse:collapse;width:100%}th,td{padding:.3rem .5rem;text-align:right;border-bottom:1px solid #e5e7eb}
td{white-space:nowrap}th:first-child,td:first-child{text-align:left}svg{width:100%;height:auto;background:#f9fafb}
text{font-size:12px;paint-order:stroke;stroke:#f9fafb;stroke-width:3px}
.best{font-weight:600}
"""


def page(results: Sequence[Result], profile: Profile) -> str:
    """The whole page."""
    first = results[0]
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Scaling policies on {escape(first.trace)}</title>
<style>{_STYLE}</style></head><body>
<h1>{escape(first.trace)}</h1>
<p>{first.requests:,} requests. With less than {first.zero_wait_bound_gpu_s:,.0f} GPU-seconds somebody has to wait; the
work alone is {first.work_bound_gpu_s:,.0f}. A worker takes {profile.slots} requests at once and about
{profile.start_s:g} s to start.</p>
<h2>Cost and waiting</h2>{_scatter(results)}{_table(results, profile)}
<h2>Workers over time</h2>{_courses(results)}
</body></html>
"""


def _family(result: Result) -> str:
    """The policy without the settings of a sweep."""
    return result.policy.partition("(")[0]


def _colours(results: Sequence[Result]) -> dict[str, str]:
    """One for each policy, whatever its settings."""
    families = dict.fromkeys(map(_family, results))
    return {family: _COLOURS[index % len(_COLOURS)] for index, family in enumerate(families)}


def _table(results: Sequence[Result], profile: Profile) -> str:
    best = {result.policy for result in front(results)}
    target = f"within {profile.wait_target_s:g} s"
    heads = ("policy", "GPU-s", "over the bound", target, "p50 wait", "p99 wait", "starts", "flaps", "peak")
    rows = [
        f'<tr class="{"best" if r.policy in best else ""}"><td>{escape(r.policy)}</td><td>{r.gpu_s:,.0f}</td>'
        f"<td>x{r.ratio:.2f}</td><td>{100 * r.in_time:.1f} %</td><td>{r.wait_p50_s:.1f} s</td>"
        f"<td>{r.wait_p99_s:.1f} s</td><td>{r.starts}</td><td>{r.flaps}</td><td>{r.workers_peak}</td></tr>"
        for r in sorted(results, key=lambda r: r.gpu_s)
    ]
    head = "".join(f"<th>{escape(name)}</th>" for name in heads)
    note = (
        "<p>In bold: no other policy here is both cheaper and as good. <code>static-peak</code> and"
        " <code>clairvoyant</code> know the future.</p>"
    )
    return f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table>{note}"


def _scatter(results: Sequence[Result]) -> str:
    """Cost to the right, the share of requests in time upwards."""
    begin, most, share = _axis([result.ratio for result in results])
    least = min(result.in_time for result in results)
    low = max(0.0, least - 0.05 * (1.0 - least) - 0.01)

    def place(result: Result) -> tuple[float, float]:
        x = _MARGIN + share(result.ratio) * (_WIDTH - 2 * _MARGIN)
        return x, _HEIGHT - _MARGIN - (result.in_time - low) / (1.0 - low) * (_HEIGHT - 2 * _MARGIN)

    line = " ".join(f"{x:.1f},{y:.1f}" for x, y in map(place, front(results)))
    parts = [f'<polyline points="{line}" fill="none" stroke="#9ca3af" stroke-dasharray="4"/>']
    colours = _colours(results)
    for result in results:
        x, y = place(result)
        title = f"<title>{escape(result.policy)}: x{result.ratio:.2f}, {100 * result.in_time:.1f} %</title>"
        parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="5" fill="{colours[_family(result)]}">{title}</circle>')
    # Of a sweep the defaults alone have room for their names.
    named = [result for result in results if result.policy == _family(result)]
    parts += _labels([(*place(result), result.policy) for result in named or results[:1]])
    bottom = _HEIGHT - _MARGIN
    parts.append(f'<path d="M{_MARGIN},{_MARGIN}V{bottom}H{_WIDTH - _MARGIN}" fill="none" stroke="#374151"/>')
    parts.append(f'<text x="{_WIDTH - _MARGIN}" y="{bottom + 20}" text-anchor="end">x{most:.2f} of the bound</text>')
    parts.append(
        f'<text x="{_MARGIN}" y="{bottom + 20}">x{begin:.3g}</text><text x="4" y="{_MARGIN - 8}">100 % in time</text>'
    )
    parts.append(f'<text x="4" y="{bottom}">{100 * low:.0f} %</text>')
    return _svg("Cost against the share of requests in time", _HEIGHT, parts)


def _axis(ratios: Sequence[float]) -> tuple[float, float, Callable[[float], float]]:
    """Where the axis of costs begins and ends, and how far along it a cost is: from nothing, but by magnitudes where a
    dear policy would press the others together.
    """
    dear, cheap = max(ratios) * 1.05 or 1.0, min((ratio for ratio in ratios if ratio > 0), default=0.0)
    if not cheap or dear < SPREAD * cheap:
        return 0.0, dear, lambda ratio: ratio / dear
    begin = cheap / 1.2
    return begin, dear, lambda ratio: math.log(max(ratio, begin) / begin) / math.log(dear / begin)


def _labels(places: Sequence[tuple[float, float, str]]) -> list[str]:
    """The names beside their points, from above, each below the names and points that are in its way."""
    parts: list[str] = []
    put = [(x - 5, x + 5, y + 4) for x, y, _ in places]
    for x, y, name in sorted(places, key=lambda each: (each[1], each[0])):
        left, line = x + 8, y + 4
        right = left + _LETTER * len(name)
        while any(abs(line - at) < _LINE and left < until and since < right for since, until, at in put):
            line += _LINE
        put.append((left, right, line))
        if line > y + _LINE:
            parts.append(f'<path d="M{x:.1f},{y:.1f}L{left:.1f},{line - 4:.1f}" stroke="#9ca3af"/>')
        parts.append(f'<text x="{left:.1f}" y="{line:.1f}">{escape(name)}</text>')
    return parts


def _courses(results: Sequence[Result]) -> str:
    """All of a sweep would be more than anybody looks at: its defaults. One scale for all, so that they compare."""
    shown = [result for result in results if result.policy == _family(result)] or list(results[:1])
    most = max(1, *(result.workers_peak for result in shown))
    colours = _colours(results)
    left = "" if len(shown) == len(results) else " Of the sweep the defaults alone are shown."
    note = f"<p>All have the same scale, from none to {most}.{left}</p>"
    return note + "".join(_course(result, colours[_family(result)], most) for result in shown)


def _course(result: Result, colour: str, most: int) -> str:
    steps = _thinned(result.steps)
    end = max(steps[-1][0], 1e-9)
    height = 110
    points = []
    before = 0
    for at, count in steps:
        x = _MARGIN + at / end * (_WIDTH - 2 * _MARGIN)
        points += [f"{x:.1f},{height - 20 - value / most * (height - 40):.1f}" for value in (before, count)]
        before = count
    axes = f'<path d="M{_MARGIN},20V{height - 20}H{_WIDTH - _MARGIN}" fill="none" stroke="#d1d5db"/>'
    line = f'<polyline points="{" ".join(points)}" fill="none" stroke="{colour}"/>'
    name = f'<text x="{_MARGIN}" y="14">{escape(result.policy)}, at most {result.workers_peak}</text>'
    scale = f'<text x="{_MARGIN - 6}" y="28" text-anchor="end">{most}</text>'
    zero = f'<text x="{_MARGIN - 6}" y="{height - 18}" text-anchor="end">0</text>'
    until = f'<text x="{_WIDTH - _MARGIN}" y="{height - 5}" text-anchor="end">{_lasting(end)}</text>'
    return _svg(f"Workers of {escape(result.policy)} over time", height, [axes, line, name, scale, zero, until])


def _lasting(seconds: float) -> str:
    """As people say it.

    >>> _lasting(2_400.0), _lasting(100_000.0)
    ('40 min', '27.8 h')
    """
    if seconds < 7_200:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3_600:.1f} h" if seconds < 3 * 86_400 else f"{seconds / 86_400:.1f} days"


def _thinned(steps: Sequence[tuple[float, int]]) -> list[tuple[float, int]]:
    """As many as can be seen; of each stretch the highest, so that no peak is lost."""
    if len(steps) <= _COURSE_POINTS:
        return list(steps)
    size = -(-len(steps) // _COURSE_POINTS)
    stretches = [steps[start : start + size] for start in range(0, len(steps), size)]
    return [*(max(stretch, key=lambda step: step[1]) for stretch in stretches), steps[-1]]


def _svg(label: str, height: int, parts: Sequence[str]) -> str:
    return f'<svg viewBox="0 0 {_WIDTH} {height}" role="img" aria-label="{label}">{"".join(parts)}</svg>'
