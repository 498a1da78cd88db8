"""What is learned of a launch on a host: how long starts take, and what one worker sustains. Pure data.

Robust: quantiles of the last samples, so that one odd start changes little and an old machine's past is forgotten.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from enum import StrEnum

SAMPLES_MAX = 64


class Kind(StrEnum):
    """START_COLD: seconds from start to ready of the first worker of a launch on a host, which has nothing of its image
    or model yet; START_WARM: of later ones; RESUME: of a cold worker that is taken up again. The others: what one
    worker sustains when all of its slots are taken.
    """

    START_COLD = "start_cold_s"
    START_WARM = "start_warm_s"
    RESUME = "resume_s"
    REQUESTS = "requests_per_s"
    TOKENS = "tokens_per_s"


@dataclass(frozen=True, slots=True)
class Place:
    """A launch, by its digest, at a provider's host."""

    launch: str
    provider: str
    host: str


@dataclass(frozen=True, slots=True)
class Samples:
    """The last values, oldest first, of `count` that there ever were, and when the last of them came."""

    values: tuple[float, ...] = ()
    count: int = 0
    at: float | None = field(default=None, compare=False)

    def plus(self, value: float, at: float | None = None) -> Samples:
        """With one more."""
        return Samples((*self.values, value)[-SAMPLES_MAX:], self.count + 1, at)

    def quantile(self, share: float) -> float | None:
        """The smallest of the last values that is not below this share of them; `None` without any."""
        if not self.values:
            return None
        ordered = sorted(self.values)
        return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


@dataclass(frozen=True, slots=True)
class Learned:
    """One kind of thing that is known of a place."""

    place: Place
    kind: Kind
    samples: Samples
