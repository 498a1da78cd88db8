"""Requests made up from an API's own description, sent to a real Stoker: whatever they are, they meet no fault of ours
and are answered as described. Tests play some, `bench/fuzz.py` many.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from schemathesis.checks import not_a_server_error
from schemathesis.core.result import Ok
from schemathesis.specs.openapi.checks import response_schema_conformance, status_code_conformance

from acceptance.installation import Installation


@dataclass(frozen=True)
class Played:
    """How often which operation was answered with which status."""

    answers: Counter[tuple[str, int]] = field(default_factory=Counter)

    @property
    def operations(self) -> set[str]:
        return {operation for operation, _ in self.answers}

    @property
    def statuses(self) -> set[int]:
        return {status for _, status in self.answers}


def play(
    stoker: Installation,
    description: str,
    base: str,
    *,
    examples: int,
    known: Mapping[str, Mapping[str, str]] | None = None,
    seeded: int | None = None,
) -> Played:
    """Ask for every operation of `description` so many times, below the address `base`. Fails for a status or an answer
    that it does not describe. `known` are parameters, by the beginnings of their paths, that stand for what is there:
    three of four requests have these, but for those that delete.
    """
    _, text = stoker.get(description)
    schema = schemathesis.openapi.from_dict(json.loads(text))
    played = Played()
    url = f"http://127.0.0.1:{stoker.port}{base}"
    for found in schema.get_all_operations():
        assert isinstance(found, Ok), found
        operation = found.ok()
        names = {k: v for begin, of in (known or {}).items() if operation.path.startswith(begin) for k, v in of.items()}
        asked = _asking(url, stoker.key, names, played, operation.definition.raw["operationId"])
        bounded = settings(
            max_examples=examples,
            deadline=None,
            database=None,
            phases=(Phase.generate,),
            suppress_health_check=list(HealthCheck),
        )(given(case=operation.as_strategy(), there=st.sampled_from((True, True, True, False)))(asked))
        (bounded if seeded is None else seed(seeded)(bounded))()
    return played


def _asking(
    url: str, key: str, known: Mapping[str, str], played: Played, name: str
) -> Callable[[schemathesis.Case[Any], bool], None]:
    def ask(case: schemathesis.Case[Any], there: bool) -> None:
        if there and case.method.upper() != "DELETE":
            case.path_parameters.update({k: v for k, v in known.items() if k in case.path_parameters})
        answer = case.call_and_validate(
            base_url=url,
            headers={"Authorization": f"Bearer {key}"},
            checks=[not_a_server_error, status_code_conformance, response_schema_conformance],
        )
        played.answers[name, answer.status_code] += 1

    return ask
