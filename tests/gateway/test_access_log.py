"""The access log: a line for each request, never a secret, rotated by moving it away."""

from __future__ import annotations

import json
import stat
from pathlib import Path
from typing import Any

from gateway.loopback import KEY, endpoint, run, site, until, worker
from stoker.link.messages import AddressEntry


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def test_every_request_has_a_line_and_no_line_has_a_secret(tmp_path: Path) -> None:
    path = tmp_path / "access.jsonl"

    async def main() -> None:
        rows = (AddressEntry("/e/chat", keys=("query:key", "bearer")),)
        async with (
            worker() as w,
            site(tmp_path, endpoint(w.entry(), addresses=rows), access_log="access.jsonl") as s,
        ):
            assert (await s.ask("GET", f"/e/chat/a?key={KEY}&x=1", secret="")).status == 200
            await until(lambda: len(lines(path)) == 1)
            assert stat.S_IMODE(path.stat().st_mode) == 0o600
            [line] = lines(path)
            assert (line["method"], line["path"], line["endpoint"]) == ("GET", "/e/chat/a", "chat")
            assert (line["worker"], line["key"], line["status"]) == ("w1", "key-1", 200)
            assert 0 <= line["wait_s"] <= line["first_byte_s"] <= line["total_s"] < 30
            assert KEY not in path.read_text()
            path.rename(tmp_path / "old")
            await s.control.tell(endpoint(addresses=rows))
            assert (await s.ask("GET", "/e/chat/b", "X-Stoker-Hold: 0")).status == 503
            await until(lambda: len(lines(path)) == 1)
            assert (lines(path)[0]["status"], lines(path)[0]["worker"]) == (503, None)

    run(main)


def test_a_log_that_cannot_be_written_holds_up_no_request(tmp_path: Path) -> None:
    async def main() -> None:
        async with worker() as w, site(tmp_path, endpoint(w.entry()), access_log="no/such/folder") as s:
            assert (await s.ask("GET", "/e/chat/a")).status == 200
            await until(lambda: s.gateway.access_log is not None and s.gateway.access_log.dropped == 1)
            assert (await s.ask("GET", "/e/chat/a")).status == 200

    run(main)
