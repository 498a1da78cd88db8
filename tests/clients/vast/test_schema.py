"""Requests made up from the API's own description, sent to a real Stoker: whatever they are, they meet no fault of ours
and are answered as described.
"""

from __future__ import annotations

import json
import os
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis.checks import not_a_server_error
from schemathesis.core.result import Ok
from schemathesis.specs.openapi.checks import response_schema_conformance, status_code_conformance

from clients.vast.running import Stoker

# For each operation; a longer run is `STOKER_SCHEMA_EXAMPLES=1000 pytest tests/clients/vast/test_schema.py`.
EXAMPLES = int(os.environ.get("STOKER_SCHEMA_EXAMPLES", "5"))
pytestmark = [pytest.mark.process, pytest.mark.timeout(120 + EXAMPLES)]


def test_no_request_is_a_fault_or_answered_otherwise_than_described(stoker: Stoker) -> None:
    _, text = stoker.get("/vast/openapi.json")
    schema = schemathesis.openapi.from_dict(json.loads(text))
    statuses: set[int] = set()
    for found in schema.get_all_operations():
        assert isinstance(found, Ok), found
        operation = found.ok()

        @settings(
            max_examples=EXAMPLES,
            deadline=None,
            database=None,
            phases=(Phase.generate,),
            suppress_health_check=list(HealthCheck),
        )
        @given(case=operation.as_strategy())
        def play(case: schemathesis.Case[Any]) -> None:
            answer = case.call_and_validate(
                base_url=f"http://127.0.0.1:{stoker.port}/vast",
                headers={"Authorization": f"Bearer {stoker.key}"},
                checks=[not_a_server_error, status_code_conformance, response_schema_conformance],
            )
            statuses.add(answer.status_code)

        play()
    assert {200, 400, 404} <= statuses
