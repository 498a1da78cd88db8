"""The container before a worker's, which brings its model into the daemon's cache: what it is, and what it has said."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any

import structlog

from stoker.domain.errors import Invalid, Unavailable
from stoker.domain.fetching import COMMAND, TOKEN_VARIABLE, VARIABLE, failure_of, order
from stoker.domain.times import seconds_of
from stoker.domain.worker import Address, Exit, Observed, WorkerId, WorkerSpec
from stoker.providers import preparing
from stoker.providers.docker import containers
from stoker.providers.docker.calls import Calls, created
from stoker.providers.docker.options import DockerOptions

log = structlog.get_logger(__name__)

STEP = "stoker.step"
# What Stoker's own program takes to fetch, whatever the worker may take.
RAM_GIB_MIN = 0.5
# A new volume belongs to root, and so do folders that the daemon makes.
_USER = "0:0"


class Steps:
    """Those of one daemon. What each comes to is found out by looking: a Stoker that is killed carries on with them."""

    def __init__(self, calls: Calls, options: DockerOptions, installation: str) -> None:
        self._calls, self._options, self._installation = calls, options, installation
        self._preparing = preparing.Preparing()
        # Of containers that waited for their model: when they began.
        self._began: dict[str, float] = {}
        # Workers whose model has come.
        self._going_on: dict[WorkerId, asyncio.Task[None]] = {}
        self.said: Callable[[WorkerId, str], None] = lambda worker, text: None

    def attach(self, changed: Callable[[], None], said: Callable[[WorkerId, str], None]) -> None:
        """As `Tells.attach`."""
        self._preparing.changed, self.said = changed, said

    async def fetch(self, worker: WorkerId, body: dict[str, Any]) -> None:
        """Have its model come; `observed` finds out when that is over, and lets the worker begin."""
        name = name_of(worker, self._installation)
        if await self._calls.show(name) is None:
            await self._calls.create(name, body, None, lambda text: self.said(worker, text))
        if await created(self._calls, name):
            await self._calls.begin(name)

    async def observed(self, listed: Mapping[str, Any], step: Mapping[str, Any], address: Address | None) -> Observed:
        """A worker that waits for its step, both as they are listed."""
        worker, model = WorkerId(listed["Labels"][containers.WORKER]), listed["Labels"][containers.MODEL]
        try:
            said = await self._calls.said(step["Id"], preparing.LINES)
        except (Invalid, Unavailable) as exc:
            # As of one that is being removed; how it ended is known without.
            said = []
            log.info("docker_step_silent", worker=worker, error=str(exc))
        words = self._preparing.take(worker, model, said, self.said)
        waits = Observed(id=worker, running=True, address=address, preparing=words)
        if step["State"] not in ("exited", "dead"):
            return waits
        found, begun = await self._calls.show(step["Id"]), await self._calls.show(listed["Id"])
        failed = None if found is None else ending(found, said, model)
        if failed is not None:
            return Observed(id=worker, running=False, exit=failed)
        if begun is not None and (begun["State"]["Status"] != "created" or begun["State"].get("Error")):
            return containers.observed(begun, address)
        if worker not in self._going_on:
            self._going_on[worker] = asyncio.create_task(self._go_on(worker), name=f"begin {worker}")
        return waits

    async def _go_on(self, worker: WorkerId) -> None:
        try:
            await self._calls.begin(containers.name_of(worker, self._installation))
            await self._calls.remove(name_of(worker, self._installation))
        except (Invalid, Unavailable) as exc:
            # The next list shows why, or tries again.
            log.warning("docker_begin_failed", worker=worker, error=str(exc))
        finally:
            if self._going_on.get(worker) is asyncio.current_task():
                del self._going_on[worker]

    async def began_at(self, listed: Mapping[str, Any]) -> float | None:
        """When the program of a container began that runs."""
        known = self._began.get(listed["Id"])
        if known is None and (found := await self._calls.show(listed["Id"])) is not None:
            known = self._began[listed["Id"]] = seconds_of(found["State"]["StartedAt"])
        return known

    async def give_up(self, worker: WorkerId) -> None:
        """What is fetched for it, if anything is; what is there of that stays in the cache."""
        going = self._going_on.pop(worker, None)
        if going is not None:
            going.cancel()
            await asyncio.wait([going])
        if self._options.models is not None:
            await self._calls.remove(name_of(worker, self._installation))

    async def tidy(
        self, alone: Iterable[WorkerId], *, ids: Collection[str], known: Collection[WorkerId], going: bool
    ) -> None:
        """Remove steps of workers that are not there, and forget all but these containers and workers. `going`: one of
        them waits for its step.
        """
        self._began = {container: at for container, at in self._began.items() if container in ids}
        self._preparing.keep(known, going=going)
        for worker in alone:
            await self._calls.remove(name_of(worker, self._installation))

    async def close(self) -> None:
        """Begin nothing any more."""
        self._preparing.close()
        tasks = tuple(self._going_on.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def name_of(worker: str, installation: str) -> str:
    """What the step before this worker is called."""
    return f"{containers.name_of(worker, installation)}-models"


def body(spec: WorkerSpec, options: DockerOptions, installation: str) -> dict[str, Any]:
    """The request that creates the step. Raises `Invalid`."""
    if spec.fetch is None or options.models is None or options.models_image is None:
        raise Invalid("the docker provider has no cache of models: name one with its options models and models_image")
    environ = {VARIABLE: order(spec.fetch)}
    if spec.fetch.token is not None:
        environ[TOKEN_VARIABLE] = spec.fetch.token
    weights = containers.weights(spec.fetch, options.models, read_only=False)
    config = containers.guarded(options) | weights
    config["Mounts"] = containers.folders(options) + weights.get("Mounts", [])
    if spec.vcpu is not None:
        config["NanoCpus"] = int(spec.vcpu * 1e9)
    if spec.ram_gib is not None:
        config["Memory"] = config["MemorySwap"] = int(max(spec.ram_gib, RAM_GIB_MIN) * 1024**3)
    return {
        "Image": options.models_image,
        "Entrypoint": list(COMMAND),
        "User": _USER,
        "Env": [f"{name}={value}" for name, value in environ.items()],
        "Labels": {containers.INSTALLATION: installation, STEP: spec.id},
        "HostConfig": config,
    }


def ending(step: Mapping[str, Any], lines: list[str], model: str) -> Exit | None:
    """How a step that has ended failed; `None` when it did what it should."""
    state = step["State"]
    code = int(state["ExitCode"])
    if code == 0 and not state.get("Error"):
        return None
    if state.get("OOMKilled"):
        otherwise = "out of memory"
    else:
        otherwise = f"the step before the worker ended with code {code}" + (
            f": {state['Error']}" if state.get("Error") else ""
        )
    return Exit(code=code, at=seconds_of(state["FinishedAt"]), reason=failure_of(lines, model, otherwise))
