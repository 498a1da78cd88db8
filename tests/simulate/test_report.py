"""The report: what a person needs to read it, and nothing that lies on something else."""

from __future__ import annotations

import re

from stoker.simulate.compare import Comparison, Result
from stoker.simulate.policies import POLICIES, sweep
from stoker.simulate.report import page
from stoker.simulate.trace import PROFILES, Trace, requests_of

TRACE = Trace("three bursts", (requests_of("", [(600.0 * (i % 3) + i / 10, 500, 200) for i in range(300)]),))
COMPARISON = Comparison(TRACE, PROFILES["A"])


def results(*policies: str) -> list[Result]:
    return [COMPARISON.result(policy) for policy in policies]


def test_names_of_policies_do_not_lie_on_each_other() -> None:
    text = page(results(*POLICIES), PROFILES["A"])
    scatter = text[text.index("<svg") : text.index("</svg>")]
    labels = re.findall(r'<text x="([\d.]+)" y="([\d.]+)">([a-z-]+)</text>', scatter)
    assert {name for _, _, name in labels} == set(POLICIES)
    places = [(float(x), float(x) + 6.0 * len(name), float(y)) for x, y, name in labels]
    for index, (left, right, line) in enumerate(places):
        for other_left, other_right, other_line in places[:index]:
            assert abs(line - other_line) >= 12.9 or right <= other_left or other_right <= left
        for x, y in re.findall(r'<circle cx="([\d.]+)" cy="([\d.]+)"', scatter):
            assert abs(line - 4 - float(y)) >= 12.9 or not left <= float(x) <= right


def test_workers_of_all_policies_are_drawn_to_one_scale() -> None:
    found = results("keepalive", "static-peak")
    text = page(found, PROFILES["A"])
    most = max(result.workers_peak for result in found)
    assert text.count(f'text-anchor="end">{most}</text>') == 2
    assert "21 min" in text


def test_of_a_sweep_the_defaults_alone_have_a_course_and_a_name() -> None:
    found = [COMPARISON.result("keepalive", knobs) for knobs in sweep("keepalive")]
    text = page(found, PROFILES["A"])
    assert text.count("Workers of ") == 1
    assert text.count("<circle") == len(found)
    assert "Of the sweep the defaults alone are shown" in text
