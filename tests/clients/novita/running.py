"""A real Stoker as Novita's clients find it, its own command line, and clients of the gateway of jobs."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from acceptance.installation import Installation
from clients.novita import conformance

HERE = Path(__file__).parent
IMAGE = "registry.test/tiny:1"
IDLE = "registry.test/idle:1"
CONTROL = "/gpu-instance/openapi/v1"
# What runs instead of an image of that name: a handler of that package.
WORKERS = {
    "novita-gpus-0.0.1": (HERE.parent / "novita_worker" / "handlers.py", ("plain", "both", "model")),
    "runpod-1.12.0": (HERE.parent / "runpod" / "handlers.py", ("telling",)),
}


class Failed(Exception):
    """A command line has ended with 1; `text` is what it wrote to stderr."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text


class Raised(Exception):
    """What a client raised: the name of its class, and its text."""

    def __init__(self, kind: str, text: str) -> None:
        super().__init__(f"{kind}: {text}")
        self.kind = kind


class Cli:
    """Novita's command line. `driven` has the operations that it did."""

    def __init__(self, python: Path, url: str, key: str) -> None:
        self._python, self._url, self._key = python, url, key
        self.driven: set[str] = set()

    def __call__(self, *arguments: str) -> str:
        """What it prints. Raises `Failed`."""
        printed = self._run(*arguments)
        self.driven |= conformance.of_command(arguments)
        return printed

    def json(self, *arguments: str) -> Any:
        """The same as JSON."""
        printed = self._run("--json-output", *arguments)
        self.driven |= conformance.of_command(arguments)
        return json.loads(printed)

    def api(self, method: str, *arguments: Any) -> Any:
        """A method of its own client, for what it has no command for."""
        printed = self._run("api", method, json.dumps(arguments))
        self.driven.add(conformance.of_method(method, str(arguments[0])))
        return json.loads(printed)

    def _run(self, *arguments: str) -> str:
        ended = subprocess.run(
            [str(self._python), "-I", str(HERE / "cli.py"), *arguments],
            env={**os.environ, "NOVITA_TEST_URL": self._url, "NOVITA_API_KEY": self._key, "NO_PROXY": "*"},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        if ended.returncode == 1:
            raise Failed(ended.stderr)
        assert ended.returncode == 0, ended.stderr
        return ended.stdout


class Client:
    """A client in a process of its own, which calls a method for each line. `driven` has the operations that it did."""

    def __init__(self, python: Path, program: str, *arguments: str) -> None:
        self.driven: set[str] = set()
        self._process = subprocess.Popen(
            [python, "-I", HERE / program, *arguments],
            env={**os.environ, "NO_PROXY": "*"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def call(self, method: str, *arguments: Any) -> Any:
        """Call it; returns what it returns, raises `Raised` for what it raises."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps([method, *arguments]) + "\n")
        self._process.stdin.flush()
        answer = json.loads(self._process.stdout.readline())
        if "raised" in answer:
            raise Raised(answer["raised"], answer["text"])
        self.driven.add(conformance.of_method(method))
        return answer["is"]

    def close(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(30)
        self._process.stdout.close()


class Jobs(Client):
    """The client of `novita_gpus` or `runpod`."""

    def __call__(self, method: str, endpoint: str, *arguments: Any) -> Any:
        return self.call(method, endpoint, arguments)


class Sdk(Client):
    """The client of `novita-sdk`, sync or async."""

    def __call__(self, method: str, *arguments: Any) -> Any:
        return self.call(method, arguments)


class Stoker(Installation):
    """One that speaks to Novita's clients."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/novita"

    def fill(self) -> dict[str, dict[str, str]]:
        """Make one of each noun; their names by the parameters of all paths."""
        self.ok("POST", f"{CONTROL}/repository/auth/save", {"name": "registry.test", "username": "u", "password": "p"})
        storage = {"clusterId": "local", "storageName": "known", "storageSize": 1}
        self.ok("POST", f"{CONTROL}/networkstorage/create", storage)
        # One that is posted its jobs, and answers at once.
        made = self.create("known", mode="mixed", queue={"path": "/echo"})["id"]
        job = self.ok("POST", f"/v1/{made}/run", {"input": 1})["id"]
        return {"/v1": {"name": str(made), "id": str(job)}}

    def ask(self, method: str, path: str, value: object = None) -> tuple[int, Any]:
        """A call below this dialect's address."""
        content = None if value is None else json.dumps(value).encode()
        with self.request(method, f"/novita{path}", body=content) as response:
            return response.status, json.loads(response.read())

    def ok(self, method: str, path: str, value: object = None) -> Any:
        """The same, which must succeed."""
        status, answer = self.ask(method, path, value)
        assert status == 200, answer
        return answer


def asked(image: str, **more: Any) -> dict[str, Any]:
    """An endpoint of a request, as small as it can be."""
    return {
        "rootfsSize": 100,
        "workerConfig": {"minNum": 0, "maxNum": 1, "freeTimeout": 300, "maxConcurrent": 1, "gpuNum": 0},
        "ports": [{"port": "8080"}],
        "policy": {"type": "queue", "value": 1},
        "image": {"image": image},
        "products": [{"id": "cpu"}],
        **more,
    }


@contextmanager
def running(folder: Path, workers: dict[str, Path] | None = None) -> Iterator[Stoker]:
    """One with pretended cards, the real model in the place of an image, and handlers of packages of workers in the
    place of others: `workers` are the packages' Pythons by the names of their environments.
    """
    made = Stoker(folder / "stoker")
    images: dict[str, object] = {IMAGE: {"model": "smollm2"}, IDLE: {"command": ["sleep", "1000"]}}
    for name, python in (workers or {}).items():
        handlers, kinds = WORKERS[name]
        for kind in kinds:
            images[f"{name}/{kind}:1"] = {"command": [str(python), str(handlers), kind]}
    made.environ |= {
        "STOKER_IMAGES": json.dumps(images),
        "STOKER_VIRTUAL_GPUS": "[{family: l40s, count: 4}]",
        # A receiver of webhooks that tests pretend.
        "STOKER_ALLOW_PRIVATE_URLS": "[127.0.0.0/8]",
    }
    try:
        made.up()
        yield made
    finally:
        made.close()


@contextmanager
def opened(python: Path, package: str, stoker: Stoker, *, key: str | None = None) -> Iterator[Jobs]:
    """A client of jobs with the admin's key, or with what is given instead."""
    made = Jobs(python, "driver.py", package, f"{stoker.url}/v1", key or stoker.key)
    try:
        yield made
    finally:
        made.close()
