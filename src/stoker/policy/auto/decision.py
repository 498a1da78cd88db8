"""What `auto` has learned of one endpoint, and what it makes of that now: the estimates that a decision is made from.

It knows no clock and does nothing: each sample brings its time. Called wherever `auto` decides.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from stoker.policy.auto.backlog import Persistence
from stoker.policy.auto.estimates import (
    Estimates,
    Setting,
    Wanted,
    aimed,
    choose,
    extra,
    needed,
    rate,
    rounded,
    slots_needed,
    starting,
)
from stoker.policy.auto.experience import Experience
from stoker.policy.auto.levels import Lateness, Levels
from stoker.policy.auto.rises import Rises, rule_of_thumb
from stoker.policy.auto.service import Arrivals, ServiceTime, levels

# A rise that comes with this chance within one start time is prepared for.
_CHANCE = 0.3
# With workers that cost next to nothing until they are needed, a small one is enough.
_CHANCE_COLD = 0.01
_DEVIATIONS, _DEVIATIONS_COLD = 1.5, 3.0
_START_LEFT_S_MIN = 1.0
# A ready worker costs more than a cold one by this share at least.
_COST_MIN = 0.05
# What a start takes until one was seen.
START_S = 60.0
# While requests wait or take longer than is known, everything is looked at anew so often within one start, or less.
_LOOKS = 8
_LOOK_S = 1.0
# Nobody prepares for what is further away.
_START_S_MAX = 3_600.0


@dataclass(slots=True, kw_only=True)
class Sample:
    """What is seen of an endpoint: requests since the beginning that `arrived` and `ended`, those `in_flight` and
    `waiting`; workers that are `ready` and those wanted so far (`active`); since when the first of those that load
    does. `start_s`: what a start takes. `cold` are kept so; those on their way back (`resuming`, the first of them
    `resuming_since`) count as ready. `resume_s`: what that way takes, if it is known.
    """

    now: float
    arrived: int
    ended: int
    in_flight: int
    waiting: int
    ready: int
    active: int
    loading_since: float | None
    start_s: float
    busy: int = 0
    cold: int = 0
    resuming: int = 0
    resuming_since: float | None = None
    resume_s: float | None = None


class Auto:
    """All that was learned of one endpoint."""

    def __init__(self, setting: Setting, *, now: float, known: Experience | None = None) -> None:
        """`known`: what it knew when it was last here."""
        known = known or Experience()
        self.setting = setting
        self._service = ServiceTime(now, known.service)
        self._arrivals = Arrivals()
        self._rises = Rises(known.rises)
        self._levels = Levels(setting.workers_max, now=now, known=known)
        self._persistence = Persistence(known.persistence)
        self._extra = 0
        self._holds_until = now
        # Of the ready ones apart, as long as cold ones are back late; and what was known of them when that was last so.
        self._warm: Auto | None = None
        self._warm_known = known.warm

    def known(self, now: float) -> Experience:
        """What should outlast it."""
        gaps, known = self._levels.known(now)
        return Experience(
            service=self._service.known(),
            persistence=self._persistence.share,
            rises=self._rises.known(),
            gaps=gaps,
            levels=known,
            warm=self._warm_known if self._warm is None else self._warm.known(now),
        )

    def look(self, sample: Sample) -> Estimates:
        """Learn from what is seen now, and tell what to decide from."""
        it = self._seen(sample)
        needs = needed(it, self.setting)
        self._rises.note(sample.now, needs, start_s=it.start_s)
        if needs:
            it.rise = self._rise(it, needs)
        it.kept, kept_s = self._kept(sample, it, needs)
        it.kept_s = rounded(kept_s)
        it.expected, expected_s = self._levels.expected(sample.now, aimed(it, self.setting, needs))
        it.expected_s = rounded(expected_s)
        self._note_backlog(sample.now, it)
        it.warm = self._worth_warm(sample, it)
        self._holds_until = sample.now + self._holds_s(sample.now, it)
        return it

    def holds_s(self, now: float) -> float:
        """For how many seconds the last look leads to the same decision if nobody comes or goes and nothing starts or
        ends; infinite where time alone changes nothing.
        """
        return max(0.0, self._holds_until - now)

    def _holds_s(self, now: float, it: Estimates) -> float:
        window_s = it.service_s + self.setting.wait_target_s
        # What changes all the time changes little within a part of a start.
        part_s = max(_LOOK_S, it.start_s / _LOOKS)
        times = [
            self._levels.due_s(now),
            self._arrivals.falls_s(now, window_s=window_s),
            self._persistence.due_s(now, start_s=it.start_s),
            part_s if it.waiting else max(part_s, self._service.steady_s),
        ]
        times += [left_s for left_s in (it.kept_s, it.expected_s) if left_s]
        if self._warm is not None:
            times.append(self._warm.holds_s(now))
        return min(times)

    def decide(self, sample: Sample) -> Wanted:
        """What to have now."""
        return choose(self.look(sample), self.setting)

    def _seen(self, sample: Sample) -> Estimates:
        now, setting = sample.now, self.setting
        self._service.note(now, in_flight=sample.in_flight, ended=sample.ended)
        service_s = rounded(self._service.seconds(setting.wait_target_s))
        present = sample.in_flight + sample.waiting
        window_s = service_s + setting.wait_target_s
        self._arrivals.note(now, arrived=sample.arrived, present=present, window_s=window_s)
        start_s = min(sample.start_s, _START_S_MAX)
        left_s = start_s
        if sample.loading_since is not None:
            left_s = max(_START_LEFT_S_MIN, start_s - (now - sample.loading_since))
        self._persistence.look(now, self._arrivals.count / window_s, start_s=start_s)
        return Estimates(
            in_flight=sample.in_flight,
            waiting=sample.waiting,
            ready=sample.ready,
            active=sample.active,
            busy=sample.busy,
            cold=sample.cold,
            loading=sample.loading_since is not None,
            start_s=rounded(start_s),
            start_left_s=rounded(left_s),
            arrived=self._arrivals.count,
            service_s=service_s,
            service_known=self._service.is_known,
            persistence=rounded(self._persistence.share),
            going=self._extra,
            resume_s=rounded(sample.resume_s or 0.0),
        )

    def _worth_warm(self, sample: Sample, it: Estimates) -> int:
        """How many are worth being ready rather than cold; 0 where cold ones are back in time.

        It is the same question as without cold workers, of a start that takes as long as a cold one is away, and of a
        second that costs what a ready one costs more.
        """
        setting = self.setting
        if not setting.cold_cost or it.resume_s <= setting.wait_target_s:
            if self._warm is not None:
                self._warm_known, self._warm = self._warm.known(sample.now), None
            return 0
        if self._warm is None:
            known = self._warm_known or Experience(service=self._service.known())
            more = max(_COST_MIN, 1.0 - setting.cold_cost)
            apart = replace(setting, cold_cost=0.0, late_cost_s=setting.late_cost_s / more)
            self._warm = Auto(apart, now=sample.now, known=known)
        own = replace(
            sample,
            ready=sample.ready - sample.resuming,
            cold=0,
            loading_since=sample.resuming_since,
            # Nobody waits for a cold one longer than for a new one.
            start_s=min(it.resume_s, it.start_s),
        )
        return self._warm.decide(own).workers

    def _rise(self, it: Estimates, needs: int) -> int:
        setting, cold = self.setting, self.setting.cold_cost > 0
        thumb = 0
        # For a first request there is one worker: nobody knows whether there will be a second one.
        if it.service_known:
            deviations = _DEVIATIONS_COLD if cold else _DEVIATIONS
            thumb = rule_of_thumb(slots_needed(it, setting), setting.slots, needs, deviations=deviations)
        return self._rises.likely(needs, chance=_CHANCE_COLD if cold else _CHANCE, otherwise=thumb)

    def _kept(self, sample: Sample, it: Estimates, needs: int) -> tuple[int, float]:
        setting = self.setting
        aim = aimed(it, setting, needs)
        late = Lateness(
            it.service_s,
            setting.slots,
            it.start_s,
            setting.wait_target_s,
            setting.late_cost_s,
            setting.cold_cost or 1.0,
        )
        self._levels.note(sample.now, aim, arrived=sample.arrived, late=late)
        kept, kept_s = self._levels.kept(sample.now, aim, it.active + it.cold, late)
        if it.waiting:
            # Whoever is there anyway works off what waits.
            kept = max(kept, min(it.ready, levels(it.present, setting.slots)))
        return kept, kept_s

    def _note_backlog(self, now: float, it: Estimates) -> None:
        self._extra = extra(it, self.setting)
        if starting(it, self.setting):
            self._persistence.begin(now, rate(it, self.setting))
