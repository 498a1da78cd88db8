"""What a look at an endpoint's traffic teaches of its workers, and what to tell those who wait. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from stoker.domain.learned import Kind, Learned, Place, Samples
from stoker.domain.worker import WorkerId
from stoker.policy.signals import Reading

# Long enough for rates of long requests, short enough to be all of one load.
WINDOW_S = 10.0
SATURATED = 0.9
COMPLETIONS_MIN = 5


@dataclass(frozen=True, slots=True)
class Look:
    """An endpoint's cumulative traffic at a moment, and who served it: ready workers with their slots, all at one place
    (`None`: at several).
    """

    at: float
    completions: int
    busy_s: float
    tokens: int
    workers: frozenset[WorkerId]
    slots: int
    place: Place | None


def sustained(before: Look, after: Look) -> tuple[float, float | None] | None:
    """Requests and completion tokens per second of one worker, when all its slots were taken between the two looks; the
    tokens are `None` when no answer told any. `None` when the looks teach nothing.
    """
    span_s = after.at - before.at
    completions, busy_s = after.completions - before.completions, after.busy_s - before.busy_s
    tokens = after.tokens - before.tokens
    same = before.workers == after.workers and before.slots == after.slots and before.place == after.place
    if span_s < WINDOW_S or not same or not after.workers or after.place is None:
        return None
    # Fewer than before: it is another gateway that counts.
    if completions < COMPLETIONS_MIN or tokens < 0 or busy_s < SATURATED * after.slots * span_s:
        return None
    count = len(after.workers)
    return completions / span_s / count, tokens / span_s / count if tokens else None


def kind_of_start(known: Iterable[Kind], *, from_cold: bool = False) -> Kind:
    """What a start is where these kinds are known of its place already: whoever started there before has left image and
    model behind. One `from_cold` is none at all, and a matter of moments.
    """
    if from_cold:
        return Kind.RESUME
    return Kind.START_WARM if {Kind.START_COLD, Kind.START_WARM} & set(known) else Kind.START_COLD


def expected_start_s(warm: Iterable[Samples], cold: Iterable[Samples]) -> float | None:
    """What a start is expected to take, in whole seconds: the median of warm ones, else of cold ones, of the slowest
    place; `None` when there has been none.
    """
    for group in (warm, cold):
        medians = [median for samples in group if (median := samples.quantile(0.5)) is not None]
        if medians:
            return float(max(1, math.ceil(max(medians))))
    return None


def readings_of(learned: Iterable[Learned], *, now: float) -> dict[str, Reading]:
    """What is learned of an endpoint's launches as signals, each as old as the youngest sample of its kind."""
    known = tuple(learned)
    of = {kind: [item.samples for item in known if item.kind is kind] for kind in Kind}
    found: dict[str, Reading] = {}
    start_s = expected_start_s(of[Kind.START_WARM], of[Kind.START_COLD])
    if start_s is not None:
        found["start_s"] = Reading(start_s, _age_s(of[Kind.START_WARM] or of[Kind.START_COLD], now))
    resumes = [median for samples in of[Kind.RESUME] if (median := samples.quantile(0.5)) is not None]
    if resumes:
        found["resume_s"] = Reading(max(resumes), _age_s(of[Kind.RESUME], now))
    for kind in (Kind.REQUESTS, Kind.TOKENS):
        medians = [median for samples in of[kind] if (median := samples.quantile(0.5)) is not None]
        if medians:
            found[kind.value] = Reading(min(medians), _age_s(of[kind], now))
    return found


def _age_s(group: Iterable[Samples], now: float) -> float:
    return max(0.0, min((now - samples.at for samples in group if samples.at is not None), default=0.0))
