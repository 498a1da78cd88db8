"""Policies over a trace: what each costs and how many requests wait. Called by `stoker simulate` and the benchmark."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, fields

from stoker.domain.errors import Invalid
from stoker.simulate.bounds import work_bound, zero_wait_bound
from stoker.simulate.draws import StartTimes
from stoker.simulate.policies import POLICIES, Knobs, Make
from stoker.simulate.run import Outcome, Run
from stoker.simulate.trace import Profile, Requests, Trace

ATTAINED_S = 5.0
PATIENCE_S = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """One policy over all endpoints of a trace. GPU-seconds, shares of requests, seconds. `in_time`: the share that did
    not wait beyond the profile's target. `steps`: workers over time of all endpoints together.
    """

    policy: str
    trace: str
    requests: int
    gpu_s: float
    zero_wait_bound_gpu_s: float
    work_bound_gpu_s: float
    attainment_5s: float
    attainment_30s: float
    wait_p50_s: float
    wait_p99_s: float
    starts: int
    flaps: int
    workers_peak: int
    in_time: float
    steps: Sequence[tuple[float, int]] = field(repr=False)

    @property
    def ratio(self) -> float:
        """Cost over the zero-wait bound."""
        return self.gpu_s / self.zero_wait_bound_gpu_s

    def document(self) -> dict[str, object]:
        """What scripts read: the same fields whatever the target is."""
        return {each.name: getattr(self, each.name) for each in fields(self) if each.name not in ("steps", "in_time")}


@dataclass(slots=True)
class _Endpoint:
    requests: Requests
    services: Sequence[float]
    zero_wait_gpu_s: float
    work_gpu_s: float


class Comparison:
    """A trace on a profile of hardware, with the bounds, which do not depend on the policy."""

    def __init__(self, trace: Trace, profile: Profile, *, seed: int = 0, tail_s: float = 0.0) -> None:
        self.trace, self.profile = trace, profile
        self._seed, self._tail_s = seed, tail_s
        self._endpoints = [self._prepared(requests) for requests in trace.endpoints]

    def _prepared(self, requests: Requests) -> _Endpoint:
        services = self.profile.services(requests)
        return _Endpoint(
            requests,
            services,
            zero_wait_bound(requests.arrivals, services, self.profile),
            work_bound(services, self.profile),
        )

    def result(
        self,
        policy: str,
        knobs: Knobs | None = None,
        *,
        make: Make | None = None,
        progress: Callable[[int], None] | None = None,
    ) -> Result:
        """What the policy makes of it, or the rule that `make` gives under that name. `progress` is told how many
        requests are done. Raises `Invalid`.
        """
        make = make or POLICIES.get(policy)
        if make is None:
            raise Invalid.at("/policy", f"there is no policy {policy!r}, only {', '.join(POLICIES)}")
        knobs = knobs or Knobs()
        outcomes = []
        for index, endpoint in enumerate(self._endpoints):
            arrivals, services = endpoint.requests.arrivals, endpoint.services
            run = Run(
                arrivals,
                services,
                self.profile,
                make(arrivals, services, self.profile, knobs.given()),
                StartTimes(self.profile.start_s, self.profile.sigma, 1_000 * self._seed + index),
                tail_s=self._tail_s,
            )
            outcomes.append(run.whole(progress=progress))
        return self._summed(f"{policy}({knobs})" if knobs.given() else policy, outcomes)

    def _summed(self, name: str, outcomes: Sequence[Outcome]) -> Result:
        waits = sorted(wait for outcome in outcomes for wait in outcome.waits)
        return Result(
            policy=name,
            trace=self.trace.name,
            requests=len(waits),
            gpu_s=sum(outcome.gpu_s for outcome in outcomes),
            zero_wait_bound_gpu_s=sum(e.zero_wait_gpu_s for e in self._endpoints),
            work_bound_gpu_s=sum(e.work_gpu_s for e in self._endpoints),
            attainment_5s=share_within(waits, ATTAINED_S),
            attainment_30s=share_within(waits, PATIENCE_S),
            wait_p50_s=percentile(waits, 0.5),
            wait_p99_s=percentile(waits, 0.99),
            starts=sum(outcome.starts for outcome in outcomes),
            flaps=sum(outcome.flaps for outcome in outcomes),
            workers_peak=sum(outcome.peak for outcome in outcomes),
            in_time=share_within(waits, self.profile.wait_target_s),
            steps=tuple(_together([outcome.steps for outcome in outcomes])),
        )


def share_within(waits: Sequence[float], limit_s: float) -> float:
    """The share of these that are not above the limit."""
    return sum(1 for wait in waits if wait <= limit_s) / len(waits)


def percentile(ordered: Sequence[float], share: float) -> float:
    """The smallest value that at least this share of the sorted values does not exceed.

    >>> percentile([1.0, 2.0, 3.0, 4.0], 0.5)
    2.0
    """
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def front(results: Sequence[Result]) -> list[Result]:
    """Those that no other is both cheaper than and as good as, the cheapest first."""
    best: list[Result] = []
    for result in sorted(results, key=lambda r: (r.gpu_s, -r.in_time)):
        if not best or result.in_time > best[-1].in_time:
            best.append(result)
    return best


def _together(courses: Sequence[Sequence[tuple[float, int]]]) -> Iterator[tuple[float, int]]:
    changes: list[tuple[float, int]] = []
    for course in courses:
        before = 0
        for at, count in course:
            changes.append((at, count - before))
            before = count
    total = 0
    changes.sort()
    for index, (at, change) in enumerate(changes):
        total += change
        if index + 1 == len(changes) or changes[index + 1][0] != at:
            yield at, total
