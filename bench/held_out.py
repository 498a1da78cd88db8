"""Traffic of kinds that the reference traces do not have, drawn by seed, for `bench/autoscaling.py --held-out`.

Each is there in two sizes, of about one worker and of several. That needs come back by the clock is learned since the
first of them were drawn; no number was tuned to them.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator, Mapping

from stoker.simulate.trace import Trace, requests_of

HOUR_S, DAY_S, WEEK_S = 3_600.0, 86_400.0, 7 * 86_400.0
SIZES: Mapping[str, float] = {"small": 1.0, "large": 8.0}

Times = Iterator[float]
# Of one kind: (draws, size) to the times of arrival.
Kind = Callable[[random.Random, float], Times]


def poisson(draw: random.Random, rate: Callable[[float], float], most: float, span_s: float) -> Times:
    """Arrivals of a Poisson process whose rate changes, never above `most`."""
    at = draw.expovariate(most)
    while at < span_s:
        if draw.random() * most < rate(at):
            yield at
        at += draw.expovariate(most)


def steady(draw: random.Random, size: float) -> Times:
    """Always the same rate."""
    return poisson(draw, lambda at: 0.5 * size, 0.5 * size, 6 * HOUR_S)


def bursts(draw: random.Random, size: float) -> Times:
    """A Markov-modulated Poisson process: ten minutes of calm and a minute of eight times as much, in the mean."""
    changes, at, high = [0.0], 0.0, False
    while at < 8 * HOUR_S:
        at += draw.expovariate(1 / 60.0 if high else 1 / 600.0)
        changes.append(at)
        high = not high
    calm = 0.2 * size
    state = 0

    def rate(now: float) -> float:
        nonlocal state
        while changes[state + 1] <= now:
            state += 1
        return calm * (8.0 if state % 2 else 1.0)

    return poisson(draw, rate, 8 * calm, 8 * HOUR_S)


def week(draw: random.Random, size: float) -> Times:
    """Seven days with nights, the last two of them quiet."""

    def rate(now: float) -> float:
        hour = now % DAY_S / HOUR_S
        day = max(0.02, math.sin(math.pi * (hour - 7) / 14)) if 7 < hour < 21 else 0.02
        return 0.1 * size * day * (0.25 if now >= 5 * DAY_S else 1.0)

    return poisson(draw, rate, 0.1 * size, WEEK_S)


def spikes(every_s: float, lasts_s: float, requests: int, span_s: float) -> Kind:
    """Jobs by the clock: so many requests at each, begun within a few seconds of it, and nothing between."""

    def kind(draw: random.Random, size: float) -> Times:
        begin = every_s / 2
        while begin < span_s:
            first = begin + draw.uniform(0.0, 5.0)
            count = round(requests * size * draw.uniform(0.8, 1.2))
            yield from sorted(first + draw.random() * lasts_s for _ in range(count))
            begin += every_s

    return kind


def flash(draw: random.Random, size: float) -> Times:
    """A low rate, and now and then twenty times as much within half a minute, which dies away over minutes."""
    begins = sorted(draw.uniform(HOUR_S, 9 * HOUR_S) for _ in range(4))
    calm = 0.05 * size

    def rate(now: float) -> float:
        total = calm
        for begin in begins:
            since = now - begin
            if since > 0:
                total += 20 * calm * min(1.0, since / 30.0) * math.exp(-max(0.0, since - 30.0) / 400.0)
        return total

    return poisson(draw, rate, 80 * calm, 10 * HOUR_S)


def step(before: float, after: float) -> Kind:
    """One rate for three hours and another one from then on."""

    def kind(draw: random.Random, size: float) -> Times:
        def rate(now: float) -> float:
            return size * (before if now < 3 * HOUR_S else after)

        return poisson(draw, rate, size * max(before, after), 6 * HOUR_S)

    return kind


def slow(draw: random.Random, size: float) -> Times:
    """For requests of minutes: a low rate."""
    return poisson(draw, lambda at: 0.015 * size, 0.015 * size, 12 * HOUR_S)


def sparse(draw: random.Random, size: float) -> Times:
    """One function among many: sessions of a few requests, hours or minutes apart."""
    at, gap_s = 0.0, draw.lognormvariate(math.log(1_500.0 / math.sqrt(size)), 0.8)
    while (at := at + draw.lognormvariate(math.log(gap_s), 1.2)) < 2 * DAY_S:
        yield at
        while draw.random() < 0.75 and at < 2 * DAY_S:
            at += draw.expovariate(1 / 20.0)
            yield at


KINDS: Mapping[str, tuple[Kind, str]] = {
    "steady": (steady, "A"),
    "bursts": (bursts, "A"),
    "week": (week, "A"),
    "every 15 min": (spikes(900.0, 60.0, 15, DAY_S), "A"),
    "every hour": (spikes(HOUR_S, 180.0, 40, 2 * DAY_S), "A"),
    "sparse": (sparse, "A"),
    "flash crowd": (flash, "A"),
    "long requests": (slow, "B"),
    "step up": (step(0.1, 0.8), "A"),
    "step down": (step(0.8, 0.1), "A"),
}
_ENDPOINTS = {"sparse": 8}


def trace(kind: str, size: str, seed: int) -> Trace:
    """The requests of one kind in one size."""
    times, _ = KINDS[kind]
    endpoints = []
    for number in range(_ENDPOINTS.get(kind, 1)):
        draw = random.Random(f"{kind} {size} {seed} {number}")
        endpoints.append(requests_of(f"e{number:02}", [(at, *_tokens(kind, draw)) for at in times(draw, SIZES[size])]))
    return Trace(f"{kind}, {size}", tuple(endpoints))


def _tokens(kind: str, draw: random.Random) -> tuple[int, int]:
    """Input and output of one request: lognormal, as in most published traces."""
    long = kind == "long requests"
    read = draw.lognormvariate(math.log(20_000 if long else 1_000), 0.8)
    written = draw.lognormvariate(math.log(1_500 if long else 120), 0.9)
    return 1 + min(120_000, int(read)), 1 + min(16_000, int(written))
