"""`stoker simulate`, which needs no Stoker."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cli.fake_stoker import Command
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
