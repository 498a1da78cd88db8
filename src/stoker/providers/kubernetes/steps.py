"""The init container that brings a worker's model into a claim: what it is, and what its pod says of it. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from stoker.domain.errors import Invalid
from stoker.domain.fetching import COMMAND, MODELS_AT, TOKEN_VARIABLE, VARIABLE, ModelFetch, failure_of, order
from stoker.domain.times import seconds_of
from stoker.domain.worker import Exit, WorkerSpec
from stoker.providers.kubernetes.options import KubernetesOptions

CONTAINER = "models"
# The annotation with the name of the model that is fetched.
MODEL = "stoker/model"
# Where the token stands in the secret of the pod.
TOKEN_KEY = "stoker.models.token"
_VOLUME = "models"
# What Stoker's own program takes to fetch, whatever the worker may take.
_RAM_GIB_MIN = 0.5


def plain(text: str) -> str:
    """As it is meant, where Kubernetes would fill in variables: each sign that is doubled is one that is left alone."""
    return text.replace("$", "$$")


def containers(spec: WorkerSpec, options: KubernetesOptions, secret: str) -> list[dict[str, Any]]:
    """The init containers of a pod; `secret` is the name of its secret. Raises `Invalid`."""
    if spec.fetch is None:
        return []
    if options.models is None or options.models_image is None:
        raise Invalid(
            "the kubernetes provider has no cache of models: name a claim with its options models and models_image"
        )
    env: list[dict[str, Any]] = [{"name": VARIABLE, "value": plain(order(spec.fetch))}]
    if spec.fetch.token is not None:
        wanted = {"name": secret, "key": TOKEN_KEY}
        env.append({"name": TOKEN_VARIABLE, "valueFrom": {"secretKeyRef": wanted}})
    guarded: dict[str, Any] = {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    if options.user is None:
        # A new claim belongs to root, unless a user owns what is mounted in the pod.
        guarded["runAsUser"] = 0
    return [
        {
            "name": CONTAINER,
            "image": options.models_image,
            "command": list(COMMAND),
            "env": env,
            "resources": _resources(spec),
            "volumeMounts": [{"name": _VOLUME, "mountPath": MODELS_AT}],
            "securityContext": guarded,
            "terminationMessagePolicy": "FallbackToLogsOnError",
        }
    ]


def _resources(spec: WorkerSpec) -> dict[str, Any]:
    """No more than the worker has that comes after it, so that the pod needs no more because of it."""
    amounts: dict[str, str] = {}
    if spec.vcpu is not None:
        amounts["cpu"] = f"{math.ceil(spec.vcpu * 1000)}m"
    if spec.ram_gib is not None:
        amounts["memory"] = f"{math.ceil(max(spec.ram_gib, _RAM_GIB_MIN) * 2**20)}Ki"
    return {"limits": amounts, "requests": dict(amounts)} if amounts else {}


def volumes(spec: WorkerSpec, options: KubernetesOptions) -> list[dict[str, Any]]:
    """The claim, by a name of its own, as part of the pod's volumes."""
    if spec.fetch is None:
        return []
    return [{"name": _VOLUME, "persistentVolumeClaim": {"claimName": options.models}}]


def mounts(fetch: ModelFetch | None) -> list[dict[str, Any]]:
    """How the worker sees its weights, and no others."""
    if fetch is None:
        return []
    return [{"name": _VOLUME, "mountPath": f"{MODELS_AT}/{fetch.key}", "subPath": fetch.key, "readOnly": True}]


def model_of(pod: Mapping[str, Any]) -> str | None:
    """What is fetched before its worker; `None` for a pod without such a step."""
    found = (pod["metadata"].get("annotations") or {}).get(MODEL)
    return None if found is None else str(found)


def _state(pod: Mapping[str, Any]) -> Mapping[str, Any]:
    for each in pod.get("status", {}).get("initContainerStatuses") or ():
        if each["name"] == CONTAINER:
            found: Mapping[str, Any] = each.get("state") or {}
            return found
    return {}


def running(pod: Mapping[str, Any]) -> bool:
    """Is its model on its way?"""
    return "running" in _state(pod)


def failed(pod: Mapping[str, Any]) -> Exit | None:
    """How its step has failed; `None` when it has not."""
    ended, model = _state(pod).get("terminated"), model_of(pod)
    if ended is None or model is None or int(ended["exitCode"]) == 0:
        return None
    code = int(ended["exitCode"])
    reason = ended.get("reason")
    otherwise = f"the step before the worker ended with code {code}"
    if reason not in (None, "Error"):
        otherwise = f"{otherwise} ({reason})"
    said = str(ended.get("message") or "").splitlines()
    stamp = ended.get("finishedAt") or pod["metadata"]["creationTimestamp"]
    return Exit(code=code, at=seconds_of(stamp), reason=failure_of(said, model, otherwise))


def began_at(pod: Mapping[str, Any]) -> float | None:
    """When its own program began, of one that had to wait for its model; `None` before."""
    if model_of(pod) is None:
        return None
    for each in pod.get("status", {}).get("containerStatuses") or ():
        if stamp := (each.get("state") or {}).get("running", {}).get("startedAt"):
            return seconds_of(stamp)
    return None
