"""The cluster as tests use it: in a thread of its own, on loopback, with a kubeconfig that leads there."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import ssl
import threading
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any, TypeVar

import trustme
from aiohttp import web

from cluster.controllers import Controllers, disrupt
from cluster.kubelet import Kubelet
from cluster.objects import Objects, Thing, now
from cluster.rbac import Authoriser, Call
from cluster.scheduler import schedule
from cluster.server import Server

T = TypeVar("T")
NAMESPACE = "workers"
IMAGE = "stoker-tests:1"
TOKEN = "a-token-of-the-tests"
STEP_S = 0.02
# Real clusters wait for 40 seconds or more before they give up a node.
NODE_GRACE_S = 0.2


class Cluster:
    """Everything here may be called from any thread but its own."""

    def __init__(self, folder: Path, rules: frozenset[Call] | None) -> None:
        self._folder = folder
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="cluster", daemon=True)
        self._thread.start()
        self.kubeconfig = folder / "kubeconfig"
        self.authoriser = Authoriser(rules)
        # What lies in claims, by their names.
        self.claims = folder / "claims"
        self.images: dict[str, str | None] = {IMAGE: None}
        self._kubelets: dict[str, Kubelet] = {}
        self.call(self._open())

    def call(self, work: Coroutine[Any, Any, T]) -> T:
        """Have it done by the cluster's own thread."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(30)

    def do(self, work: Callable[[], T]) -> T:
        """The same for what does not wait."""

        async def run() -> T:
            return work()

        return self.call(run())

    async def _open(self) -> None:
        self.objects = Objects()
        self.server = Server(self.objects, self._kubelets, self.authoriser, token=TOKEN, changed=lambda: self._turn())
        self._controllers = Controllers(self.objects, self._kubelets, grace_s=NODE_GRACE_S)
        for kind, name in (("Namespace", NAMESPACE), ("ServiceAccount", "default")):
            within = {} if kind == "Namespace" else {"namespace": NAMESPACE}
            self.objects.create({"kind": kind, "apiVersion": "v1", "metadata": {"name": name, **within}})
        authority = trustme.CA()
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert("127.0.0.1").configure_cert(context)
        self._runner = web.AppRunner(self.server.app, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0, ssl_context=context, backlog=512)
        await site.start()
        port = self._runner.addresses[0][1]
        self._write_config(f"https://127.0.0.1:{port}", authority.cert_pem.bytes())
        self._steps = asyncio.create_task(self._run())

    def _write_config(self, address: str, authority: bytes) -> None:
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "tests",
            "clusters": [
                {
                    "name": "tests",
                    "cluster": {
                        "server": address,
                        "certificate-authority-data": base64.b64encode(authority).decode(),
                    },
                }
            ],
            "users": [{"name": "stoker", "user": {"token": TOKEN}}],
            "contexts": [{"name": "tests", "context": {"cluster": "tests", "user": "stoker", "namespace": NAMESPACE}}],
        }
        self.kubeconfig.write_text(json.dumps(config))

    async def _run(self) -> None:
        while True:
            self._turn()
            await asyncio.sleep(STEP_S)

    def _turn(self) -> None:
        schedule(self.objects)
        for kubelet in self._kubelets.values():
            kubelet.sync()
        self._controllers.step()

    def close(self) -> None:
        self.call(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    async def _close(self) -> None:
        self._steps.cancel()
        self.server.thawed.set()
        self.server.cut_watches()
        for kubelet in self._kubelets.values():
            await kubelet.close()
        await self._runner.cleanup()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    # What there is

    def add_node(
        self,
        name: str,
        *,
        cpu: str = "64",
        memory: str = "256Gi",
        labels: dict[str, str] | None = None,
        taints: tuple[Thing, ...] = (),
        **resources: str,
    ) -> None:
        allocatable = {"cpu": cpu, "memory": memory, "pods": "110", **resources}
        ready = {"type": "Ready", "status": "True", "reason": "KubeletReady", "lastTransitionTime": now()}
        node = {
            "kind": "Node",
            "apiVersion": "v1",
            "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name, **(labels or {})}},
            "spec": {"taints": list(taints)},
            "status": {"allocatable": allocatable, "capacity": allocatable, "conditions": [ready]},
        }

        def add() -> None:
            self._kubelets[name] = Kubelet(name, self.objects, self.images, self.claims)
            self.objects.create(node)

        self.do(add)

    def put(self, kind: str, name: str, **fields: Any) -> None:
        """Any other object of the namespace."""
        thing = {"kind": kind, "apiVersion": "v1", "metadata": {"name": name, "namespace": NAMESPACE}, **fields}
        self.do(lambda: self.objects.create(thing))

    def all(self, kind: str) -> list[Thing]:
        return self.do(lambda: self.objects.all(kind))

    def pod_of(self, worker: str) -> Thing:
        """The pod of that worker."""
        return next(pod for pod in self.all("Pod") if pod["metadata"]["labels"].get("stoker/worker") == worker)

    def processes(self, worker: str) -> int:
        """How many programs of that worker run."""
        runs = [run for kubelet in self._kubelets.values() for run in kubelet.runs.values()]
        return sum(1 for run in runs if run.key[2].endswith(f"-{worker}") and not run.over.is_set())

    # What happens to it

    def silence(self, node: str, *, silent: bool = True) -> None:
        """A node that nobody hears from; its pods go on."""

        def set_it() -> None:
            self._kubelets[node].silent = silent

        self.do(set_it)

    def disrupt(self, worker: str, reason: str, message: str) -> None:
        """Somebody else ends its pod."""
        pod = self.pod_of(worker)
        self.do(lambda: disrupt(self.objects, pod, reason, message))

    def out_of_memory(self, worker: str) -> None:
        """Its kernel ends it."""
        pod = self.pod_of(worker)

        def kill() -> None:
            kubelet = self._kubelets[pod["spec"]["nodeName"]]
            run = kubelet.runs[pod["metadata"]["uid"]]
            run.out_of_memory = True
            assert run.process is not None
            run.process.kill()

        self.do(kill)


@contextlib.contextmanager
def cluster(folder: Path, rules: frozenset[Call] | None = None) -> Iterator[Cluster]:
    """A cluster without nodes, for the time of the block."""
    opened = Cluster(folder, rules)
    try:
        yield opened
    finally:
        opened.close()
