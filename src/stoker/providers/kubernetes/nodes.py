"""What nodes and quotas offer, and what a worker's pod says of the node that it was placed on. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal, InvalidOperation
from typing import Any

from stoker.domain.gpus import family_of, find
from stoker.domain.hardware import GpuDevice, Offer
from stoker.providers.kubernetes.options import NVIDIA, KubernetesOptions, StatedNodes

_GIB = 2**30
_SUFFIXES = {
    **{suffix: Decimal(1024) ** power for power, suffix in enumerate(("Ki", "Mi", "Gi", "Ti", "Pi", "Ei"), 1)},
    **{suffix: Decimal(1000) ** power for power, suffix in enumerate(("k", "M", "G", "T", "P", "E"), 1)},
    "n": Decimal("1e-9"),
    "u": Decimal("1e-6"),
    "m": Decimal("1e-3"),
    "": Decimal(1),
}
_QUANTITY = re.compile(r"([+-]?[0-9.]+(?:[eE][+-]?[0-9]+)?)([A-Za-z]{0,2})\Z")
# What feature discovery appends to the product of cards that are not whole.
_PART = re.compile(r"-(SHARED|MIG-.*)\Z")


@dataclass(frozen=True, slots=True)
class Vendor:
    """What the cards of one vendor are called: the resource, and the labels with their product and their memory."""

    resource: str
    product: str
    memory: str
    # What the label counts when it has no unit of its own.
    unit: str


# As NVIDIA's GPU feature discovery and AMD's node labeller write them.
VENDORS = (
    Vendor(NVIDIA, "nvidia.com/gpu.product", "nvidia.com/gpu.memory", "Mi"),
    Vendor("amd.com/gpu", "amd.com/gpu.product-name", "amd.com/gpu.vram", "Mi"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Host:
    """An offer, and how its node is chosen: by `labels` that all nodes of its kind have, and by the name `node` (`None`
    where it need not be there yet). `resource` is what its cards are called.
    """

    offer: Offer
    node: str | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    resource: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    """What quotas leave to workers, the ones that run included. `None`: no quota says."""

    vcpu: float | None = None
    ram_gib: float | None = None
    gpus: Mapping[str, int] = field(default_factory=dict)
    note: str = ""


def quantity(text: object) -> float:
    """A number as Kubernetes writes it. Raises `ValueError`.

    >>> quantity("100m"), quantity("16Gi"), quantity("2e3")
    (0.1, 17179869184.0, 2000.0)
    """
    found = _QUANTITY.match(str(text))
    if found is None or found.group(2) not in _SUFFIXES:
        raise ValueError(f"no quantity: {str(text)[:64]!r}")
    try:
        return float(Decimal(found.group(1)) * _SUFFIXES[found.group(2)])
    except InvalidOperation as exc:
        raise ValueError(f"no quantity: {str(text)[:64]!r}") from exc


def hosts(
    nodes: Iterable[Mapping[str, Any]],
    options: KubernetesOptions,
    limit: Limit,
    others: Iterable[Mapping[str, Any]] = (),
) -> tuple[Host, ...]:
    """The nodes that take workers now, less what `others`, pods that are not ours, ask for."""
    taken: dict[str, list[Mapping[str, Any]]] = {}
    for pod in others:
        taken.setdefault(pod["spec"].get("nodeName", ""), []).append(pod)
    found = (
        _host(node, options, _asked(taken.get(node["metadata"]["name"], ()))) for node in nodes if _takes(node, options)
    )
    return tuple(_within(host, limit) for host in found)


def stated(options: KubernetesOptions, limit: Limit) -> tuple[Host, ...]:
    """The nodes that the settings describe."""
    return tuple(
        _within(_stated(each, number, options), limit) for each in options.nodes for number in range(each.count)
    )


def _stated(each: StatedNodes, number: int, options: KubernetesOptions) -> Host:
    cards: list[GpuDevice] = []
    for name, count in each.gpus.items():
        known = find(family_of(name))
        if known is not None:
            cards += [
                GpuDevice(i, f"{each.resource}/{i}", known.name, float(min(known.vram_gib))) for i in range(count)
            ]
    offer = Offer(
        host=each.name if each.count == 1 else f"{each.name}-{number}",
        vcpu=each.vcpu,
        ram_gib=each.ram_gib,
        gpus=tuple(cards),
        ports=options.ports if options.on_nodes else None,
        region=each.region or options.region,
        notes=("as the settings describe it",),
    )
    return Host(offer=offer, labels=each.labels, resource=each.resource if cards else None)


def _takes(node: Mapping[str, Any], options: KubernetesOptions) -> bool:
    if node.get("spec", {}).get("unschedulable"):
        return False
    conditions = node.get("status", {}).get("conditions") or ()
    if not any(each["type"] == "Ready" and each["status"] == "True" for each in conditions):
        return False
    # Those of nodes with cards keep off what needs none; pods with cards tolerate them.
    own = [vendor.resource for vendor in VENDORS]
    barring = [
        taint
        for taint in node.get("spec", {}).get("taints") or ()
        if taint.get("effect") in ("NoSchedule", "NoExecute") and taint["key"] not in own
    ]
    return all(any(tolerates(each, taint) for each in options.tolerations) for taint in barring)


def tolerates(toleration: Mapping[str, Any], taint: Mapping[str, Any]) -> bool:
    """Does it let a pod onto a node with this taint?"""
    if toleration.get("effect") and toleration["effect"] != taint.get("effect"):
        return False
    if toleration.get("key") and toleration["key"] != taint["key"]:
        return False
    if toleration.get("operator") == "Exists":
        return True
    return bool(toleration.get("key")) and toleration.get("value", "") == taint.get("value", "")


def _host(node: Mapping[str, Any], options: KubernetesOptions, taken: Mapping[str, float]) -> Host:
    name, labels = node["metadata"]["name"], node["metadata"].get("labels") or {}
    room = node["status"].get("allocatable") or {}
    notes: list[str] = []
    kind: dict[str, str] = {}
    gpus: tuple[GpuDevice, ...] = ()
    resource: str | None = None
    for vendor in VENDORS:
        count = int(quantity(room.get(vendor.resource, 0)) - taken.get(vendor.resource, 0.0))
        if count > 0 and not gpus:
            gpus, kind, why = _cards(vendor, labels, count)
            resource = vendor.resource if gpus else None
            notes += why
    region = labels.get(options.region_label or "")
    if region and options.region_label:
        kind[options.region_label] = region
    if labels.get("nvidia.com/mig.strategy") == "mixed":
        notes.append("parts of cards under names of their own (MIG, mixed) are not offered")
    offer = Offer(
        host=name,
        vcpu=max(0.0, quantity(room.get("cpu", 0)) - taken.get("cpu", 0.0)),
        ram_gib=max(0.0, quantity(room.get("memory", 0)) - taken.get("memory", 0.0)) / _GIB,
        gpus=gpus,
        ports=options.ports if options.on_nodes else None,
        region=region or options.region,
        driver=labels.get("nvidia.com/cuda.driver-version.full"),
        notes=tuple(notes),
    )
    return Host(offer=offer, node=name, labels=kind, resource=resource)


def _cards(
    vendor: Vendor, labels: Mapping[str, str], count: int
) -> tuple[tuple[GpuDevice, ...], dict[str, str], list[str]]:
    """What they are, the labels of nodes that have the same, and what is to be said about it."""
    product, memory = labels.get(vendor.product), labels.get(vendor.memory)
    if product is None:
        return (), {}, [f"{count} of {vendor.resource} without the label {vendor.product}: nobody says what they are"]
    family = family_of(_PART.sub("", product).replace("-", " ").replace("_", " "))
    known, notes = find(family), []
    kind = {vendor.product: product}
    if memory is not None:
        kind[vendor.memory] = memory
    stated = _memory(memory, vendor)
    if stated is not None:
        size = stated
    elif known is not None:
        size = float(min(known.vram_gib))
        why = f"without the label {vendor.memory}" if memory is None else f"the label {vendor.memory} is {memory!r}"
        notes.append(f"{why}: taken for {size:g} GiB, the least that {family} is made with")
    else:
        return (), {}, [f"{count} of {vendor.resource}, {product}: nobody says how much memory they have"]
    if product.endswith("-SHARED"):
        notes.append("cards are shared by time slicing: each worker sees the memory of a whole one, and may run out")
    return tuple(GpuDevice(i, f"{vendor.resource}/{i}", family, size) for i in range(count)), kind, notes


def _memory(label: str | None, vendor: Vendor) -> float | None:
    """In GiB; `None` where the label is not there or says nothing, as on machines whose cards share their memory."""
    if label is None:
        return None
    try:
        size = quantity(label if label[-1:].isalpha() else f"{label}{vendor.unit}") / _GIB
    except ValueError:
        return None
    return size if size > 0 else None


# Quotas

_CPU, _MEMORY = ("requests.cpu", "cpu", "limits.cpu"), ("requests.memory", "memory", "limits.memory")


def limit_of(quotas: Sequence[Mapping[str, Any]], own: Iterable[Mapping[str, Any]]) -> Limit:
    """What the namespace's quotas leave, `own` being the pods of workers that run."""
    ours = _asked(own)
    left: dict[str, float] = {}
    for quota in quotas:
        spec, status = quota.get("spec") or {}, quota.get("status") or {}
        if spec.get("scopes") or spec.get("scopeSelector"):
            continue
        used = status.get("used") or {}
        for key, hard in (status.get("hard") or spec.get("hard") or {}).items():
            free = quantity(hard) - quantity(used.get(key, 0)) + ours.get(_resource_of(key), 0.0)
            left[key] = min(left.get(key, free), free)
    gpus = {
        vendor.resource: max(0, int(left[key])) for vendor in VENDORS if (key := f"requests.{vendor.resource}") in left
    }
    vcpu = min((left[key] for key in _CPU if key in left), default=None)
    ram = min((left[key] for key in _MEMORY if key in left), default=None)
    counted = {key: value for key, value in sorted(left.items()) if _resource_of(key) in ("cpu", "memory", *gpus)}
    said = ", ".join(f"{key} {value:g}" for key, value in counted.items())
    return Limit(
        vcpu=None if vcpu is None else max(0.0, vcpu),
        ram_gib=None if ram is None else max(0.0, ram / _GIB),
        gpus=gpus,
        note=f"quotas leave workers of all nodes together: {said}" if said else "",
    )


def _resource_of(key: str) -> str:
    return key.removeprefix("requests.").removeprefix("limits.")


def _asked(pods: Iterable[Mapping[str, Any]]) -> dict[str, float]:
    total: dict[str, float] = {}
    for pod in pods:
        if pod.get("status", {}).get("phase") in ("Succeeded", "Failed"):
            continue
        for key, value in _needs(pod["spec"]).items():
            total[key] = total.get(key, 0.0) + value
    return total


def _needs(spec: Mapping[str, Any]) -> dict[str, float]:
    """What the scheduler counts for a pod: its containers together, or the largest of those that run before them."""
    total = {key: quantity(value) for key, value in (spec.get("overhead") or {}).items()}
    for container in spec["containers"]:
        for key, value in ((container.get("resources") or {}).get("requests") or {}).items():
            total[key] = total.get(key, 0.0) + quantity(value)
    for container in spec.get("initContainers") or ():
        for key, value in ((container.get("resources") or {}).get("requests") or {}).items():
            total[key] = max(total.get(key, 0.0), quantity(value))
    return total


def _within(host: Host, limit: Limit) -> Host:
    offer = host.offer
    allowed = limit.gpus.get(host.resource or "", len(offer.gpus))
    return replace(
        host,
        offer=replace(
            offer,
            vcpu=offer.vcpu if limit.vcpu is None else min(offer.vcpu, limit.vcpu),
            ram_gib=offer.ram_gib if limit.ram_gib is None else min(offer.ram_gib, limit.ram_gib),
            gpus=offer.gpus[:allowed],
            notes=(*offer.notes, limit.note) if limit.note else offer.notes,
        ),
    )
