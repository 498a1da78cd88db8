"""Probes as they are asked for, as Stoker asks them, and as a part of one changes them."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from stoker.dialects.gcore.wire.probes import Asked, ProbeConfig, ProbesConfig, ProbesPatch
from stoker.domain.probe import Probe

HTTP: dict[str, Any] = {"http_get": {"port": 80, "path": "/up"}}
TCP: dict[str, Any] = {"tcp_socket": {"port": 80}}
EXEC: dict[str, Any] = {"exec": {"command": ["true"]}}


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        pytest.param(HTTP, ("/up", ()), id="by HTTP"),
        pytest.param({"http_get": {"port": 80}}, ("/", ()), id="the path is / by default"),
        pytest.param(TCP, (None, ()), id="by TCP"),
        pytest.param(EXEC, (None, ("true",)), id="by a command"),
        pytest.param({**EXEC, **TCP, **HTTP}, ("/up", ()), id="HTTP comes first"),
        pytest.param({**EXEC, **TCP}, (None, ()), id="then TCP"),
        pytest.param({"http_get": {"port": 81}}, None, id="another port is not asked"),
        pytest.param({"tcp_socket": {"port": 81}}, None, id="neither by TCP"),
        pytest.param({"http_get": {"port": 80, "schema": "HTTPS"}}, None, id="nor by HTTPS"),
        pytest.param({"exec": {"command": []}}, None, id="nor by no command"),
        pytest.param({}, None, id="nor in no way"),
    ],
)
def test_one_is_asked_as_stoker_can(asked: dict[str, Any], expected: tuple[str | None, tuple[str, ...]] | None) -> None:
    made = Asked.model_validate(asked).to_probe(80)
    assert (None if made is None else (made.path, made.command)) == expected


def test_its_pace_is_taken_over_within_stokers_bounds() -> None:
    pace = {"failure_threshold": 5, "success_threshold": 2, "initial_delay_seconds": 7}
    made = Asked.model_validate({**HTTP, **pace, "period_seconds": 2**31, "timeout_seconds": 2**31}).to_probe(80)
    assert made is not None
    assert (made.failures_max, made.successes_min, made.initial_delay_s) == (5, 2, 7)
    assert (made.period_s, made.timeout_s) == (3600, 300)
    plain = Asked.model_validate(HTTP).to_probe(80)
    assert plain == Probe(path="/up", period_s=10, timeout_s=3, failures_max=3, successes_min=1)


def test_one_that_is_not_enabled_or_says_nothing_is_not_asked() -> None:
    assert ProbeConfig.model_validate({"enabled": False, "probe": HTTP}).to_probe(80) is None
    assert ProbeConfig.model_validate({"enabled": True}).to_probe(80) is None
    probes = ProbesConfig.model_validate({"startup_probe": {"enabled": True, "probe": TCP}, "liveness_probe": None})
    assert probes.to_probes(80).startup is not None
    assert (probes.to_probes(80).liveness, probes.to_probes(80).readiness) == (None, None)


FULL = ProbesConfig.model_validate({"readiness_probe": {"enabled": True, "probe": {**HTTP, "period_seconds": 7}}})


@pytest.mark.parametrize(
    ("patch", "after"),
    [
        pytest.param({"enabled": False}, {"enabled": False, "path": "/up", "period_seconds": 7}, id="switched off"),
        pytest.param({"probe": {"period_seconds": 9}}, {"path": "/up", "period_seconds": 9}, id="another pace"),
        pytest.param({"probe": {"http_get": {"path": "/x"}}}, {"path": "/x", "port": 80}, id="another path"),
        pytest.param({"probe": {"http_get": None}}, {"path": "/up"}, id="null leaves it"),
        pytest.param({"probe": TCP}, {"http_get": None, "period_seconds": 7}, id="another way, asked that way alone"),
        pytest.param({}, {"enabled": True, "path": "/up"}, id="nothing"),
    ],
)
def test_a_part_of_one_changes_that_part(patch: dict[str, Any], after: dict[str, Any]) -> None:
    made = FULL.patched(ProbesPatch.model_validate({"readiness_probe": patch})).readiness_probe
    assert made is not None
    assert made.probe is not None
    flat = {"enabled": made.enabled, "http_get": made.probe.http_get, **made.probe.model_dump()}
    flat |= {} if made.probe.http_get is None else made.probe.http_get.model_dump()
    assert {name: flat[name] for name in after} == after


def test_one_that_is_new_is_enabled_and_must_say_what_it_needs() -> None:
    made = FULL.patched(ProbesPatch.model_validate({"liveness_probe": {"probe": TCP}}))
    assert made.liveness_probe is not None
    assert made.liveness_probe.enabled
    assert made.readiness_probe == FULL.readiness_probe
    with pytest.raises(ValidationError, match="port"):
        FULL.patched(ProbesPatch.model_validate({"liveness_probe": {"probe": {"http_get": {"path": "/"}}}}))


_ways = st.fixed_dictionaries(
    {}, optional={"http_get": st.just(HTTP["http_get"]), "tcp_socket": st.just(TCP["tcp_socket"])}
)
_whole = st.fixed_dictionaries({"enabled": st.booleans(), "probe": st.none() | _ways})
_probes = st.fixed_dictionaries(
    {}, optional=dict.fromkeys(("liveness_probe", "readiness_probe", "startup_probe"), _whole)
)


@given(_probes, _probes)
def test_a_whole_one_replaces_what_it_says_and_nothing_else(before: dict[str, Any], patch: dict[str, Any]) -> None:
    was = ProbesConfig.model_validate(before)
    made = was.patched(ProbesPatch.model_validate(patch))
    for name in ("liveness_probe", "readiness_probe", "startup_probe"):
        if name not in patch:
            assert getattr(made, name) == getattr(was, name)
        else:
            assert getattr(made, name).enabled == patch[name]["enabled"]
    assert made.patched(ProbesPatch.model_validate(patch)) == made, "again changes nothing"
