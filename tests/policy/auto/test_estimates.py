"""A decision of `auto` from recorded numbers: within bounds, told in full, and the same again whenever."""

from __future__ import annotations

import json
from dataclasses import replace

from hypothesis import given

from policy.strategies import estimates, settings
from stoker.policy.auto.estimates import Estimates, Setting, choose, of_recorded, recorded


@given(it=estimates, setting=settings)
def test_there_are_never_too_many_and_somebody_for_whoever_is_there(it: Estimates, setting: Setting) -> None:
    wanted = choose(it, setting)
    assert 0 <= wanted.workers <= setting.workers_max
    assert wanted.workers >= 1 or not it.present
    assert wanted.workers == wanted.needs + wanted.ahead + wanted.backlog + wanted.kept
    assert min(wanted.needs, wanted.ahead, wanted.backlog, wanted.kept) >= 0


@given(it=estimates, setting=settings)
def test_what_is_recorded_leads_to_the_same_decision(it: Estimates, setting: Setting) -> None:
    inputs = json.loads(json.dumps(recorded(it, setting)))
    assert of_recorded(inputs) == (it, setting)
    assert choose(*of_recorded(inputs)) == choose(it, setting)


@given(it=estimates, setting=settings)
def test_those_that_load_for_a_backlog_are_a_reason_to_go_on(it: Estimates, setting: Setting) -> None:
    assert choose(it, setting).workers >= choose(replace(it, going=0), setting).workers
