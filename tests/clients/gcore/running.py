"""A real Stoker as Gcore's clients find it, and their Python client in a process of its own."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from acceptance.installation import Installation

DRIVER = Path(__file__).parent / "driver.py"
IMAGE = "registry.test/tiny:1"


class Raised(Exception):
    """What the client raised: the name of its class, its text and the status that it saw."""

    def __init__(self, kind: str, text: str, status: int | None) -> None:
        super().__init__(f"{kind}: {text}")
        self.kind, self.text, self.status = kind, text, status


class Client:
    """Gcore's own client in its own environment, `sync` or `async`. `driven` has the methods that it was called by."""

    def __init__(self, python: Path, version: str, flavor: str, url: str, key: str) -> None:
        self.driven: set[str] = set()
        self._process = subprocess.Popen(
            [python, "-I", DRIVER, version, flavor, url, key], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def __call__(self, method: str, /, **arguments: Any) -> Any:
        """Call it by its path below the client; returns what it returns, raises `Raised` for what it raises."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps([method, arguments]) + "\n")
        self._process.stdin.flush()
        answer = json.loads(self._process.stdout.readline())
        if "raised" in answer:
            raise Raised(answer["raised"], answer["text"], answer["status"])
        self.driven.add(method.removesuffix(".all"))
        return answer["is"]

    def close(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(10)
        self._process.stdout.close()


class Stoker(Installation):
    """One that speaks to Gcore's clients."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/gcore"


@contextmanager
def opened(python: Path, stoker: Stoker, version: str, flavor: str, *, key: str | None = None) -> Iterator[Client]:
    """A client with the admin's key, or with what is given instead."""
    made = Client(python, version, flavor, stoker.url, key or stoker.key)
    try:
        yield made
    finally:
        made.close()
