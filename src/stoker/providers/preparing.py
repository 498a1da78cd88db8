"""What steps before workers have said, which fetch models; providers that have such steps remember it here."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Sequence

from stoker.domain.fetching import STEP_PERCENT, StepLine, words_of
from stoker.domain.worker import WorkerId

# A step says how far it is in its last line; before that stands at most what a library prints.
LINES = 20


# As long as one fetches, it is looked at so often: how far it is no event of its provider tells.
LOOK_S = 2.0
READS_AT_ONCE = 16


class Preparing:
    """`take` what each step has said; the endpoint's events hear of every ten per cent. `changed` is called when it is
    time to look again.
    """

    def __init__(self) -> None:
        self.changed: Callable[[], None] = lambda: None
        # For reading what they have said.
        self.room = asyncio.Semaphore(READS_AT_ONCE)
        self._timer: asyncio.TimerHandle | None = None
        self._told: dict[WorkerId, str] = {}
        self._words: dict[WorkerId, str] = {}

    def words(self, worker: WorkerId, model: str) -> str:
        """The last that is known."""
        return self._words.get(worker) or words_of(None, model)

    def take(self, worker: WorkerId, model: str, lines: Sequence[str], said: Callable[[WorkerId, str], None]) -> str:
        """How far it is, by the last of these lines."""
        found = next((line for text in reversed(lines) if (line := StepLine.read(text)) is not None), None)
        # Output that cannot be read for once is no news.
        event = "" if found is None and worker in self._told else _event(found, model)
        if event and self._told.get(worker) != event:
            self._told[worker] = event
            said(worker, event)
        if found is not None:
            self._words[worker] = words_of(found, model)
        return self.words(worker, model)

    def keep(self, workers: Collection[WorkerId], *, going: bool) -> None:
        """Forget all but these workers. `going`: one of them fetches."""
        for known in (self._told, self._words):
            for worker in [worker for worker in known if worker not in workers]:
                del known[worker]
        self.close()
        if going:
            self._timer = asyncio.get_running_loop().call_later(LOOK_S, lambda: self.changed())

    def close(self) -> None:
        """Call nobody any more."""
        if self._timer is not None:
            self._timer.cancel()


def _event(line: StepLine | None, model: str) -> str:
    if line is None:
        return f"looks for model {model} in its provider's cache"
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
