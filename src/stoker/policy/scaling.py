"""How many workers an endpoint should have: a pure function of policy, bounds, signals, memory and time.

Called by control for every report and at once for a waiting request, and by the simulation. Each trigger asks for a
number, the largest counts; then what holds for all of them: idle time, delays, steps, cooldowns, bounds.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from stoker.domain.endpoint import Override, ScaleBounds, ScalingPolicy
from stoker.domain.operation import Decision, Demand
from stoker.domain.scaling import Step
from stoker.policy.memory import Memory, settled_apart
from stoker.policy.signals import Signals as Signals
from stoker.policy.triggers import Evidence, demand


def decide(
    policy: ScalingPolicy,
    bounds: ScaleBounds,
    signals: Signals | None,
    *,
    slots: int,
    current: int,
    now: float,
    override: Override | None = None,
    memory: Memory | None = None,
) -> Decision:
    """The number of workers wanted now, `current` being the number wanted before, starting ones included.

    `memory` is what `memory.remembered` made of the decisions before; without any, the current number counts as just
    asked for. Without signals nothing shrinks: a silent gateway must never look like an idle one.
    """
    if override is not None and override.holds(now):
        return Decision(at=now, current=current, workers=override.workers, reason=_by_hand(override, now))
    evidence = Evidence(now=now, slots=slots, current=current, signals=signals)
    triggers = tuple(_subject(demand(trigger, evidence), policy) for trigger in policy.effective)
    asked = Decision(at=now, current=current, workers=current, reason="", triggers=triggers)
    steps = _Steps(policy, bounds, signals, asked, memory or Memory.of(current, now))
    return steps.decision()


def _subject(asked: Demand, policy: ScalingPolicy) -> Demand:
    """Delays that somebody has said hold for triggers, too, that have their own judgement."""
    said = policy.scale_down_delay_s is not None or policy.scale_up_delay_s > 0
    return replace(asked, settled=False) if asked.keeps and said else asked


def _by_hand(override: Override, now: float) -> str:
    left = "until that is undone" if override.until is None else f"for another {override.until - now:.0f} s"
    return f"set by hand, {left}"


def told(decision: Decision, signals: Signals | None, *, everything: bool = False) -> Decision:
    """The decision with what it was made from, for those that are recorded or shown: most are neither. Where
    `everything` was asked for, what is not known is told as such.
    """
    if signals is None:
        return decision
    readings = signals.readings()
    inputs: dict[str, float | int | None] = {name: _short(reading.value) for name, reading in readings.items()}
    if everything:
        inputs |= dict.fromkeys(signals.unknown)
    inputs["idle_s"] = _short(max(0.0, decision.at - signals.busy_at))
    ages = {name: _short(reading.age_s) for name, reading in readings.items()}
    return replace(decision, inputs=inputs, ages=ages)


def _short(value: float) -> float | int:
    return int(value) if value == int(value) else round(value, 4)


@dataclass(slots=True)
class _Steps:
    """The way from what triggers ask for to the number wanted; each method is one step and notes what it changed."""

    policy: ScalingPolicy
    bounds: ScaleBounds
    signals: Signals | None
    asked: Decision
    memory: Memory
    limits: list[str] = field(default_factory=list)

    def decision(self) -> Decision:
        """All of it."""
        asked, current = self.asked, self.asked.current
        wanted = self._wanted()
        over = self._idle_over
        settled = max((d.workers or 0 for d in asked.triggers if d.settled and not (over and d.keeps)), default=0)
        workers = self._floored(max(settled, self._delayed(wanted)))
        if workers != current:
            workers = self._paced(workers)
        workers = self._bounded(workers)
        reason = self._reason(workers)
        if self.policy.advisory:
            self.limits.append("advisory: nobody acts on it")
        return Decision(
            at=asked.at,
            current=current,
            workers=workers,
            reason=reason,
            triggers=asked.triggers,
            limits=tuple(self.limits),
            advisory=self.policy.advisory,
        )

    def _wanted(self) -> int | None:
        """What triggers ask for to which the delays apply; `None` when none of them could know."""
        wanted = settled_apart(self.asked)
        current = self.asked.current
        unknown = [d.trigger for d in self.asked.triggers if d.workers is None]
        if unknown and (wanted is None or wanted < current):
            which = "no signal" if self.signals is None else f"nothing is known for {', '.join(unknown)}"
            self.limits.append(f"{which}: keeping what is wanted")
            return None
        return wanted or 0

    @property
    def _present(self) -> bool:
        return self.signals is not None and self.signals.present > 0

    @property
    def _idle_s(self) -> float:
        return 0.0 if self.signals is None else self.asked.at - self.signals.busy_at

    def _delayed(self, wanted: int | None) -> int:
        """Idle time, and the delays of both directions."""
        current, now, policy = self.asked.current, self.asked.at, self.policy
        if self._idle_over:
            self.limits = [f"idle for {policy.idle_s:g} s"] if current or wanted else []
            return 0
        if wanted is None:
            return current
        if wanted > current > 0 and policy.scale_up_delay_s > 0:
            low = self.memory.lowest(now - policy.scale_up_delay_s)
            held = max(current, min(wanted, wanted if low is None else low))
            if held < wanted:
                self.limits.append(f"not wanted for {policy.scale_up_delay_s:g} s so far: {wanted}")
            return held
        if wanted < current:
            held = min(current, max(wanted, self.memory.highest(now - policy.down_delay_s)))
            if held > wanted:
                self.limits.append(f"{held} were wanted within the last {policy.down_delay_s:g} s")
            return held
        return wanted

    @property
    def _idle_over(self) -> bool:
        """Was nobody there for so long that nothing is kept but what schedules ask for?"""
        known = self.signals is not None and not self._present
        return known and self._idle_s >= self.policy.idle_s and self._lets_go

    @property
    def _lets_go(self) -> bool:
        """Does the idle timeout apply?"""
        return self.policy.idle_timeout_s is not None or not any(each.keeps for each in self.asked.triggers)

    def _floored(self, workers: int) -> int:
        """One worker at least: for a request that is there, until the idle timeout, and where zero is not allowed."""
        if workers > 0:
            return workers
        if self._present:
            self.limits.append("a request is there")
            return 1
        idle = self._idle_s >= self.policy.idle_s
        if self.asked.current > 0 and not idle and self.signals is not None and self._lets_go:
            self.limits.append(f"idle, but for less than {self.policy.idle_s:g} s")
            return 1
        if not self.policy.to_zero:
            self.limits.append("never to zero")
            return 1
        return 0

    def _paced(self, workers: int) -> int:
        """Steps and cooldowns. The first worker is never late for them."""
        current, now, policy = self.asked.current, self.asked.at, self.policy
        up = workers > current
        cooldown_s = policy.scale_up_cooldown_s if up else policy.scale_down_cooldown_s
        changed_at = self.memory.changed_at
        if self.memory.current != current:
            changed_at = now
        if current > 0 and cooldown_s > 0 and changed_at is not None and now - changed_at < cooldown_s:
            self.limits.append(f"{cooldown_s:g} s after the last change are not over: {workers}")
            return current
        steps = policy.scale_up_steps if up else policy.scale_down_steps
        if not steps:
            return workers
        allowed = max(self._room(step, up=up) for step in steps)
        paced = min(workers, current + max(allowed, 0 if current else 1)) if up else max(workers, current - allowed)
        if paced != workers:
            self.limits.append(f"{workers} in steps")
        return paced

    def _room(self, step: Step, *, up: bool) -> int:
        """By how many workers this step still lets the number change."""
        more, fewer = self.memory.changed_by(self.asked.at - step.period_s)
        # What the decision before has changed is not remembered yet.
        latest = self.asked.current - self.memory.current
        more, fewer = more + max(0, latest), fewer + max(0, -latest)
        done = more if up else fewer
        # The number at the beginning of the period, as far as changes in this direction made it another one.
        base = self.asked.current - more if up else self.asked.current + fewer
        size = step.workers if step.workers is not None else -(-base * (step.percent or 0.0) // 100)
        return max(0, int(size) - done)

    def _bounded(self, workers: int) -> int:
        if workers > self.bounds.max:
            self.limits.append(f"at most {self.bounds.max}")
            return self.bounds.max
        if workers < self.bounds.min:
            self.limits.append(f"at least {self.bounds.min}")
            return self.bounds.min
        return workers

    def _reason(self, workers: int) -> str:
        text = self._main(workers)
        rest = [limit for limit in self.limits if limit != text]
        return f"{text} ({'; '.join(rest)})" if rest else text

    def _main(self, workers: int) -> str:
        known = [each for each in self.asked.triggers if each.workers is not None]
        idle = self.limits[0] if self.limits and self.limits[0].startswith("idle") else None
        if not known or (idle is not None and workers <= 1):
            return self.limits[0] if self.limits else "nothing is known"
        most = max(known, key=_weight)
        if not most.workers and self.signals is not None and not self._present:
            return "no requests"
        return most.text if len(self.asked.triggers) == 1 else f"{most.trigger}: {most.text}"


def _weight(each: Demand) -> int:
    return each.workers or 0
