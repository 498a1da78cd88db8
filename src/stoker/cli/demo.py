"""`stoker demo`: an endpoint from zero workers to two and back, with a real model, and all tidied up at the end.

Talks to the Stoker that it starts as any other client would. What it shows is in `demo_view`.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event
from typing import Annotated, Any

import typer

from stoker.cli import completions, demo_view, output, server
from stoker.cli.client import Client
from stoker.cli.errors import CliError, Exit
from stoker.cli.session import Session

NAME = "smollm2"
WORKERS_MAX = 2
SLOTS = 4
IDLE_TIMEOUT_S = 5.0
SCALE_DOWN_DELAY_S = 3.0
ASK_TOKENS = 48
BURST = 16
# A burst goes on until the second worker is there to take its share, but not for ever.
BURST_REQUESTS_MAX = 400
READY_S = 60.0
ANSWER_S = 120.0
IDLE_S = 60.0
STOP_S = 60.0
POLL_S = 0.1
QUESTIONS = ("Say hello in one short sentence.", "What does a stoker on a steam engine do?")


@dataclass(slots=True)
class Report:
    """What happened. Seconds; `None` is what was not reached."""

    up_s: float | None = None
    deploy_s: float | None = None
    cold_start_s: float | None = None
    first: completions.Speed | None = None
    second_s: float | None = None
    zero_s: float | None = None
    stop_s: float | None = None
    peak: int = 0
    succeeded: int = 0
    failures: list[str] = field(default_factory=list)
    burst_tokens: int = 0
    burst_s: float | None = None

    def rows(self) -> list[tuple[str, str]]:
        """Names and values for the table at the end."""
        first = self.first or completions.Speed()
        rate = None if not self.burst_s else self.burst_tokens / self.burst_s
        return [
            ("Stoker ready", _seconds(self.up_s)),
            ("endpoint deployed, no worker", _seconds(self.deploy_s)),
            ("cold start of a worker", _seconds(self.cold_start_s)),
            ("first token, starting from zero", _seconds(first.first_s)),
            ("one answer", _per_second(first.tokens_per_s)),
            (f"{BURST} requests at once", _per_second(rate)),
            ("second worker ready after", _seconds(self.second_s)),
            ("most workers", str(self.peak)),
            ("back at zero after", _seconds(self.zero_s)),
            ("stopped in", _seconds(self.stop_s)),
            ("requests", f"{self.succeeded} answered, {len(self.failures)} failed"),
        ]


def _seconds(value: float | None) -> str:
    return output.either(None if value is None else f"{value:.2f} s")


def _per_second(value: float | None) -> str:
    return output.either(None if value is None else f"{value:.0f} tokens/s")


def spec() -> dict[str, Any]:
    """The endpoint. Each of two workers gets half of the CPUs, so that the second one is worth something."""
    cpus = os.cpu_count() or 1
    hardware = {"vcpu": min(4, cpus // 2)} if cpus >= WORKERS_MAX else {}
    return {
        "name": NAME,
        "launch": {"model": "smollm2"},
        "pools": [{"hardware": hardware, "bounds": {"min": 0, "max": WORKERS_MAX}}],
        "scaling": {"idle_timeout_s": IDLE_TIMEOUT_S, "scale_down_delay_s": SCALE_DOWN_DELAY_S},
        "slots": SLOTS,
    }


class Play:
    """The demonstration against one Stoker, act by act. Each act raises `CliError` when it takes too long."""

    def __init__(self, client: Client, view: demo_view.View, report: Report) -> None:
        self._client = client
        self._view = view
        self._report = report
        self._endpoint: Any = None
        self._second = Event()

    def deploy(self) -> None:
        """The endpoint, with no worker."""
        started = time.monotonic()
        changed = self._client.post("/endpoints", spec())
        self._report.deploy_s = time.monotonic() - started
        self._endpoint = changed["endpoint"]
        self._view.say(f"deployed {NAME} with no worker: it costs nothing until somebody asks")

    def wake(self, pool: ThreadPoolExecutor) -> None:
        """Two questions while nothing runs: both wait for the worker that they start, and both are answered."""
        self._view.say("two questions while nothing runs, one of them streamed")
        whole = pool.submit(self._ask, QUESTIONS[0])
        streamed = pool.submit(self._ask_streamed, QUESTIONS[1])
        self._until(lambda: whole.done() and streamed.done(), ANSWER_S, "the answers to the first questions")
        text, _ = self._count(whole) or ("", None)
        if text:
            self._view.say(f"answer: {' '.join(text.split())[:100]}")
        if (found := self._count(streamed)) is not None:
            self._report.first = found[1]
            self._view.answered()
            self._view.say(f"streamed: {found[1]}")
        self._report.cold_start_s = self._cold_start()

    def burst(self, pool: ThreadPoolExecutor) -> None:
        """More requests at once than one worker takes, until a second one helps."""
        self._view.say(f"{BURST} requests at once: more than the {SLOTS} that one worker takes")
        started = time.monotonic()
        asked = [pool.submit(self._ask_repeatedly) for _ in range(BURST)]
        self._until(lambda: all(one.done() for one in asked), 2 * ANSWER_S, "the answers to the burst", started)
        for one in asked:
            for result in one.result():
                if (found := self._settle(result)) is not None:
                    self._report.burst_tokens += found[1].tokens or 0
        self._report.burst_s = time.monotonic() - started
        if self._report.peak < WORKERS_MAX:
            raise CliError(f"no second worker was ready after {self._report.burst_s:.0f} s of {BURST} requests at once")

    def idle(self) -> None:
        """Nobody asks: after the idle timeout no worker is left."""
        self._view.say(f"nobody asks any more; the idle timeout is {IDLE_TIMEOUT_S:g} s")
        started = time.monotonic()
        self._until(lambda: not any(self._endpoint["workers"].values()), IDLE_S, "the pool's return to zero")
        self._report.zero_s = time.monotonic() - started
        self._view.say("back at zero workers")

    def _ask(self, question: str) -> tuple[str, completions.Speed]:
        return completions.plain(self._client, NAME, _body(question), timeout_s=ANSWER_S)

    def _ask_streamed(self, question: str) -> tuple[str, completions.Speed]:
        speed = completions.Speed()
        parts = []
        for piece in completions.stream(self._client, NAME, _body(question), speed, timeout_s=ANSWER_S):
            parts.append(piece)
            self._view.answer(piece)
        return "".join(parts), speed

    def _ask_repeatedly(self) -> list[tuple[str, completions.Speed] | CliError]:
        results: list[tuple[str, completions.Speed] | CliError] = []
        for _ in range(BURST_REQUESTS_MAX // BURST):
            try:
                results.append(self._ask(QUESTIONS[1]))
            except CliError as exc:
                results.append(exc)
            if self._second.is_set() or isinstance(results[-1], CliError):
                break
        return results

    def _count(self, asked: Future[tuple[str, completions.Speed]]) -> tuple[str, completions.Speed] | None:
        error = asked.exception()
        if error is not None and not isinstance(error, CliError):
            raise error
        return self._settle(asked.result() if error is None else error)

    def _settle(self, result: tuple[str, completions.Speed] | CliError) -> tuple[str, completions.Speed] | None:
        if isinstance(result, CliError):
            self._report.failures.append(str(result))
            return None
        self._report.succeeded += 1
        return result

    def _until(self, done: Callable[[], bool], timeout_s: float, what: str, since: float | None = None) -> None:
        """Look at the endpoint again and again until `done`. `since` is when the second worker began to be wanted."""
        deadline = time.monotonic() + timeout_s
        while True:
            self._endpoint = self._client.get(f"/endpoints/{self._endpoint['id']}")
            ready = self._endpoint["workers"].get("ready", 0)
            self._report.peak = max(self._report.peak, ready)
            if ready >= WORKERS_MAX and not self._second.is_set():
                self._second.set()
                self._report.second_s = None if since is None else time.monotonic() - since
            self._view.watch(self._endpoint, WORKERS_MAX)
            if done():
                return
            if time.monotonic() > deadline:
                state = f"{self._endpoint['state']} {self._endpoint['state_reason']}".strip()
                raise CliError(f"{what} did not come within {timeout_s:g} s; {NAME} is {state}", Exit.TIMED_OUT)
            time.sleep(POLL_S)

    def _cold_start(self) -> float | None:
        workers = self._client.get(f"/endpoints/{self._endpoint['id']}/workers")["items"]
        started = [worker for worker in workers if worker["start_s"] is not None]
        return min(started, key=lambda worker: worker["number"])["start_s"] if started else None


def _body(question: str) -> dict[str, Any]:
    return {"model": NAME, "max_tokens": ASK_TOKENS, "messages": [{"role": "user", "content": question}]}


def play(client: Client, view: demo_view.View, report: Report) -> None:
    """All acts. Raises `CliError` when one takes too long; failed requests are in the report."""
    acts = Play(client, view, report)
    acts.deploy()
    pool = ThreadPoolExecutor(BURST)
    try:
        acts.wake(pool)
        if not report.failures:
            acts.burst(pool)
    finally:
        # Those that still wait are ended with Stoker.
        pool.shutdown(wait=False, cancel_futures=True)
    if not report.failures:
        acts.idle()


def demo(
    keep: Annotated[bool, typer.Option("--keep", help="Leave it running at the end.")] = False,
    port: Annotated[int | None, typer.Option(min=1, max=65_535, help="Its port; default: a free one.")] = None,
    data_dir: Annotated[Path | None, typer.Option(help="Its data folder; default: a temporary one.")] = None,
) -> None:
    """Show it: a model from zero workers to two and back, in a minute."""
    folder = data_dir or Path(tempfile.mkdtemp(prefix="stoker-demo-"))
    report = Report()
    error: CliError | None = None
    with _terminable(), demo_view.showing() as view:
        try:
            _run(Session(data_dir=folder), port or _free_port(), view, report, keep=keep)
        except CliError as exc:
            error = exc
    demo_view.summary(report.rows())
    if keep and error is None:
        _say_how_to_go_on(folder)
    elif data_dir is None:
        shutil.rmtree(folder, ignore_errors=True)
    if error is not None:
        raise error
    if report.failures:
        raise CliError(f"{len(report.failures)} requests failed; the first: {report.failures[0]}")


def _run(session: Session, port: int, view: demo_view.View, report: Report, *, keep: bool) -> None:
    settings = session.settings(host="127.0.0.1", port=port)
    log = settings.data_dir / server.LOG_NAME
    view.say(f"starting Stoker at {server.local_url(settings)} with its data in {settings.data_dir}")
    started = time.monotonic()
    process = server.spawn(settings, log)
    finished = False
    try:
        client = server.until_ready(settings, process, log, timeout_s=READY_S)
        report.up_s = time.monotonic() - started
        view.say("Stoker is ready")
        play(client, view, report)
        finished = not report.failures
    finally:
        if not (keep and finished):
            stopping = time.monotonic()
            code = server.end(process, timeout_s=STOP_S)
            report.stop_s = time.monotonic() - stopping
    if not (keep and finished):
        _check_gone(settings.data_dir, code)
        view.say("everything is stopped; no process is left")


def _check_gone(folder: Path, code: int | None) -> None:
    left = processes_of(folder)
    if left:
        raise CliError(f"processes are left over: {', '.join(map(str, left))}; end them by `kill`")
    if code != 0:
        raise CliError(f"Stoker did not stop in order (exit code {code})")


def processes_of(folder: Path) -> list[int]:
    """Processes of the Stoker on that data folder: roles and shims by their command, workers by their environment."""
    mark = os.fsencode(folder)
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            command, environ = (process / "cmdline").read_bytes(), (process / "environ").read_bytes()
        except OSError:
            # It ended this moment, or is another user's.
            continue
        role = b"\0stoker." in command and mark in command
        shim = mark + b"/workers/" in command
        if (role or shim or b"STOKER_WORKER_FOLDER=" + mark in environ) and int(process.name) != os.getpid():
            found.append(int(process.name))
    return sorted(found)


@contextmanager
def _terminable() -> Iterator[None]:
    """SIGTERM ends the block as Ctrl-C does, so that nothing is left running."""

    def interrupt(_number: int, _frame: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        number: int = probe.getsockname()[1]
        return number


def _say_how_to_go_on(folder: Path) -> None:
    output.line(f"it is still running; to go on: export STOKER_DATA_DIR={folder}")
    output.line(f"then: stoker chat {NAME}    stoker show {NAME}    stoker down")
