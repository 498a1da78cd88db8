"""A real Stoker as Vast.ai's clients find it, and these clients: the command line, and both SDKs in one process."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from acceptance.installation import Installation

DRIVER = Path(__file__).parent / "driver.py"
CLI_DRIVER = Path(__file__).parent / "cli_driver.py"
WORKER = Path(__file__).parent / "worker.py"
CLIENT = "vastai-1.9.1"
# Images that are PyWorkers: before a toy, before llama.cpp.
TOY, LLAMA = "pyworker/toy:1", "pyworker/llama:1"


class Raised(Exception):
    """What the client raised: the name of its class, its text and the status that it saw."""

    def __init__(self, kind: str, text: str, status: int | None) -> None:
        super().__init__(f"{kind}: {text}")
        self.kind, self.text, self.status = kind, text, status


def _home(folder: Path) -> dict[str, str]:
    """An environment in which the package asks for nothing beside what it is told to do."""
    folders = {f"XDG_{name}_HOME": folder / name.lower() for name in ("CONFIG", "CACHE", "STATE", "DATA")}
    for path in folders.values():
        (path / "vastai").mkdir(parents=True, exist_ok=True)
    (folders["XDG_CONFIG_HOME"] / "vastai" / "vast_role").write_text("client")
    (folders["XDG_CACHE_HOME"] / "vastai" / "gpu_names_cache.json").write_text('{"gpu_names": []}')
    keep = {name: os.environ[name] for name in ("PATH", "LANG") if name in os.environ}
    paths = {name: str(path) for name, path in folders.items()}
    return {**keep, **paths, "HOME": str(folder), "VASTAI_NO_UPDATE_CHECK": "1"}


def close(driver: subprocess.Popen[str]) -> None:
    """End a driver: by itself when it has nothing more to read, else by force."""
    # Leaving closes its pipes.
    with driver:
        assert driver.stdin is not None
        driver.stdin.close()
        try:
            driver.wait(30)
        except subprocess.TimeoutExpired:
            # In the midst of a call that does not return.
            driver.kill()


class Client:
    """Both SDKs in their own environment. `driven` has the methods that were called."""

    def __init__(self, python: Path, home: Path, url: str, key: str) -> None:
        self.driven: set[str] = set()
        self._process = subprocess.Popen(
            [python, "-I", DRIVER, url, key],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=_home(home),
        )

    def __call__(self, client: str, method: str, /, *arguments: Any, **named: Any) -> Any:
        """Call it; returns what it returns, raises `Raised` for what it raises."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps([client, method, arguments, named]) + "\n")
        self._process.stdin.flush()
        answer = json.loads(self._process.stdout.readline())
        if "raised" in answer:
            raise Raised(answer["raised"], answer["text"], answer["status"])
        self.driven.add(f"{client} {method}")
        return answer["is"]

    def sdk(self, method: str, /, *arguments: Any, **named: Any) -> Any:
        return self("sdk", method, *arguments, **named)

    def serverless(self, method: str, /, *arguments: Any, **named: Any) -> Any:
        return self("serverless", method, *arguments, **named)

    def close(self) -> None:
        close(self._process)


class Stoker(Installation):
    """One that speaks to Vast.ai's clients. Its images are PyWorkers."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/vast"

    def engine(self, path: str, body: object, *, key: str | None = None, timeout_s: float = 30.0) -> tuple[int, Any]:
        """A call of an engine's path, as other clients have it."""
        content = json.dumps(body).encode()
        bearer = f"Bearer {key or self.key}"
        with self.request(
            "POST",
            f"/vast{path}",
            body=content,
            timeout_s=timeout_s,
            Content_Type="application/json",
            Authorization=bearer,
        ) as answer:
            return answer.status, json.loads(answer.read())

    def template(self, name: str, image: str) -> str:
        """The hash of a template with that image."""
        status, made = self.engine("/api/v0/template/", {"name": name, "image": image})
        assert status == 200, made
        return str(made["template"]["hash_id"])


@contextmanager
def opened(python: Path, home: Path, stoker: Stoker, *, key: str | None = None) -> Iterator[Client]:
    """Clients with the admin's key, or with what is given instead."""
    made = Client(python, home, stoker.url, key or stoker.key)
    try:
        yield made
    finally:
        made.close()


class Cli:
    """`vastai`, as typed. `driven` has the commands that were."""

    def __init__(self, python: Path, home: Path, stoker: Stoker) -> None:
        self.driven: set[str] = set()
        self._program = python.with_name("vastai")
        self._stoker = stoker
        self._environ = _home(home)
        self._process = subprocess.Popen(
            [python, "-I", CLI_DRIVER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=self._environ
        )

    def __call__(self, *words: str, key: str | None = None) -> tuple[str, str]:
        """What it says on stdout and on stderr: how it ends says nothing of how it went."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        line = json.dumps([[*words, "--url", self._stoker.url], key or self._stoker.key])
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()
        out, err = json.loads(self._process.stdout.readline())
        assert "Traceback" not in err, err
        self.driven.add(" ".join(words[:2]))
        return out.strip(), err.strip()

    def program(self, *words: str) -> str:
        """The program itself, from its start to its end; what it says on stdout."""
        ended = subprocess.run(
            [self._program, *words, "--url", self._stoker.url],
            env=self._environ | {"VAST_API_KEY": self._stoker.key},
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
        return ended.stdout.strip()

    def close(self) -> None:
        close(self._process)
