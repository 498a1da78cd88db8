"""What `auto` decides from, as flat numbers that are recorded with the decision, and the decision: a pure function.

`decision.Auto` makes the estimates from what it has learned. The same numbers lead to the same workers whenever.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, fields
from typing import Any, Final

from stoker.policy.auto.backlog import Waiting, worth_finishing, worth_starting
from stoker.policy.auto.service import demand, levels

# How they are named among the inputs of a decision.
PREFIX: Final = "auto."
_DIGITS: Final = 4
# Less would be told as no slots at all.
_DEMAND_TOLD: Final = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """`slots` of a worker; never more workers than `workers_max`. `late_cost_s`: seconds of a worker that it is worth
    to spare one late request; a wait of more than `wait_target_s` makes it late. `cold_cost`: what a cold worker, which
    is back sooner than one that starts, costs beside a ready one; 0: there are none.
    """

    slots: int
    workers_max: int
    late_cost_s: float = 300.0
    wait_target_s: float = 5.0
    cold_cost: float = 0.0


# Not frozen: it is put together in steps, several times a second for each busy endpoint. Nobody changes one that was
# handed out.
@dataclass(slots=True, kw_only=True)
class Estimates:
    """Of now: requests `in_flight` and `waiting`, workers that are `ready` (`busy` of them have requests), wanted so
    far (`active`) and `cold`, whether any is `loading`, a start's `start_s` and what of it the first of those loading
    still takes.

    Learned: how many requests `arrived` in the time in which they must be served, what each takes (`service_s`, a guess
    unless `service_known`), the `rise` that is likely while a worker starts, the `persistence` of arrivals, up to which
    level workers are worth being `kept`, and for how long the highest still is (`kept_s`); up to which level they are
    `expected` to be needed at about this time, and for how long that holds (`expected_s`). `going`: extra workers for a
    backlog, wanted before and still loading. `warm`: where a cold worker is back (in `resume_s`) later than requests
    should wait, how many are worth being ready rather than cold.
    """

    in_flight: int
    waiting: int
    ready: int
    active: int
    busy: int
    cold: int
    loading: bool
    start_s: float
    start_left_s: float
    arrived: int
    service_s: float
    service_known: bool
    rise: int = 0
    persistence: float = 1.0
    kept: int = 0
    kept_s: float = 0.0
    expected: int = 0
    expected_s: float = 0.0
    going: int = 0
    resume_s: float = 0.0
    warm: int = 0

    @property
    def present(self) -> int:
        """Requests in flight or waiting."""
        return self.in_flight + self.waiting


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """Workers: those that demand `needs`, those prepared `ahead`, extra for a `backlog`, `kept` though not needed,
    and those of a need that is `expected` by the clock.

    `workers` is what all of this comes to. `demand` is in slots. `held` are to be ready or cold, where there are cold
    workers: then `workers` are those that requests are there for, and all the others are kept cold.
    """

    workers: int
    needs: int
    ahead: int
    backlog: int
    kept: int
    demand: float
    service_s: float
    expected: int = 0
    kept_s: float = 0.0
    held: int = 0

    @property
    def reason(self) -> str:
        """One sentence."""
        if self.held:
            ahead = f"{self.ahead} for those who would wait too long for a cold one, " if self.ahead else ""
            return f"{self.needs} for those who are there, {ahead}{self.held} ready or cold for what may come"
        parts = [f"{self.needs} for a demand of {self.demand:.1f} slots ({self.service_s:.2g} s each)"]
        if self.needs and self.demand < _DEMAND_TOLD:
            # It came too long ago, or is counted as about nothing, and is there.
            parts = [f"{self.needs} for a request that is there"]
        if self.ahead:
            parts.append(f"{self.ahead} for the rise that is likely while one starts")
        if self.backlog:
            parts.append(f"{self.backlog} to work off what waits")
        if self.kept:
            until = f" for another {self.kept_s:.0f} s" if self.kept_s else ""
            parts.append(f"{self.kept} kept{until}, as they may be needed again before a start would pay")
        if self.expected:
            parts.append(f"{self.expected} for what comes about now, by when it came before")
        return ", ".join(parts)


def rounded(value: float) -> float:
    """As it is recorded: what is decided from is what can be read later."""
    return round(value, _DIGITS)


def slots_needed(it: Estimates, setting: Setting) -> float:
    """The demand."""
    return demand(it.arrived, service_s=it.service_s, slack_s=setting.wait_target_s)


def needed(it: Estimates, setting: Setting) -> int:
    """Workers that the demand takes."""
    least = 1 if it.present else 0
    return min(setting.workers_max, max(levels(slots_needed(it, setting), setting.slots), least))


def aimed(it: Estimates, setting: Setting, needs: int | None = None) -> int:
    """Workers that the demand takes now (`needs`, if that is known already) and, likely, one start time from now."""
    found = (needed(it, setting) if needs is None else needs) + it.rise
    if it.service_s > setting.wait_target_s and not it.waiting:
        # Long requests have their slots for longer than the demand's window.
        found = max(found, levels(it.in_flight, setting.slots))
    return min(setting.workers_max, found)


def rate(it: Estimates, setting: Setting) -> float:
    """Requests that come in a second."""
    return it.arrived / (it.service_s + setting.wait_target_s)


def starting(it: Estimates, setting: Setting) -> int:
    """Workers beyond `aimed` whose start is worth it for what waits."""
    # Requests of which none was seen to end may be short.
    if not it.waiting or not it.service_known:
        return 0
    target_s, cost_s = setting.wait_target_s, setting.late_cost_s
    return worth_starting(_waiting(it, setting), wait_target_s=target_s, late_cost_s=cost_s, persistence=it.persistence)


def extra(it: Estimates, setting: Setting) -> int:
    """The same, with those that load for it already as long as the rest of their start is worth it."""
    found = starting(it, setting)
    if it.waiting and it.loading and found < it.going:
        waiting, cost_s = _waiting(it, setting), setting.late_cost_s
        finishing = worth_finishing(waiting, late_cost_s=cost_s, persistence=it.persistence)
        found = max(found, min(it.going, it.active - waiting.needed, finishing))
    return found


def _waiting(it: Estimates, setting: Setting) -> Waiting:
    return Waiting(
        requests=it.waiting,
        present=it.present,
        rate=rate(it, setting),
        service_s=it.service_s,
        slots=setting.slots,
        ready=it.ready,
        needed=aimed(it, setting),
        start_s=it.start_s,
        start_left_s=it.start_left_s,
    )


def choose(it: Estimates, setting: Setting) -> Wanted:
    """What to have now."""
    needs = needed(it, setting)
    aim, backlog = aimed(it, setting, needs), extra(it, setting)
    if setting.cold_cost:
        return _with_cold(it, setting, needs, aim, backlog)
    workers = min(setting.workers_max, max(aim + backlog, it.kept, it.expected))
    kept = min(setting.workers_max, max(aim + backlog, it.kept))
    return Wanted(
        workers=workers,
        needs=needs,
        ahead=aim - needs,
        backlog=min(backlog, workers - aim),
        kept=max(0, kept - aim - backlog),
        expected=workers - kept,
        demand=slots_needed(it, setting),
        service_s=it.service_s,
        kept_s=it.kept_s,
    )


def _with_cold(it: Estimates, setting: Setting, needs: int, aim: int, backlog: int) -> Wanted:
    """Those that requests are there for, and those that would be missed while a cold one is made warm, if that takes
    longer than the wait target; the rest may rest.
    """
    held = min(setting.workers_max, max(aim + backlog, it.kept, it.expected, it.warm))
    there = min(held, max(it.busy, levels(it.present, setting.slots)))
    workers = max(there, min(held, it.warm))
    return Wanted(
        workers=workers,
        needs=there,
        ahead=workers - there,
        backlog=0,
        kept=0,
        demand=slots_needed(it, setting),
        service_s=it.service_s,
        held=held,
    )


def recorded(it: Estimates, setting: Setting) -> dict[str, float]:
    """All that `choose` is given, as inputs of a decision."""
    return {
        f"{PREFIX}{field.name}": float(getattr(each, field.name)) for each in (it, setting) for field in fields(each)
    }


def of_recorded(inputs: Mapping[str, float | int | None]) -> tuple[Estimates, Setting]:
    """What a decision was made from, from its inputs. Raises `KeyError` if `auto` did not decide."""
    return Estimates(**_values(Estimates, inputs)), Setting(**_values(Setting, inputs))


def _values(kind: type[Estimates | Setting], inputs: Mapping[str, float | int | None]) -> dict[str, Any]:
    # Decisions that were made before there was a number have it not.
    names = [field.name for field in fields(kind) if field.default is MISSING or PREFIX + field.name in inputs]
    named = {name: inputs[PREFIX + name] for name in names}
    # Of JSON, where whole numbers and truths are numbers like all others.
    return {name: _KINDS[kind.__annotations__[name]](value) for name, value in named.items()}


_KINDS: Final[Mapping[str, Callable[[Any], float | int | bool]]] = {"int": int, "float": float, "bool": bool}
