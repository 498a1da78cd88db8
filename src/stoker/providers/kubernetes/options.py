"""What can be set of the Kubernetes provider, checked once when it is connected. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from stoker.domain.gpus import family_of, find
from stoker.domain.hardware import DEFAULT_REGION, GPUS_MAX, PortRange
from stoker.providers import parsing

# Outside what clusters usually give to services of type NodePort (30000-32767).
HOST_PORTS = PortRange(20_000, 29_999)
NVIDIA = "nvidia.com/gpu"
NODES_STATED_MAX = 256
_NAME = re.compile(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?\Z")
_MARK = re.compile(r"[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?\Z")
_TOLERATION = frozenset({"key", "operator", "value", "effect", "tolerationSeconds"})


@dataclass(frozen=True, slots=True)
class Claim:
    """A PersistentVolumeClaim of the namespace, and where workers see it. One of Stoker's own (`shared`) is where
    Stoker itself has that folder: workers see parts of it, as they are given to them.
    """

    name: str
    path: str
    read_only: bool = False

    @classmethod
    def parse(cls, text: str) -> Claim:
        """CLAIM:PATH or CLAIM:PATH:rw. Raises `ValueError`."""
        name, _, rest = text.partition(":")
        path, _, mode = rest.partition(":")
        if not _NAME.match(name) or not path.startswith("/") or path == "/" or mode not in ("", "ro", "rw"):
            raise ValueError("expected claims like models:/models or cache:/root/.cache:rw")
        return cls(name, path.rstrip("/"), mode != "rw")


@dataclass(frozen=True, slots=True, kw_only=True)
class StatedNodes:
    """Nodes that the settings describe, for clusters whose nodes Stoker may not list, or which make them when they are
    needed. `labels` is what they are chosen by; `resource` is what a card is called there.
    """

    name: str
    count: int = 1
    vcpu: float
    ram_gib: float
    gpus: Mapping[str, int] = field(default_factory=dict)
    resource: str = NVIDIA
    labels: Mapping[str, str] = field(default_factory=dict)
    region: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class KubernetesOptions:
    """`kubeconfig` and `context` say which cluster (neither: the one that this runs in). Workers' pods are in
    `namespace` (none: that of the configuration). `image` is what commands run in that come without an image,
    `engine_images` what engines do, by their names (`{version}` is the engine's).

    Workers are reached at their pods' addresses; with `reach` = `node`, at `ports` of their nodes instead. `pin` holds
    a worker to the node that it was placed on; else the scheduler may take another of the same kind. `nodes` describes
    nodes in place of those that the cluster lists. With `count_others`, what pods of others ask for is not offered, for
    which those of all namespaces are listed. `region_label` is the label of nodes that has their region.

    `node_selector`, `tolerations`, `runtime_class`, `priority_class`, `scheduler`, `service_account` and `pull_secrets`
    (names) are given to every pod; `spread` is a label of nodes over whose values workers of one endpoint are spread.
    Volumes that Stoker makes are of `storage_class`, to be used as `volume_access` says.
    `models` is a claim that weights are fetched into by an init container, which `models_image` runs: one with Stoker
    in it. `claims` are mounted in every worker; `shared` are claims that Stoker has as folders of its own, so that
    workers see its volumes and models. `user`, `read_only`, `capabilities` and `shm_gib` hold for each worker.

    With `drain`, a pod that somebody else ends is told so only when its requests have ended, as far as its image has a
    shell. A pod that no node takes for `unschedulable_s`, or whose container cannot be made for `failing_s`, has
    failed; one of a node that has not answered for `node_lost_s` is given up. `installation` marks what belongs to this
    Stoker.
    """

    kubeconfig: str | None = None
    context: str | None = None
    namespace: str | None = None
    image: str | None = None
    engine_images: Mapping[str, str] = field(default_factory=dict)
    reach: str = "pod"
    ports: PortRange = HOST_PORTS
    pin: bool = False
    nodes: tuple[StatedNodes, ...] = ()
    count_others: bool = False
    region_label: str | None = None
    node_selector: Mapping[str, str] = field(default_factory=dict)
    tolerations: tuple[Mapping[str, Any], ...] = ()
    runtime_class: str | None = None
    priority_class: str | None = None
    scheduler: str | None = None
    service_account: str | None = None
    pull_secrets: tuple[str, ...] = ()
    spread: str | None = None
    storage_class: str | None = None
    volume_access: str = "ReadWriteOnce"
    claims: tuple[Claim, ...] = ()
    shared: tuple[Claim, ...] = ()
    models: str | None = None
    models_image: str | None = None
    user: int | None = None
    read_only: bool = False
    capabilities: tuple[str, ...] = ()
    shm_gib: float | None = None
    drain: bool = True
    unschedulable_s: float = 300.0
    failing_s: float = 120.0
    node_lost_s: int = 30
    installation: str | None = None
    log_mib: float = 16.0
    workers_kept: int = 100
    region: str = DEFAULT_REGION

    @property
    def on_nodes(self) -> bool:
        """Are workers reached at ports of their nodes?"""
        return self.reach == "node"


def parse(given: Mapping[str, object]) -> KubernetesOptions:
    """Raises `Invalid` naming the option."""
    values = parsing.read(given, _PARSERS, provider="kubernetes")
    return KubernetesOptions(**values)


def _name(value: object) -> str:
    text = parsing.text(value)
    if not _NAME.match(text):
        raise ValueError("expected a name as Kubernetes has them: small letters, digits, dots and dashes")
    return text


def _mark(value: object) -> str:
    text = parsing.text(value)
    if not _MARK.match(text):
        raise ValueError("expected up to 63 letters, digits, dots, dashes and underscores")
    return text


def _reach(value: object) -> str:
    if value not in ("pod", "node"):
        raise ValueError("expected pod or node")
    return str(value)


def _access(value: object) -> str:
    if value not in ("ReadWriteOnce", "ReadWriteMany", "ReadWriteOncePod"):
        raise ValueError("expected ReadWriteOnce, ReadWriteMany or ReadWriteOncePod")
    return str(value)


def _labels(value: object) -> Mapping[str, str]:
    if not isinstance(value, Mapping) or not all(isinstance(each, str) for pair in value.items() for each in pair):
        raise TypeError("expected labels with their values, all of them texts")
    return dict(value)


def _tolerations(value: object) -> tuple[Mapping[str, Any], ...]:
    found: list[Mapping[str, Any]] = []
    for item in parsing.items(value):
        if not isinstance(item, Mapping) or not item or set(item) - _TOLERATION:
            raise ValueError(f"a toleration has only {', '.join(sorted(_TOLERATION))}")
        found.append(dict(item))
    return tuple(found)


def _claims(value: object) -> tuple[Claim, ...]:
    return tuple(Claim.parse(parsing.text(item)) for item in parsing.items(value))


def _nodes(value: object) -> tuple[StatedNodes, ...]:
    items = parsing.items(value)
    if len(items) > NODES_STATED_MAX:
        raise ValueError(f"at most {NODES_STATED_MAX} entries")
    found = tuple(_stated(item) for item in items)
    if len({each.name for each in found}) < len(found):
        raise ValueError("each name stands here once")
    return found


def _stated(item: object) -> StatedNodes:
    if not isinstance(item, Mapping):
        raise TypeError("an entry has name, vcpu and ram_gib, and perhaps count, gpus, resource, labels and region")
    unknown = set(item) - {each.name for each in fields(StatedNodes)}
    if unknown or not {"name", "vcpu", "ram_gib"} <= set(item):
        raise ValueError("an entry has name, vcpu and ram_gib, and perhaps count, gpus, resource, labels and region")
    more: dict[str, Any] = {}
    for key, parser in (("resource", parsing.text), ("labels", _labels), ("region", parsing.text), ("gpus", _gpus)):
        if key in item:
            more[key] = parser(item[key])
    return StatedNodes(
        name=_name(item["name"]),
        count=parsing.whole(1, 10_000)(item.get("count", 1)),
        vcpu=parsing.number(0.001, 100_000)(item["vcpu"]),
        ram_gib=parsing.number(0.001, 100_000)(item["ram_gib"]),
        **more,
    )


def _gpus(value: object) -> Mapping[str, int]:
    found = parsing.cards(value, most=GPUS_MAX)
    if len(found) > 1:
        raise ValueError("a node has cards of one family: Kubernetes cannot tell those of several apart")
    for name in found:
        if find(family_of(name)) is None:
            raise ValueError(f"{name[:64]!r} is no family of cards")
    return found


_PARSERS: Mapping[str, Any] = {
    "kubeconfig": parsing.text,
    "context": parsing.text,
    "namespace": _name,
    "image": parsing.text,
    "engine_images": parsing.images,
    "reach": _reach,
    "ports": parsing.ports,
    "pin": parsing.switch,
    "nodes": _nodes,
    "count_others": parsing.switch,
    "region_label": parsing.text,
    "node_selector": _labels,
    "tolerations": _tolerations,
    "runtime_class": _name,
    "priority_class": _name,
    "scheduler": _name,
    "service_account": _name,
    "pull_secrets": lambda value: tuple(_name(item) for item in parsing.items(value)),
    "spread": parsing.text,
    "storage_class": _name,
    "volume_access": _access,
    "claims": _claims,
    "shared": _claims,
    "models": _name,
    "models_image": parsing.text,
    "user": parsing.whole(0, 2_147_483_647),
    "read_only": parsing.switch,
    "capabilities": parsing.capabilities,
    "shm_gib": parsing.number(0.001, 10_000),
    "drain": parsing.switch,
    "unschedulable_s": parsing.number(0, 86_400),
    "failing_s": parsing.number(0, 86_400),
    "node_lost_s": parsing.whole(0, 86_400),
    "installation": _mark,
    "log_mib": parsing.number(0.1, 10_240),
    "workers_kept": parsing.whole(0, 10_000),
    "region": parsing.text,
}
