"""Rules that take away idle workers, in whole runs: starts take ten seconds."""

from __future__ import annotations

import pytest

from stoker.simulate.draws import StartTimes
from stoker.simulate.rules.idle import KeepAlive, RunPodCount, RunPodDelay
from stoker.simulate.rules.own import Concurrency
from stoker.simulate.run import Rule, Run
from stoker.simulate.trace import Profile

HARDWARE = Profile(slots=1, start_s=10.0, sigma=0.0)


@pytest.mark.parametrize(
    ("rule", "wait_s", "gpu_s"),
    [
        pytest.param(RunPodCount(), 10.0, 10 + 5 + 5, id="request count starts at once and keeps for 5 s"),
        pytest.param(KeepAlive(), 10.0, 10 + 5 + 60, id="keep-alive keeps for a minute"),
        pytest.param(RunPodDelay(), 15.0, 10 + 5 + 5, id="queue delay starts when somebody has waited for over 4 s"),
        pytest.param(
            Concurrency(HARDWARE), 10.0, 10 + 5 + 300, id="ours starts at once and keeps for its idle timeout"
        ),
    ],
)
def test_one_request_from_zero(rule: Rule, wait_s: float, gpu_s: float) -> None:
    outcome = Run([100.0], [5.0], HARDWARE, rule, StartTimes(10.0, 0.0, 0), tail_s=1_000.0).whole()
    assert outcome.waits[0] == pytest.approx(wait_s)
    assert outcome.gpu_s == pytest.approx(gpu_s, abs=1.0)
    assert outcome.starts == 1
