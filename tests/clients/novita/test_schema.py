"""Requests made up from the API's own description meet no fault of ours and are answered as described."""

from __future__ import annotations

from pathlib import Path

import pytest

from clients import fuzzing
from clients.novita import conformance
from clients.novita.running import running

# For each operation; `bench/fuzz.py` plays more.
EXAMPLES = 6
pytestmark = [pytest.mark.process, pytest.mark.timeout(300)]


def test_no_request_is_a_fault_or_answered_otherwise_than_described(tmp_path: Path) -> None:
    # One of its own: what is made here would be in the way of others.
    with running(tmp_path) as stoker:
        known = stoker.fill()
        description = "/novita/gpu-instance/openapi/v1/openapi.json"
        played = fuzzing.play(stoker, description, "/novita", examples=EXAMPLES, known=known)
    assert {200, 400, 404} <= played.statuses
    assert played.operations == {row.operation for row in conformance.ROWS}
