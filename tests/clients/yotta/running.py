"""A real Stoker as Yotta's clients find it, its command line, and its package in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from acceptance.installation import Installation
from clients.yotta import conformance

DRIVER = Path(__file__).parent / "driver.py"
# The image of the default, which the real model stands in for, and one whose workers do no work.
IMAGE = "vllm/vllm-openai:latest"
IDLE = "registry.test/idle:1"
RESOURCES = [{"region": "local", "gpuType": "NVIDIA_L40S_48G", "gpuCount": 1}]


class Raised(Exception):
    """What the package raised: the name of its class, its text, the status, the code and the data that it saw."""

    def __init__(self, kind: str, text: str, status: int | None, code: int | None, data: Any) -> None:
        super().__init__(f"{kind}: {text}")
        self.kind, self.text, self.status, self.code, self.data = kind, text, status, code, data


class Cli:
    """Yotta's own command line. `driven` has the operations that went well."""

    def __init__(self, python: Path, url: str, key: str) -> None:
        self.driven: set[str] = set()
        self._program = python.with_name("yotta")
        self._environ = {**os.environ, "YOTTA_BASE_URL": url, "YOTTA_API_KEY": key}

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run it."""
        command = [str(self._program), *arguments]
        return subprocess.run(command, env=self._environ, capture_output=True, text=True, timeout=60, check=False)

    def __call__(self, *arguments: str) -> Any:
        """Run it, which must go well; what the envelope holds."""
        ended = self.run(*arguments)
        assert ended.returncode == 0, (arguments, ended.stdout, ended.stderr)
        envelope = json.loads(ended.stdout)
        assert envelope["code"] == 10000, envelope
        assert isinstance(envelope["message"], str)
        self.driven.add(conformance.operation_of_command(*arguments[:2]))
        return envelope["data"]

    def refused(self, *arguments: str) -> str:
        """Run it, which must be refused by the server; what it says."""
        ended = self.run(*arguments)
        assert (ended.returncode, ended.stdout) == (1, ""), (arguments, ended.stdout, ended.stderr)
        assert ended.stderr.startswith("Error: "), ended.stderr
        return ended.stderr.removeprefix("Error: ")


class Sdk:
    """Yotta's own package in its own environment. `driven` has the operations that went well."""

    def __init__(self, python: Path, url: str, key: str) -> None:
        self.driven: set[str] = set()
        self._process = subprocess.Popen(
            [python, "-I", DRIVER, url, key], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def whole(self, kind: str, method: str, /, **arguments: Any) -> Any:
        """Call it; the whole answer. Raises `Raised` for what it raises."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps([kind, method, arguments]) + "\n")
        self._process.stdin.flush()
        answer = json.loads(self._process.stdout.readline())
        if "raised" in answer:
            raise Raised(answer["raised"], answer["text"], answer["status"], answer["code"], answer["data"])
        if method != "validate_notify_payload":
            self.driven.add(conformance.operation_of(method, arguments.get("url_path", "")))
        return answer["is"]

    def __call__(self, kind: str, method: str, /, **arguments: Any) -> Any:
        """The same, which must go well; what the envelope holds."""
        envelope = self.whole(kind, method, **arguments)
        assert envelope["code"] == 10000, envelope
        return envelope["data"]

    def close(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(30)
        self._process.stdout.close()


class Stoker(Installation):
    """One that speaks to Yotta's clients."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/yotta"

    def limited(self, scope: str) -> str:
        """A new key of that scope alone."""
        made = self.run("keys", "create", f"only-{scope}", "--scope", scope)
        assert made.returncode == 0, made.stderr
        return made.stdout.strip()

    def fill(self) -> dict[str, dict[str, str]]:
        """Make one of each noun; their ids by the beginnings of paths."""

        def made(path: str, value: object) -> Any:
            body = json.dumps(value).encode()
            with self.request("POST", f"/yotta{path}", body=body, Content_Type="application/json") as response:
                text = response.read()
                assert response.status == 200, text
                return json.loads(text)["data"]

        wanted = {
            "name": "known",
            "image": IDLE,
            "resources": RESOURCES,
            "workers": 1,
            "serviceMode": "QUEUE",
            "containerVolumeInGb": 20,
        }
        endpoint = made("/v2/serverless", wanted)["id"]
        task = made(f"/v2/serverless/{endpoint}/tasks", {"input": {"a": 1}, "taskId": "known"})["taskId"]
        login = {"name": "known", "type": "PRIVATE", "username": "u", "password": "p"}
        credential = made("/v2/container-registry-auths", login)["id"]
        return {
            "/v2/serverless": {"id": endpoint, "task_id": task, "worker_id": "1", "count": "1"},
            "/v2/container-registry-auths": {"id": str(credential)},
        }


@contextmanager
def running(folder: Path) -> Iterator[Stoker]:
    """One with pretended cards in two regions, and the real model in the place of vLLM's image."""
    made = Stoker(folder / "stoker")
    images = {IMAGE: "{model: smollm2}", IDLE: "{command: [sleep, '1000']}", "r/img": "{command: [sleep, '1000']}"}
    made.environ |= {
        "STOKER_IMAGES": "{" + ", ".join(f"'{name}': {instead}" for name, instead in images.items()) + "}",
        "STOKER_VIRTUAL_GPUS": "[{family: l40s, count: 4}, {family: l4, count: 1, region: east}]",
        "STOKER_REGIONS": "{local: 1, east: 2}",
        # Receivers of webhooks that tests have.
        "STOKER_ALLOW_PRIVATE_URLS": "[127.0.0.0/8]",
    }
    try:
        made.up()
        yield made
    finally:
        made.close()


class Receiver:
    """Takes webhooks on loopback and answers each with the next of `statuses`, then 200. `got` has headers and body."""

    def __init__(self) -> None:
        self.statuses: list[int] = []
        self.got: list[tuple[Mapping[str, str], Any]] = []
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                receiver.got.append(({k.lower(): v for k, v in self.headers.items()}, json.loads(body)))
                self.send_response(receiver.statuses.pop(0) if receiver.statuses else 200)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: Any) -> None:
                """Says nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever)
        self.url = f"http://127.0.0.1:{self._server.server_port}/told"

    def __enter__(self) -> Receiver:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
