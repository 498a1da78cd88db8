"""The manifests as kustomize puts them together, in a namespace of somebody's own. Needs kubectl (1.21 or later), of
which no package of Debian's is new enough: without it only the files themselves are checked, in the tests beside this.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from cluster.checks import pod_faults
from cluster.objects import check_names
from cluster.schemas import faults

FOLDER = Path(__file__).parents[2] / "deploy" / "kubernetes"
COMPONENTS = sorted(path.name for path in (FOLDER / "components").iterdir())
NAMESPACE = "of-my-own"
IMAGE = "registry.example.com/stoker:1"
CHOICES = [pytest.param((), id="base"), *(pytest.param((name,), id=name) for name in COMPONENTS)]
# Kinds of which each object belongs to the whole cluster.
WIDE = {"Namespace", "ClusterRole", "ClusterRoleBinding"}


def built(folder: Path, components: tuple[str, ...]) -> list[dict[str, Any]]:
    """What `kubectl kustomize` makes of an overlay such as the documentation shows."""
    program = shutil.which("kubectl")
    if program is None and os.environ.get("CI"):
        pytest.fail("kubectl is not installed")
    if program is None:
        pytest.skip("kubectl is not installed")
    # It takes nothing from outside a repository by absolute paths, and links by their targets.
    shutil.copytree(FOLDER, folder / "kubernetes")
    overlay = {
        "namespace": NAMESPACE,
        "resources": ["kubernetes/base"],
        "components": [f"kubernetes/components/{name}" for name in components],
        "images": [{"name": "stoker", "newName": IMAGE.partition(":")[0], "newTag": IMAGE.partition(":")[2]}],
    }
    with (folder / "kustomization.yaml").open("w") as file:
        YAML(typ="safe").dump(overlay, file)
    done = subprocess.run([program, "kustomize", str(folder)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return [thing for thing in YAML(typ="safe").load_all(done.stdout) if thing]


@pytest.mark.parametrize("components", [*CHOICES, pytest.param(tuple(COMPONENTS), id="all")])
def test_an_overlay_with_components_makes_objects_that_belong_together(
    tmp_path: Path, components: tuple[str, ...]
) -> None:
    things = built(tmp_path, components)
    # Of a PodMonitor only its operator knows what it may be.
    assert [found for thing in things if thing["kind"] != "PodMonitor" for found in faults(thing)] == []
    assert [found for thing in things for found in check_names(thing)] == []
    assert ("PodMonitor" in {thing["kind"] for thing in things}) is ("podmonitor" in components)
    for thing in things:
        assert thing["metadata"].get("namespace") == (None if thing["kind"] in WIDE else NAMESPACE)
    [own] = [thing for thing in things if thing["kind"] == "Namespace"]
    assert own["metadata"]["name"] == NAMESPACE
    accounts = {("ServiceAccount", t["metadata"]["name"], NAMESPACE) for t in things if t["kind"] == "ServiceAccount"}
    bindings = [thing for thing in things if thing["kind"].endswith("RoleBinding")]
    assert len(bindings) == (3 if "other-pods" in components else 2)
    for binding in bindings:
        subjects = {(each["kind"], each["name"], each["namespace"]) for each in binding["subjects"]}
        assert subjects <= accounts, "whoever is bound is there"
        role = (binding["roleRef"]["kind"], binding["roleRef"]["name"])
        assert role in {(thing["kind"], thing["metadata"]["name"]) for thing in things}
    [deployment] = [thing for thing in things if thing["kind"] == "Deployment"]
    pod = deployment["spec"]["template"]["spec"]
    assert pod_faults({"spec": pod}) == []
    [container] = pod["containers"]
    assert container["image"] == IMAGE
    assert ("STOKER_DATABASE" in {each["name"] for each in container.get("env", ())}) is ("postgres" in components)
