"""How long to keep a worker that is not needed: what costs least, by how long each level of need was away before."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Final

from stoker.policy.auto.experience import Histogram, histogram

# Gaps are counted in bins that grow by the fourth root of two, from a second to about ten days.
_BINS_PER_OCTAVE: Final = 4
_BINS: Final = 80
_EDGES_S: Final = tuple(2.0 ** (index / _BINS_PER_OCTAVE) for index in range(_BINS + 1))
_MIDDLES_S: Final = tuple((low + high) / 2 for low, high in pairwise(_EDGES_S))
# What other levels have seen counts as so many gaps of this one, and any gap up to about an hour as so many of theirs.
_PRIOR: Final = 3.0
_PRIOR_BINS: Final = 48
# After so many gaps the older ones count less and less.
_GAPS: Final = 85.0


class Gaps:
    """Gaps between needs, by length; older ones fade."""

    __slots__ = ("counts", "total")

    def __init__(self, known: Histogram = ()) -> None:
        self.counts = [0.0] * _BINS
        for place, count in known:
            if 0 <= place < _BINS:
                self.counts[place] = count
        self.total = sum(self.counts)

    def known(self) -> Histogram:
        """What should outlast it."""
        return histogram(self.counts)

    def note(self, gap_s: float) -> None:
        """One more."""
        if self.total > _GAPS:
            keep = 1.0 - 1.0 / _GAPS
            self.counts = [count * keep for count in self.counts]
            self.total *= keep
        index = 0 if gap_s <= 1.0 else min(_BINS - 1, int(math.log2(gap_s) * _BINS_PER_OCTAVE))
        self.counts[index] += 1.0
        self.total += 1.0


def chances(own: Gaps, others: Gaps) -> list[float]:
    """How likely the next gap falls into each bin: by its own, with others' and a plain guess where it has few."""
    foreign = _PRIOR / (_PRIOR + own.total)
    guessed = foreign * _PRIOR / (_PRIOR + others.total)
    found = [0.0] * _BINS
    for index in range(_BINS):
        chance = own.counts[index] / own.total * (1 - foreign) if own.total else 0.0
        if others.total:
            chance += others.counts[index] / others.total * (foreign - guessed)
        if index < _PRIOR_BINS:
            chance += guessed / _PRIOR_BINS
        found[index] = chance
    return found


def keep_s(
    own: Gaps, others: Gaps, *, miss_cost_s: float, long_s: float = math.inf, long_cost_s: float | None = None
) -> float:
    """The τ with the least E[min(gap, τ)] + P(gap > τ) · `miss_cost_s`, in seconds.

    `miss_cost_s` is what it costs, in seconds of a worker, that it is needed and gone: a start, and what is late. Gaps
    of more than `long_s` cost `long_cost_s` instead: their end is foreseen.
    """
    found = chances(own, others)
    costs = [miss_cost_s if long_cost_s is None or middle <= long_s else long_cost_s for middle in _MIDDLES_S]
    missed = sum(chance * cost for chance, cost in zip(found, costs, strict=True))
    left = sum(found)
    best_s, least, spent = 0.0, missed, 0.0
    for index, chance in enumerate(found):
        spent += chance * _MIDDLES_S[index]
        left -= chance
        missed -= chance * costs[index]
        cost = spent + left * _EDGES_S[index + 1] + missed
        if cost < least:
            best_s, least = _EDGES_S[index + 1], cost
    return best_s
