"""What pods, nodes and quotas say, as the Kubernetes provider understands them."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stoker.domain.errors import Unavailable
from stoker.domain.worker import Address
from stoker.providers.kubernetes.cluster import exit_code
from stoker.providers.kubernetes.nodes import Limit, hosts, limit_of, quantity, stated
from stoker.providers.kubernetes.options import parse
from stoker.providers.kubernetes.states import Obstacle, exit_of, hindrance, observed

PLAIN = parse({"image": "i"})
NOW = 1_800_000_000.0
MADE = "2026-01-01T00:00:00Z"
NODES: dict[str, Any] = {"name": "pool", "vcpu": 8, "ram_gib": 32}


def pod(*, state: dict[str, Any] | None = None, deleted: str | None = None, **status: Any) -> dict[str, Any]:
    metadata = {
        "name": "p",
        "uid": "u",
        "creationTimestamp": MADE,
        "labels": {"stoker/worker": "w"},
        "annotations": {"stoker/listen": "8000", "stoker/port": "20000"},
    }
    if deleted is not None:
        metadata["deletionTimestamp"] = deleted
    if state is not None:
        status["containerStatuses"] = [{"name": "worker", "state": state}]
    limits = {"resources": {"limits": {"memory": "2Gi"}}}
    node = status.pop("node", "node-a")
    return {"metadata": metadata, "spec": {"nodeName": node, "containers": [limits]}, "status": status}


def terminated(code: int, reason: str = "Error", **more: Any) -> dict[str, Any]:
    return {"terminated": {"exitCode": code, "reason": reason, "finishedAt": MADE, **more}}


def disrupted(reason: str, message: str = "because") -> list[dict[str, Any]]:
    return [{"type": "DisruptionTarget", "status": "True", "reason": reason, "message": message}]


@pytest.mark.parametrize(
    ("found", "code", "reason"),
    [
        pytest.param(pod(phase="Succeeded", state=terminated(0, "Completed")), 0, "exited with code 0", id="success"),
        pytest.param(pod(phase="Failed", state=terminated(3)), 3, "exited with code 3", id="failure"),
        pytest.param(
            pod(phase="Failed", state=terminated(139)), -11, "killed by signal 11 (SIGSEGV)", id="a signal by its code"
        ),
        pytest.param(pod(phase="Failed", state=terminated(200)), 200, "exited with code 200", id="no signal"),
        pytest.param(
            pod(phase="Failed", state=terminated(137, "OOMKilled")),
            -9,
            "out of memory: killed at its limit of 2 GiB (OOMKilled)",
            id="out of memory",
        ),
        pytest.param(
            pod(phase="Failed", state=terminated(128, "StartError", message="no such file")),
            128,
            "StartError: no such file",
            id="never its program",
        ),
        pytest.param(
            pod(phase="Failed", reason="Evicted", message="The node was low on resource: memory."),
            None,
            "Evicted: The node was low on resource: memory.",
            id="evicted by its node, without a word of its program",
        ),
        pytest.param(
            pod(phase="Failed", reason="Evicted", message="disk", state=terminated(143)),
            -15,
            "killed by signal 15 (SIGTERM); Evicted: disk",
            id="evicted by its node",
        ),
        pytest.param(
            pod(phase="Failed", reason="UnexpectedAdmissionError", message="Allocate failed: no cards"),
            None,
            "UnexpectedAdmissionError: Allocate failed: no cards",
            id="its node would not have it",
        ),
        pytest.param(
            pod(phase="Failed", state=terminated(143), deleted=MADE, conditions=disrupted("PreemptionByScheduler")),
            -15,
            "killed by signal 15 (SIGTERM); preempted for a pod of higher priority (PreemptionByScheduler): because",
            id="preempted",
        ),
    ],
)
def test_an_end_is_told_in_the_clusters_words(found: dict[str, Any], code: int | None, reason: str) -> None:
    end = exit_of(found)
    assert end is not None
    assert (end.code, end.reason) == (code, reason)
    assert observed(found, PLAIN, hindered=None, asked=False, now=NOW).exit == end


def test_a_pod_that_runs_has_the_address_of_itself_or_of_its_node() -> None:
    found = pod(phase="Running", state={"running": {}}, podIP="10.1.2.3", hostIP="192.0.2.7")
    assert exit_of(found) is None
    seen = observed(found, PLAIN, hindered=None, asked=False, now=NOW)
    assert (seen.running, seen.address) == (True, Address(host="10.1.2.3", port=8000))
    seen = observed(found, parse({"reach": "node"}), hindered=None, asked=False, now=NOW)
    assert seen.address == Address(host="192.0.2.7", port=20_000)
    assert observed(pod(phase="Pending"), PLAIN, hindered=None, asked=False, now=NOW).address is None


def test_what_was_asked_for_here_is_not_leaving() -> None:
    found = pod(phase="Running", state={"running": {}}, deleted="2100-01-01T00:00:00Z")
    assert observed(found, PLAIN, hindered=None, asked=True, now=NOW).leaving == ""
    leaving = observed(found, PLAIN, hindered=None, asked=False, now=NOW).leaving
    assert leaving == "its pod was deleted by somebody else"


@pytest.mark.parametrize(
    "found",
    [
        pytest.param(pod(phase="Running", state={"running": {}}, deleted="2026-01-01T00:00:00Z"), id="overdue"),
        pytest.param(
            pod(
                phase="Running",
                deleted="2100-01-01T00:00:00Z",
                conditions=[
                    *disrupted("DeletionByTaintManager"),
                    {"type": "Ready", "status": "False"},
                    {"type": "ContainersReady", "status": "True"},
                ],
            ),
            id="its node is silent",
        ),
        pytest.param(pod(reason="NodeLost", phase="Unknown", deleted="2026-01-01T00:00:00Z"), id="lost"),
    ],
)
def test_a_pod_of_a_node_that_does_not_answer_is_over(found: dict[str, Any]) -> None:
    seen = observed(found, PLAIN, hindered=None, asked=False, now=NOW)
    assert not seen.running
    assert seen.exit is not None
    assert "NodeLost" in seen.exit.reason
    assert seen == observed(found, PLAIN, hindered=None, asked=False, now=NOW + 1), "it looks the same every time"


def waiting(reason: str, message: str | None = None) -> dict[str, Any]:
    return pod(phase="Pending", state={"waiting": {"reason": reason, "message": message}})


def unschedulable(message: str) -> dict[str, Any]:
    condition = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message}
    return pod(phase="Pending", node="", conditions=[condition])


def test_an_obstacle_is_remembered_from_its_beginning_with_the_best_words() -> None:
    first = hindrance(waiting("ErrImagePull", "connection reset"), None, now=1.0)
    assert first == Obstacle(1.0, True, "ErrImagePull: connection reset")
    second = hindrance(waiting("ImagePullBackOff", "Back-off"), first, now=2.0)
    assert second == Obstacle(1.0, True, "ImagePullBackOff: connection reset")
    assert hindrance(waiting("ContainerCreating"), second, now=3.0) is None
    nowhere = hindrance(unschedulable("0/3 nodes"), None, now=1.0)
    assert nowhere == Obstacle(1.0, False, "Unschedulable: 0/3 nodes")
    # It is on a node now: another obstacle, with patience of its own.
    assert hindrance(waiting("ErrImagePull", "x"), nowhere, now=9.0) == Obstacle(9.0, True, "ErrImagePull: x")


@pytest.mark.parametrize(
    ("found", "after_s"),
    [
        pytest.param(unschedulable("0/3 nodes are available"), 300.0, id="no node"),
        pytest.param(waiting("ErrImagePull", "connection reset by peer"), 120.0, id="a pull that may pass"),
        pytest.param(waiting("ErrImagePull", "manifest unknown"), 0.0, id="no such image"),
        pytest.param(waiting("ImagePullBackOff", "pull access denied"), 0.0, id="not for us"),
        pytest.param(waiting("InvalidImageName", "invalid reference format"), 0.0, id="no name"),
        pytest.param(waiting("CreateContainerConfigError", 'secret "x" not found'), 120.0, id="no secret"),
    ],
)
def test_an_obstacle_that_stays_is_an_end(found: dict[str, Any], after_s: float) -> None:
    hindered = hindrance(found, None, now=NOW)
    assert hindered is not None
    if after_s:
        assert observed(found, PLAIN, hindered=hindered, asked=False, now=NOW + after_s - 1).running
    seen = observed(found, PLAIN, hindered=hindered, asked=False, now=NOW + after_s)
    assert seen.exit is not None
    assert seen.exit.reason == f"never ran: {hindered.text}"


def test_exit_codes_of_executions() -> None:
    assert exit_code({"status": "Success"}) == 0
    causes = [{"reason": "ExitCode", "message": "7"}]
    assert exit_code({"status": "Failure", "details": {"causes": causes}}) == 7
    with pytest.raises(Unavailable, match="no such program"):
        exit_code({"status": "Failure", "message": "no such program"})


# Nodes


def node(name: str, *, labels: dict[str, str] | None = None, ready: str = "True", **more: Any) -> dict[str, Any]:
    room = {"cpu": "63500m", "memory": "263856012Ki", **more.pop("room", {})}
    return {
        "metadata": {"name": name, "labels": labels or {}},
        "spec": more,
        "status": {"allocatable": room, "conditions": [{"type": "Ready", "status": ready}]},
    }


def cards(product: str, memory: str | None = "81559", count: str = "8", **labels: str) -> dict[str, Any]:
    found = {"nvidia.com/gpu.product": product, **labels}
    if memory is not None:
        found["nvidia.com/gpu.memory"] = memory
    return node("n", labels=found, room={"nvidia.com/gpu": count})


@pytest.mark.parametrize(
    ("product", "memory", "family", "stated_gib"),
    [
        ("NVIDIA-H100-80GB-HBM3", "81559", "h100", 80),
        ("NVIDIA-A100-SXM4-40GB", "40960", "a100", 40),
        ("Tesla-T4", "15360", "t4", 16),
        ("NVIDIA-GeForce-RTX-4090", "24564", "rtx4090", 24),
        ("NVIDIA-L40S", "46068", "l40s", 48),
        ("NVIDIA-A100-SXM4-40GB-MIG-1g.5gb", "4864", "a100", 4.75),
        ("Tesla-T4-SHARED", "15360", "t4", 16),
        ("NVIDIA-A100-SXM4-80GB", None, "a100", 40),
    ],
)
def test_cards_are_what_feature_discovery_says(
    product: str, memory: str | None, family: str, stated_gib: float
) -> None:
    [host] = hosts([cards(product, memory)], PLAIN, Limit())
    assert len(host.offer.gpus) == 8
    assert {(gpu.family, gpu.stated_gib) for gpu in host.offer.gpus} == {(family, stated_gib)}
    assert host.resource == "nvidia.com/gpu"
    assert host.labels["nvidia.com/gpu.product"] == product


@pytest.mark.parametrize("memory", ["unknown", "", "0", "1.2.3", "80GB"])
def test_a_memory_that_cannot_be_read_is_one_that_nobody_says(memory: str) -> None:
    read, unread = hosts([cards("Tesla-T4", "15360"), cards("NVIDIA-H100-80GB-HBM3", memory)], PLAIN, Limit())
    assert len(read.offer.gpus) == 8, "one odd label is no reason to offer no nodes at all"
    assert {(gpu.family, gpu.vram_gib) for gpu in unread.offer.gpus} == {("h100", 80.0)}
    assert f"nvidia.com/gpu.memory is {memory!r}" in unread.offer.notes[0]
    [host] = hosts([cards("Unheard-Of", memory)], PLAIN, Limit())
    assert host.offer.gpus == ()


def test_cards_of_amd_have_their_own_names() -> None:
    labels = {"amd.com/gpu.product-name": "AMD_Instinct_MI300X_OAM", "amd.com/gpu.vram": "192G"}
    [host] = hosts([node("n", labels=labels, room={"amd.com/gpu": "8"})], PLAIN, Limit())
    assert {gpu.family for gpu in host.offer.gpus} == {"mi300x"}
    assert host.resource == "amd.com/gpu"


def test_cards_that_nobody_describes_are_noted_and_not_offered() -> None:
    [host] = hosts([node("n", room={"nvidia.com/gpu": "4"})], PLAIN, Limit())
    assert host.offer.gpus == ()
    assert "without the label nvidia.com/gpu.product" in host.offer.notes[0]
    [host] = hosts([cards("Unheard-Of", None)], PLAIN, Limit())
    assert host.offer.gpus == ()
    mixed = node("n", labels={"nvidia.com/mig.strategy": "mixed"}, room={"nvidia.com/mig-1g.5gb": "7"})
    [host] = hosts([mixed], PLAIN, Limit())
    assert (host.offer.gpus, "mixed" in host.offer.notes[0]) == ((), True)


def test_nodes_that_take_no_workers_are_not_offered() -> None:
    taint = {"key": "dedicated", "value": "db", "effect": "NoSchedule"}
    soft = {"key": "slow", "effect": "PreferNoSchedule"}
    card = {"key": "nvidia.com/gpu", "effect": "NoSchedule"}
    given_nodes = [
        node("cordoned", unschedulable=True),
        node("silent", ready="Unknown"),
        node("dedicated", taints=[taint]),
        node("soft", taints=[soft]),
        node("cards", taints=[card]),
    ]
    assert [host.offer.host for host in hosts(given_nodes, PLAIN, Limit())] == ["soft", "cards"]
    options = parse({"tolerations": [{"key": "dedicated", "operator": "Exists"}]})
    assert [host.offer.host for host in hosts(given_nodes, options, Limit())] == ["dedicated", "soft", "cards"]


def test_a_region_is_the_label_that_the_options_name() -> None:
    labels = {"topology.kubernetes.io/region": "eu-1"}
    options = parse({"region_label": "topology.kubernetes.io/region", "region": "home"})
    found = hosts([node("a", labels=labels), node("b")], options, Limit())
    assert [host.offer.region for host in found] == ["eu-1", "home"]
    assert found[0].labels == labels, "a worker of this region runs nowhere else"


def test_nodes_may_be_described_in_place_of_being_listed() -> None:
    options = parse({"nodes": [{**NODES, "count": 2, "gpus": {"h100": 8}, "labels": {"pool": "h100"}}]})
    found = stated(options, Limit())
    assert [host.offer.host for host in found] == ["pool-0", "pool-1"]
    assert [(gpu.family, gpu.stated_gib) for gpu in found[0].offer.gpus] == [("h100", 80)] * 8
    assert (found[0].node, found[0].labels, found[0].resource) == (None, {"pool": "h100"}, "nvidia.com/gpu")


def quota(hard: dict[str, str], used: dict[str, str], **spec: Any) -> dict[str, Any]:
    return {"spec": {"hard": hard, **spec}, "status": {"hard": hard, "used": used}}


def test_quotas_lessen_what_nodes_offer_by_what_others_use() -> None:
    hard = {"requests.cpu": "20", "limits.memory": "64Gi", "requests.nvidia.com/gpu": "4"}
    used = {"requests.cpu": "10", "limits.memory": "16Gi", "requests.nvidia.com/gpu": "2"}
    own = pod(phase="Running")
    own["spec"]["containers"] = [{"resources": {"requests": {"cpu": "4", "memory": "8Gi", "nvidia.com/gpu": "1"}}}]
    limit = limit_of(
        [quota(hard, used), quota({"pods": "3"}, {}), quota({"cpu": "1"}, {}, scopes=["BestEffort"])], [own]
    )
    [host] = hosts([cards("NVIDIA-H100-80GB-HBM3")], PLAIN, limit)
    assert (host.offer.vcpu, host.offer.ram_gib, len(host.offer.gpus)) == (14.0, 56.0, 3)
    assert "quotas leave" in host.offer.notes[0]


@pytest.mark.parametrize(
    ("text", "value"),
    [("0", 0.0), ("1500m", 1.5), ("2", 2.0), ("1Ki", 1024.0), ("1k", 1000.0), ("1.5Gi", 1.5 * 2**30), ("12e6", 12e6)],
)
def test_quantities(text: str, value: float) -> None:
    assert quantity(text) == value


@given(text=st.text(max_size=8))
def test_what_is_no_quantity_is_refused(text: str) -> None:
    # Nothing else is raised for what users and clusters may write.
    with contextlib.suppress(ValueError):
        assert quantity(text) == quantity(text)
