"""Durations of requests reach control as histograms, from real requests through a gateway."""

from __future__ import annotations

from pathlib import Path

from gateway.loopback import endpoint, run, site, until, worker
from stoker.link.messages import MeasureEntry, Report


def test_a_request_is_measured_once_and_told_of_with_the_next_report(tmp_path: Path) -> None:
    async def main() -> None:
        async with worker() as w, site(tmp_path, endpoint(w.entry())) as s:

            def told() -> list[MeasureEntry]:
                return [entry for report in s.control.all(Report) for entry in report.measures]

            for _ in range(3):
                assert (await s.ask("GET", "/e/chat/x")).status == 200
            await until(lambda: told() and sum(told()[-1].service) == 3)
            assert sum(told()[-1].first_byte) == 3
            # The event loop counts whole milliseconds.
            assert 0 <= told()[-1].service_s < 30

    run(main)
