"""What the Kubernetes provider asks the cluster to make: every object is one that the published schema allows."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.checks import pod_faults, secret_faults
from cluster.kubelet import filled
from cluster.objects import check_names
from cluster.schemas import faults
from providers.workers import spec
from stoker.domain.errors import Invalid
from stoker.domain.hardware import Offer
from stoker.domain.probe import Probe, Probes
from stoker.domain.secrets import RegistryLogin
from stoker.domain.volumes import Mount
from stoker.domain.worker import WorkerSpec
from stoker.providers.kubernetes import pods
from stoker.providers.kubernetes.nodes import Host
from stoker.providers.kubernetes.options import KubernetesOptions, parse

INSTALLATION = "0123456789abcdef"
GIVEN: dict[str, object] = {
    "image": "stoker-tests:1",
    "pin": True,
    "node_selector": {"pool": "gpu"},
    "tolerations": [{"key": "dedicated", "operator": "Equal", "value": "ml", "effect": "NoSchedule"}],
    "runtime_class": "nvidia",
    "priority_class": "serving",
    "scheduler": "mine",
    "service_account": "worker",
    "pull_secrets": ["mirror"],
    "spread": "topology.kubernetes.io/zone",
    "claims": ["cache:/root/.cache:rw", "data:/data"],
    "shared": ["stoker:/var/lib/stoker", "models:/var/lib/stoker/models"],
    "user": 1000,
    "read_only": True,
    "capabilities": ["NET_BIND_SERVICE"],
    "shm_gib": 8.0,
    "drain": True,
}
PLAIN, FULL = parse({"image": "stoker-tests:1"}), parse(GIVEN)
OFFER = Offer(host="node-a", vcpu=8, ram_gib=32)
CARDS = {"nvidia.com/gpu.product": "NVIDIA-H100-80GB-HBM3", "nvidia.com/gpu.memory": "81559"}
HOST = Host(offer=OFFER, node="node-a", labels=CARDS, resource="nvidia.com/gpu")


def made(wanted: WorkerSpec, options: KubernetesOptions = PLAIN, host: Host | None = None) -> dict[str, Any]:
    return pods.pod(wanted, options, INSTALLATION, host)


def container(wanted: WorkerSpec, options: KubernetesOptions = PLAIN, host: Host | None = None) -> dict[str, Any]:
    found: dict[str, Any] = made(wanted, options, host)["spec"]["containers"][0]
    return found


_text = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=20)
_variables = st.dictionaries(st.from_regex(r"[A-Za-z_][A-Za-z0-9_.-]{0,20}", fullmatch=True), _text, max_size=4)
_probes = st.builds(
    Probe,
    path=st.sampled_from([None, "/health"]),
    command=st.sampled_from([(), ("true",)]),
    period_s=st.floats(0.1, 60),
    timeout_s=st.floats(0.1, 60),
    initial_delay_s=st.floats(0, 60),
)
_mounts = st.builds(
    Mount,
    name=st.just("weights"),
    source=st.sampled_from(["/var/lib/stoker/models/a", "/var/lib/stoker/volumes/v", "/var/lib/stoker"]),
    path=st.sampled_from([None, "/weights"]),
    read_only=st.booleans(),
)


@st.composite
def _specs(draw: st.DrawFn) -> WorkerSpec:
    env = draw(_variables)
    login = RegistryLogin(registry="docker.io", username="me", password="pass-word")
    return spec(
        draw(st.from_regex(r"[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?", fullmatch=True)),
        *draw(st.lists(_text, max_size=3)),
        image=draw(st.sampled_from([None, "ghcr.io/me/mine:1"])),
        env=env,
        secrets={name: "s" for name in env if draw(st.booleans())},
        login=draw(st.sampled_from([None, login])),
        listen=draw(st.sampled_from([None, 8000])),
        ports=draw(st.sampled_from([{}, {9000: 29_000}])),
        port=draw(st.sampled_from([None, 20_000])),
        gpus=draw(st.sampled_from([(), ("0", "1")])),
        vcpu=draw(st.none() | st.floats(0.001, 128)),
        ram_gib=draw(st.none() | st.floats(0.001, 2048)),
        mounts=tuple(draw(st.lists(_mounts, max_size=1))),
        probes=Probes(readiness=draw(_probes)),
        drain_s=draw(st.none() | st.floats(0, 86_400)),
    )


@given(wanted=_specs(), reach=st.sampled_from(["pod", "node"]), pin=st.booleans(), read_only=st.booleans())
def test_whatever_is_asked_for_the_schema_allows(wanted: WorkerSpec, reach: str, pin: bool, read_only: bool) -> None:
    options = parse({**GIVEN, "reach": reach, "pin": pin, "read_only": read_only})
    pod = made(wanted, options, HOST)
    assert faults(pod) + check_names(pod) + pod_faults(pod) == []
    for secret in pods.secrets(wanted, INSTALLATION):
        assert faults(secret) + check_names(secret) + secret_faults(secret) == []


@given(wanted=_specs())
def test_a_secret_is_in_no_pod_and_every_variable_arrives_as_it_was(wanted: WorkerSpec) -> None:
    pod, secrets = made(wanted, FULL, HOST), pods.secrets(wanted, INSTALLATION)
    values = {s["metadata"]["name"]: s["data"] for s in secrets}
    found = {}
    for each in pod["spec"]["containers"][0]["env"]:
        if "value" in each:
            found[each["name"]] = filled(each["value"], {"TOKEN": "x"})
            assert each["name"] not in wanted.secrets
        else:
            ref = each["valueFrom"]["secretKeyRef"]
            found[each["name"]] = base64.b64decode(values[ref["name"]][ref["key"]]).decode()
    assert {name: found[name] for name in wanted.env if name not in ("HOST", "PORT")} == {
        name: value for name, value in wanted.env.items() if name not in ("HOST", "PORT")
    }
    program = pod["spec"]["containers"][0]
    assert (
        tuple(filled(text, found) for text in (program.get("command") or program.get("args") or ())) == wanted.command
    )
    assert "pass-word" not in json.dumps(pod)


def test_nothing_more_than_needed_is_permitted() -> None:
    pod = made(spec("a", "true"))
    assert pod["spec"]["automountServiceAccountToken"] is False
    assert pod["spec"]["restartPolicy"] == "Never"
    assert pod["spec"]["securityContext"] == {"seccompProfile": {"type": "RuntimeDefault"}}
    assert pod["spec"]["containers"][0]["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": False,
        "capabilities": {"drop": ["ALL"]},
    }
    assert "livenessProbe" not in pod["spec"]["containers"][0]


def test_all_options_stand_in_the_pod() -> None:
    pod = made(spec("a", "true", gpus=("0", "1"), drain_s=60.0, grace_s=5.0), FULL, HOST)["spec"]
    assert (pod["runtimeClassName"], pod["priorityClassName"], pod["schedulerName"]) == ("nvidia", "serving", "mine")
    assert (pod["serviceAccountName"], pod["imagePullSecrets"]) == ("worker", [{"name": "mirror"}])
    assert pod["nodeSelector"] == {"pool": "gpu"}
    assert pod["terminationGracePeriodSeconds"] == 65
    assert pod["securityContext"]["runAsUser"] == 1000
    assert pod["securityContext"]["runAsNonRoot"]
    assert [each["key"] for each in pod["tolerations"]] == [
        "dedicated",
        "node.kubernetes.io/unreachable",
        "node.kubernetes.io/not-ready",
        "nvidia.com/gpu",
    ]
    [term] = pod["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"]
    assert {each["key"]: each["values"] for each in term["matchExpressions"]} == {k: [v] for k, v in CARDS.items()}
    assert term["matchFields"] == [{"key": "metadata.name", "operator": "In", "values": ["node-a"]}]
    [constraint] = pod["topologySpreadConstraints"]
    assert constraint["topologyKey"] == "topology.kubernetes.io/zone"
    [only] = pod["containers"]
    assert only["resources"]["limits"] == {"nvidia.com/gpu": "2"}
    assert "-lt 60 " in only["lifecycle"]["preStop"]["exec"]["command"][-1]
    shm = next(each for each in pod["volumes"] if each["name"] == "shm")
    assert shm["emptyDir"] == {"medium": "Memory", "sizeLimit": "8192Mi"}


def test_without_a_pin_its_node_is_preferred_and_its_kind_required() -> None:
    affinity = made(spec("a", "true"), PLAIN, HOST)["spec"]["affinity"]["nodeAffinity"]
    [preferred] = affinity["preferredDuringSchedulingIgnoredDuringExecution"]
    assert preferred["preference"]["matchFields"][0]["values"] == ["node-a"]
    [term] = affinity["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"]
    assert "matchFields" not in term


def test_folders_in_shared_claims_are_mounted_as_parts_of_them() -> None:
    mounts = (
        Mount(name="v", source="/var/lib/stoker/volumes/v1", path="/work", read_only=False),
        Mount(name="weights", source="/var/lib/stoker/models/org/name", path=None, read_only=True),
    )
    pod = made(spec("a", "true", mounts=mounts), FULL)["spec"]
    claims = {
        each["name"]: each["persistentVolumeClaim"]["claimName"] for each in pod["volumes"] if "emptyDir" not in each
    }
    found = {each["mountPath"]: each for each in pod["containers"][0]["volumeMounts"]}
    assert claims[found["/work"]["name"]] == "stoker"
    assert found["/work"]["subPath"] == "volumes/v1"
    weights = found["/var/lib/stoker/models/org/name"]
    assert (claims[weights["name"]], weights["subPath"], weights["readOnly"]) == ("models", "org/name", True)
    assert claims[found["/root/.cache"]["name"]] == "cache"
    assert "readOnly" not in found["/root/.cache"]
    assert found["/data"]["readOnly"] is True


def test_a_folder_in_no_claim_is_refused_with_the_remedy() -> None:
    mount = Mount(name="v", source="/srv/v", path="/work", read_only=False)
    with pytest.raises(Invalid, match=r"cannot see /srv/v: .* option shared"):
        made(spec("a", "true", mounts=(mount,)), FULL)


def test_a_command_without_an_image_is_a_whole_program() -> None:
    assert container(spec("a", "serve"))["command"] == ["serve"]
    with_image = container(spec("a", "--model", "m", image="vllm/vllm-openai:v1"))
    assert (with_image["args"], "command" in with_image) == (["--model", "m"], False)
    with pytest.raises(Invalid, match="runs images"):
        pods.pod(spec("a", "serve"), parse({}), INSTALLATION, None)


def test_ports_of_nodes_are_those_that_it_was_placed_at() -> None:
    wanted = spec("a", "serve", listen=8000, port=20_001, ports={9000: 20_002})
    assert container(wanted, parse({"image": "i", "reach": "node"}))["ports"] == [
        {"containerPort": 8000, "hostPort": 20_001},
        {"containerPort": 9000, "hostPort": 20_002},
    ]
    assert container(wanted)["ports"] == [{"containerPort": 8000}, {"containerPort": 9000}]


def test_the_log_in_of_the_docker_hub_has_its_own_name() -> None:
    login = RegistryLogin(registry="docker.io", username="me", password="pass-word")
    [secret] = pods.secrets(spec("a", "true", login=login), INSTALLATION)
    config = json.loads(base64.b64decode(secret["data"][".dockerconfigjson"]))
    assert list(config["auths"]) == ["https://index.docker.io/v1/"]


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("nothing", 1, "there are capabilities"),
        ("namespace", "No Name", "small letters"),
        ("reach", "service", "pod or node"),
        ("ports", "5", "FIRST-LAST"),
        ("pin", 1, "true or false"),
        ("nodes", [{"name": "a"}], "vcpu and ram_gib"),
        ("nodes", [{"name": "a", "vcpu": 1, "ram_gib": 1}] * 2, "once"),
        ("nodes", [{"name": "a", "vcpu": 1, "ram_gib": 1, "gpus": {"h100": 1, "t4": 1}}], "one family"),
        ("nodes", [{"name": "a", "vcpu": 1, "ram_gib": 1, "gpus": {"nonsense": 1}}], "no family"),
        ("node_selector", {"a": 1}, "texts"),
        ("tolerations", [{"keys": "a"}], "only"),
        ("claims", ["cache"], "claims like"),
        ("shared", ["cache:/"], "claims like"),
        ("user", -1, "whole number"),
        ("shm_gib", "8", "a number"),
        ("installation", "a/b", "63"),
    ],
)
def test_an_option_that_cannot_be_is_named(name: str, value: object, words: str) -> None:
    with pytest.raises(Invalid, match=f"(?s){name}.*{words}"):
        parse({name: value})
