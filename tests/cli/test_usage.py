"""`stoker usage`."""

from __future__ import annotations

import csv
import io
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cli.fake_stoker import Command, FakeStoker
from stoker.cli.usage import BAR_CHARS, bar


def row(name: str, requests: int, **more: Any) -> dict[str, Any]:
    workers = {"started_s": 7_300.0, "ready_s": 7_200.0, "priced_s": 0.0, "cost": None}
    return {
        "group": name,
        "name": name,
        "requests": requests,
        "errors": 1,
        "metered": 0,
        "prompt_tokens": None,
        "completion_tokens": None,
        "workers": workers,
        "hardware": [],
        **more,
    }


def report(*items: dict[str, Any], omitted: int = 0) -> dict[str, Any]:
    return {"by": "endpoint", "items": list(items), "total": row("total", 30), "omitted": omitted}


def test_usage_is_a_table_with_bars_and_a_total(stoker: Command, fake: FakeStoker) -> None:
    fake.on("GET", "/usage", report(row("chat", 20, prompt_tokens=5), row("code", 10), omitted=3))
    ran = stoker("usage", "--since", "7d", "--until", "1h")
    assert fake.asked[-1].query == {"since": "7d", "until": "1h", "by": "endpoint"}
    lines = [line.split() for line in ran.out.splitlines()]
    assert lines[1] == ["chat", "20", "█" * BAR_CHARS, "1", "5", "-", "2h", "2h", "-"]
    assert lines[2][:3] == ["code", "10", "█" * (BAR_CHARS // 2)]
    assert lines[3][:2] == ["total", "30"]
    assert "3 more" in ran.err


def test_keys_have_no_time_of_workers_and_a_price_makes_a_cost(stoker: Command, fake: FakeStoker) -> None:
    priced = {"started_s": 5.0, "ready_s": 4.0, "priced_s": 5.0, "cost": 1.5}
    fake.on("GET", "/usage", report(row("ci", 2, workers=None), row("x", 1, workers=priced)))
    lines = [line.split() for line in stoker("usage", "--by", "key").out.splitlines()]
    assert lines[1][-3:] == ["-", "-", "-"]
    assert lines[2][-3:] == ["5.0s", "4.0s", "1.50"]


def test_hours_are_shown_as_local_times(stoker: Command, fake: FakeStoker) -> None:
    fake.on("GET", "/usage", report(row("2026-01-02T03:00:00.000Z", 1)))
    assert stoker("usage", "--by", "hour").out.splitlines()[1].split()[1].endswith(":00")


def test_json_is_what_the_api_said(stoker: Command, fake: FakeStoker) -> None:
    fake.on("GET", "/usage", report(row("chat", 2)))
    assert json.loads(stoker("usage", "--json").out)["items"][0]["requests"] == 2


def test_csv_leaves_the_unknown_empty_and_defuses_formulas(stoker: Command, fake: FakeStoker) -> None:
    fake.on("GET", "/usage", report(row('=cmd|"x"', 2), row("k", 1, workers=None)))
    first, second = csv.DictReader(io.StringIO(stoker("usage", "--csv").out))
    assert first["name"] == '\'=cmd|"x"'
    assert (first["requests"], first["prompt_tokens"], first["started_s"], first["cost"]) == ("2", "", "7300.0", "")
    assert second["started_s"] == ""


def test_nothing_used_says_so(stoker: Command, fake: FakeStoker) -> None:
    fake.on("GET", "/usage", report())
    ran = stoker("usage")
    assert (ran.code, ran.out) == (0, "")
    assert "nothing was used" in ran.err


@pytest.mark.parametrize("wrong", [("--by", "colour"), ("--csv", "--json")])
def test_bad_usage_is_refused_before_anything_is_asked(
    stoker: Command, fake: FakeStoker, wrong: tuple[str, ...]
) -> None:
    assert stoker("usage", *wrong).code == 2
    assert fake.asked == []


@given(st.integers(0, 10**12), st.integers(0, 10**12))
def test_a_bar_is_never_too_long_and_something_is_never_nothing(value: int, more: int) -> None:
    shown = bar(value, value + more)
    assert len(shown) <= BAR_CHARS
    assert bool(shown) == (value > 0)
