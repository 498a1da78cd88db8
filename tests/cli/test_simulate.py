"""`stoker simulate`, which needs no Stoker."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from cli.fake_stoker import Command, FakeStoker, Raw
from stoker.simulate.policies import POLICIES


@pytest.fixture
def trace(tmp_path: Path) -> Path:
    path = tmp_path / "small.csv"
    rows = "".join(f"{index * 7.5},{100 * index},{5 * index}\n" for index in range(60))
    path.write_text(f"arrival_s,input_tokens,output_tokens\n{rows}")
    return path


def test_all_policies_are_compared_the_cheapest_first(stoker: Command, trace: Path) -> None:
    ran = stoker("simulate", str(trace))
    assert ran.code == 0
    assert ran.out.startswith("small: 60 requests, 1 endpoint; zero-wait bound")
    assert sorted(line.split()[0] for line in ran.out.splitlines()[2:]) == sorted(POLICIES)


def test_json_has_the_fields_that_scripts_read(stoker: Command, trace: Path) -> None:
    ran = stoker("simulate", str(trace), "--policy", "kpa,clairvoyant", "--profile", "B,slots=2", "--json")
    results = json.loads(ran.out)
    assert [result["policy"] for result in results] == ["kpa", "clairvoyant"]
    assert set(results[0]) == {
        *("policy", "trace", "requests", "gpu_s", "zero_wait_bound_gpu_s", "work_bound_gpu_s", "attainment_5s"),
        *("attainment_30s", "wait_p50_s", "wait_p99_s", "starts", "flaps", "workers_peak"),
    }


def test_the_share_within_five_seconds_is_that_whatever_the_target(stoker: Command, trace: Path) -> None:
    arguments = ("simulate", str(trace), "--policy", "kpa")
    [usual] = json.loads(stoker(*arguments, "--json").out)
    [strict] = json.loads(stoker(*arguments, "--profile", "A,wait_target_s=0", "--json").out)
    assert strict["attainment_5s"] == usual["attainment_5s"]
    assert stoker(*arguments, "--profile", "A,wait_target_s=0").out != stoker(*arguments).out


def test_a_sweep_names_its_settings_and_a_report_is_written(stoker: Command, trace: Path, tmp_path: Path) -> None:
    report = tmp_path / "report.html"
    ran = stoker("simulate", str(trace), "--policy", "keepalive", "--sweep", "--json", "--html", str(report))
    names = {result["policy"] for result in json.loads(ran.out)}
    assert {"keepalive", "keepalive(utilisation=0.5,memory_s=600)"} <= names
    assert "<svg" in report.read_text()


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (("--policy", "magic"), "there is no policy 'magic'"),
        (("--profile", "Z"), "neither A, B or C"),
        (("--profile", "slots=0"), "slots must be above zero"),
    ],
)
def test_what_it_does_not_know_is_bad_usage(stoker: Command, trace: Path, more: tuple[str, ...], message: str) -> None:
    ran = stoker("simulate", str(trace), *more)
    assert ran.code == 2
    assert message in ran.err


def test_a_file_that_is_not_there_is_bad_usage(stoker: Command, tmp_path: Path) -> None:
    ran = stoker("simulate", str(tmp_path / "none.csv"))
    assert ran.code == 2
    assert "No such file" in ran.err


def recorded(fake: FakeStoker, **scaling: object) -> dict[str, Any]:
    """An endpoint with an hour of requests."""
    spec = {
        "name": "chat",
        "launch": {"command": ["serve"]},
        "pools": [{"bounds": {"min": 1, "max": 3}}],
        "scaling": scaling,
    }
    made = fake.add("chat", spec=spec, launch={"slots": 2})
    rows = "".join(f"{60 * minute},0,0,20\n" for minute in range(60))
    text = f"arrival_s,input_tokens,output_tokens,service_s\n{rows}"
    fake.on("GET", f"/endpoints/{made['id']}/trace", Raw((text.encode(),), "text/csv"))
    fake.on("GET", f"/endpoints/{made['id']}/learned", {"expected_start_s": 12.0, "items": []})
    return made


def test_the_requests_of_an_endpoint_are_simulated_under_its_own_policy_and_others(
    stoker: Command, fake: FakeStoker
) -> None:
    made = recorded(fake, triggers=[{"type": "requests_per_s", "target": 0.01, "window_s": 60}])
    ran = stoker("simulate", "--from", "chat", "--since", "1h", "--policy", "own,keepalive", "--json")
    own, keepalive = json.loads(ran.out)
    assert fake.asked[-1].path.endswith(f"/endpoints/{made['id']}/trace")
    since = datetime.fromisoformat(fake.asked[-1].query["since"])
    assert timedelta(minutes=59) < datetime.now(UTC) - since < timedelta(minutes=61)
    assert (own["policy"], own["trace"], own["requests"]) == ("own", "chat", 60)
    # One request a minute is 0.017 a second: two workers, after the first minute.
    assert own["workers_peak"] == 2
    assert 2 * 3_500 < own["gpu_s"] < 2 * 3_700
    assert keepalive["workers_peak"] == 1


def test_schedules_are_simulated_at_the_time_of_day_at_which_requests_came(stoker: Command, fake: FakeStoker) -> None:
    window = {"type": "schedule", "start": "0 9 * * 1-5", "end": "15 9 * * 1-5", "workers": 3}
    recorded(fake, triggers=[{"type": "concurrency"}, window], scale_down_delay_s=0)
    arguments = ("simulate", "--from", "chat", "--policy", "own", "--profile", "sigma=0", "--json", "--since")
    [monday] = json.loads(stoker(*arguments, "2026-01-05T08:30:00Z").out)
    [sunday] = json.loads(stoker(*arguments, "2026-01-04T08:30:00Z").out)
    assert (monday["workers_peak"], sunday["workers_peak"]) == (3, 1)
    assert monday["gpu_s"] - sunday["gpu_s"] == pytest.approx(2 * 900, abs=10)
    assert stoker(*arguments, "soon").code == 2


def test_what_was_learned_of_cold_workers_is_simulated_where_they_are_cheap(stoker: Command, fake: FakeStoker) -> None:
    made = recorded(fake, triggers=[{"type": "auto", "cold_cost": 0.1}])
    made["spec"]["pools"][0]["bounds"]["min"] = 0
    place = {"host": "h", "resume_s": {"count": 3, "median": 2.0, "p90": 2.5}}
    fake.on("GET", f"/endpoints/{made['id']}/learned", {"expected_start_s": 12.0, "items": [place, {"host": "i"}]})
    cold = json.loads(stoker("simulate", "--from", "chat", "--policy", "own", "--json").out)[0]
    assert cold["wait_p50_s"] == 2.0, "each request but the first wakes a worker, as it was measured"
    other = json.loads(
        stoker("simulate", "--from", "chat", "--policy", "own", "--profile", "resume_s=0.5", "--json").out
    )[0]
    assert other["wait_p50_s"] == 0.5


def test_a_policy_that_looks_at_what_no_trace_has_is_refused(stoker: Command, fake: FakeStoker) -> None:
    recorded(fake, triggers=[{"type": "custom", "path": "/m", "metric": "m", "target": 1}])
    ran = stoker("simulate", "--from", "chat", "--policy", "own")
    assert ran.code == 2
    assert "custom cannot be simulated" in ran.err
    others = stoker("simulate", "--from", "chat", "--json")
    assert [result["policy"] for result in json.loads(others.out)] == list(POLICIES)
    assert "without the endpoint's own policy" in others.err


def test_a_trace_or_an_endpoint_is_needed_and_not_both(stoker: Command, trace: Path) -> None:
    assert stoker("simulate").code == 2
    assert stoker("simulate", str(trace), "--from", "chat").code == 2
    assert "no policy 'own'" in stoker("simulate", str(trace), "--policy", "own").err
