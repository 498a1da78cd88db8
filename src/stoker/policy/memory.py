"""What decisions remember of those before: what was asked for, and which changes were made. Pure values.

Bounded: of numbers asked for only those that may still be the highest or lowest of a window are kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from stoker.domain.operation import Decision
from stoker.domain.scaling import ScalingPolicy, Step

CHANGES_MAX = 256


@dataclass(frozen=True, slots=True)
class Change:
    """The number of workers wanted became another one."""

    at: float
    before: int
    after: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """`highs` are (when, number) with falling numbers, the first the highest of its window; `lows` the mirror image;
    `changes` oldest first. `current` is the number wanted at the last decision.
    """

    current: int
    highs: tuple[tuple[float, int], ...] = ()
    lows: tuple[tuple[float, int], ...] = ()
    changes: tuple[Change, ...] = ()

    @classmethod
    def of(cls, current: int, now: float) -> Memory:
        """A beginning: what is wanted now counts as asked for now, so that a restart forgets no demand."""
        return cls(current=current, highs=((now, current),), lows=((now, current),))

    def highest(self, since: float) -> int:
        """The highest number asked for since then; 0 when there is none."""
        return next((number for at, number in self.highs if at >= since), 0)

    def lowest(self, since: float) -> int | None:
        """The lowest one; `None` when there is none."""
        return next((number for at, number in self.lows if at >= since), None)

    def changed_by(self, since: float) -> tuple[int, int]:
        """How many workers more, and how many fewer, were wanted since then, each change counted."""
        recent = [change.after - change.before for change in self.changes if change.at > since]
        return sum(max(0, by) for by in recent), sum(max(0, -by) for by in recent)

    @property
    def changed_at(self) -> float | None:
        """When the last change was; `None`: there was none."""
        return self.changes[-1].at if self.changes else None


def remembered(memory: Memory | None, policy: ScalingPolicy, decision: Decision) -> Memory:
    """What the next decision may remember after this one."""
    now, current = decision.at, decision.current
    if memory is None:
        memory = Memory.of(current, now)
    changes = memory.changes
    if current != memory.current:
        changes = (*changes, Change(now, memory.current, current))
    needed_s = kept_s(policy)
    if changes and (changes[0].at < now - needed_s or len(changes) > CHANGES_MAX):
        changes = tuple(change for change in changes[-CHANGES_MAX:] if change.at >= now - needed_s)
    asked = settled_apart(decision)
    if asked is None:
        return replace(memory, current=current, changes=changes)
    return Memory(
        current=current,
        highs=_noted(memory.highs, now, asked, now - policy.down_delay_s, highest=True),
        lows=_noted(memory.lows, now, asked, now - policy.scale_up_delay_s, highest=False),
        changes=changes,
    )


def resumed(memory: Memory | None, policy: ScalingPolicy, last: Decision, current: int, *, now: float) -> Memory:
    """What is remembered after a restart: `memory` is what the `last` recorded decision was made from, `current` the
    number wanted since, which counts as asked for now.
    """
    changes = () if memory is None else memory.changes
    if last.workers != last.current:
        changes = (*changes, Change(last.at, last.current, last.workers))
    known = tuple(change for change in changes[-CHANGES_MAX:] if change.at >= now - kept_s(policy))
    return replace(Memory.of(current, now), changes=known)


def settled_apart(decision: Decision) -> int | None:
    """The largest number asked for by triggers to which delays apply; `None` when none of them could know."""
    asked = [each.workers for each in decision.triggers if each.workers is not None and not each.settled]
    return max(asked, default=None)


def kept_s(policy: ScalingPolicy) -> float:
    """For how many seconds changes are remembered: as long as its steps and cooldowns go by them."""
    steps: Sequence[Step] = (*policy.scale_up_steps, *policy.scale_down_steps)
    return max(policy.scale_up_cooldown_s, policy.scale_down_cooldown_s, *(step.period_s for step in steps), 0.0)


def _noted(
    kept: tuple[tuple[float, int], ...], now: float, number: int, since: float, *, highest: bool
) -> tuple[tuple[float, int], ...]:
    end = len(kept)
    while end and (kept[end - 1][1] <= number if highest else kept[end - 1][1] >= number):
        end -= 1
    begin = 0
    while begin < end and kept[begin][0] < since:
        begin += 1
    return (*kept[begin:end], (now, number))
