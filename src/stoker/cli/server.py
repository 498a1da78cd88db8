"""`stoker up`, `stoker down` and `stoker upgrade`: the installation on this machine."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from stoker.cli import output
from stoker.cli.client import Client
from stoker.cli.durations import seconds
from stoker.cli.errors import CliError, Exit
from stoker.cli.session import Session, command

if TYPE_CHECKING:
    from stoker.settings import Settings

READY_S = 60.0
LOG_NAME = "stoker.log"
UPGRADE_WAIT_S = 60.0
LOG_LINES = 20


@command
def up(
    session: Session,
    host: Annotated[str | None, typer.Option(help="The address to listen on; default: 127.0.0.1.")] = None,
    port: Annotated[int | None, typer.Option(min=1, max=65_535, help="The port to listen on; default: 7878.")] = None,
    tls_cert: Annotated[
        str | None, typer.Option(help="Speak TLS with this certificate (PEM, with its chain); needs --tls-key.")
    ] = None,
    tls_key: Annotated[str | None, typer.Option(help="The private key of --tls-cert (PEM, no password).")] = None,
    virtual_gpu: Annotated[
        list[str] | None,
        typer.Option(help="Pretend cards, as in a5000:4 or a5000:4:24 (GiB each). Repeatable; wins over the settings."),
    ] = None,
    database: Annotated[
        str | None,
        typer.Option(help="A PostgreSQL database, postgresql://user@host/name; default: a file in the data folder."),
    ] = None,
    detach: Annotated[bool, typer.Option("--detach", "-d", help="Return once it is ready; the log is a file.")] = False,
) -> None:
    """Run Stoker on this machine until Ctrl-C.

    Ctrl-C finishes the requests in flight and stops all workers. SIGTERM leaves the workers to the next start.
    """
    settings = session.settings(
        host=host,
        port=port,
        tls_cert=_absolute(tls_cert),
        tls_key=_absolute(tls_key),
        database=database,
        virtual_gpus=virtual_gpu or None,
    )
    if detach:
        _detached(session, settings)
        return
    from stoker.domain.errors import StokerError
    from stoker.supervisor import run

    try:
        code = run(settings)
    except StokerError as exc:
        raise CliError(str(exc)) from exc
    raise typer.Exit(code)


def _absolute(path: str | None) -> str | None:
    return None if path is None else str(Path(path).expanduser().absolute())


@command
def down(
    session: Session, timeout: Annotated[str, typer.Option(help="Longest wait for requests in flight.")] = "60s"
) -> None:
    """Stop Stoker on this machine, and all its workers."""
    from stoker.domain.errors import StokerError
    from stoker.steering import down as stop

    timeout_s = seconds(timeout)
    settings = session.settings()
    try:
        with output.progress("stopping", quiet=session.as_json):
            said = str(stop(settings, timeout_s=timeout_s))
    except StokerError as exc:
        raise CliError(str(exc)) from exc
    if session.as_json:
        output.document({"message": said})
    else:
        output.line(said)


@command
def upgrade(session: Session) -> None:
    """Start a new gateway that takes over without losing a request; the old one finishes what it has."""
    from stoker.domain.errors import StokerError
    from stoker.steering import upgrade as replace

    settings = session.settings()
    try:
        with output.progress("starting a new gateway", quiet=session.as_json):
            pid = replace(settings, timeout_s=UPGRADE_WAIT_S)
    except StokerError as exc:
        raise CliError(str(exc)) from exc
    if session.as_json:
        output.document({"gateway_pid": pid})
    else:
        output.line(f"a new gateway serves (process {pid}); the one before finishes its requests")


def spawn(settings: Settings, log: Path) -> subprocess.Popen[bytes]:
    """Start `stoker up` as a process in a session of its own, which outlives this one; its output is added to `log`."""
    settings.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    arguments = ["up", "--host", settings.host, "--port", str(settings.port), "--data-dir", str(settings.data_dir)]
    if settings.tls_cert and settings.tls_key:
        arguments += ["--tls-cert", settings.tls_cert, "--tls-key", settings.tls_key]
    with log.open("ab") as output_file:
        return subprocess.Popen(
            [sys.executable, "-m", "stoker.cli.main", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=output_file,
            stderr=output_file,
            start_new_session=True,
            env=_environment(settings),
        )


def _environment(settings: Settings) -> dict[str, str]:
    from stoker.supervisor import role_environ

    # They say which Stoker a command talks to, and are not this one's to hand to its workers.
    kept = {name: value for name, value in os.environ.items() if name not in ("STOKER_URL", "STOKER_KEY")}
    environ = role_environ(settings, kept)
    # Not an argument, which everybody on the machine could read.
    return environ if settings.database is None else {**environ, "STOKER_DATABASE": settings.database}


def until_ready(settings: Settings, process: subprocess.Popen[bytes], log: Path, *, timeout_s: float) -> Client:
    """Wait until it answers; returns a client with its admin key. Raises `CliError` with the end of its log.

    It is left running even then: the caller decides.
    """
    deadline = time.monotonic() + timeout_s
    reason = "it did not answer"
    while time.monotonic() < deadline:
        if (code := process.poll()) is not None:
            raise CliError(f"Stoker ended with code {code} instead of starting", details=_end_of(log))
        if (key := Session(data_dir=settings.data_dir).admin_key) is not None:
            client = Client(local_url(settings), key, certificate=settings.paths.certificate)
            try:
                if client.get("/info")["gateway"]["connected"]:
                    return client
            except CliError as exc:
                reason = str(exc)
        time.sleep(0.05)
    raise CliError(f"Stoker was not ready after {timeout_s:g} s: {reason}", Exit.TIMED_OUT, details=_end_of(log))


def end(process: subprocess.Popen[bytes], *, timeout_s: float) -> int | None:
    """End a `stoker up` as Ctrl-C does, at last without mercy. Its exit code, `None` when it had to be killed."""
    # The second one cuts the requests in flight.
    for _ in range(2):
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
        try:
            return process.wait(timeout_s / 2)
        except subprocess.TimeoutExpired:
            continue
    process.kill()
    process.wait(timeout_s)
    return None


def local_url(settings: Settings) -> str:
    """Where this machine reaches it: a listener on all addresses is at loopback too."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(settings.host, settings.host)
    scheme = "https" if settings.tls_cert else "http"
    return f"{scheme}://[{host}]:{settings.port}" if ":" in host else f"{scheme}://{host}:{settings.port}"


def _end_of(log: Path) -> tuple[str, ...]:
    try:
        lines = log.read_text(encoding="utf-8", errors="replace").splitlines()[-LOG_LINES:]
    except OSError as exc:
        return (f"its log {log} cannot be read: {exc.strerror}",)
    return (f"the end of {log}:", *(f"  {line}" for line in lines))


def _detached(session: Session, settings: Settings) -> None:
    log = settings.data_dir / LOG_NAME
    process = spawn(settings, log)
    try:
        with output.progress("starting", quiet=session.as_json):
            until_ready(settings, process, log, timeout_s=READY_S)
    except BaseException:
        end(process, timeout_s=READY_S)
        raise
    if session.as_json:
        output.document({"url": settings.url, "pid": process.pid, "log": str(log)})
    else:
        output.line(f"Stoker answers at {settings.url} (process {process.pid}, log {log}); `stoker down` stops it")
