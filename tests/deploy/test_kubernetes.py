"""The manifests in deploy/kubernetes: every object is what its schema says, and they belong together."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from cluster.checks import pod_faults
from cluster.objects import check_names
from cluster.rbac import manifests
from cluster.schemas import faults
from providers.workers import spec
from stoker.gateway import proxy
from stoker.providers.kubernetes import pods
from stoker.providers.kubernetes.options import parse
from stoker.settings import read

FOLDER = Path(__file__).parents[2] / "deploy" / "kubernetes"
BASE = FOLDER / "base"
# Of the Prometheus operator's PodMonitor, the fields that there are of those that stand here.
MONITOR: dict[str, Any] = {
    "selector": {"matchLabels": None},
    "podMetricsEndpoints": [
        {"port": None, "path": None, "interval": None, "authorization": {"type": None, "credentials": {"name", "key"}}}
    ],
}


def folders() -> list[Path]:
    return sorted(path.parent for path in FOLDER.rglob("kustomization.yaml"))


def of(kind: str, name: str = "stoker") -> dict[str, Any]:
    return next(t for t in manifests(BASE) if (t["kind"], t["metadata"]["name"]) == (kind, name))


def merged(base: Any, patch: Any) -> Any:
    """As a strategic merge: entries of lists are known by their names."""
    if isinstance(base, dict) and isinstance(patch, dict):
        return {**base, **{key: merged(base.get(key), value) for key, value in patch.items()}}
    if isinstance(base, list) and isinstance(patch, list):
        by_name = {each["name"]: each for each in base}
        return list({**by_name, **{each["name"]: merged(by_name.get(each["name"]), each) for each in patch}}.values())
    return patch


@pytest.mark.parametrize("folder", folders(), ids=lambda path: path.name)
def test_a_kustomization_names_all_its_files(folder: Path) -> None:
    found = YAML(typ="safe").load((folder / "kustomization.yaml").read_text())
    assert found["kind"] == ("Component" if folder.parent.name == "components" else "Kustomization")
    assert set(found) <= {"apiVersion", "kind", "namespace", "resources", "patches"}
    named = [*found.get("resources", ()), *(patch["path"] for patch in found.get("patches", ()))]
    assert sorted(named) == sorted(path.name for path in folder.glob("*.yaml") if path.name != "kustomization.yaml")


@pytest.mark.parametrize("folder", folders(), ids=lambda path: path.name)
def test_every_object_is_as_its_schema_says(folder: Path) -> None:
    for thing in manifests(folder):
        if thing["kind"] == "PodMonitor":
            assert thing["apiVersion"] == "monitoring.coreos.com/v1"
            _within(thing["spec"], MONITOR)
        elif folder.name == "postgres":
            whole = merged(of(thing["kind"], thing["metadata"]["name"]), thing)
            assert len(whole["spec"]["template"]["spec"]["containers"]) == 1, "it changes a container that is there"
            assert faults(whole) == []
        else:
            assert faults(thing) == []
        assert check_names(thing) == []


def _within(thing: Any, known: Any) -> None:
    if isinstance(known, list):
        for each in thing:
            _within(each, known[0])
    elif known is not None:
        assert set(thing) <= set(known)
        for key, value in thing.items() if isinstance(known, dict) else ():
            _within(value, known[key])


def test_stokers_pod_is_one_that_restricted_namespaces_take() -> None:
    pod = of("Deployment")["spec"]["template"]["spec"]
    assert pod_faults({"spec": pod}) == []
    [container] = pod["containers"]
    assert pod["securityContext"]["runAsNonRoot"]
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    assert container["securityContext"]["allowPrivilegeEscalation"] is False


def test_it_is_started_with_settings_that_there_are(tmp_path: Path) -> None:
    data = of("ConfigMap")["data"]
    settings = read({**data, "STOKER_DATA_DIR": str(tmp_path)}, data_dir=tmp_path)
    assert settings.host == "0.0.0.0"
    for name, options in settings.providers.items():
        assert name == "kubernetes"
        parse(options)
    mounts = of("Deployment")["spec"]["template"]["spec"]["containers"][0]["volumeMounts"]
    assert data["STOKER_DATA_DIR"] in [mount["mountPath"] for mount in mounts]
    assert settings.port == of("Deployment")["spec"]["template"]["spec"]["containers"][0]["ports"][0]["containerPort"]
    assert read({"STOKER_DATABASE": "postgresql://u@h/d"}, data_dir=tmp_path).database, "what the component sets"


def test_the_options_that_a_comment_recommends_are_ones() -> None:
    [options] = re.findall(r"\{\"kubernetes\".*\}\}", (BASE / "storage.yaml").read_text())
    assert parse(json.loads(options)["kubernetes"]).shared[0].path == "/var/lib/stoker"


def test_its_parts_know_each_other() -> None:
    deployment = of("Deployment")["spec"]
    labels, pod = deployment["template"]["metadata"]["labels"], deployment["template"]["spec"]
    assert deployment["selector"]["matchLabels"].items() <= labels.items()
    assert of("Service")["spec"]["selector"].items() <= labels.items()
    assert of("ServiceAccount")["metadata"]["name"] == pod["serviceAccountName"]
    claims = [v["persistentVolumeClaim"]["claimName"] for v in pod["volumes"] if "persistentVolumeClaim" in v]
    assert claims == [of("PersistentVolumeClaim")["metadata"]["name"]]
    for kind, role in (("RoleBinding", "Role"), ("ClusterRoleBinding", "ClusterRole")):
        [binding] = [thing for thing in manifests(BASE) if thing["kind"] == kind]
        assert of(role, binding["roleRef"]["name"])["kind"] == binding["roleRef"]["kind"]
        assert [subject["name"] for subject in binding["subjects"]] == [pod["serviceAccountName"]]
    source = Path(proxy.__file__).read_text()
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        assert f'b"{pod["containers"][0][probe]["httpGet"]["path"]}"' in source


@pytest.mark.parametrize("path", sorted(FOLDER.rglob("network.yaml")), ids=lambda path: path.parent.name)
def test_network_policies_take_the_pods_that_there_are(path: Path) -> None:
    workers = pods.pod(spec("a", "true"), parse({"image": "i"}), "0" * 32, None)["metadata"]["labels"]
    stoker = of("Deployment")["spec"]["template"]["metadata"]["labels"]
    for policy in YAML(typ="safe").load_all(path.read_text()):
        wanted = policy["spec"]["podSelector"]["matchLabels"].items()
        assert wanted <= workers.items() or wanted <= stoker.items()
        for rule in policy["spec"].get("ingress", ()):
            for peer in rule.get("from", ()):
                assert peer["podSelector"]["matchLabels"].items() <= stoker.items()


def test_the_image_is_made_of_files_that_there_are() -> None:
    root = FOLDER.parents[1]
    text = (FOLDER.parent / "Containerfile").read_text()
    for line in re.findall(r"^COPY (.+)$", text, re.MULTILINE):
        for source in line.split()[:-1]:
            assert (root / source).exists()
    [extras] = re.findall(r"\[([a-z,]+)\]", text)
    pyproject = (root / "pyproject.toml").read_text()
    assert all(re.search(rf"^{extra} = \[", pyproject, re.MULTILINE) for extra in extras.split(","))
