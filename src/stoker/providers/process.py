"""Workers as processes of this machine, each under a shim of its own. What runs is what the folders' locks say.

Nothing is remembered here: `workers/{id}/` is all there is of a worker, and `.gone/{id}` what is kept of its output.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

from stoker.domain.errors import Invalid, Unavailable
from stoker.domain.hardware import DEFAULT_REGION, Offer, PortRange, VirtualGpus
from stoker.domain.measurements import Taken
from stoker.domain.worker import Observed, WorkerId, WorkerSpec
from stoker.providers import consumption, folders, inventory, shim, worker_log
from stoker.providers.base import KeptOutput, LogLine, ProviderOptions

# A shim answers within milliseconds; on a machine that swaps it may take seconds.
SHIM_WAIT_S = 20.0
GONE = ".gone"
OPTIONS = frozenset({"ports", "log_mib", "workers_kept", "region", "virtual_gpus"})
# What a worker takes over of Stoker's own environment: what programs need to find files, never what Stoker was told.
PASSED_ON = (
    "PATH",
    "HOME",
    "USER",
    "LOGNAME",
    "SHELL",
    "LANG",
    "LC_ALL",
    "LC_CTYPE",
    "TZ",
    "TMPDIR",
    "LD_LIBRARY_PATH",
    "CUDA_HOME",
    "HF_HOME",
    "HF_HUB_OFFLINE",
    "XDG_CACHE_HOME",
    "SSL_CERT_FILE",
    "REQUESTS_CA_BUNDLE",
)


class ProcessProvider:
    """See `stoker.providers.base.Provider`. `ports` is what workers' ports are chosen from; `log_bytes` bounds the
    output kept of each, `workers_kept` the ended workers whose output is kept. `virtual_gpus` are cards to pretend.
    """

    pauses = True
    images = False
    own_network = False

    def __init__(
        self,
        folder: Path,
        *,
        ports: PortRange,
        log_bytes: int,
        workers_kept: int,
        region: str = DEFAULT_REGION,
        virtual_gpus: tuple[VirtualGpus, ...] = (),
    ) -> None:
        # One spelling of the path for good: what is left of a worker is known by it.
        self._folder = folder.resolve()
        self._ports = ports
        self._log_bytes = log_bytes
        self._workers_kept = workers_kept
        self._region, self._virtual_gpus = region, virtual_gpus
        self._tidying, self._stopping = threading.Lock(), threading.Lock()
        self._gone = self._folder / GONE
        self._gone.mkdir(parents=True, exist_ok=True, mode=0o700)
        # Once: what workers write later is accounted for as theirs.
        self._disk_gib = shutil.disk_usage(self._folder).free / 1024**3
        for aside in self._gone.glob(".*"):
            # Somebody died while it was being removed.
            shutil.rmtree(aside, ignore_errors=True)

    def _folder_of(self, worker: WorkerId) -> Path:
        if not worker or worker.startswith(".") or "/" in worker or "\0" in worker:
            raise Invalid(f"{worker!r} cannot be a worker's id")
        return self._folder / worker

    def image_of(self, engine: str) -> str | None:
        return None

    # Starting

    async def start(self, spec: WorkerSpec) -> None:
        folder = self._folder_of(spec.id)
        _check(spec)
        try:
            if await asyncio.to_thread(self._prepare, folder, spec):
                await self._spawn(folder)
            else:
                await asyncio.to_thread(folders.resume, folder)
        except OSError as exc:
            raise Unavailable(f"cannot start the worker: {exc}") from exc

    async def _spawn(self, folder: Path) -> None:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-I",
            "-S",
            shim.__file__,
            str(folder),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            env={},
            start_new_session=True,
        )
        try:
            _, said = await asyncio.wait_for(process.communicate(), SHIM_WAIT_S)
        except TimeoutError as exc:
            # Harmless if it comes through after all: the next start finds that it has run.
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
            raise Unavailable(f"the worker's shim did not answer within {SHIM_WAIT_S:g} s") from exc
        if process.returncode == shim.HELD and await asyncio.to_thread(folders.observe, folder) is None:
            raise Unavailable("somebody else was about to start or remove the worker")
        if process.returncode not in (0, shim.HELD, shim.ENDED):
            lines = said.decode(errors="replace").strip().splitlines()
            raise Unavailable(f"the worker's shim failed: {lines[-1] if lines else process.returncode}")

    def _prepare(self, folder: Path, spec: WorkerSpec) -> bool:
        """Lay down what the shim needs. False when the worker runs or has run, and is listed as such."""
        if (folder / "started").exists():
            return False
        folder.mkdir(exist_ok=True, mode=0o700)
        work = folder / "work"
        work.mkdir(exist_ok=True, mode=0o700)
        content = {
            "argv": list(spec.command),
            "env": self._environ(folder, spec),
            "cwd": str(work),
            "log_bytes": self._log_bytes,
        }
        folders.write_private(folder / "spec.json", json.dumps(content))
        return True

    def _environ(self, folder: Path, spec: WorkerSpec) -> dict[str, str]:
        environ = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
        # Else the output of a Python program that ends badly would end with it.
        environ["PYTHONUNBUFFERED"] = "1"
        environ.update(spec.env)
        environ.update(
            {
                # Empty on purpose where no card was asked for: a worker takes none that it was not given.
                "CUDA_VISIBLE_DEVICES": ",".join(spec.gpus),
                "STOKER_WORKER_ID": spec.id,
                "STOKER_WORKER_FOLDER": str(folder),
                "HOST": "127.0.0.1",
            }
        )
        if spec.port is not None:
            environ["PORT"] = str(spec.port)
        for declared, own in spec.ports.items():
            environ[f"PORT_{declared}"] = str(own)
        if spec.virtual_gpus:
            environ["STOKER_GPU_SLOTS"] = ",".join(map(str, spec.virtual_gpus))
        return environ

    # Pausing

    async def pause(self, worker: WorkerId) -> None:
        try:
            await asyncio.to_thread(folders.pause, self._folder_of(worker))
        except OSError as exc:
            raise Unavailable(f"cannot pause the worker: {exc}") from exc

    # Stopping

    async def stop(self, worker: WorkerId, *, grace_s: float) -> None:
        try:
            await asyncio.to_thread(self._stop, self._folder_of(worker), grace_s)
        except OSError as exc:
            raise Unavailable(f"cannot stop the worker: {exc}") from exc

    def _stop(self, folder: Path, grace_s: float) -> None:
        # Without its folder it is unknown, or somebody else puts it away at this moment.
        with contextlib.suppress(FileNotFoundError):
            with folders.kept_free(folder) as free:
                if free:
                    folders.end_survivors(folder)
                    self._put_away(folder)
                    return
            with self._stopping:
                # The shim may not have read what an earlier stop wrote, and of two graces the shorter one counts.
                least_s = min(grace_s, folders.grace_s(folder))
                folders.write_private(folder / "stop.json", json.dumps({"grace_s": least_s}))
            pid = folders.shim_pid(folder)
            if pid is not None:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGTERM)

    def _put_away(self, folder: Path) -> None:
        """Keep the output of an ended worker, and nothing else of it."""
        kept, aside = self._gone / folder.name, self._gone / f".{folder.name}"
        with self._tidying:
            for name in ("log.1", "log"):
                # A silent worker must not take the place of one that said something.
                if (folder / name).exists() and (folder / name).stat().st_size:
                    kept.mkdir(exist_ok=True, mode=0o700)
                    (folder / name).replace(kept / name)
            # At one stroke, so that nobody ever lists half of a folder.
            shutil.rmtree(aside, ignore_errors=True)
            folder.rename(aside)
            outputs = [path for path in self._gone.iterdir() if not path.name.startswith(".")]
            outputs.sort(key=lambda path: path.stat().st_mtime, reverse=True)
            for path in outputs[self._workers_kept :]:
                shutil.rmtree(path, ignore_errors=True)
        shutil.rmtree(aside, ignore_errors=True)

    # Looking

    async def list(self) -> tuple[Observed, ...]:
        return await asyncio.to_thread(self._list)

    def _list(self) -> tuple[Observed, ...]:
        try:
            with os.scandir(self._folder) as entries:
                found = [Path(entry.path) for entry in entries if entry.is_dir() and not entry.name.startswith(".")]
            seen = [folders.observe(folder) for folder in found]
        except OSError as exc:
            raise Unavailable(f"cannot read {self._folder}: {exc}") from exc
        return tuple(observed for observed in seen if observed is not None)

    async def listens(self, worker: WorkerId, port: int) -> bool:
        return await asyncio.to_thread(folders.listens, self._folder_of(worker), port)

    async def execute(self, worker: WorkerId, command: tuple[str, ...], timeout_s: float) -> int:
        folder = self._folder_of(worker)
        try:
            content = json.loads(await asyncio.to_thread((folder / "spec.json").read_bytes))
            process = await asyncio.create_subprocess_exec(
                *command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env=content["env"],
                cwd=content["cwd"],
                start_new_session=True,
            )
        except (OSError, ValueError) as exc:
            raise Unavailable(f"cannot run {command[0]}: {exc}") from exc
        try:
            async with asyncio.timeout(timeout_s):
                return await process.wait()
        except TimeoutError as exc:
            raise Unavailable(f"{command[0]} did not end within {timeout_s:g} s") from exc
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            await process.wait()

    async def offers(self) -> tuple[Offer, ...]:
        return await asyncio.to_thread(self._offers)

    def _offers(self) -> tuple[Offer, ...]:
        local = inventory.local_offer(self._ports, region=self._region, disk_gib=self._disk_gib)
        return (local, *inventory.virtual_offers(local, self._virtual_gpus))

    def logs(self, worker: WorkerId, *, tail: int, follow: bool) -> AsyncIterator[LogLine]:
        folder = self._folder_of(worker)
        places = (folder, self._gone / worker)
        return worker_log.read(places, tail=tail, follow=follow, ended=lambda: folders.ended(folder))

    async def measure(self, workers: Mapping[WorkerId, tuple[str, ...]]) -> Mapping[WorkerId, Taken]:
        return await asyncio.to_thread(self._measure, workers)

    def _measure(self, workers: Mapping[WorkerId, tuple[str, ...]]) -> Mapping[WorkerId, Taken]:
        shims = {worker: folders.shim_pid(self._folder_of(worker)) for worker in workers}
        return consumption.taken({worker: pid for worker, pid in shims.items() if pid is not None}, workers)

    async def kept(self) -> tuple[KeptOutput, ...]:
        return await asyncio.to_thread(worker_log.kept, self._gone)

    async def discard(self, worker: WorkerId) -> None:
        await asyncio.to_thread(shutil.rmtree, self._gone / self._folder_of(worker).name, ignore_errors=True)

    async def close(self) -> None:
        """Nothing is held."""


def _check(spec: WorkerSpec) -> None:
    if not spec.command:
        raise Invalid("the process provider runs commands, not images")
    if any("\0" in text for text in (*spec.command, *spec.env, *spec.env.values())):
        raise Invalid("a command and its environment cannot contain NUL characters")
    for name in spec.env:
        if not name or "=" in name:
            raise Invalid(f"{name!r} cannot be the name of an environment variable")


def connect(options: ProviderOptions) -> ProcessProvider:
    """Options: `ports` (PortRange), `log_mib` (output kept of each worker), `workers_kept` (ended workers), `region`
    (of this machine), `virtual_gpus` (cards to pretend).
    """
    given = options.options
    unknown = sorted(set(given) - OPTIONS)
    if unknown:
        raise Invalid(f"the process provider has no option {unknown[0]!r}; there are {', '.join(sorted(OPTIONS))}")
    region, virtual = given.get("region", DEFAULT_REGION), given.get("virtual_gpus", ())
    ports, log_mib, kept = given.get("ports"), given.get("log_mib", 16.0), given.get("workers_kept", 100)
    if not isinstance(ports, PortRange) or not isinstance(log_mib, float | int) or not isinstance(kept, int):
        raise Invalid("the process provider needs ports, log_mib and workers_kept")
    if not isinstance(region, str) or not isinstance(virtual, tuple):
        raise Invalid("the process provider needs a region and a tuple of virtual_gpus")
    return ProcessProvider(
        options.data_dir / "workers",
        ports=ports,
        log_bytes=int(log_mib * 1024 * 1024),
        workers_kept=kept,
        region=region,
        virtual_gpus=virtual,
    )
