"""Workers as pods of one namespace of a cluster. What runs is what the API server lists under our label.

Nothing is remembered here but what the cluster forgets: the mark of this installation, the last output of workers whose
pods are gone, and, as long as this runs, why somebody else ended them.
"""

from __future__ import annotations

import asyncio
import math
import shutil
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import aiohttp
import structlog

from stoker.domain.errors import Invalid, Unavailable, Unsupported
from stoker.domain.fetching import MODELS_AT
from stoker.domain.hardware import Offer
from stoker.domain.worker import Exit, Observed, WorkerId, WorkerSpec
from stoker.providers import keeping, preparing, reaching, worker_log
from stoker.providers.base import KeptOutput, LogLine, ProviderOptions
from stoker.providers.kubernetes import claims, logs, nodes, pods, states, steps
from stoker.providers.kubernetes.cluster import Cluster, Refused, asking, opened, over_quota, unless
from stoker.providers.kubernetes.options import KubernetesOptions, parse
from stoker.providers.kubernetes.watch import Watch

log = structlog.get_logger(__name__)

GONE = ".gone"
RELEASE_S = 5.0
# Of a node that does not answer nobody waits for more.
LOOK_S = 5.0
# Less would have the pod forgotten at once, before its node has ended it and freed what it holds.
GRACE_LEAST_S = 1
TOMBSTONES_MAX = 1_000
# Some networks take connections at ports of nodes for a program that does not listen yet.
HELD_S = 0.2
Pod = Mapping[str, Any]


class KubernetesProvider:
    """See `stoker.providers.base.Provider`. `folder` keeps the output of ended workers; `installation` is the mark of
    what belongs to this Stoker.
    """

    pauses = False
    images = True
    own_network = True

    def __init__(self, folder: Path, options: KubernetesOptions, *, installation: str) -> None:
        self._options, self._installation = options, installation
        self._gone = folder / GONE
        self._gone.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._connecting = asyncio.Lock()
        self._connected: Cluster | None = None
        self._hosts: dict[str, nodes.Host] = {}
        # Of pods by their uid: what keeps them from running, as far as that has been seen.
        self._hindered: dict[str, states.Obstacle] = {}
        # What was told of that last.
        self._told: dict[str, str] = {}
        # Ends that were asked for here, and how pods ended that somebody else has deleted.
        self._asked: set[WorkerId] = set()
        self._lost: dict[WorkerId, Exit] = {}
        self._preparing = preparing.Preparing()
        self.models_at = None if options.models is None else MODELS_AT
        # Started here, and not known to be on a node yet.
        self._placing: set[WorkerId] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._changed: Callable[[], None] = lambda: None
        self._said: Callable[[WorkerId, str], None] = lambda worker, text: None

    async def _cluster(self) -> Cluster:
        # Within the loop in which it is used, which is not there yet when the settings are read.
        async with self._connecting:
            if self._connected is None:
                self._connected = await opened(self._options)
            return self._connected

    def _name(self, worker: WorkerId) -> str:
        return pods.name_of(worker, self._installation)

    async def _find(self, worker: WorkerId) -> dict[str, Any] | None:
        name, cluster = self._name(worker), await self._cluster()
        try:
            async with asking("look at a pod"):
                return await cluster.pod(name)
        except Invalid as exc:
            raise Unavailable(str(exc)) from exc

    def image_of(self, engine: str) -> str | None:
        return self._options.engine_images.get(engine, self._options.image)

    # Starting

    async def start(self, spec: WorkerSpec) -> None:
        if spec.id in self._lost:
            # It has ended.
            return
        body = pods.pod(spec, self._options, self._installation, await self._host(spec))
        cluster, secrets = await self._cluster(), pods.secrets(spec, self._installation)
        found = await self._find(spec.id) if secrets else None
        if found is None:
            for secret in secrets:
                await self._put(cluster, secret)
            found = await self._create(cluster, spec.id, body) or await self._find(spec.id)
        if found is None or ("deletionTimestamp" in found["metadata"] and not states.ended(found)):
            raise Unavailable("the pod of that name is being removed")
        # Also of one that an earlier try has made, which may not have come to this.
        for secret in secrets:
            async with asking("have a secret end with its pod"):
                await unless(404, cluster.merge("secret", secret["metadata"]["name"], pods.owned_by(found)))

    async def _host(self, spec: WorkerSpec) -> nodes.Host | None:
        if spec.host is not None and spec.host not in self._hosts:
            await self.offers()
            if spec.host not in self._hosts:
                raise Unavailable(f"the node {spec.host} takes no workers at the moment")
        return None if spec.host is None else self._hosts[spec.host]

    async def _put(self, cluster: Cluster, secret: dict[str, Any]) -> None:
        """Make it, or have one that an earlier try left behind say the same."""
        async with asking("make a secret"):
            try:
                await cluster.create("secret", secret)
            except Refused as exc:
                if exc.status != 409:
                    raise
                await cluster.merge("secret", secret["metadata"]["name"], {"data": secret["data"]})

    async def _create(self, cluster: Cluster, worker: WorkerId, body: dict[str, Any]) -> dict[str, Any] | None:
        """The pod as the cluster has it; `None` when there is one already."""
        self._placing.add(worker)
        try:
            async with asking("create the pod"):
                return await self._try_to_create(cluster, worker, body)
        except (Invalid, Unavailable):
            self._placing.discard(worker)
            raise

    async def _try_to_create(self, cluster: Cluster, worker: WorkerId, body: dict[str, Any]) -> dict[str, Any] | None:
        try:
            return await cluster.create("pod", body)
        except Refused as exc:
            if exc.status == 409 and exc.reason == "AlreadyExists":
                self._placing.discard(worker)
                return None
            if over_quota(exc):
                self._said(worker, f"waits for the namespace's quota: {exc}")
            raise

    async def pause(self, worker: WorkerId) -> None:
        """Never called: no pod can be held still."""
        raise Unsupported("pods cannot be held still")

    # Stopping

    async def stop(self, worker: WorkerId, *, grace_s: float) -> None:
        self._lost.pop(worker, None)
        name, cluster = self._name(worker), await self._cluster()
        found = await self._find(worker)
        if found is None:
            # Those of a start that was broken off before there was a pod, with which they would have gone.
            async with asking("remove its secrets"):
                for secret in (name, pods.pull_secret_of(name)):
                    await cluster.delete("secret", secret)
            self._asked.discard(worker)
            return
        period_s = max(GRACE_LEAST_S, math.ceil(grace_s))
        metadata = found["metadata"]
        if "deletionTimestamp" in metadata:
            if states.overdue(found, time.time()):
                # Its node is silent: without it, nobody but us can say that it is over.
                log.warning("kubernetes_pod_forced", pod=name)
                period_s = 0
            elif (metadata.get("deletionGracePeriodSeconds") or 0) <= period_s and worker in self._asked:
                # Of two graces the shorter one counts; asking again for the same changes nothing.
                return
        else:
            await self._keep(cluster, worker, name)
        if period_s:
            await self._release(cluster, found)
        self._asked.add(worker)
        async with asking("delete the pod"):
            await cluster.delete("pod", name, grace_period_seconds=period_s)

    async def _release(self, cluster: Cluster, pod: Pod) -> None:
        """Have its hook not wait: whoever asks for its end has drained it."""
        if "preStop" not in pod["spec"]["containers"][0].get("lifecycle", {}) or not states.running(pod):
            return
        try:
            async with asking("say that it is drained", timeout_s=RELEASE_S):
                await cluster.execute(pod["metadata"]["name"], pods.CONTAINER, list(pods.SAY_DRAINED))
        except (Invalid, Unavailable) as exc:
            # Without a shell it has no hook either; and where its node is silent, nobody waits.
            log.info("kubernetes_release_failed", pod=pod["metadata"]["name"], error=str(exc))

    async def _keep(self, cluster: Cluster, worker: WorkerId, name: str) -> None:
        """What it has said so far: the cluster forgets it together with the pod."""
        try:
            async with asking("keep its output"):
                said = await logs.last(cluster, name)
        except (Invalid, Unavailable) as exc:
            # Its node may be gone, and it has to end all the same.
            log.warning("kubernetes_output_lost", pod=name, error=str(exc))
            return
        limit = int(self._options.log_mib * 1024 * 1024)
        await asyncio.to_thread(keeping.keep, said, self._gone / worker, bytes_max=limit)
        await asyncio.to_thread(keeping.trim, self._gone, self._options.workers_kept)

    # Looking

    async def list(self) -> tuple[Observed, ...]:
        cluster, now = await self._cluster(), time.time()
        try:
            async with asking("list the pods"):
                listed, _ = await cluster.pods(pods.selector(self._installation))
        except Invalid as exc:
            raise Unavailable(str(exc)) from exc
        hindered = {pod["metadata"]["uid"]: self._hindrance(pod, now) for pod in listed}
        self._hindered = {uid: found for uid, found in hindered.items() if found is not None}
        words = await self._prepare(cluster, [pod for pod in listed if steps.running(pod)])
        seen = [
            states.observed(
                pod,
                self._options,
                hindered=hindered[pod["metadata"]["uid"]],
                asked=states.worker_of(pod) in self._asked,
                now=now,
                preparing=words.get(states.worker_of(pod), ""),
            )
            for pod in listed
        ]
        there = {found.id for found in seen}
        self._preparing.keep(there, going=bool(words))
        # One may have been deleted since it was listed.
        lost = [(worker, end) for worker, end in self._lost.items() if worker not in there]
        return (*seen, *(Observed(id=worker, running=False, exit=end) for worker, end in lost))

    async def _prepare(self, cluster: Cluster, fetching: Sequence[Pod]) -> dict[WorkerId, str]:
        """How far the models of these are."""

        async def look(pod: Pod) -> str:
            worker, model, said = states.worker_of(pod), steps.model_of(pod) or "", list[str]()
            try:
                async with self._preparing.room, asking("hear how far a model is", timeout_s=LOOK_S):
                    said = await logs.tail(cluster, pod["metadata"]["name"], steps.CONTAINER, preparing.LINES)
            except (Invalid, Unavailable) as exc:
                log.info("kubernetes_step_silent", worker=worker, error=str(exc))
            return self._preparing.take(worker, model, said, self._said)

        return dict(zip(map(states.worker_of, fetching), await asyncio.gather(*map(look, fetching)), strict=True))

    def _hindrance(self, pod: Pod, now: float) -> states.Obstacle | None:
        return states.hindrance(pod, self._hindered.get(pod["metadata"]["uid"]), now=now)

    async def listens(self, worker: WorkerId, port: int) -> bool:
        found = await self._find(worker)
        address = None if found is None or states.ended(found) else states.address_of(found, self._options)
        # A pod's address is its own, and so are the ports of its node that it was given.
        held_s = HELD_S if self._options.on_nodes else 0.0
        return address is not None and address.port == port and await reaching.holds(address, for_s=held_s)

    async def execute(self, worker: WorkerId, command: tuple[str, ...], timeout_s: float) -> int:
        name, cluster = self._name(worker), await self._cluster()
        try:
            async with asking(f"run {command[0]}", timeout_s=timeout_s):
                return await cluster.execute(name, pods.CONTAINER, list(command))
        except Invalid as exc:
            raise Unavailable(str(exc)) from exc

    async def offers(self) -> tuple[Offer, ...]:
        try:
            found = await self._look_for_hosts()
        except Invalid as exc:
            raise Unavailable(
                f"{exc}. Give Stoker the permissions of deploy/kubernetes, or describe the nodes with the kubernetes "
                "provider's option nodes"
            ) from exc
        self._hosts = {host.offer.host: host for host in found}
        return tuple(host.offer for host in found)

    async def _look_for_hosts(self) -> tuple[nodes.Host, ...]:
        cluster = await self._cluster()
        async with asking("ask for quotas"):
            quotas = await cluster.quotas()
            own = (await cluster.pods(pods.selector(self._installation)))[0] if quotas else []
        limit = nodes.limit_of(quotas, own)
        if self._options.nodes:
            return nodes.stated(self._options, limit)
        selector = ",".join(f"{key}={value}" for key, value in sorted(self._options.node_selector.items()))
        async with asking("list the nodes"):
            there = await cluster.nodes(selector or None)
        others: list[dict[str, Any]] = []
        if self._options.count_others:
            async with asking("list the pods of others"):
                others = await cluster.others(pods.INSTALLATION, self._installation)
        return nodes.hosts(there, self._options, limit, others)

    async def logs(self, worker: WorkerId, *, tail: int, follow: bool) -> AsyncIterator[LogLine]:
        name, cluster = self._name(worker), await self._cluster()
        if await self._find(worker) is None:
            # All that is kept, to its end.
            async for line in worker_log.read((self._gone / worker,), tail=tail, follow=False, ended=lambda: True):
                yield line
            return

        async def runs() -> bool:
            found = await self._find(worker)
            return found is not None and not states.ended(found)

        try:
            async for line in logs.stream(cluster, name, tail=tail, follow=follow, runs=runs):
                yield line
        except (Refused, aiohttp.ClientError, OSError) as exc:
            raise Unavailable(f"cannot read the output: {exc or type(exc).__name__}") from exc

    async def kept(self) -> tuple[KeptOutput, ...]:
        return await asyncio.to_thread(worker_log.kept, self._gone)

    async def discard(self, worker: WorkerId) -> None:
        self._name(worker)
        await asyncio.to_thread(shutil.rmtree, self._gone / worker, ignore_errors=True)

    # Volumes

    async def make_volume(self, volume: str, *, size_gib: float) -> None:
        await claims.make(await self._cluster(), volume, size_gib, self._options, self._installation)

    async def remove_volume(self, volume: str) -> None:
        await claims.remove(await self._cluster(), volume, self._installation)

    async def volumes(self) -> frozenset[str]:
        return await claims.known(await self._cluster(), self._installation)

    # Telling

    def attach(self, *, changed: Callable[[], None], said: Callable[[WorkerId, str], None]) -> None:
        self._changed, self._preparing.changed, self._said = changed, changed, said
        self._tasks.add(asyncio.create_task(self._watch(), name="watch kubernetes"))

    async def _watch(self) -> None:
        watch = Watch(
            await self._cluster(),
            pods.selector(self._installation),
            happened=self._happened,
            listed=self._changed,
        )
        await watch.run()

    def _happened(self, before: Pod | None, after: Pod | None) -> None:
        pod = before if after is None else after
        assert pod is not None
        worker, now = states.worker_of(pod), time.time()
        if after is None:
            if worker not in self._asked and len(self._lost) < TOMBSTONES_MAX:
                self._lost[worker] = states.exit_of(pod) or Exit(code=None, at=now, reason=states.disruption(pod))
            self._asked.discard(worker)
            self._placing.discard(worker)
            self._told.pop(pod["metadata"]["uid"], None)
        else:
            self._tell(worker, after, now)
        self._changed()

    def _tell(self, worker: WorkerId, after: Pod, now: float) -> None:
        """What there is to say of a start that takes its time, each once."""
        uid, found = after["metadata"]["uid"], self._hindrance(after, now)
        if found is not None:
            self._hindered[uid] = found
            # Between two tries of a pull its name changes, and nothing else.
            why = found.text.partition(": ")[2] or found.text
            if self._told.get(uid) != why:
                self._told[uid] = why
                self._said(worker, found.text)
        node = after["spec"].get("nodeName")
        if node and worker in self._placing:
            self._placing.discard(worker)
            self._said(worker, f"placed on the node {node}, which fetches what it needs")

    async def close(self) -> None:
        self._preparing.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks.clear()
        cluster, self._connected = self._connected, None
        if cluster is not None:
            await cluster.close()


def connect(options: ProviderOptions) -> KubernetesProvider:
    """Options: those of `stoker.providers.kubernetes.options`. Raises `Invalid` naming one that cannot be."""
    given = parse(options.options)
    folder = options.data_dir / (options.name or "kubernetes")
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    mark = given.installation or keeping.mark(folder)
    return KubernetesProvider(folder, given, installation=mark)
