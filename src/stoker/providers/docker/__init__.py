"""Workers as containers of one Docker daemon, here or elsewhere. What runs is what the daemon lists under our label.

Nothing is remembered here but what the daemon forgets: the mark of this installation, and the last output of workers
whose containers are gone.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
import shutil
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from typing import Any

import aiohttp
from aiodocker import Docker
from aiodocker.exceptions import DockerError

from stoker.domain.errors import Invalid, Unavailable
from stoker.domain.hardware import Offer
from stoker.domain.worker import Observed, WorkerId, WorkerSpec
from stoker.providers import keeping, reaching, worker_log
from stoker.providers.base import KeptOutput, LogLine, ProviderOptions
from stoker.providers.docker import containers, hosts, logs, volumes, watch
from stoker.providers.docker.daemon import asking, connection, failing
from stoker.providers.docker.images import Images
from stoker.providers.docker.options import DockerOptions, parse

GONE = ".gone"
# The daemon works on a few starts at a time however many are asked for, and each waits for its answer.
STARTS_AT_ONCE = 16
LOOKS_AT_ONCE = 16
# For a stop that fails at once; after this it goes on at the daemon.
STOP_LOOK_S = 1.0
# A forwarder on the host takes connections for a program that does not listen yet, and drops them at once.
HELD_S = 0.2


class DockerProvider:
    """See `stoker.providers.base.Provider`. `folder` keeps the output of ended workers; `installation` is the mark of
    what belongs to this Stoker.
    """

    pauses = True
    images = True
    own_network = True

    def __init__(self, folder: Path, options: DockerOptions, *, installation: str) -> None:
        self._folder, self._options, self._installation = folder, options, installation
        self._gone = folder / GONE
        self._gone.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._starts, self._looks = asyncio.Semaphore(STARTS_AT_ONCE), asyncio.Semaphore(LOOKS_AT_ONCE)
        self._connected: tuple[Docker, Images] | None = None
        # Stops that the daemon carries out, and when each of them kills, by the loop's clock.
        self._stops: dict[WorkerId, tuple[asyncio.Task[None], float]] = {}
        # Of ended containers nothing changes any more.
        self._exits: dict[str, Observed] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._said: Callable[[WorkerId, str], None] = lambda worker, text: None

    @property
    def _docker(self) -> Docker:
        return self._connection()[0]

    def _connection(self) -> tuple[Docker, Images]:
        # Within the loop in which it is used, which is not there yet when the settings are read.
        if self._connected is None:
            docker = connection(self._options)
            self._connected = docker, Images(docker, timeout_s=self._options.pull_timeout_s)
        return self._connected

    def _name(self, worker: WorkerId) -> str:
        if not worker or not all(char.isalnum() or char in "_-" for char in worker):
            raise Invalid(f"{worker[:64]!r} cannot be a worker's id")
        return containers.name_of(worker, self._installation)

    async def _find(self, worker: WorkerId) -> dict[str, Any] | None:
        """The worker's container in full; `None` when there is none."""
        return await self._show(self._name(worker))

    async def _show(self, container: str) -> dict[str, Any] | None:
        try:
            async with self._looks, asking("look at a container"):
                found: dict[str, Any] | None = await _unless(404, self._docker.containers.container(container).show())
                return found
        except Invalid as exc:
            raise Unavailable(str(exc)) from exc

    def image_of(self, engine: str) -> str | None:
        return self._options.engine_images.get(engine, self._options.image)

    # Starting

    async def start(self, spec: WorkerSpec) -> None:
        body = containers.body(spec, self._options, self._installation)
        found = await self._find(spec.id)
        if found is None:
            await self._create(spec, body)
            found = await self._find(spec.id)
        status = None if found is None else found["State"]["Status"]
        if status == "created":
            await self._run(spec.id)
        elif status == "paused":
            await self._resume(spec.id)
        elif status in (None, "removing", "dead"):
            raise Unavailable("the container is being removed")

    async def _create(self, spec: WorkerSpec, body: dict[str, Any]) -> None:
        docker, images = self._connection()
        for _ in range(2):
            async with self._starts, asking("create the container"):
                try:
                    await docker.containers.create(body, name=self._name(spec.id))
                    return
                except DockerError as exc:
                    if exc.status == 409:
                        # Somebody else has just done it.
                        return
                    if exc.status != 404:
                        raise
            await images.bring(body["Image"], spec.login, lambda text: self._said(spec.id, text))
        raise Unavailable(f"the image {body['Image']} went away as soon as it was there")

    async def _run(self, worker: WorkerId) -> None:
        try:
            async with self._starts, asking("start the container"):
                await self._docker.containers.container(self._name(worker)).start()
        except (Invalid, Unavailable):
            # What did not start is made anew, perhaps differently, or not at all.
            with contextlib.suppress(Invalid, Unavailable):
                found = await self._find(worker)
                if found is not None and found["State"]["Status"] == "created":
                    await self._remove(worker)
            raise

    # Pausing

    async def pause(self, worker: WorkerId) -> None:
        async with asking("pause the container"):
            # Conflict: it is paused, or has ended.
            await _unless(404, _unless(409, self._docker.containers.container(self._name(worker)).pause()))

    async def _resume(self, worker: WorkerId) -> None:
        async with asking("let the container go on"):
            call = self._docker.containers.container(self._name(worker)).unpause()
            try:
                await _unless(404, _unless(409, call))
            except DockerError as exc:
                if "is not paused" not in exc.message:
                    raise

    # Stopping

    async def stop(self, worker: WorkerId, *, grace_s: float) -> None:
        found = await self._find(worker)
        if found is None:
            return
        state = found["State"]
        if state["Status"] in containers.OVER:
            await self._put_away(worker)
            return
        if state["Paused"]:
            await self._resume(worker)
        kills_at = asyncio.get_running_loop().time() + grace_s
        known = self._stops.get(worker)
        # Of two graces the shorter one counts; asking again for the same changes nothing.
        if known is not None and not known[0].done() and known[1] <= kills_at:
            return
        task = asyncio.create_task(self._end(worker, grace_s), name=f"stop {worker}")
        self._stops[worker] = task, kills_at
        task.add_done_callback(lambda task: self._ended(worker, task))
        done, _ = await asyncio.wait([task], timeout=STOP_LOOK_S)
        if done:
            task.result()

    async def _end(self, worker: WorkerId, grace_s: float) -> None:
        container = self._docker.containers.container(self._name(worker))
        async with asking("stop the container", timeout_s=grace_s + 60.0):
            # The daemon goes on with it if we go away in between.
            call = container.stop(t=math.ceil(grace_s)) if grace_s > 0 else container.kill(signal="SIGKILL")
            await _unless(404, _unless(409, call))

    def _ended(self, worker: WorkerId, task: asyncio.Task[None]) -> None:
        known = self._stops.get(worker)
        if known is not None and known[0] is task:
            del self._stops[worker]
        if not task.cancelled():
            # Who asked for it has heard of it, or asks again.
            task.exception()

    async def _put_away(self, worker: WorkerId) -> None:
        """Keep the output of an ended worker, and nothing else of it."""
        with failing("keep its output"):
            limit = int(self._options.log_mib * 1024 * 1024)
            with contextlib.suppress(aiohttp.ClientResponseError):
                said = await logs.last(self._docker, self._name(worker))
                await asyncio.to_thread(keeping.keep, said, self._gone / worker, bytes_max=limit)
        await self._remove(worker)
        await asyncio.to_thread(keeping.trim, self._gone, self._options.workers_kept)

    async def _remove(self, worker: WorkerId) -> None:
        async with asking("remove the container"):
            container = self._docker.containers.container(self._name(worker))
            # Conflict: it is being removed already.
            await _unless(404, _unless(409, container.delete(v=True, force=True)))

    # Looking

    async def list(self) -> tuple[Observed, ...]:
        filters = {"label": [f"{containers.INSTALLATION}={self._installation}"]}
        try:
            async with asking("list the containers"):
                listed = await self._docker.containers.list(all=True, filters=json.dumps(filters))
            seen = await asyncio.gather(*(self._observe(one._container) for one in listed))
        except Invalid as exc:
            raise Unavailable(str(exc)) from exc
        ids = {one.id for one in listed}
        self._exits = {container: end for container, end in self._exits.items() if container in ids}
        return tuple(observed for observed in seen if observed is not None)

    async def _observe(self, listed: dict[str, Any]) -> Observed | None:
        if listed["State"] not in containers.OVER:
            address = containers.address_of(listed, self._options)
            return Observed(id=WorkerId(listed["Labels"][containers.WORKER]), running=True, address=address)
        known = self._exits.get(listed["Id"])
        if known is None:
            found = await self._show(listed["Id"])
            if found is None:
                return None
            known = containers.observed(found, containers.address_of(listed, self._options))
            if found["State"]["Status"] == "exited":
                self._exits[listed["Id"]] = known
        return known

    async def listens(self, worker: WorkerId, port: int) -> bool:
        listed = next((found for found in await self.list() if found.id == worker), None)
        if listed is None or not listed.running or listed.address is None or listed.address.port != port:
            return False
        return await reaching.holds(listed.address, for_s=HELD_S)

    async def execute(self, worker: WorkerId, command: tuple[str, ...], timeout_s: float) -> int:
        try:
            async with asking(f"run {command[0]}", timeout_s=timeout_s):
                call = await self._docker.containers.container(self._name(worker)).exec(list(command))
                async with call.start(detach=False) as stream:
                    while await stream.read_out() is not None:
                        pass
                code = (await call.inspect())["ExitCode"]
        except Invalid as exc:
            raise Unavailable(str(exc)) from exc
        if code is None:
            raise Unavailable(f"{command[0]} goes on without its output")
        return int(code)

    async def offers(self) -> tuple[Offer, ...]:
        async with asking("ask the daemon for its host"):
            info = await self._docker.system.info()
        return (await asyncio.to_thread(hosts.offer, info, self._options),)

    async def logs(self, worker: WorkerId, *, tail: int, follow: bool) -> AsyncIterator[LogLine]:
        found = await self._find(worker)
        if found is None:
            # All that is kept, to its end.
            places = (self._gone / worker,)
            async for line in worker_log.read(places, tail=tail, follow=False, ended=lambda: True):
                yield line
            return
        with failing("read the output"):
            async for line in logs.stream(self._docker, found["Id"], tail=tail, follow=follow):
                yield line

    async def kept(self) -> tuple[KeptOutput, ...]:
        return await asyncio.to_thread(worker_log.kept, self._gone)

    async def discard(self, worker: WorkerId) -> None:
        self._name(worker)
        await asyncio.to_thread(shutil.rmtree, self._gone / worker, ignore_errors=True)

    # Volumes

    async def make_volume(self, volume: str, *, size_gib: float) -> None:
        self._name(WorkerId(volume))
        await volumes.make(self._docker, volume, self._installation)

    async def remove_volume(self, volume: str) -> None:
        await volumes.remove(self._docker, volume, self._installation)

    async def volumes(self) -> frozenset[str]:
        return await volumes.known(self._docker, self._installation)

    # Telling

    def attach(self, *, changed: Callable[[], None], said: Callable[[WorkerId, str], None]) -> None:
        self._said = said
        task = asyncio.create_task(watch.watch(self._docker, self._installation, changed), name="watch docker")
        self._tasks.add(task)

    async def close(self) -> None:
        tasks = [*self._tasks, *(task for task, _ in self._stops.values())]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._connected is not None:
            docker, self._connected = self._connected[0], None
            await docker.close()
            # The library leaves one that was handed to it.
            await docker.connector.close()


async def _unless(status: int, call: Coroutine[Any, Any, Any]) -> Any:
    """What it answers; `None` when the daemon says `status`."""
    try:
        return await call
    except DockerError as exc:
        if exc.status != status:
            raise
        return None


def connect(options: ProviderOptions) -> DockerProvider:
    """Options: those of `stoker.providers.docker.options`. Raises `Invalid` naming one that cannot be."""
    given = parse(options.options)
    folder = options.data_dir / (options.name or "docker")
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    return DockerProvider(folder, given, installation=given.installation or keeping.mark(folder / "installation"))
