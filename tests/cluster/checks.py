"""What the API server says of objects beside their schemas."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Mapping

from cluster.objects import Thing
from stoker.providers.kubernetes.nodes import quantity


def pod_faults(pod: Thing) -> list[str]:
    """What validation says beside the schema."""
    found, spec = [], pod["spec"]
    volumes = [each["name"] for each in spec.get("volumes") or ()]
    found += [f"spec.volumes: duplicate {name}" for name in volumes if volumes.count(name) > 1]
    both = [*(spec.get("initContainers") or ()), *spec.get("containers", ())]
    called = [each["name"] for each in both]
    found += [f"containers: duplicate {name}" for name in called if called.count(name) > 1]
    for container in both:
        paths = [each["mountPath"] for each in container.get("volumeMounts") or ()]
        found += [f"volumeMounts.mountPath: must be unique: {path}" for path in paths if paths.count(path) > 1]
        for mount in container.get("volumeMounts") or ():
            if mount["name"] not in volumes:
                found.append(f"volumeMounts.name: Not found: {mount['name']}")
            if mount.get("subPath", "").startswith("/") or ".." in mount.get("subPath", "").split("/"):
                found.append(f"volumeMounts.subPath: must be a relative path: {mount['subPath']}")
        resources = container.get("resources") or {}
        for name, amount in (resources.get("requests") or {}).items():
            if "/" in name and (resources.get("limits") or {}).get(name) != amount:
                found.append(f"resources.requests: must be equal to {name} limit")
        for name in ("readinessProbe", "livenessProbe", "startupProbe"):
            probe = container.get(name)
            if probe and len({"exec", "httpGet", "tcpSocket", "grpc"} & set(probe)) != 1:
                found.append(f"{name}: must specify a handler type")
        ports = [(each["containerPort"], each.get("protocol", "TCP")) for each in container.get("ports") or ()]
        found += [f"ports: {port} out of range" for port, _ in ports if not 0 < port < 65536]
    names = {env["name"] for container in both for env in container.get("env") or ()}
    found += [f"env.name: Invalid value: {name!r}" for name in names if not name or "=" in name]
    return found


def secret_faults(secret: Thing) -> list[str]:
    found = []
    for key, value in (secret.get("data") or {}).items():
        try:
            base64.b64decode(value, validate=True)
        except binascii.Error:
            found.append(f"data.{key}: illegal base64 data")
    if secret.get("type") == "kubernetes.io/dockerconfigjson" and ".dockerconfigjson" not in secret.get("data", {}):
        found.append("data[.dockerconfigjson]: Required value")
    return found


def check_claim_grows(before: Thing, after: Thing) -> list[str]:
    """What is refused of a change of a claim."""
    if _storage(after) >= _storage(before):
        return []
    return ["spec.resources.requests.storage: Forbidden: field can not be less than previous value"]


def _storage(claim: Thing) -> float:
    return quantity(claim["spec"]["resources"]["requests"]["storage"])


def _claim_faults(claim: Thing) -> list[str]:
    found = [] if claim["spec"].get("accessModes") else ["spec.accessModes: Required value"]
    return (
        found if (claim["spec"].get("resources") or {}).get("requests", {}).get("storage") else [*found, "no storage"]
    )


CHECKS: Mapping[str, Callable[[Thing], list[str]]] = {
    "Pod": pod_faults,
    "Secret": secret_faults,
    "ResourceQuota": lambda thing: [],
    "Node": lambda thing: [],
    "PersistentVolumeClaim": _claim_faults,
}
