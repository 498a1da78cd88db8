"""Gcore's own Python package, unmodified and strict about answers, against a real Stoker with real workers."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tarfile
from collections.abc import Callable
from contextlib import closing
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from acceptance.installation import until
from clients.gcore.running import IMAGE, Client, Raised, Stoker, opened

pytestmark = [pytest.mark.process, pytest.mark.timeout(120)]

I = "cloud.inference"  # noqa: E741
D = f"{I}.deployments"
T = "cloud.tasks"


def chat(url: str, headers: dict[str, str]) -> tuple[int, Any]:
    """Ask the model at that address for a few words."""
    parts = urlsplit(url)
    body = {"model": "smollm2", "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 4}
    path = f"{parts.path}/v1/chat/completions"
    with closing(HTTPConnection(parts.hostname or "", parts.port or 80, timeout=60)) as connection:
        connection.request("POST", path, json.dumps(body), {"content-type": "application/json", **headers})
        with connection.getresponse() as answer:
            return answer.status, json.loads(answer.read())


def containers(*, low: int = 1, high: int = 2) -> list[dict[str, Any]]:
    return [{"region_id": 1, "scale": {"min": low, "max": high}}]


# Each version and each flavor once; the other two pairs are driven by the rest.
@pytest.mark.parametrize("client", ["0.41.0-async", "0.59.0-sync"], indirect=True)
def test_the_whole_story_of_a_deployment(stoker: Stoker, client: tuple[str, Client]) -> None:
    _, call = client
    cards = [each for each in call(f"{I}.flavors.list.all") if each["gpu"] == 1]
    [flavor] = cards
    assert call(f"{I}.flavors.get", flavor_name=flavor["name"]) == flavor
    assert call(f"{I}.get_capacity_by_region")["results"][0]["region_id"] == 1
    key = call(f"{I}.api_keys.create", name="team", description="d", expires_at="2040-01-01T00:00:00Z")
    made = call(
        f"{D}.create_and_poll",
        name="story",
        image=IMAGE,
        listening_port=80,
        flavor_name=flavor["name"],
        containers=containers(),
        api_keys=["team"],
        description="d",
        envs={"A": "1"},
        ingress_opts={"disable_response_buffering": True},
        logging={"enabled": True, "retention_policy": {"period": 3}},
    )
    assert (made["name"], made["api_keys"], made["auth_enabled"]) == ("story", ["team"], True)
    until(lambda: call(f"{D}.get", deployment_name="story")["status"] == "ACTIVE", within_s=60, what="it is active")
    for headers in ({"Authorization": f"Bearer {key['secret']}"}, {"X-Api-Key": key["secret"]}):
        status, answer = chat(made["address"], headers)
        assert (status, len(answer["choices"])) == (200, 1), answer
    assert chat(made["address"], {})[0] == 401
    scaled = call(f"{D}.update_and_poll", deployment_name="story", containers=containers(low=2, high=2))
    assert scaled["containers"][0]["scale"]["min"] == 2
    until(
        lambda: call(f"{D}.get", deployment_name="story")["containers"][0]["deploy_status"] == {"ready": 2, "total": 2},
        within_s=60,
        what="two are ready",
    )
    tasks = call(f"{D}.update", deployment_name="story", description="x", api_keys=[], api_timeout=0)["tasks"]
    assert call(f"{T}.poll", task_id=tasks[0])["state"] == "FINISHED"
    assert call(f"{T}.get", task_id=tasks[0])["task_type"] == "update_inference_instance"
    after = call(f"{D}.get", deployment_name="story")
    assert (after["description"], after["timeout"], after["auth_enabled"]) == ("x", 0, False)
    assert chat(made["address"], {})[0] == 200, "without keys it is open"
    assert "story" in [each["name"] for each in call(f"{D}.list.all", limit=1)]
    lines = call(f"{D}.logs.list.all", deployment_name="story", limit=10, order_by="time.asc", region_id=1)
    assert lines
    assert all(line["message"] and line["pod"] for line in lines)
    call(f"{D}.stop", deployment_name="story")
    assert call(f"{D}.get", deployment_name="story")["status"] == "DISABLED"
    call(f"{D}.start", deployment_name="story")
    assert call(f"{D}.delete_and_poll", deployment_name="story") is None
    with pytest.raises(Raised) as raised:
        call(f"{D}.get", deployment_name="story")
    assert (raised.value.kind, raised.value.status) == ("NotFoundError", 404)
    call(f"{I}.api_keys.delete", api_key_name="team")


def test_what_stands_around_deployments(client: tuple[str, Client]) -> None:
    version, call = client
    path = f"{I}.registry_credentials"
    login = {"username": "u", "password": "p", "registry_url": "https://registry.example.com"}
    assert call(f"{path}.create", name="docker-io", **login)["registry_url"] == "registry.example.com"
    assert [each["name"] for each in call(f"{path}.list.all")] == ["docker-io"]
    assert call(f"{path}.get", credential_name="docker-io")["username"] == "u"
    assert call(f"{path}.replace", credential_name="docker-io", **{**login, "username": "v"})["username"] == "v"
    call(f"{path}.delete", credential_name="docker-io")
    path = f"{I}.secrets"
    value = {"type": "aws-iam", "data": {"aws_access_key_id": "a", "aws_secret_access_key": "b"}}
    assert call(f"{path}.create", name="aws-dev", **value)["type"] == "aws-iam"
    assert [each["name"] for each in call(f"{path}.list.all")] == ["aws-dev"]
    assert call(f"{path}.get", secret_name="aws-dev")["name"] == "aws-dev"
    assert call(f"{path}.replace", secret_name="aws-dev", **value)["name"] == "aws-dev"
    call(f"{path}.delete", secret_name="aws-dev")
    path = f"{I}.api_keys"
    assert call(f"{path}.create", name="key1", expires_at="2019-12-27T18:11:19.117Z")["secret"]
    assert [each["name"] for each in call(f"{path}.list.all")] == ["key1"]
    assert call(f"{path}.update", api_key_name="key1", description="d")["description"] == "d"
    assert call(f"{path}.update", api_key_name="key1", description=None)["description"] is None
    assert call(f"{path}.get", api_key_name="key1")["name"] == "key1"
    call(f"{path}.delete", api_key_name="key1")
    simple = {"image": IMAGE, "listening_port": 80, "flavor_name": "inference-1vcpu-4gib"}
    [task] = call(f"{D}.create", name="shut", containers=containers(low=0), auth_enabled=True, **simple)["tasks"]
    assert call(f"{T}.poll", task_id=task)["created_resources"]["inference_instances"] == ["shut"]
    assert "shut" in [each["name"] for each in call(f"{D}.list")["results"]]
    if version.startswith("0.41"):
        assert call(f"{D}.get_api_key", deployment_name="shut")["status"] == "READY"
    assert task in [each["id"] for each in call(f"{T}.list.all", state=["FINISHED", "ERROR"], project_id=[1, 8])]
    assert call(f"{T}.acknowledge_one", task_id=task)["acknowledged_at"]
    call(f"{T}.acknowledge_all", project_id=1)
    [task] = call(f"{D}.delete", deployment_name="shut")["tasks"]
    assert call(f"{T}.poll", task_id=task)["state"] == "FINISHED"


def test_mistakes_are_raised_as_the_client_has_them(
    stoker: Stoker, client: tuple[str, Client], client_python: Callable[[str], Path]
) -> None:
    name, call = client
    version, _, flavor = name.partition("-")
    fine = {"name": "mistake", "image": IMAGE, "listening_port": 80, "flavor_name": "inference-1vcpu-4gib"}
    for wrong in (
        {"flavor_name": "none"},
        {"name": "A"},
        {"api_keys": ["none"]},
        {"containers": [{"region_id": 9, "scale": {"min": 0, "max": 1}}]},
        {"containers": containers(low=2, high=1)},
    ):
        with pytest.raises(Raised, match="invalid_fields") as raised:
            call(f"{D}.create", **{**fine, "containers": containers(low=0), **wrong})
        assert (raised.value.kind, raised.value.status) == ("BadRequestError", 400), wrong
    with opened(client_python(f"gcore-{version}"), stoker, version, flavor, key="none at all") as other:
        with pytest.raises(Raised, match="token_not_valid") as raised:
            other(f"{D}.list")
        assert (raised.value.kind, raised.value.status) == ("AuthenticationError", 401)


@pytest.fixture(scope="session")
def examples(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The vendor's own programs, which only the source of the package has."""
    folder = tmp_path_factory.mktemp("examples")
    (folder / "source.txt").write_text(
        "gcore==0.59.0 --hash=sha256:f6c2b452900fac3d779c679ae8d6cf3d19bbf4094e7fab0c5856989d56a09fc8\n"
    )
    options = ["--quiet", "--no-deps", "--no-binary", "gcore", "--require-hashes", "--dest", str(folder)]
    command = [sys.executable, "-m", "pip", "download", *options, "-r", str(folder / "source.txt")]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    if ended.returncode:
        if os.environ.get("CI"):
            pytest.fail(f"no source of gcore: {ended.stderr[-1_000:]}")
        pytest.skip("no source of gcore")
    with tarfile.open(next(folder.glob("gcore-*.tar.gz"))) as archive:
        archive.extractall(folder, filter="data")
    return next(folder.glob("gcore-0.59.0")) / "examples" / "cloud"


@pytest.mark.parametrize("program", ["inference.py", "inference_async.py"])
def test_the_vendors_example_runs_to_its_end(
    stoker: Stoker, client_python: Callable[[str], Path], examples: Path, program: str
) -> None:
    environ = {
        "PATH": os.environ["PATH"],
        "GCORE_API_KEY": stoker.key,
        "GCORE_BASE_URL": stoker.url,
        "GCORE_CLOUD_PROJECT_ID": "1",
        "GCORE_CLOUD_REGION_ID": "1",
        "GCORE_CLOUD_INFERENCE_FLAVOR_NAME": "inference-1vcpu-4gib",
    }
    # A sibling of it is called `secrets`, as a module of the standard library is.
    command = [str(client_python("gcore-0.59.0")), "-P", str(examples / program)]
    ended = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=100, check=False)
    assert ended.returncode == 0, ended.stdout[-2_000:] + ended.stderr[-2_000:]
