"""Gives pods to nodes: filters as the real one does, and says why where nothing is left."""

from __future__ import annotations

from collections import Counter
from typing import Any

from cluster.objects import Objects, Thing, condition, key_of
from stoker.providers.kubernetes.nodes import quantity


def schedule(objects: Objects) -> None:
    """Bind what can be bound."""
    for pod in objects.all("Pod"):
        if pod["spec"].get("nodeName") or "deletionTimestamp" in pod["metadata"] or _over(pod):
            continue
        nodes = objects.all("Node")
        why = {node["metadata"]["name"]: _against(objects, pod, node) for node in nodes}
        claim = _claim_missing(objects, pod)
        fitting = [node for node in nodes if why[node["metadata"]["name"]] is None]
        if claim or not fitting:
            counted = Counter(filter(None, why.values()))
            reasons = ", ".join(f"{count} {text}" for text, count in sorted(counted.items()))
            _wait(objects, pod, claim or f"0/{len(nodes)} nodes are available: {reasons}.")
            continue
        best = max(fitting, key=lambda node: (_preference(pod, node), node["metadata"]["name"]))
        bound = {**pod, "spec": {**pod["spec"], "nodeName": best["metadata"]["name"]}}
        bound["status"] = {**pod["status"], "conditions": condition(pod, "PodScheduled", "True")}
        objects.update(bound)


def _over(pod: Thing) -> bool:
    return pod["status"].get("phase") in ("Succeeded", "Failed")


def _wait(objects: Objects, pod: Thing, message: str) -> None:
    for each in pod["status"].get("conditions", ()):
        if each["type"] == "PodScheduled" and each.get("message") == message:
            return
    conditions = condition(pod, "PodScheduled", "False", reason="Unschedulable", message=message)
    objects.change(key_of(pod), pod["metadata"]["uid"], conditions=conditions)


def _claim_missing(objects: Objects, pod: Thing) -> str | None:
    for volume in pod["spec"].get("volumes") or ():
        claim = volume.get("persistentVolumeClaim")
        if claim and not objects.find("PersistentVolumeClaim", pod["metadata"]["namespace"], claim["claimName"]):
            return f'persistentvolumeclaim "{claim["claimName"]}" not found'
    return None


def _against(objects: Objects, pod: Thing, node: Thing) -> str | None:
    spec = node.get("spec", {})
    if spec.get("unschedulable"):
        return "node(s) were unschedulable"
    for taint in spec.get("taints") or ():
        if taint["effect"] in ("NoSchedule", "NoExecute") and not tolerated(pod, taint):
            return f"node(s) had untolerated taint(s) {{{taint['key']}: {taint.get('value', '')}}}"
    if not _selected(pod, node):
        return "node(s) didn't match Pod's node affinity/selector"
    others = [
        other
        for other in objects.all("Pod")
        if other["spec"].get("nodeName") == node["metadata"]["name"] and not _over(other)
    ]
    taken = {port for other in others for port in _host_ports(other)}
    if taken & _host_ports(pod):
        return "node(s) didn't have free ports for the requested pod ports"
    for name, amount in requests(pod).items():
        used = sum(requests(other).get(name, 0.0) for other in others)
        if amount > quantity(node["status"]["allocatable"].get(name, 0)) - used + 1e-9:
            return f"Insufficient {name}"
    return None


def tolerated(pod: Thing, taint: Thing) -> Thing | None:
    """The toleration that lets it stay."""
    for each in pod["spec"].get("tolerations") or ():
        if each.get("effect") not in (None, taint["effect"]) or each.get("key") not in (None, taint["key"]):
            continue
        if each.get("operator", "Equal") == "Exists" or each.get("value", "") == taint.get("value", ""):
            found: Thing = each
            return found
    return None


def _host_ports(pod: Thing) -> set[int]:
    return {p["hostPort"] for c in pod["spec"]["containers"] for p in c.get("ports") or () if p.get("hostPort")}


def requests(pod: Thing) -> dict[str, float]:
    total: dict[str, float] = {}
    for container in pod["spec"]["containers"]:
        resources = container.get("resources") or {}
        # What is limited and not asked for is asked for as much.
        for name, amount in {**(resources.get("limits") or {}), **(resources.get("requests") or {})}.items():
            total[name] = total.get(name, 0.0) + quantity(amount)
    return total


def _selected(pod: Thing, node: Thing) -> bool:
    labels = node["metadata"].get("labels", {})
    if any(labels.get(key) != value for key, value in (pod["spec"].get("nodeSelector") or {}).items()):
        return False
    affinity = (pod["spec"].get("affinity") or {}).get("nodeAffinity") or {}
    required = affinity.get("requiredDuringSchedulingIgnoredDuringExecution")
    return required is None or any(_matches(term, node) for term in required["nodeSelectorTerms"])


def _preference(pod: Thing, node: Thing) -> int:
    affinity = (pod["spec"].get("affinity") or {}).get("nodeAffinity") or {}
    preferred = affinity.get("preferredDuringSchedulingIgnoredDuringExecution") or ()
    return sum(each["weight"] for each in preferred if _matches(each["preference"], node))


def _matches(term: Thing, node: Thing) -> bool:
    labels, fields = node["metadata"].get("labels", {}), {"metadata.name": node["metadata"]["name"]}
    both = [(each, labels) for each in term.get("matchExpressions") or ()]
    both += [(each, fields) for each in term.get("matchFields") or ()]
    # A term without any is one that nothing matches.
    return bool(both) and all(_holds(each, values) for each, values in both)


def _holds(each: Thing, values: dict[str, Any]) -> bool:
    if each["operator"] != "In":
        raise NotImplementedError(each["operator"])
    return values.get(each["key"]) in each["values"]
