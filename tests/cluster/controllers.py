"""What keeps the cluster as it should be: silent nodes are told of and emptied, what nobody owns is collected, quotas
are counted.
"""

from __future__ import annotations

import time
from collections.abc import Mapping

from cluster.kubelet import Kubelet
from cluster.objects import Fault, Objects, Thing, condition, key_of, stamp
from cluster.scheduler import requests, tolerated
from stoker.providers.kubernetes.nodes import quantity

UNREACHABLE = "node.kubernetes.io/unreachable"
OVER = ("Succeeded", "Failed")


class Controllers:
    """`step` again and again. A node that is silent for `grace_s` is said to be unknown."""

    def __init__(self, objects: Objects, kubelets: Mapping[str, Kubelet], *, grace_s: float) -> None:
        self._objects, self._kubelets, self._grace_s = objects, kubelets, grace_s
        self._silent_since: dict[str, float] = {}
        self._tainted_since: dict[tuple[str, str], float] = {}

    def step(self) -> None:
        for node in self._objects.all("Node"):
            self._lifecycle(node)
        self._evict()
        self._collect()

    def _lifecycle(self, node: Thing) -> None:
        name, now = node["metadata"]["name"], time.monotonic()
        if not self._kubelets[name].silent:
            if self._silent_since.pop(name, None) is not None:
                self._tell(node, "True", [])
            return
        since = self._silent_since.setdefault(name, now)
        ready = next(each for each in node["status"]["conditions"] if each["type"] == "Ready")
        if now - since >= self._grace_s and ready["status"] == "True":
            taints = [{"key": UNREACHABLE, "effect": effect} for effect in ("NoSchedule", "NoExecute")]
            self._tell(node, "Unknown", taints)
            for pod in self._objects.all("Pod"):
                if pod["spec"].get("nodeName") == name and pod["status"].get("phase") not in OVER:
                    conditions = condition(pod, "Ready", "False")
                    self._objects.change(key_of(pod), pod["metadata"]["uid"], conditions=conditions)

    def _tell(self, node: Thing, ready: str, taints: list[Thing]) -> None:
        others = [each for each in node["spec"].get("taints", ()) if each["key"] != UNREACHABLE]
        reason = "KubeletReady" if ready == "True" else "NodeStatusUnknown"
        status = {**node["status"], "conditions": condition(node, "Ready", ready, reason=reason)}
        self._objects.update({**node, "spec": {**node["spec"], "taints": others + taints}, "status": status})

    def _evict(self) -> None:
        """Pods that tolerate a taint with this effect do so for as long as they say."""
        nodes = {node["metadata"]["name"]: node for node in self._objects.all("Node")}
        for pod in self._objects.all("Pod"):
            node = nodes.get(pod["spec"].get("nodeName", ""))
            for taint in (node or {"spec": {}})["spec"].get("taints", ()):
                if taint["effect"] != "NoExecute" or "deletionTimestamp" in pod["metadata"]:
                    continue
                since = self._tainted_since.setdefault((pod["metadata"]["uid"], taint["key"]), time.monotonic())
                toleration = tolerated(pod, taint)
                patience_s = 0 if toleration is None else toleration.get("tolerationSeconds", float("inf"))
                if time.monotonic() - since >= patience_s:
                    disrupt(
                        self._objects, pod, "DeletionByTaintManager", "Taint manager: deleting due to NoExecute taint"
                    )

    def _collect(self) -> None:
        pods = {pod["metadata"]["uid"] for pod in self._objects.all("Pod")}
        for secret in self._objects.all("Secret"):
            owners = secret["metadata"].get("ownerReferences", ())
            if owners and all(owner["uid"] not in pods for owner in owners):
                self._objects.remove(key_of(secret))


def disrupt(objects: Objects, pod: Thing, reason: str, message: str) -> None:
    """Mark it as disrupted, and delete it as anybody else would."""
    conditions = condition(pod, "DisruptionTarget", "True", reason=reason, message=message)
    marked = objects.change(key_of(pod), pod["metadata"]["uid"], conditions=conditions)
    if marked is not None:
        delete_pod(objects, marked, None)


def delete_pod(objects: Objects, pod: Thing, grace_s: int | None) -> Thing:
    """What becomes of a pod that somebody deletes."""
    metadata = pod["metadata"]
    if grace_s is None:
        grace_s = pod["spec"]["terminationGracePeriodSeconds"]
    over = pod["status"].get("phase") in OVER
    if grace_s <= 0 or over or not pod["spec"].get("nodeName"):
        objects.remove(key_of(pod))
        return pod
    if "deletionTimestamp" in metadata and grace_s >= metadata["deletionGracePeriodSeconds"]:
        return pod
    deadline = stamp(time.time() + grace_s)
    ending = {**metadata, "deletionTimestamp": deadline, "deletionGracePeriodSeconds": grace_s}
    return objects.update({**pod, "metadata": ending})


def admit(objects: Objects, pod: Thing) -> Thing:
    """The pod as the server completes it. Raises what it refuses it with."""
    namespace, name = pod["metadata"]["namespace"], pod["metadata"]["name"]
    account = pod["spec"].setdefault("serviceAccountName", "default")
    if objects.find("ServiceAccount", namespace, account) is None:
        message = f'pods "{name}" is forbidden: error looking up service account {namespace}/{account}: not found'
        raise Fault(403, "Forbidden", message)
    for key in ("node.kubernetes.io/not-ready", UNREACHABLE):
        tolerations = pod["spec"].setdefault("tolerations", [])
        if all(each.get("key") != key for each in tolerations):
            tolerations.append({"key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300})
    pod["spec"].setdefault("terminationGracePeriodSeconds", 30)
    for quota in objects.all("ResourceQuota", namespace):
        _within(objects, quota, pod)
    pod["status"] = {"phase": "Pending", "qosClass": "Burstable", "conditions": []}
    return pod


def _within(objects: Objects, quota: Thing, pod: Thing) -> None:
    name, wanted = pod["metadata"]["name"], _counted(pod)
    used = used_of(objects, quota)
    for key, hard in quota["spec"]["hard"].items():
        if key.startswith("requests.") and key in ("requests.cpu", "requests.memory") and key not in wanted:
            message = f'pods "{name}" is forbidden: failed quota: {quota["metadata"]["name"]}: must specify {key}'
            raise Fault(403, "Forbidden", message)
        if wanted.get(key, 0) and used[key] + wanted[key] > quantity(hard):
            message = (
                f'pods "{name}" is forbidden: exceeded quota: {quota["metadata"]["name"]}, requested: '
                f"{key}={wanted[key]:g}, used: {key}={used[key]:g}, limited: {key}={hard}"
            )
            raise Fault(403, "Forbidden", message)


def _counted(pod: Thing) -> dict[str, float]:
    return {"pods": 1, **{f"requests.{key}": amount for key, amount in requests(pod).items()}}


def used_of(objects: Objects, quota: Thing) -> dict[str, float]:
    pods = [pod for pod in objects.all("Pod", quota["metadata"]["namespace"]) if pod["status"].get("phase") not in OVER]
    return {key: sum(_counted(pod).get(key, 0.0) for pod in pods) for key in quota["spec"]["hard"]}
