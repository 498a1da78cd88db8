"""Stoker's own log."""

from __future__ import annotations

import json
import subprocess
import sys

# In a process of its own: what is set up here holds for a whole process.
PROGRAM = """
import logging, structlog
from stoker.telemetry.logs import log_to_stderr
log_to_stderr({level!r})
log = structlog.get_logger("x")
log.debug("too_much")
log.info("worker_ready", worker="w", start_s=1.5)
try:
    1 / 0
except ZeroDivisionError:
    log.error("it_failed", exc_info=True)
logging.getLogger("library").info("too much")
logging.getLogger("library").warning("take care")
"""


def lines(level: str) -> list[str]:
    ended = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(level=level)], capture_output=True, text=True, timeout=60, check=True
    )
    assert ended.stdout == "", "data goes to stdout, the log never"
    return ended.stderr.splitlines()


def test_a_line_is_an_event_with_its_fields_as_json_when_nobody_watches() -> None:
    ready, failed, library = lines("info")
    told = json.loads(ready)
    assert told.pop("timestamp").endswith("Z")
    assert told == {"event": "worker_ready", "level": "info", "worker": "w", "start_s": 1.5}
    assert "ZeroDivisionError" in json.loads(failed)["exception"]
    assert library == "WARNING library take care"


def test_what_is_below_the_level_is_not_said() -> None:
    failed, library = lines("error")
    assert json.loads(failed)["event"] == "it_failed"
    assert "library" in library
