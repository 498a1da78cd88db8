"""A real Stoker as Exoscale's clients find it, and their Python client in a process of its own."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from acceptance.installation import Installation, until
from acceptance.test_models import model, serving

DRIVER = Path(__file__).parent / "driver.py"
REPO = "owner/tiny"
SMOL = "HuggingFaceTB/SmolLM2-135M-Instruct"


class Raised(Exception):
    """What the client raised: the name of its class, its text and the status that it saw."""

    def __init__(self, kind: str, text: str, status: int | None) -> None:
        super().__init__(f"{kind}: {text}")
        self.kind, self.text, self.status = kind, text, status


class Client:
    """Exoscale's own client in its own environment. What it has called is in `driven`, by the ids of operations."""

    def __init__(self, python: Path, url: str, key: str, secret: str) -> None:
        self.driven: set[str] = set()
        self._process = subprocess.Popen(
            [python, "-I", DRIVER, url, key, secret], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def __call__(self, method: str, /, **arguments: Any) -> Any:
        """Call it; returns what it returns, raises `Raised` for what it raises."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps([method, arguments]) + "\n")
        self._process.stdin.flush()
        answer = json.loads(self._process.stdout.readline())
        if "raised" in answer:
            raise Raised(answer["raised"], answer["text"], answer["status"])
        self.driven.add("get-operation" if method == "wait" else method.replace("_", "-"))
        return answer["is"]

    def ended(self, operation: Any) -> Any:
        """The operation when it has ended, without the client's own pauses."""

        def look() -> Any:
            found = self("get_operation", id=operation["id"])
            return found if found["state"] != "pending" else None

        return operation if operation["state"] != "pending" else until(look, what=f"the end of {operation}")

    def close(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(30)
        self._process.stdout.close()


class Stoker(Installation):
    """One that speaks to Exoscale's clients."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/exoscale/v2"

    def fill(self) -> dict[str, dict[str, str]]:
        """Make one of each noun; their ids by the beginnings of paths."""

        def made(noun: str, value: object) -> Any:
            body = json.dumps(value).encode()
            path = f"/exoscale/v2/ai/{noun}"
            with self.request("POST", path, body=body, Content_Type="application/json") as response:
                text = response.read()
                assert response.status == 200, text
                return json.loads(text)

        model = made("model", {"name": SMOL})["reference"]["id"]
        wanted = {"name": "known", "gpu-type": "cpu", "gpu-count": 1, "replicas": 1, "model": {"name": "broken"}}
        operation = made("deployment", wanted)
        deployment = operation["reference"]["id"]
        made(f"deployment/{deployment}/scale", {"replicas": 0})
        key = made("api-key", {"name": "known", "scope": "public"})["id"]
        return {
            "/v2/ai/model": {"id": model},
            "/v2/ai/deployment": {"id": deployment},
            "/v2/ai/api-key": {"id": key},
            "/v2/operation": {"id": operation["id"]},
        }

    def pair(self) -> tuple[str, str]:
        """Id and secret of a new signing key."""
        made = self.run("keys", "create", "exo", "--exoscale", "--scope", "admin")
        assert made.returncode == 0, made.stderr
        id, secret = made.stdout.split()
        return id, secret


@contextmanager
def running(folder: Path) -> Iterator[Stoker]:
    """One with two pretended A5000, the real model at a hub as `owner/tiny`, and `broken`, which is no model."""
    broken = folder / "broken.gguf"
    broken.write_bytes(b"GGUF, but nothing behind it")
    made = Stoker(folder / "stoker")
    with serving({"tiny.gguf": model()}) as hub:
        made.environ |= {
            "STOKER_HF_ENDPOINT": hub.url,
            "STOKER_ALLOW_PRIVATE_URLS": "[127.0.0.0/8]",
            "STOKER_MODELS": f"{{broken: {broken}}}",
            "STOKER_VIRTUAL_GPUS": "[{family: a5000, count: 2}]",
        }
        try:
            made.up()
            yield made
        finally:
            made.close()


@contextmanager
def opened(python: Path, stoker: Stoker, *, key: str | None = None, secret: str | None = None) -> Iterator[Client]:
    """A client with a pair of its own, or with what is given instead."""
    id, own = stoker.pair()
    made = Client(python, stoker.url, key or id, secret or own)
    try:
        yield made
    finally:
        made.close()
