"""What steps before workers have said, which fetch models; providers that have such steps remember it here."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

from stoker.domain.fetching import STEP_PERCENT, StepLine, words_of
from stoker.domain.worker import WorkerId

# A step says how far it is in its last line; before that stands at most what a library prints.
LINES = 20


class Preparing:
    """`take` what each step has said; the endpoint's events hear of every ten per cent."""

    def __init__(self) -> None:
        self._told: dict[WorkerId, str] = {}
        self._words: dict[WorkerId, str] = {}

    def words(self, worker: WorkerId, model: str) -> str:
        """The last that is known."""
        return self._words.get(worker) or words_of(None, model)

    def take(self, worker: WorkerId, model: str, lines: Sequence[str], said: Callable[[WorkerId, str], None]) -> str:
        """How far it is, by the last of these lines."""
        found = next((line for text in reversed(lines) if (line := StepLine.read(text)) is not None), None)
        if found is None:
            return self.words(worker, model)
        self._words[worker] = words_of(found, model)
        event = _event(found, model)
        if event and self._told.get(worker) != event:
            self._told[worker] = event
            said(worker, event)
        return self._words[worker]

    def keep(self, workers: Collection[WorkerId]) -> None:
        """Forget all others."""
        for known in (self._told, self._words):
            for worker in [worker for worker in known if worker not in workers]:
                del known[worker]


def _event(line: StepLine, model: str) -> str:
    if line.state == "waiting":
        return f"model {model} is being fetched for another worker"
    if line.state == "ready":
        return f"model {model} is in the cache"
    if line.state != "fetching":
        return ""
    if line.percent is None or line.total_bytes is None:
        return f"downloading model {model}"
    passed = line.percent // STEP_PERCENT * STEP_PERCENT
    return f"downloading model {model}: {passed} % of {line.total_bytes / 2**20:.0f} MiB"
