"""How many workers each trigger asks for: a rule for each, found by the trigger's type. Pure; used by `scaling.decide`.

`demand` is the registry: a new trigger registers its rule with it and is chosen in a spec like any other.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import singledispatch

from stoker.domain.measurements import STALE_S
from stoker.domain.operation import Demand
from stoker.domain.scaling import (
    Auto,
    Concurrency,
    Cpu,
    Custom,
    GpuMemory,
    GpuUtilization,
    HttpRate,
    Load,
    LoadUnit,
    Memory,
    QueueDelay,
    QueueLength,
    RequestRate,
    Schedule,
    SqsQueue,
    Trigger,
)
from stoker.domain.schedule import active
from stoker.policy.auto.estimates import choose, rounded
from stoker.policy.signals import Reading, Signals, custom_key, fresh

# Rates are known as long as the gateway speaks; what was learned of workers holds for weeks.
_LEARNED_S_MAX = 30 * 86_400.0
# Sums of shares come out a hair above whole numbers.
_EPSILON = 1e-9
# Far beyond any bound, and whole as a number of workers, whatever somebody tells.
_ASKED_MAX = 1e9


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What a rule may look at. `signals` is `None` when the gateway is silent; `slots` are those of one worker;
    `current` is the number wanted so far, starting and pending ones included.
    """

    now: float
    slots: int
    current: int
    signals: Signals | None


@singledispatch
def demand(trigger: Trigger, evidence: Evidence) -> Demand:
    """What this trigger asks for. Its `workers` are `None` when it cannot know."""
    raise LookupError(f"no rule for the trigger {trigger.type}")


def _needed(amount: float, each: float) -> int:
    return max(0, math.ceil(max(0.0, min(amount / each, _ASKED_MAX)) - _EPSILON))


def _unknown(trigger: Trigger, what: str, target: float | None = None) -> Demand:
    return Demand(trigger=trigger.type, workers=None, target=target, text=f"unknown: {what}")


_SILENT = "the gateway is silent"


@demand.register
def _auto(trigger: Auto, evidence: Evidence) -> Demand:
    signals = evidence.signals
    if signals is None or signals.auto is None:
        return replace(_unknown(trigger, _SILENT, float(evidence.slots)), settled=True, keeps=True)
    estimates, setting = signals.auto
    wanted = choose(estimates, setting)
    return Demand(
        trigger=trigger.type,
        workers=wanted.workers,
        value=rounded(wanted.demand),
        target=float(setting.slots),
        age_s=signals.age_s,
        text=wanted.reason,
        held=wanted.held,
        settled=True,
        keeps=True,
    )


@demand.register
def _concurrency(trigger: Concurrency, evidence: Evidence) -> Demand:
    signals = evidence.signals
    target = trigger.target if trigger.target is not None else evidence.slots * trigger.utilization
    if signals is None:
        return _unknown(trigger, _SILENT, target)
    value, age_s, when = float(signals.present), signals.age_s, ""
    if trigger.window_s:
        mean = signals.presence.get(trigger.window_s)
        if mean is None:
            return _unknown(trigger, "nothing was counted so far", target)
        value, age_s, when = mean.value + signals.queued, mean.age_s, f" on the average of {trigger.window_s:g} s"
    text = f"{value:.4g} {_plural(value, 'request')} present{when}, {target:g} for each worker"
    return _asks(trigger, _needed(value, target), value, target, age_s, text)


@demand.register
def _request_rate(trigger: RequestRate, evidence: Evidence) -> Demand:
    rate = _arrivals(evidence, trigger.window_s)
    if rate is None:
        return _unknown(trigger, _why_no_rate(evidence), trigger.target)
    text = f"{rate.value:.4g} requests come in a second, {trigger.target:g} for each worker"
    return _asks(trigger, _needed(rate.value, trigger.target), rate.value, trigger.target, rate.age_s, text)


@demand.register
def _http(trigger: HttpRate, evidence: Evidence) -> Demand:
    rate = _arrivals(evidence, trigger.window_s)
    if rate is None:
        return _unknown(trigger, _why_no_rate(evidence), trigger.rate)
    count = rate.value * trigger.window_s
    text = f"{count:.4g} requests came within {trigger.window_s:g} s, {trigger.rate:g} for each worker"
    return _asks(trigger, _needed(count, trigger.rate), count, trigger.rate, rate.age_s, text)


def _arrivals(evidence: Evidence, window_s: float) -> Reading | None:
    return None if evidence.signals is None else evidence.signals.arrivals.get(window_s)


def _why_no_rate(evidence: Evidence) -> str:
    return _SILENT if evidence.signals is None else "nothing was counted so far"


@demand.register
def _queue_delay(trigger: QueueDelay, evidence: Evidence) -> Demand:
    signals = evidence.signals
    if signals is None:
        return _unknown(trigger, _SILENT, trigger.threshold_s)
    oldest = max(
        signals.oldest_wait_s if signals.waiting else 0.0,
        (fresh(signals.oldest_task_s) or 0.0) if signals.queued else 0.0,
    )
    late = oldest > trigger.threshold_s
    held = signals.present if late else signals.serving
    text = f"the oldest has waited for {oldest:.3g} s" if signals.held_up else "nobody waits"
    text += f", {'more' if late else 'not more'} than {trigger.threshold_s:g} s"
    return _asks(trigger, _needed(held, evidence.slots), oldest, trigger.threshold_s, signals.age_s, text)


@demand.register
def _queue_length(trigger: QueueLength, evidence: Evidence) -> Demand:
    signals = evidence.signals
    if signals is None:
        return _unknown(trigger, _SILENT, trigger.target)
    length = max(0, signals.held_up - trigger.tolerated) + (signals.serving if trigger.in_flight else 0)
    # Without what runs in the count, what runs still has a worker each.
    least = 0 if trigger.in_flight else _needed(signals.serving, evidence.slots)
    workers = _needed(length, trigger.target) if length > trigger.activation else 0
    text = f"{length} in the queue, {trigger.target:g} for each worker"
    if trigger.tolerated:
        text += f", {trigger.tolerated} that wait left out"
    if 0 < length <= trigger.activation:
        text += f", none up to {trigger.activation}"
    return _asks(trigger, max(workers, least), float(length), trigger.target, signals.age_s, text)


@demand.register
def _load(trigger: Load, evidence: Evidence) -> Demand:
    if trigger.unit is LoadUnit.ANNOUNCED:
        return _announced(trigger, evidence)
    load, unit = _arrivals(evidence, trigger.window_s), trigger.unit.value
    if load is None or evidence.signals is None:
        return _unknown(trigger, _why_no_rate(evidence), trigger.perf)
    of_tokens = trigger.unit is LoadUnit.TOKENS
    if of_tokens:
        each = fresh(evidence.signals.completion_tokens, age_s_max=_LEARNED_S_MAX)
        if each is None and load.value:
            return _unknown(trigger, "no answer has told its tokens", trigger.perf)
        load = Reading(load.value * (each or 0.0), load.age_s)
    learned = evidence.signals.tokens_per_s if of_tokens else evidence.signals.requests_per_s
    perf = trigger.perf if trigger.perf is not None else fresh(learned, age_s_max=_LEARNED_S_MAX)
    if not perf:
        return _unknown(trigger, "no worker has been full so far; say `perf`")
    return _loaded(trigger, load, perf, unit, queued=0.0)


def _announced(trigger: Load, evidence: Evidence) -> Demand:
    signals = evidence.signals
    load = None if signals is None else signals.announced_per_s
    if signals is None or load is None:
        return _unknown(trigger, _why_no_rate(evidence), trigger.perf)
    perf = trigger.perf if trigger.perf is not None else fresh(signals.announced_perf)
    if not perf:
        return _unknown(trigger, "no worker has said what it can do; say `perf`")
    asked = _loaded(trigger, load, perf, "announced", queued=fresh(signals.announced_waiting) or 0.0)
    tried = int(fresh(signals.trial) or 0)
    if asked.workers is None or tried <= asked.workers:
        return asked
    return replace(asked, workers=tried, text=f"{tried} {_plural(tried, 'worker')} to measure what one can do")


def _loaded(trigger: Load, load: Reading, perf: float, unit: str, *, queued: float) -> Demand:
    """Workers for this load, and for what is queued to be done in time."""
    wanted = max(trigger.min_load, load.value)
    late = queued / trigger.target_queue_s
    workers = _needed(max(wanted / trigger.target_util, late), perf)
    spare = max(trigger.cold_mult * wanted if trigger.cold_mult > 1 else 0.0, trigger.min_cold_load)
    text = f"a load of {wanted:.4g} {unit} a second, {trigger.target_util * perf:.4g} for each worker"
    if late > wanted / trigger.target_util:
        text = f"a load of {queued:.4g} waits, to be done in {trigger.target_queue_s:g} s"
    asked = _asks(trigger, workers, wanted, trigger.target_util * perf, load.age_s, text)
    return replace(asked, held=max(trigger.cold_workers, _needed(spare, perf)))


@demand.register
def _cpu(trigger: Cpu, evidence: Evidence) -> Demand:
    workers = () if evidence.signals is None else evidence.signals.workers
    return _used(trigger, evidence, [w.cpu for w in workers], trigger.threshold / 100, trigger.tolerance, "processors")


@demand.register
def _memory(trigger: Memory, evidence: Evidence) -> Demand:
    workers = () if evidence.signals is None else evidence.signals.workers
    return _used(trigger, evidence, [w.memory for w in workers], trigger.threshold / 100, trigger.tolerance, "memory")


@demand.register
def _gpu_utilization(trigger: GpuUtilization, evidence: Evidence) -> Demand:
    workers = () if evidence.signals is None else evidence.signals.workers
    readings = [w.gpu_utilization for w in workers]
    return _used(trigger, evidence, readings, trigger.threshold / 100, trigger.tolerance, "cards")


@demand.register
def _gpu_memory(trigger: GpuMemory, evidence: Evidence) -> Demand:
    workers = () if evidence.signals is None else evidence.signals.workers
    readings = [w.gpu_memory for w in workers]
    return _used(trigger, evidence, readings, trigger.threshold / 100, trigger.tolerance, "memory of the cards")


def _used(
    trigger: Trigger, evidence: Evidence, readings: Sequence[Reading | None], target: float, tolerance: float, of: str
) -> Demand:
    found = _summed(trigger, evidence, readings, target, tolerance)
    if found.workers is None or found.value is None:
        return found
    text = f"{100 * found.value:.0f} % of the {of} used on the average, {100 * target:g} % wanted"
    return replace(found, text=text)


@demand.register
def _custom(trigger: Custom, evidence: Evidence) -> Demand:
    selector = trigger.metric or trigger.pointer or ""
    workers = () if evidence.signals is None else evidence.signals.workers
    readings = [w.custom.get(custom_key(trigger.path, selector)) for w in workers]
    found = _summed(trigger, evidence, readings, trigger.target, trigger.tolerance)
    if found.workers is None or found.value is None:
        return found
    text = f"{selector} is {found.value:.4g} on the average, {trigger.target:g} wanted"
    return replace(found, text=text)


def _summed(
    trigger: Trigger, evidence: Evidence, readings: Sequence[Reading | None], target: float, tolerance: float
) -> Demand:
    """As the HPA of Kubernetes: workers whose number is missing count as on target on the way down, and as idle on the
    way up.
    """
    if evidence.signals is None:
        return _unknown(trigger, _SILENT, target)
    if not readings:
        if evidence.current == 0:
            return _asks(trigger, 0, None, target, None, "there are no workers")
        return _unknown(trigger, "no worker is ready", target)
    known = [(value, reading.age_s) for reading in readings if reading and (value := fresh(reading)) is not None]
    if not known:
        stale = any(reading is not None for reading in readings)
        return _unknown(trigger, "the last numbers are too old" if stale else "nothing was measured so far", target)
    total, count, missing = sum(value for value, _ in known), len(known), len(readings) - len(known)
    mean = total / count
    if mean < target:
        total += missing * target
    workers = _needed(total, target)
    if abs(mean / target - 1) <= tolerance or (missing and (workers > len(readings)) != (mean > target)):
        workers = len(readings)
    return _asks(trigger, workers, mean, target, max(age_s for _, age_s in known), "")


@demand.register
def _sqs(trigger: SqsQueue, evidence: Evidence) -> Demand:
    reading = None if evidence.signals is None else evidence.signals.messages.get(trigger)
    messages = fresh(reading, age_s_max=max(STALE_S, 3 * trigger.every_s))
    if messages is None or reading is None:
        return _unknown(trigger, "the queue could not be read", float(trigger.messages))
    enough = evidence.current > 0 or messages >= trigger.activation
    text = f"{messages:g} messages in a queue, {trigger.messages} for each worker"
    workers = _needed(messages, trigger.messages) if enough else 0
    return _asks(trigger, workers, messages, float(trigger.messages), reading.age_s, text)


@demand.register
def _schedule(trigger: Schedule, evidence: Evidence) -> Demand:
    holds = active(trigger.window, evidence.now)
    span = f"from {trigger.start} to {trigger.end} in {trigger.time_zone}"
    return Demand(
        trigger=trigger.type,
        workers=trigger.workers if holds else 0,
        target=float(trigger.workers),
        text=f"{trigger.workers} workers {span}" if holds else f"not now: {span}",
        settled=True,
    )


def _asks(trigger: Trigger, workers: int, value: float | None, target: float, age_s: float | None, text: str) -> Demand:
    return Demand(trigger=trigger.type, workers=workers, value=value, target=target, age_s=age_s, text=text)


def _plural(count: float, noun: str) -> str:
    return noun if count == 1 else f"{noun}s"
