"""Workers as pods: the objects that the cluster is asked to make for one. Pure."""

from __future__ import annotations

import base64
import json
import math
import re
from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Any

from stoker.domain.errors import Invalid
from stoker.domain.probe import Probe
from stoker.domain.secrets import RegistryLogin
from stoker.domain.worker import WorkerSpec
from stoker.providers.environ import environ, listens_at
from stoker.providers.kubernetes import steps
from stoker.providers.kubernetes.nodes import Host
from stoker.providers.kubernetes.options import Claim, KubernetesOptions

INSTALLATION = "stoker/installation"
WORKER = "stoker/worker"
VOLUME = "stoker/volume"
ENDPOINT = "stoker/endpoint"
NAME = "stoker/name"
LISTEN = "stoker/listen"
PORT = "stoker/port"
CONTAINER = "worker"
# In memory that every pod of ours has, and may write to.
DRAINED = "/dev/shm/.stoker-drained"
SAY_DRAINED = ("sh", "-c", f": > {DRAINED}")
_GIB = 1024**3
# Frameworks hand tensors from process to process through it; the usual 64 MiB break them.
SHM_GIB = 1.0
# What a program is given to end, where nobody says.
GRACE_S = 10
_LABEL = re.compile(r"[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?\Z")
_KEY = re.compile(r"[-._A-Za-z0-9]{1,253}\Z")
_ID = re.compile(r"[a-z0-9]([-a-z0-9]{0,62}[a-z0-9])?\Z")
_DOCKER_HUB = frozenset({"docker.io", "index.docker.io", "registry-1.docker.io"})


def name_of(worker: str, installation: str) -> str:
    """What the pod of a worker is called: one namespace may serve several installations. Raises `Invalid`."""
    if not _ID.match(worker):
        raise Invalid(f"{worker[:64]!r} cannot be a worker's id")
    return f"stoker-{re.sub('[^a-z0-9]', '', installation.lower())[:12] or 'x'}-{worker}"


def pull_secret_of(pod: str) -> str:
    """The secret with its log-in at a registry; that with its other secrets is called as the pod is."""
    return f"{pod}-pull"


def claim_of(volume: str, installation: str) -> str:
    """What the claim of a volume is called. Raises `Invalid`."""
    return name_of(volume, installation)


def claim(volume: str, size_gib: float, options: KubernetesOptions, installation: str) -> dict[str, Any]:
    """The claim of a volume that Stoker makes."""
    labels = {"app.kubernetes.io/managed-by": "stoker", INSTALLATION: installation, VOLUME: volume}
    spec = {"accessModes": [options.volume_access], "resources": {"requests": {"storage": storage(size_gib)}}}
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": claim_of(volume, installation), "labels": labels},
        "spec": spec | _given(storageClassName=options.storage_class),
    }


def storage(size_gib: float) -> str:
    """A size as Kubernetes writes it."""
    return f"{math.ceil(size_gib * 1024)}Mi"


def selector(installation: str) -> str:
    """The labels by which all that is ours is found."""
    return f"{INSTALLATION}={installation},{WORKER}"


def pod(spec: WorkerSpec, options: KubernetesOptions, installation: str, host: Host | None) -> dict[str, Any]:
    """The pod of this worker. `host` is where it was placed. Raises `Invalid`."""
    image = spec.image or spec.base or options.image
    if image is None:
        raise Invalid(
            "the kubernetes provider runs images: say which in launch.image, or set the provider's option image for all"
        )
    name = name_of(spec.id, installation)
    mounts, volumes = _files(spec, options, installation)
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": _labels(spec, installation), "annotations": _annotations(spec)},
        "spec": _placing(spec, options, host)
        | _given(
            runtimeClassName=options.runtime_class,
            priorityClassName=options.priority_class,
            schedulerName=options.scheduler,
            serviceAccountName=options.service_account,
            imagePullSecrets=_pull_secrets(spec, options, name),
        )
        | {
            "restartPolicy": "Never",
            # Neither is a worker's business.
            "automountServiceAccountToken": False,
            "enableServiceLinks": False,
            "terminationGracePeriodSeconds": _drain_s(spec, options) + math.ceil(spec.grace_s or GRACE_S),
            "securityContext": {"seccompProfile": {"type": "RuntimeDefault"}} | _user(options),
            "volumes": volumes,
        }
        | _given(initContainers=steps.containers(spec, options, name))
        | {
            "containers": [_container(spec, options, image, name, mounts, host)],
        },
    }


def _given(**fields: Any) -> dict[str, Any]:
    return {key: value for key, value in fields.items() if value}


def _labels(spec: WorkerSpec, installation: str) -> dict[str, str]:
    labels = {
        "app.kubernetes.io/name": "stoker-worker",
        "app.kubernetes.io/managed-by": "stoker",
        INSTALLATION: installation,
        WORKER: spec.id,
    }
    return labels | ({ENDPOINT: spec.endpoint} if _LABEL.match(spec.endpoint) else {})


def _annotations(spec: WorkerSpec) -> dict[str, str]:
    listen = listens_at(spec)
    return {NAME: spec.name} | _given(
        **{LISTEN: None if listen is None else str(listen), PORT: None if spec.port is None else str(spec.port)},
        **{steps.MODEL: None if spec.fetch is None else spec.fetch.name},
    )


def _user(options: KubernetesOptions) -> dict[str, Any]:
    if options.user is None:
        return {}
    # So that it may write to volumes that are made for it.
    return {"runAsUser": options.user, "fsGroup": options.user, "runAsNonRoot": options.user != 0}


def _container(
    spec: WorkerSpec,
    options: KubernetesOptions,
    image: str,
    name: str,
    mounts: list[dict[str, Any]],
    host: Host | None,
) -> dict[str, Any]:
    command = [steps.plain(argument) for argument in spec.command]
    ports = _ports(spec, options)
    return {
        "name": CONTAINER,
        "image": image,
        "env": _env(spec, name),
        "ports": ports,
        "resources": _resources(spec, host),
        "volumeMounts": mounts,
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": options.read_only,
            "capabilities": {"drop": ["ALL"]} | _given(add=list(options.capabilities)),
        },
        # A failed start is told by what it said at last.
        "terminationMessagePolicy": "FallbackToLogsOnError",
    } | _given(
        # One that comes without an image is a whole program; else it is what the image's own entry point is given.
        **{"command" if spec.image is None else "args": command},
        readinessProbe=_readiness(spec),
        lifecycle=_lifecycle(spec, options),
    )


def _env(spec: WorkerSpec, name: str) -> list[dict[str, Any]]:
    keys = keys_of(spec)
    return [
        {"name": variable, "valueFrom": {"secretKeyRef": {"name": name, "key": keys[variable]}}}
        if variable in keys
        else {"name": variable, "value": steps.plain(value)}
        for variable, value in environ(spec).items()
    ]


def keys_of(spec: WorkerSpec) -> dict[str, str]:
    """Under which key of its secret the value of each variable stands."""
    variables = [variable for variable in spec.secrets if variable in spec.env]
    return {v: v if _KEY.match(v) else f"variable-{number}" for number, v in enumerate(variables)}


def secrets(spec: WorkerSpec, installation: str) -> list[dict[str, Any]]:
    """The secrets that the pod refers to; of most there are none."""
    name, keys = name_of(spec.id, installation), keys_of(spec)
    found: list[tuple[str, str, dict[str, str]]] = []
    data = {key: spec.env[variable] for variable, key in keys.items()}
    if spec.fetch is not None and spec.fetch.token is not None:
        data[steps.TOKEN_KEY] = spec.fetch.token
    if data:
        found.append((name, "Opaque", data))
    if spec.login is not None:
        config = json.dumps(_docker_config(spec.login))
        found.append((pull_secret_of(name), "kubernetes.io/dockerconfigjson", {".dockerconfigjson": config}))
    return [
        {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": name, "labels": _labels(spec, installation)},
            "type": kind,
            "data": {key: base64.b64encode(value.encode()).decode() for key, value in data.items()},
        }
        for name, kind, data in found
    ]


def _docker_config(login: RegistryLogin) -> dict[str, Any]:
    # The one that is called otherwise in configurations than in names of images.
    registry = "https://index.docker.io/v1/" if login.registry in _DOCKER_HUB else login.registry
    both = base64.b64encode(f"{login.username}:{login.password}".encode()).decode()
    return {"auths": {registry: {"username": login.username, "password": login.password, "auth": both}}}


def owned_by(made: Mapping[str, Any]) -> dict[str, Any]:
    """What makes the cluster delete a secret together with this pod."""
    metadata = made["metadata"]
    owner = {"apiVersion": "v1", "kind": "Pod", "name": metadata["name"], "uid": metadata["uid"]}
    return {"metadata": {"ownerReferences": [owner]}}


def _pull_secrets(spec: WorkerSpec, options: KubernetesOptions, name: str) -> list[dict[str, str]]:
    own = () if spec.login is None else (pull_secret_of(name),)
    return [{"name": each} for each in (*options.pull_secrets, *own)]


def _ports(spec: WorkerSpec, options: KubernetesOptions) -> list[dict[str, Any]]:
    listen = listens_at(spec)
    wanted = dict.fromkeys((*(() if listen is None else (listen,)), *spec.ports))
    found: list[dict[str, Any]] = []
    for inner in wanted:
        own = spec.port if inner == listen else spec.ports.get(inner)
        found.append({"containerPort": inner} | _given(hostPort=own if options.on_nodes else None))
    return found


def _resources(spec: WorkerSpec, host: Host | None) -> dict[str, Any]:
    amounts: dict[str, str] = {}
    if spec.vcpu is not None:
        amounts["cpu"] = f"{math.ceil(spec.vcpu * 1000)}m"
    if spec.ram_gib is not None:
        amounts["memory"] = f"{math.ceil(spec.ram_gib * 2**20)}Ki"
    if spec.gpus:
        if host is None or host.resource is None:
            raise Invalid("nobody knows what the cards of this node are called: it offers none any more")
        amounts[host.resource] = str(len(spec.gpus))
    # The same for both: nothing of it is lent to others, and nobody is ended for what another takes.
    return {"limits": amounts, "requests": dict(amounts)} if amounts else {}


def _readiness(spec: WorkerSpec) -> dict[str, Any] | None:
    """For those who look at pods. Stoker asks by itself, and drains before it ends what is not well."""
    probes, listen = spec.probes, listens_at(spec)
    probe = None if probes is None else probes.readiness or probes.startup
    if probe is None or (not probe.command and listen is None):
        return None
    return _question(probe, listen) | {
        "initialDelaySeconds": math.ceil(probe.initial_delay_s),
        "periodSeconds": max(1, math.ceil(probe.period_s)),
        "timeoutSeconds": max(1, math.ceil(probe.timeout_s)),
        "failureThreshold": probe.failures_max,
        "successThreshold": probe.successes_min,
    }


def _drain_s(spec: WorkerSpec, options: KubernetesOptions) -> int:
    return math.ceil(spec.drain_s or 0.0) if options.drain else 0


def _lifecycle(spec: WorkerSpec, options: KubernetesOptions) -> dict[str, Any] | None:
    """What holds it when others end it, until Stoker says that it is drained. An image without a shell is told at once,
    as it would be without this.
    """
    limit_s = _drain_s(spec, options)
    if not limit_s:
        return None
    wait = f"n=0; while [ ! -e {DRAINED} ] && [ $n -lt {limit_s} ]; do sleep 1; n=$((n+1)); done"
    return {"preStop": {"exec": {"command": ["sh", "-c", wait]}}}


def _question(probe: Probe, port: int | None) -> dict[str, Any]:
    if probe.command:
        return {"exec": {"command": list(probe.command)}}
    if probe.path is None:
        return {"tcpSocket": {"port": port}}
    return {"httpGet": {"path": probe.path, "port": port}}


def _placing(spec: WorkerSpec, options: KubernetesOptions, host: Host | None) -> dict[str, Any]:
    """On which nodes it may run, and on which it should."""
    tolerations = [dict(each) for each in options.tolerations]
    # Sooner than after the usual five minutes: others wait for what it did.
    tolerations += [
        {"key": taint, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": options.node_lost_s}
        for taint in ("node.kubernetes.io/unreachable", "node.kubernetes.io/not-ready")
    ]
    if spec.gpus and host is not None and host.resource is not None:
        tolerations.append({"key": host.resource, "operator": "Exists"})
    return {"tolerations": tolerations} | _given(
        nodeSelector=dict(options.node_selector),
        affinity=_affinity(options, host),
        topologySpreadConstraints=_spread(spec, options),
    )


def _affinity(options: KubernetesOptions, host: Host | None) -> dict[str, Any] | None:
    if host is None:
        return None
    term: dict[str, Any] = {}
    if host.labels:
        term["matchExpressions"] = [
            {"key": key, "operator": "In", "values": [value]} for key, value in sorted(host.labels.items())
        ]
    node = None
    if host.node is not None:
        node = {"matchFields": [{"key": "metadata.name", "operator": "In", "values": [host.node]}]}
        if options.pin:
            term |= node
    found: dict[str, Any] = {}
    if term:
        found["requiredDuringSchedulingIgnoredDuringExecution"] = {"nodeSelectorTerms": [term]}
    if node is not None and not options.pin:
        found["preferredDuringSchedulingIgnoredDuringExecution"] = [{"weight": 100, "preference": node}]
    return {"nodeAffinity": found} if found else None


def _spread(spec: WorkerSpec, options: KubernetesOptions) -> list[dict[str, Any]]:
    if options.spread is None or not _LABEL.match(spec.endpoint):
        return []
    return [
        {
            "maxSkew": 1,
            "topologyKey": options.spread,
            "whenUnsatisfiable": "ScheduleAnyway",
            "labelSelector": {"matchLabels": {ENDPOINT: spec.endpoint}},
        }
    ]


def _files(
    spec: WorkerSpec, options: KubernetesOptions, installation: str
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """What it sees, and what that is: mounts and volumes."""
    shm = f"{math.ceil((options.shm_gib or SHM_GIB) * 1024)}Mi"
    volumes: list[dict[str, Any]] = [{"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": shm}}]
    mounts: list[dict[str, Any]] = [{"name": "shm", "mountPath": "/dev/shm"}]
    if options.read_only:
        volumes.append({"name": "tmp", "emptyDir": {}})
        mounts.append({"name": "tmp", "mountPath": "/tmp"})
    claims: dict[str, str] = {}
    for claim in options.claims:
        own = claims.setdefault(claim.name, f"claim-{len(claims)}")
        mounts.append({"name": own, "mountPath": claim.path} | _given(readOnly=claim.read_only))
    for wanted in spec.mounts:
        if wanted.held is not None:
            own = claims.setdefault(claim_of(wanted.held, installation), f"claim-{len(claims)}")
            mounts.append({"name": own, "mountPath": wanted.source} | _given(readOnly=wanted.read_only))
            continue
        claim = _shared_claim(wanted.source, options)
        own = claims.setdefault(claim.name, f"claim-{len(claims)}")
        part = str(PurePosixPath(wanted.source).relative_to(claim.path))
        mounts.append(
            {"name": own, "mountPath": wanted.path or wanted.source}
            | _given(readOnly=wanted.read_only, subPath=None if part == "." else part)
        )
    volumes += [{"name": own, "persistentVolumeClaim": {"claimName": claim}} for claim, own in claims.items()]
    return [*mounts, *steps.mounts(spec.fetch)], [*volumes, *steps.volumes(spec, options)]


def _shared_claim(folder: str, options: KubernetesOptions) -> Claim:
    """The claim that Stoker has this folder of."""
    path = PurePosixPath(folder)
    inside = [claim for claim in options.shared if path.is_relative_to(claim.path)]
    if not inside:
        raise Invalid(
            f"workers in pods cannot see {folder}: let it lie in a claim that they can mount, and name that with the "
            "kubernetes provider's option shared"
        )
    return max(inside, key=lambda claim: len(claim.path))
