"""The API server: the paths, verbs and answers that a real one has for what is used here, and no others."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime
from typing import Any

from aiohttp import WSMsgType, web

from cluster import schemas
from cluster.checks import CHECKS, check_claim_grows
from cluster.controllers import admit, delete_pod, used_of
from cluster.kubelet import Kubelet, Run
from cluster.objects import Fault, Objects, Thing, check_names, key_of, selects
from cluster.rbac import Authoriser, Call

KINDS = {"pods": "Pod", "secrets": "Secret", "resourcequotas": "ResourceQuota", "nodes": "Node"} | {
    "persistentvolumeclaims": "PersistentVolumeClaim"
}
VERBS = {"POST": "create", "PATCH": "patch", "DELETE": "delete", "PUT": "update"}
BOOKMARK_S = 0.2
ERROR_CHANNEL = b"\x03"
LIST_QUERY = frozenset({"labelSelector", "limit", "continue", "watch", "resourceVersion", "allowWatchBookmarks"}) | {
    "timeoutSeconds",
    "fieldSelector",
}


class Server:
    """Unless `thawed` it takes connections and says nothing. `refuses_watches`: those from too long ago are refused by
    the status of the answer, not by an event within it; real servers do both.
    """

    def __init__(
        self, objects: Objects, kubelets: Mapping[str, Kubelet], authoriser: Authoriser, *, token: str, changed: Any
    ) -> None:
        self.objects, self._kubelets, self.authoriser, self._token = objects, kubelets, authoriser, token
        self._changed = changed
        self.page_most = 500
        self.thawed = asyncio.Event()
        self.thawed.set()
        self.refuses_watches = False
        self.failing: list[Fault] = []
        self.watches: set[web.StreamResponse] = set()
        self._outputs: set[asyncio.Transport] = set()
        self.watched_from: list[int] = []
        self.app = web.Application()
        self.app.router.add_route("*", "/{path:.*}", self._answer)

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        await self.thawed.wait()
        try:
            if request.headers.get("Authorization") != f"Bearer {self._token}":
                raise Fault(401, "Unauthorized", "Unauthorized")
            return await self._route(request)
        except Fault as fault:
            return web.json_response(fault.status(), status=fault.code)

    async def _route(self, request: web.Request) -> web.StreamResponse:
        match request.path.strip("/").split("/"):
            case ["api", "v1", "namespaces", namespace, resource]:
                return await self._collection(request, namespace, resource)
            case ["api", "v1", "namespaces", namespace, resource, name]:
                return await self._item(request, namespace, resource, name)
            case ["api", "v1", "namespaces", namespace, "pods", name, ("log" | "exec") as sub]:
                self._authorise(request, True, f"pods/{sub}", "get")
                if sub == "log":
                    return await self._log(request, self._pod(namespace, name))
                # Since 1.35 an upgrade to a WebSocket needs the same permission as a POST.
                self._authorise(request, True, "pods/exec", "create")
                return await self._exec(request, self._pod(namespace, name))
            case ["api", "v1", ("nodes" | "pods") as resource]:
                return await self._collection(request, None, resource)
        raise Fault(404, "NotFound", "the server could not find the requested resource")

    def _authorise(self, request: web.Request, namespaced: bool, resource: str, verb: str) -> None:
        if not self.authoriser.admits(Call(namespaced, resource, verb)):
            where = f' in the namespace "{request.path.split("/")[4]}"' if namespaced else " at the cluster scope"
            raise Fault(
                403,
                "Forbidden",
                f'{resource.partition("/")[0]} is forbidden: User "system:serviceaccount:stoker:stoker" cannot {verb} '
                f'resource "{resource}" in API group ""{where}',
            )

    def _pod(self, namespace: str, name: str) -> Thing:
        return self.objects.get("Pod", namespace, name)

    # Collections

    async def _collection(self, request: web.Request, namespace: str | None, resource: str) -> web.StreamResponse:
        kind = KINDS.get(resource)
        if kind is None:
            raise Fault(404, "NotFound", "the server could not find the requested resource")
        watching = request.query.get("watch") in ("true", "True", "1")
        verb = VERBS.get(request.method) or ("watch" if watching else "list")
        self._authorise(request, namespace is not None, resource, verb)
        if namespace is not None and self.objects.find("Namespace", None, namespace) is None:
            raise Fault(404, "NotFound", f'namespaces "{namespace}" not found')
        if self.failing:
            raise self.failing.pop(0)
        if verb == "create":
            return await self._create(request, namespace, kind)
        if request.method != "GET":
            raise Fault(405, "MethodNotAllowed", "the server does not allow this method on the requested resource")
        unknown = set(request.query) - LIST_QUERY
        if unknown:
            raise Fault(400, "BadRequest", f"not known here: {sorted(unknown)}")
        return await self._watch(request, kind, namespace) if watching else self._list(request, kind, namespace)

    def _list(self, request: web.Request, kind: str, namespace: str | None) -> web.Response:
        found = self._selected(request, kind, namespace)
        version, start = self.objects.version, 0
        if token := request.query.get("continue"):
            version, start = (int(part) for part in token.split(":"))
            if version < self.objects.forgotten:
                raise Fault(410, "Expired", "The provided continue parameter is too old")
        limit = min(int(request.query.get("limit", self.page_most)), self.page_most)
        metadata: Thing = {"resourceVersion": str(version)}
        if start + limit < len(found):
            metadata |= {"continue": f"{version}:{start + limit}", "remainingItemCount": len(found) - start - limit}
        # Objects in a list do not say what they are.
        items = [{k: v for k, v in each.items() if k not in ("kind", "apiVersion")} for each in found]
        body = {"kind": f"{kind}List", "apiVersion": "v1", "metadata": metadata, "items": items[start : start + limit]}
        return web.json_response(body)

    def _selected(self, request: web.Request, kind: str, namespace: str | None) -> list[Thing]:
        selector = request.query.get("labelSelector", "")
        found = [each for each in self.objects.all(kind, namespace) if _takes(selector, each)]
        for part in filter(None, request.query.get("fieldSelector", "").split(",")):
            field, unequal, value = part.partition("!=")
            if (kind, field, unequal) != ("Pod", "status.phase", "!="):
                raise Fault(400, "BadRequest", f"not known here: {part}")
            found = [each for each in found if each["status"].get("phase") != value]
        if kind == "ResourceQuota":
            return [
                {
                    **q,
                    "status": {
                        "hard": q["spec"]["hard"],
                        "used": {k: str(used_of(self.objects, q)[k]) for k in q["spec"]["hard"]},
                    },
                }
                for q in found
            ]
        return found

    async def _watch(self, request: web.Request, kind: str, namespace: str | None) -> web.StreamResponse:
        version, selector = int(request.query.get("resourceVersion", 0)), request.query.get("labelSelector", "")
        self.watched_from.append(version)
        bookmarks = request.query.get("allowWatchBookmarks") in ("true", "True", "1")
        until = time.monotonic() + float(request.query.get("timeoutSeconds", 300))
        if self.refuses_watches:
            list(self.objects.since(version))
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        response.enable_chunked_encoding()
        await response.prepare(request)
        self.watches.add(response)
        try:
            while time.monotonic() < until and response in self.watches:
                try:
                    events = list(self.objects.since(version))
                except Fault as fault:
                    await _send(response, "ERROR", fault.status())
                    return response
                for _, what, thing in events:
                    ours = thing["kind"] == kind and thing["metadata"].get("namespace") == namespace
                    if ours and _takes(selector, thing):
                        await _send(response, what, thing)
                version = events[-1][0] if events else version
                if not events and bookmarks:
                    mark = {"kind": kind, "apiVersion": "v1", "metadata": {"resourceVersion": str(version)}}
                    await _send(response, "BOOKMARK", mark)
                await self.objects.changed(min(BOOKMARK_S, max(0.0, until - time.monotonic())))
        except ConnectionError:
            pass
        finally:
            self.watches.discard(response)
        if request.transport is not None and response not in self.watches and time.monotonic() < until:
            request.transport.abort()
        return response

    def cut_output(self) -> None:
        """Break off whatever is being read of pods' output."""
        for transport in self._outputs:
            transport.abort()

    def cut_watches(self) -> None:
        """End them all in the middle of whatever they say."""
        self.watches.clear()

    async def _create(self, request: web.Request, namespace: str | None, kind: str) -> web.Response:
        thing = await _body(request)
        if thing.get("kind") != kind or thing["metadata"].setdefault("namespace", namespace) != namespace:
            raise Fault(400, "BadRequest", "the object and its path do not belong together")
        wrong = schemas.faults(thing) + check_names(thing) + CHECKS[kind](thing)
        if wrong:
            message = f'{kind} "{thing["metadata"].get("name")}" is invalid: {"; ".join(wrong)}'
            raise Fault(422, "Invalid", message)
        made = self.objects.create(admit(self.objects, thing) if kind == "Pod" else thing)
        self._changed()
        return web.json_response(made, status=201)

    # Single objects

    async def _item(self, request: web.Request, namespace: str, resource: str, name: str) -> web.Response:
        kind, verb = KINDS.get(resource), VERBS.get(request.method, "get")
        if kind is None or verb == "update":
            raise Fault(404, "NotFound", "the server could not find the requested resource")
        self._authorise(request, True, resource, verb)
        if self.failing:
            raise self.failing.pop(0)
        found = self.objects.get(kind, namespace, name)
        if verb == "delete":
            if kind != "Pod":
                self.objects.remove(key_of(found))
                return web.json_response({"kind": "Status", "apiVersion": "v1", "status": "Success"})
            options = await _body(request) if request.can_read_body else {}
            grace = request.query.get("gracePeriodSeconds", options.get("gracePeriodSeconds"))
            found = delete_pod(self.objects, found, None if grace is None else int(grace))
            self._changed()
        elif verb == "patch":
            if request.content_type != "application/merge-patch+json":
                raise Fault(415, "UnsupportedMediaType", f"not known here: {request.content_type}")
            patched = _merged(found, await _body(request))
            wrong = schemas.faults(patched) + CHECKS[kind](patched)
            if kind == "PersistentVolumeClaim":
                wrong += check_claim_grows(found, patched)
            if wrong:
                raise Fault(422, "Invalid", "; ".join(wrong))
            found = self.objects.update(patched)
        return web.json_response(found)

    # Pods

    def _run(self, pod: Thing, container: str | None = None) -> Run:
        kubelet = self._kubelets.get(pod["spec"].get("nodeName", ""))
        if kubelet is not None and kubelet.silent:
            url = f"https://10.0.0.1:10250/containerLogs/{pod['metadata']['name']}"
            raise Fault(500, "InternalError", f'Get "{url}": dial tcp 10.0.0.1:10250: i/o timeout')
        run = None if kubelet is None else kubelet.runs.get(pod["metadata"]["uid"])
        if any(each["name"] == container for each in pod["spec"].get("initContainers") or ()):
            step = None if run is None else run.steps.get(str(container))
            if step is None:
                name = pod["metadata"]["name"]
                raise Fault(400, "BadRequest", f'container "{container}" in pod "{name}" is waiting to start')
            return step
        states = pod["status"].get("containerStatuses") or [{"state": {"waiting": {"reason": "ContainerCreating"}}}]
        waiting = states[0]["state"].get("waiting")
        if run is None or waiting:
            name, why = pod["metadata"]["name"], (waiting or {}).get("reason", "")
            raise Fault(400, "BadRequest", f'container "worker" in pod "{name}" is waiting to start: {why}')
        return run

    async def _log(self, request: web.Request, pod: Thing) -> web.StreamResponse:
        unknown = set(request.query) - {"follow", "tailLines", "sinceSeconds", "timestamps", "container"}
        if unknown:
            raise Fault(400, "BadRequest", f"not known here: {sorted(unknown)}")
        run = self._run(pod, request.query.get("container"))
        response = web.StreamResponse(headers={"Content-Type": "text/plain"})
        response.enable_chunked_encoding()
        await response.prepare(request)
        assert request.transport is not None
        transport = request.transport
        self._outputs.add(transport)
        try:
            async for at, text in _lines(run, request.query):
                stamped = f"{at} {text}" if request.query.get("timestamps") in ("true", "True") else text
                await response.write(f"{stamped}\n".encode())
            await response.write_eof()
        except ConnectionError:
            transport.abort()
        finally:
            self._outputs.discard(transport)
        return response

    async def _exec(self, request: web.Request, pod: Thing) -> web.StreamResponse:
        if request.query.get("container") != pod["spec"]["containers"][0]["name"]:
            raise Fault(400, "BadRequest", "container not found")
        run = self._run(pod)
        if run.over.is_set():
            raise Fault(400, "BadRequest", "cannot exec into a container in a completed pod")
        socket = web.WebSocketResponse(protocols=("v4.channel.k8s.io",))
        await socket.prepare(request)
        work = asyncio.create_task(
            self._kubelets[pod["spec"]["nodeName"]].execute(run, request.query.getall("command"))
        )
        gone = asyncio.create_task(_closed(socket))
        await asyncio.wait([work, gone], return_when=asyncio.FIRST_COMPLETED)
        if not work.done():
            work.cancel()
            await asyncio.gather(work, return_exceptions=True)
            return socket
        code, status = work.result(), {"metadata": {}, "status": "Success"}
        if code:
            cause = {"reason": "ExitCode", "message": str(code)}
            text = f"command terminated with non-zero exit code: exit status {code}"
            status = {"metadata": {}, "status": "Failure", "reason": "NonZeroExitCode", "message": text}
            status |= {"details": {"causes": [cause]}}
        await socket.send_bytes(ERROR_CHANNEL + json.dumps(status).encode())
        gone.cancel()
        await socket.close()
        return socket


async def _closed(socket: web.WebSocketResponse) -> None:
    while (await socket.receive()).type not in (WSMsgType.CLOSE, WSMsgType.CLOSING, WSMsgType.CLOSED, WSMsgType.ERROR):
        pass


async def _lines(run: Run, query: Mapping[str, str]) -> AsyncIterator[tuple[str, str]]:
    shown = len(run.said)
    first = max(0, shown - int(query["tailLines"])) if "tailLines" in query else 0
    if "sinceSeconds" in query:
        since = datetime.fromtimestamp(time.time() - int(query["sinceSeconds"]), UTC).strftime("%Y-%m-%dT%H:%M:%S")
        first = max(first, sum(1 for at, _ in run.said if at < since))
    for line in run.said[first:shown]:
        yield line
    while query.get("follow") in ("true", "True"):
        told = run.told
        while shown < len(run.said):
            yield run.said[shown]
            shown += 1
        if run.over.is_set():
            return
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(told.wait(), 0.1)


def _takes(selector: str, thing: Thing) -> bool:
    return selects(selector, thing["metadata"].get("labels", {}))


async def _send(response: web.StreamResponse, kind: str, thing: Thing) -> None:
    await response.write(json.dumps({"type": kind, "object": thing}).encode() + b"\n")


async def _body(request: web.Request) -> Thing:
    try:
        found = json.loads(await request.read())
    except ValueError as exc:
        raise Fault(400, "BadRequest", str(exc)) from exc
    if not isinstance(found, dict):
        raise Fault(400, "BadRequest", "an object was expected")
    return found


def _merged(thing: Any, patch: Any) -> Any:
    if not isinstance(patch, dict):
        return patch
    found = dict(thing) if isinstance(thing, dict) else {}
    for key, value in patch.items():
        if value is None:
            found.pop(key, None)
        else:
            found[key] = _merged(found.get(key), value)
    return found
