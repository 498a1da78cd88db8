"""A real Stoker as Gcore's clients find it, and their Python client in a process of its own."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from acceptance.installation import Installation
from clients.gcore import conformance

DRIVER = Path(__file__).parent / "driver.py"
IMAGE = "registry.test/tiny:1"
IDLE = "registry.test/idle:1"


class Raised(Exception):
    """What the client raised: the name of its class, its text and the status that it saw."""

    def __init__(self, kind: str, text: str, status: int | None) -> None:
        super().__init__(f"{kind}: {text}")
        self.kind, self.text, self.status = kind, text, status


class Client:
    """Gcore's own client in its own environment, `sync` or `async`. `driven` has the operations that it did."""

    def __init__(self, python: Path, version: str, flavor: str, url: str, key: str) -> None:
        self.driven: set[str] = set()
        self._process = subprocess.Popen(
            [python, "-I", DRIVER, version, flavor, url, key], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def __call__(self, method: str, /, **arguments: Any) -> Any:
        """Call it by its path below the client; returns what it returns, raises `Raised` for what it raises."""
        found = self._call(method, arguments)
        self.driven.add(conformance.operation_of(method.removesuffix(".all")))
        return found

    def by_path(self, operation: str, *, body: Any = None, **names: object) -> Any:
        """Call what the package has no method for; `names` are those in its path."""
        verb, path = conformance.by_path(operation)
        found = self._call(verb, {"path": path.format(**names), **({} if body is None else {"body": body})})
        self.driven.add(operation)
        return found

    def _call(self, method: str, arguments: dict[str, Any]) -> Any:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps([method, arguments]) + "\n")
        self._process.stdin.flush()
        answer = json.loads(self._process.stdout.readline())
        if "raised" in answer:
            raise Raised(answer["raised"], answer["text"], answer["status"])
        return answer["is"]

    def close(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(30)
        self._process.stdout.close()


class Stoker(Installation):
    """One that speaks to Gcore's clients."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/gcore"

    def reader(self) -> str:
        """A new key that may look and do nothing else."""
        made = self.run("keys", "create", "reader", "--scope", "read")
        assert made.returncode == 0, made.stderr
        return made.stdout.strip()

    def fill(self) -> dict[str, dict[str, str]]:
        """Make one of each noun; their names by the parameters of all paths."""
        values: dict[str, dict[str, Any]] = {
            "api_keys": {"name": "known-key"},
            "secrets": {
                "name": "known-secret",
                "type": "aws-iam",
                "data": {"aws_access_key_id": "a", "aws_secret_access_key": "b"},
            },
            "registry_credentials": {
                "name": "known-login",
                "username": "u",
                "password": "p",
                "registry_url": "registry.test",
            },
            "deployments": {
                "name": "known",
                # Whatever is asked for, its workers do no work.
                "image": IDLE,
                "listening_port": 80,
                "flavor_name": "inference-1vcpu-4gib",
                "containers": [{"region_id": 1, "scale": {"min": 0, "max": 1}}],
            },
        }
        for noun, value in values.items():
            made = self.ask("POST", f"/cloud/v3/inference/1/{noun}", value)
        names = {
            "project_id": "1",
            "region_id": "1",
            "api_key_name": "known-key",
            "secret_name": "known-secret",
            "credential_name": "known-login",
            "deployment_name": "known",
            "flavor_name": "inference-1vcpu-4gib",
            "application_name": "openai-chat",
            "task_id": made["tasks"][0],
        }
        return {"/": names}

    def ask(self, method: str, path: str, value: object = None) -> Any:
        """A call below this dialect's address that must succeed."""
        content = None if value is None else json.dumps(value).encode()
        with self.request(method, f"/gcore{path}", body=content, Content_Type="application/json") as response:
            text = response.read()
            assert response.status == 200, text
            return json.loads(text)


@contextmanager
def running(folder: Path) -> Iterator[Stoker]:
    """One with pretended L40S, and the real model in the place of two images."""
    made = Stoker(folder / "stoker")
    images = {IMAGE: "{model: smollm2}", "nginx:*": "{model: smollm2}", IDLE: "{command: [sleep, '1000']}"}
    made.environ |= {
        "STOKER_IMAGES": "{" + ", ".join(f"'{name}': {instead}" for name, instead in images.items()) + "}",
        "STOKER_VIRTUAL_GPUS": "[{family: l40s, count: 4}]",
        # A queue that tests pretend.
        "STOKER_ALLOW_PRIVATE_URLS": "[127.0.0.0/8]",
    }
    try:
        made.up()
        yield made
    finally:
        made.close()


@contextmanager
def opened(python: Path, stoker: Stoker, version: str, flavor: str, *, key: str | None = None) -> Iterator[Client]:
    """A client with the admin's key, or with what is given instead."""
    made = Client(python, version, flavor, stoker.url, key or stoker.key)
    try:
        yield made
    finally:
        made.close()
