"""How a worker is asked how it is: when it is ready, whether it takes requests now, and whether it is alive."""

from __future__ import annotations

from dataclasses import dataclass

from stoker.domain.errors import Invalid
from stoker.domain.limits import check_arguments, within


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """One question: a command run beside the worker that exits with 0, else an HTTP GET of `path` that is answered with
    2xx, else (`path` is `None`) a TCP connection.

    `failures_max` bad answers in a row are a failure, `successes_min` good ones a success. `initial_delay_s` is the
    time before the first question. `start_timeout_s` bounds the time from start to ready, in a startup probe. Fifteen
    minutes by default: fetching and loading tens of gigabytes of weights takes about that long.
    """

    path: str | None = "/health"
    command: tuple[str, ...] = ()
    initial_delay_s: float = 0.0
    period_s: float = 5.0
    timeout_s: float = 5.0
    failures_max: int = 3
    successes_min: int = 1
    start_timeout_s: float = 900.0

    def __post_init__(self) -> None:
        if self.path is not None and (not self.path.startswith("/") or len(self.path) > 1024):
            raise Invalid.at("/path", "a probe's path starts with / and has at most 1024 characters")
        if self.path is not None and any(c.isspace() or not c.isprintable() for c in self.path):
            raise Invalid.at("/path", "a probe's path has no spaces or control characters")
        check_arguments("/command", self.command)
        within("/initial_delay_s", self.initial_delay_s, 0, 3600)
        within("/period_s", self.period_s, 0.1, 3600)
        within("/timeout_s", self.timeout_s, 0.1, 300)
        within("/failures_max", self.failures_max, 1, 100)
        within("/successes_min", self.successes_min, 1, 100)
        within("/start_timeout_s", self.start_timeout_s, 1, 86_400)


@dataclass(frozen=True, slots=True, kw_only=True)
class Probes:
    """`startup`: the worker is ready once it succeeds. `readiness`: while it fails, a ready worker gets no new
    requests. `liveness`: when it fails, the worker is drained and replaced.

    What is left out: `startup` is as `readiness`, else as the engine says; `liveness` is as the engine says; without
    `readiness` a ready worker takes requests until it ends.
    """

    startup: Probe | None = None
    readiness: Probe | None = None
    liveness: Probe | None = None

    def over(self, engine: Probe) -> Probes:
        """With what is left out filled in, `engine` being what the engine says."""
        return Probes(
            startup=self.startup or self.readiness or engine,
            readiness=self.readiness,
            liveness=self.liveness or engine,
        )

    @property
    def start_timeout_s(self) -> float:
        """Longest time from start to ready."""
        return Probe().start_timeout_s if self.startup is None else self.startup.start_timeout_s
