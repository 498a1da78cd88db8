"""Everything that a decision was made from, in a form that is recorded with it: the same decision can be made again.

Used by `control.scaling` for decisions that are recorded; whoever wants to know how one came about makes it again.
"""

from __future__ import annotations

from dataclasses import replace

import msgspec

from stoker.domain.endpoint import Override, ScaleBounds
from stoker.domain.operation import Decision
from stoker.domain.scaling import ScalingPolicy, SqsQueue
from stoker.policy.memory import Memory
from stoker.policy.scaling import decide
from stoker.policy.signals import Reading, Signals


class Given(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The arguments of `scaling.decide` but for the time and the number wanted before, which are the decision's own."""

    policy: ScalingPolicy
    bounds: ScaleBounds
    slots: int
    signals: Signals | None = None
    override: Override | None = None
    memory: Memory | None = None


class _Recorded(Given, frozen=True, kw_only=True, omit_defaults=True):
    # Queues are no keys of a JSON object.
    messages: tuple[tuple[SqsQueue, Reading], ...] = ()


_decoder = msgspec.json.Decoder(_Recorded)


def recorded(given: Given) -> bytes:
    """As JSON, exactly."""
    messages = () if given.signals is None else tuple(given.signals.messages.items())
    signals = None if given.signals is None else replace(given.signals, messages={})
    return msgspec.json.encode(
        _Recorded(
            policy=given.policy,
            bounds=given.bounds,
            slots=given.slots,
            signals=signals,
            override=given.override,
            memory=given.memory,
            messages=messages,
        )
    )


def of_recorded(document: bytes) -> Given:
    """What was recorded."""
    found = _decoder.decode(document)
    signals = None if found.signals is None else replace(found.signals, messages=dict(found.messages))
    return Given(
        policy=found.policy,
        bounds=found.bounds,
        slots=found.slots,
        signals=signals,
        override=found.override,
        memory=found.memory,
    )


def again(given: Given, decision: Decision) -> Decision:
    """The decision, made once more from what was given: without the inputs that are told with it."""
    return decide(
        given.policy,
        given.bounds,
        given.signals,
        slots=given.slots,
        current=decision.current,
        now=decision.at,
        override=given.override,
        memory=given.memory,
    )
