"""What a node's kubelet does: it runs the pods of its node as processes of this machine, each at an address of its own.

An address of 127.0.0.0/8 stands for the network that a real pod has to itself: where a program is told to listen at all
addresses, it is told to listen at that one.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import os
import re
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import Any

from cluster.objects import Objects, Thing, condition, key_of, stamp

_VARIABLE = re.compile(r"\$(\$|\(([A-Za-z0-9_.-]+)\))")
# After this time a program is killed, whatever its hook before has taken of its grace.
LEAST_AFTER_HOOK_S = 2.0
STEP_S = 0.02


@dataclass
class Run:
    """A pod on this node."""

    key: tuple[str, str | None, str]
    uid: str
    address: str
    said: list[tuple[str, str]] = field(default_factory=list)
    process: asyncio.subprocess.Process | None = None
    over: asyncio.Event = field(default_factory=asyncio.Event)
    told: asyncio.Event = field(default_factory=asyncio.Event)
    environ: dict[str, str] = field(default_factory=dict)
    out_of_memory: bool = False
    # What init containers have said, by name, and claims as folders of this machine, by where they are mounted.
    steps: dict[str, Run] = field(default_factory=dict)
    folders: dict[str, str] = field(default_factory=dict)
    began: bool = False
    # What stands for the part of memory that its containers share.
    shm: str = field(default_factory=lambda: tempfile.mkdtemp(prefix="stoker-shm-"))

    def local(self, text: str) -> str:
        """The same with what a real pod has to itself."""
        text = text.replace("0.0.0.0", self.address).replace("/dev/shm", self.shm)
        for path, folder in self.folders.items():
            text = text.replace(path, folder)
        return text


class Kubelet:
    """`images`: what can be fetched, each with the log-in that it needs, if any. `claims` has a folder for each claim,
    as far as pods with init containers want one; nobody is kept from writing there.
    """

    _numbers = count(1)

    def __init__(self, name: str, objects: Objects, images: dict[str, str | None], claims: Path) -> None:
        self._claims = claims
        self.name, self.silent = name, False
        self.network = f"127.{100 + os.getpid() % 100}.{next(self._numbers) % 250}"
        self._objects, self._images = objects, images
        self.runs: dict[str, Run] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._addresses = count(1)

    # What the API server asks of it

    def sync(self) -> None:
        """Look at what it was given."""
        if self.silent:
            return
        there = {}
        for pod in self._objects.all("Pod"):
            if pod["spec"].get("nodeName") == self.name:
                there[pod["metadata"]["uid"]] = pod
        for uid, pod in there.items():
            over = pod["status"].get("phase") in ("Succeeded", "Failed")
            if uid not in self.runs and not over:
                run = Run(key_of(pod), uid, f"{self.network}.{next(self._addresses)}")
                self.runs[uid] = run
                self._tasks[uid] = asyncio.create_task(self._live(run, pod))
            deadline = pod["metadata"].get("deletionTimestamp")
            ending = f"end {uid}"
            if deadline is not None and uid in self.runs and ending not in self._tasks:
                self._tasks[ending] = asyncio.create_task(self._end(self.runs[uid], pod))
        for uid, run in list(self.runs.items()):
            # Forced out of the list: nobody waits for it any more.
            if uid not in there and run.process is not None and not run.over.is_set():
                self._signal(run, signal.SIGKILL)

    async def close(self) -> None:
        for run in self.runs.values():
            self._signal(run, signal.SIGKILL)
        for task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)
        for run in self.runs.values():
            if run.process is not None:
                await run.process.wait()
            shutil.rmtree(run.shm, ignore_errors=True)

    # A pod's life

    async def _live(self, run: Run, pod: Thing) -> None:
        container = pod["spec"]["containers"][0]
        conditions = condition(pod, "Initialized", "True")
        self._objects.change(run.key, run.uid, hostIP="127.0.0.1", startTime=stamp(time.time()), conditions=conditions)
        self._state(run, waiting={"reason": "ContainerCreating"})
        for init in pod["spec"].get("initContainers") or ():
            if not await self._prepared(run, pod, init):
                return
        if not await self._fetched(run, pod, container["image"]):
            return
        run.environ = await self._configured(run, pod, container)
        run.began = True
        await self._run(run, pod, container)

    async def _configured(self, run: Run, pod: Thing, container: Thing) -> dict[str, str]:
        while True:
            try:
                return dict(self._environ(run, pod, container))
            except LookupError as exc:
                self._state(run, waiting={"reason": "CreateContainerConfigError", "message": str(exc)})
                await asyncio.sleep(0.05)

    async def _prepared(self, run: Run, pod: Thing, init: Thing) -> bool:
        """Has the init container done what it should? Else the pod is over."""
        claims = {
            each["name"]: each["persistentVolumeClaim"]["claimName"]
            for each in pod["spec"]["volumes"]
            if "persistentVolumeClaim" in each
        }
        for mount in init["volumeMounts"]:
            folder = self._claims / claims[mount["name"]]
            folder.mkdir(parents=True, exist_ok=True)
            run.folders[mount["mountPath"]] = str(folder)
        if not await self._fetched(run, pod, init["image"], init=init["name"]):
            return False
        step = run.steps[init["name"]] = Run(run.key, run.uid, run.address, shm=run.shm, folders=run.folders)
        environ = await self._configured(run, pod, init)
        begun = stamp(time.time())
        run.process = await self._spawned([run.local(text) for text in init["command"]], environ)
        self._state(run, init=init["name"], running={"startedAt": begun})
        await self._listen(run.process, step)
        code = await run.process.wait()
        step.over.set()
        code = 128 - code if code < 0 else code
        ended = {"exitCode": code, "reason": "Error" if code else "Completed", "startedAt": begun}
        ended["finishedAt"] = stamp(time.time())
        if code and init.get("terminationMessagePolicy") == "FallbackToLogsOnError":
            ended["message"] = "".join(f"{text}\n" for _, text in step.said)[-2048:]
        self._state(run, init=init["name"], phase="Failed" if code else "Pending", terminated=ended)
        run.process = None
        if code:
            run.over.set()
        return not code

    async def _spawned(self, command: list[str], environ: dict[str, str]) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            env=environ,
            cwd="/",
            start_new_session=True,
        )

    async def _listen(self, process: asyncio.subprocess.Process, run: Run) -> None:
        assert process.stdout is not None
        async for line in process.stdout:
            at = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%f") + "000Z"
            run.said.append((at, line.decode(errors="replace").rstrip("\n")))
            run.told.set()
            run.told = asyncio.Event()

    async def _fetched(self, run: Run, pod: Thing, image: str, init: str | None = None) -> bool:
        if re.search(r"[A-Z ]", image.partition(":")[0]):
            message = (
                f'Failed to apply default image tag "{image}": couldn\'t parse image name: invalid reference format'
            )
            self._state(run, init=init, waiting={"reason": "InvalidImageName", "message": message})
            return False
        while image not in self._images or not self._logged_in(pod, image, self._images[image]):
            why = "not found" if image not in self._images else "pull access denied, authorization failed"
            text = f'failed to pull and unpack image "{image}": failed to resolve reference "{image}": {image}: {why}'
            self._state(run, init=init, waiting={"reason": "ErrImagePull", "message": text})
            await asyncio.sleep(0.1)
            self._state(
                run, init=init, waiting={"reason": "ImagePullBackOff", "message": f'Back-off pulling image "{image}"'}
            )
            await asyncio.sleep(0.1)
        return True

    def _logged_in(self, pod: Thing, image: str, needed: str | None) -> bool:
        if needed is None:
            return True
        for each in pod["spec"].get("imagePullSecrets") or ():
            secret = self._objects.find("Secret", pod["metadata"]["namespace"], each["name"])
            if secret is None:
                continue
            config = json.loads(base64.b64decode(secret["data"][".dockerconfigjson"]))
            known = config["auths"].get(image.partition("/")[0], {"auth": ""})
            if base64.b64decode(known["auth"]).decode() == needed:
                return True
        return False

    def _environ(self, run: Run, pod: Thing, container: Thing) -> Iterator[tuple[str, str]]:
        # Every image has a Python with Stoker.
        yield "PATH", f"{os.path.dirname(sys.executable)}:{os.environ['PATH']}"
        for each in container.get("env") or ():
            if "value" in each:
                yield each["name"], run.local(filled(each["value"], {}))
                continue
            wanted = each["valueFrom"]["secretKeyRef"]
            secret = self._objects.find("Secret", pod["metadata"]["namespace"], wanted["name"])
            if secret is None:
                raise LookupError(f'secret "{wanted["name"]}" not found')
            yield each["name"], base64.b64decode(secret["data"][wanted["key"]]).decode()

    async def _run(self, run: Run, pod: Thing, container: Thing) -> None:
        # What a real image's own entry point would be, an image here has not.
        command = [*(container.get("command") or ()), *(container.get("args") or ())]
        command = [run.local(filled(text, run.environ)) for text in command]
        begun = stamp(time.time())
        try:
            run.process = await self._spawned(command, run.environ)
        except (OSError, IndexError) as exc:
            message = f"failed to create containerd task: exec: {exc}"
            ended = {"exitCode": 128, "reason": "StartError", "message": message, "finishedAt": begun}
            self._ended(run, ended)
            return
        self._state(run, running={"startedAt": begun}, phase="Running")
        ready = asyncio.create_task(self._readiness(run, container))
        await self._listen(run.process, run)
        code = await run.process.wait()
        ready.cancel()
        code = 128 - code if code < 0 else code
        reason = "OOMKilled" if run.out_of_memory else "Error" if code else "Completed"
        ended = {"exitCode": code, "reason": reason, "startedAt": begun, "finishedAt": stamp(time.time())}
        self._ended(run, ended)

    def _ended(self, run: Run, terminated: Thing) -> None:
        phase = "Failed" if terminated["exitCode"] else "Succeeded"
        if not self.silent:
            self._state(run, terminated=terminated, phase=phase)
        run.over.set()
        run.told.set()

    def _state(self, run: Run, *, phase: str = "Pending", init: str | None = None, **state: Thing) -> None:
        """Of its container, or of an init container, for which the other waits."""
        pod = self._objects.find(*run.key)
        if pod is None:
            return
        [container] = pod["spec"]["containers"]
        waits = {"waiting": {"reason": "PodInitializing"}}
        more: dict[str, Any] = {"containerStatuses": [_status(container, state if init is None else waits)]}
        if init is not None:
            [step] = pod["spec"]["initContainers"]
            more |= {"initContainerStatuses": [_status(step, state)]}
        if "running" in state:
            more |= {"podIP": run.address, "podIPs": [{"ip": run.address}]}
        conditions = _readiness_of(pod, "False", reason="ContainersNotReady")
        self._objects.change(run.key, run.uid, phase=phase, conditions=conditions, **more)

    async def _readiness(self, run: Run, container: Thing) -> None:
        probe = container.get("readinessProbe")
        while probe is not None:
            if await self._answers(run, probe):
                break
            await asyncio.sleep(min(0.1, probe.get("periodSeconds", 10)))
        pod = self._objects.find(*run.key)
        if pod is not None and "running" in pod["status"]["containerStatuses"][0]["state"]:
            statuses = [{**pod["status"]["containerStatuses"][0], "ready": True}]
            conditions = _readiness_of(pod, "True")
            self._objects.change(run.key, run.uid, containerStatuses=statuses, conditions=conditions)

    async def _answers(self, run: Run, probe: Thing) -> bool:
        if "exec" in probe:
            return await self.execute(run, probe["exec"]["command"]) == 0
        question = probe.get("httpGet") or probe["tcpSocket"]
        try:
            reader, writer = await asyncio.open_connection(run.address, question["port"])
        except OSError:
            return False
        try:
            if "path" not in question:
                return True
            writer.write(f"GET {question['path']} HTTP/1.0\r\nHost: {run.address}\r\n\r\n".encode())
            return bool(re.match(rb"HTTP/1.[01] [23]", await reader.read(12)))
        finally:
            writer.close()

    async def execute(self, run: Run, command: list[str]) -> int:
        """Run it beside the pod's program."""
        command = [run.local(text) for text in command]
        try:
            process = await asyncio.create_subprocess_exec(
                *command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.DEVNULL,
                stderr=asyncio.subprocess.DEVNULL,
                env=run.environ,
                cwd="/",
            )
        except OSError:
            return 127
        try:
            return await process.wait()
        finally:
            with contextlib.suppress(ProcessLookupError):
                process.kill()

    async def _end(self, run: Run, pod: Thing) -> None:
        begun = time.monotonic()
        hook = (pod["spec"]["containers"][0].get("lifecycle") or {}).get("preStop")
        if hook and run.began and run.process is not None:
            work = asyncio.create_task(self.execute(run, hook["exec"]["command"]))
            while not work.done() and not run.over.is_set():
                await self._over_or(run, begun, STEP_S, 0.0)
                if time.monotonic() - begun >= self._grace_s(run):
                    break
            work.cancel()
        if run.process is not None:
            self._signal(run, signal.SIGTERM)
            await self._over_or(run, begun, float("inf"), LEAST_AFTER_HOOK_S if hook and run.began else 0.0)
            self._signal(run, signal.SIGKILL)
            await run.over.wait()
        elif run.uid in self._tasks:
            self._tasks[run.uid].cancel()
        if not self.silent:
            self._objects.remove(run.key)
            self.runs.pop(run.uid, None)
            shutil.rmtree(run.shm, ignore_errors=True)

    async def _over_or(self, run: Run, begun: float, most_s: float, least_s: float) -> None:
        """Until it has ended, or so long, or its grace is over, which may be made shorter meanwhile."""
        here = time.monotonic()
        while not run.over.is_set():
            left = min(here + most_s, max(begun + self._grace_s(run), here + least_s)) - time.monotonic()
            if left <= 0:
                return
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(run.over.wait(), min(left, 0.05))

    def _grace_s(self, run: Run) -> float:
        pod = self._objects.find(*run.key)
        return 0.0 if pod is None else float(pod["metadata"].get("deletionGracePeriodSeconds", 0))

    def _signal(self, run: Run, number: int) -> None:
        if run.process is not None and run.process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(run.process.pid, number)


def _status(container: Thing, state: Thing) -> Thing:
    status = {"name": container["name"], "image": container["image"], "imageID": "", "restartCount": 0}
    return status | {"ready": False, "state": state}


def _readiness_of(pod: Thing, status: str, **more: str) -> list[Thing]:
    conditions = condition(pod, "ContainersReady", status, **more)
    return condition({"status": {"conditions": conditions}}, "Ready", status, **more)


def filled(text: str, environ: dict[str, str]) -> str:
    """With references to variables filled in, as far as they are known, and doubled signs made single."""

    def fill(found: re.Match[str]) -> str:
        if found.group(1) == "$":
            return "$"
        return environ.get(found.group(2), found.group(0))

    return _VARIABLE.sub(fill, text)
