"""What is learned of launches, as it is answered. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from pydantic import BaseModel

from stoker.domain.learned import Kind, Learned, Place, Samples


class QuantilesOut(BaseModel):
    """Of the last 64 of `count` samples: the median, and what nine of ten do not exceed."""

    count: int
    median: float
    p90: float

    @classmethod
    def of(cls, samples: Samples | None) -> QuantilesOut | None:
        """`None` where nothing is known."""
        median, p90 = (None, None) if samples is None else (samples.quantile(0.5), samples.quantile(0.9))
        if samples is None or median is None or p90 is None:
            return None
        return cls(count=samples.count, median=round(median, 3), p90=round(p90, 3))


class LearnedOut(BaseModel):
    """One launch at one host: seconds from start to ready, of the first worker there (`start_cold_s`), of later ones
    (`start_warm_s`), and of cold ones that were taken up again (`resume_s`); requests and completion tokens per second
    that one worker sustained when all its slots were taken. Null: not known.
    """

    launch: str
    provider: str
    host: str
    start_cold_s: QuantilesOut | None
    start_warm_s: QuantilesOut | None
    resume_s: QuantilesOut | None
    requests_per_s: QuantilesOut | None
    tokens_per_s: QuantilesOut | None


class LearnedListOut(BaseModel):
    """What is learned of an endpoint's present launches. `expected_start_s`: how long a start is expected to take,
    which is also what `Retry-After` says while no worker is there.
    """

    expected_start_s: float | None
    items: list[LearnedOut]

    @classmethod
    def of(cls, learned: Iterable[Learned], expected_start_s: float | None) -> LearnedListOut:
        """By place."""
        places: dict[Place, dict[Kind, Samples]] = {}
        for item in learned:
            places.setdefault(item.place, {})[item.kind] = item.samples
        items = [
            LearnedOut(
                launch=place.launch[:12],
                provider=place.provider,
                host=place.host,
                start_cold_s=QuantilesOut.of(kinds.get(Kind.START_COLD)),
                start_warm_s=QuantilesOut.of(kinds.get(Kind.START_WARM)),
                resume_s=QuantilesOut.of(kinds.get(Kind.RESUME)),
                requests_per_s=QuantilesOut.of(kinds.get(Kind.REQUESTS)),
                tokens_per_s=QuantilesOut.of(kinds.get(Kind.TOKENS)),
            )
            for place, kinds in places.items()
        ]
        return cls(expected_start_s=expected_start_s, items=items)
