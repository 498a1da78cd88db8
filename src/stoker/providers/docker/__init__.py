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
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import Any

import aiohttp
from aiodocker import Docker
from aiodocker.exceptions import DockerError

from stoker.domain.errors import Invalid, Unavailable
from stoker.domain.fetching import MODELS_AT
from stoker.domain.hardware import Offer
from stoker.domain.worker import Observed, WorkerId, WorkerSpec
from stoker.providers import keeping, reaching, worker_log
from stoker.providers.base import KeptOutput, LogLine, ProviderOptions
from stoker.providers.docker import containers, hosts, logs, steps, volumes, watch
from stoker.providers.docker.calls import Calls, created, unless
from stoker.providers.docker.daemon import asking, failing
from stoker.providers.docker.options import DockerOptions, parse
from stoker.providers.docker.steps import Steps

GONE = ".gone"
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
        self._calls = Calls(options)
        # Stops that the daemon carries out, and when each of them kills, by the loop's clock.
        self._stops: dict[WorkerId, tuple[asyncio.Task[None], float]] = {}
        # Of ended containers nothing changes any more.
        self._exits: dict[str, Observed] = {}
        self._pauses = containers.Pauses()
        self._steps = Steps(self._calls, options, installation)
        # Starts that are under way here.
        self._starting: set[WorkerId] = set()
        self.models_at = None if options.models is None else MODELS_AT
        self._tasks: set[asyncio.Task[None]] = set()
        self._said: Callable[[WorkerId, str], None] = lambda worker, text: None

    @property
    def _docker(self) -> Docker:
        return self._calls.docker

    def _name(self, worker: WorkerId) -> str:
        if not worker or not all(char.isalnum() or char in "_-" for char in worker):
            raise Invalid(f"{worker[:64]!r} cannot be a worker's id")
        return containers.name_of(worker, self._installation)

    async def _find(self, worker: WorkerId) -> dict[str, Any] | None:
        """The worker's container in full; `None` when there is none."""
        return await self._calls.show(self._name(worker))

    def image_of(self, engine: str) -> str | None:
        return self._options.engine_images.get(engine, self._options.image)

    # Starting

    async def start(self, spec: WorkerSpec) -> None:
        body = containers.body(spec, self._options, self._installation)
        step = None if spec.fetch is None else steps.body(spec, self._options, self._installation)
        self._starting.add(spec.id)
        try:
            await self._start(spec, body, step)
        finally:
            self._starting.discard(spec.id)

    async def _start(self, spec: WorkerSpec, body: dict[str, Any], step: dict[str, Any] | None) -> None:
        found, name = await self._find(spec.id), self._name(spec.id)
        if found is None:
            await self._calls.create(name, body, spec.login, lambda text: self._said(spec.id, text))
            found = await self._find(spec.id)
        status = None if found is None else found["State"]["Status"]
        if status == "created":
            if step is None:
                await self._run(name)
            else:
                await self._steps.fetch(spec.id, step)
        elif status == "paused":
            await self._resume(spec.id)
        elif status in (None, "removing", "dead"):
            raise Unavailable("the container is being removed")

    async def _run(self, name: str) -> None:
        try:
            await self._calls.begin(name)
        except (Invalid, Unavailable):
            # What did not start is made anew, perhaps differently, or not at all.
            if await created(self._calls, name):
                with contextlib.suppress(Invalid, Unavailable):
                    await self._calls.remove(name)
            raise

    # Pausing

    async def pause(self, worker: WorkerId) -> None:
        async with asking("pause the container"):
            # Conflict: it is paused, or has ended.
            await unless(404, unless(409, self._docker.containers.container(self._name(worker)).pause()))

    async def _resume(self, worker: WorkerId) -> None:
        async with asking("let the container go on"):
            call = self._docker.containers.container(self._name(worker)).unpause()
            try:
                await unless(404, unless(409, call))
            except DockerError as exc:
                if "is not paused" not in exc.message:
                    raise

    # Stopping

    async def stop(self, worker: WorkerId, *, grace_s: float) -> None:
        found = await self._find(worker)
        if found is None or containers.MODEL in found["Config"]["Labels"]:
            await self._steps.give_up(worker)
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
            await unless(404, unless(409, call))

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
        await self._calls.remove(self._name(worker))
        await asyncio.to_thread(keeping.trim, self._gone, self._options.workers_kept)

    # Looking

    async def list(self) -> tuple[Observed, ...]:
        filters = {"label": [f"{containers.INSTALLATION}={self._installation}"]}
        try:
            async with asking("list the containers"):
                answer = await self._docker.containers.list(all=True, filters=json.dumps(filters))
                listed = [one._container for one in answer]
                before = {WorkerId(one["Labels"][steps.STEP]): one for one in listed if steps.STEP in one["Labels"]}
                workers = [one for one in listed if containers.WORKER in one["Labels"]]
                seen = await asyncio.gather(*(self._observe(one, before) for one in workers))
        except Invalid as exc:
            raise Unavailable(str(exc)) from exc
        ids = {one["Id"] for one in listed}
        self._exits = {container: end for container, end in self._exits.items() if container in ids}
        self._pauses.keep(ids)
        there = frozenset(WorkerId(one["Labels"][containers.WORKER]) for one in workers)
        found = tuple(observed for observed in seen if observed is not None)
        going = any(observed.preparing for observed in found)
        await self._steps.tidy(before.keys() - there - self._starting, ids=ids, known=there, going=going)
        return found

    async def _observe(self, listed: dict[str, Any], before: Mapping[WorkerId, dict[str, Any]]) -> Observed | None:
        worker, fetched = WorkerId(listed["Labels"][containers.WORKER]), containers.MODEL in listed["Labels"]
        address = containers.address_of(listed, self._options)
        if listed["State"] == "created":
            if fetched and worker in before:
                return await self._steps.observed(listed, before[worker], address)
            if worker in self._starting:
                # Just made, and about to begin.
                return Observed(id=worker, running=True, address=address)
        if listed["State"] in containers.OVER:
            return await self._over(listed)
        began_at = await self._steps.began_at(listed) if fetched else None
        leaving = self._pauses.seen(listed, now=asyncio.get_running_loop().time())
        return Observed(id=worker, running=True, address=address, leaving=leaving, began_at=began_at)

    async def _over(self, listed: dict[str, Any]) -> Observed | None:
        known = self._exits.get(listed["Id"])
        if known is None:
            found = await self._calls.show(listed["Id"])
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
        self._steps.attach(changed, said)
        task = asyncio.create_task(watch.watch(self._docker, self._installation, changed), name="watch docker")
        self._tasks.add(task)

    async def close(self) -> None:
        tasks = [*self._tasks, *(task for task, _ in self._stops.values())]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._steps.close()
        await self._calls.close()


def connect(options: ProviderOptions) -> DockerProvider:
    """Options: those of `stoker.providers.docker.options`. Raises `Invalid` naming one that cannot be."""
    given = parse(options.options)
    folder = options.data_dir / (options.name or "docker")
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    return DockerProvider(folder, given, installation=given.installation or keeping.mark(folder))
