"""A whole Stoker whose workers are containers of a real engine."""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path

import pytest

import stoker
from acceptance.installation import Installation, until
from docker_engine import IMAGE, Engine

pytestmark = [pytest.mark.process, pytest.mark.timeout(300)]
SERVE = 'echo "$STOKER_WORKER_ID" > /tmp/who; exec httpd -f -v -p $HOST:$PORT -h /tmp'


def deploy(installation: Installation, **more: object) -> None:
    pool = {"provider": "docker", "bounds": {"min": 0, "max": 1, "cold": 0}, "hardware": {"ram_gib": 0.05}}
    launch = {"image": IMAGE, "command": ["sh", "-c", SERVE], "port": 8080}
    spec = {"name": "e", "launch": launch, "pools": [pool], "slots": 4, **more}
    installation.api("POST", "/endpoints", spec)


def provided(installation: Installation, engine: Engine, **options: object) -> None:
    # Outside the ephemeral ports, and elsewhere than another process of tests.
    first = 30_000 + os.getpid() % 270 * 10
    docker = {"host": engine.host, "ports": f"{first}-{first + 9}", **options}
    installation.environ["STOKER_PROVIDERS"] = json.dumps({"process": {}, "docker": docker})


def test_a_request_wakes_a_container_which_outlives_stoker(installation: Installation, docker: Engine) -> None:
    # By its own address, which is known only once it runs; the other tests have it published on loopback.
    provided(installation, docker, reach="container")
    installation.up()
    deploy(installation, scaling={"idle_timeout_s": 600})
    status, who = installation.get("/e/e/who")
    assert status == 200, (who, installation.log.read_text()[-3000:])
    [worker] = installation.ready_workers("e")
    assert who.decode().strip() == worker["id"]
    [name] = docker.names()
    before = docker.inspect(name)["Id"]
    installation.interrupt(signal.SIGTERM)
    assert docker.inspect(name)["State"]["Running"]
    installation.up()
    assert installation.get("/e/e/who") == (200, who)
    assert docker.inspect(name)["Id"] == before
    installation.interrupt()
    assert docker.names() == [], "Ctrl-C ends the workers too"


def test_a_container_published_on_loopback_is_called(installation: Installation, docker: Engine) -> None:
    provided(installation, docker)
    installation.up()
    deploy(installation, pools=[{"provider": "docker", "bounds": {"min": 1, "max": 1}}])
    [worker] = until(lambda: installation.ready_workers("e"), what="ready worker")
    status, who = installation.get("/e/e/who")
    assert (status, who.decode().strip()) == (200, worker["id"]), installation.log.read_text()[-3000:]
    installation.interrupt()
    assert docker.names() == []


def test_down_ends_containers_that_a_killed_supervisor_left(installation: Installation, docker: Engine) -> None:
    provided(installation, docker)
    installation.up()
    deploy(installation, pools=[{"provider": "docker", "bounds": {"min": 1, "max": 1}}])
    until(lambda: installation.ready_workers("e"), what="ready worker")
    assert installation.process is not None
    installation.process.kill()
    installation.process.wait()
    result = installation.run("down")
    assert (result.returncode, docker.names()) == (0, []), result.stderr
    assert "1 leftover worker" in result.stdout + result.stderr


def test_a_worker_that_ends_badly_says_so(installation: Installation, docker: Engine) -> None:
    provided(installation, docker)
    installation.up()
    launch = {"image": IMAGE, "command": ["sh", "-c", "echo no such weights; exit 7"], "port": 8080}
    deploy(installation, launch=launch, pools=[{"provider": "docker", "bounds": {"min": 1, "max": 1}}])

    def told() -> bool:
        text = json.dumps(installation.api("GET", "/endpoints/e/events"))
        return "exited with code 7" in text and "no such weights" in text

    until(told, what="reason with its last words")
    installation.interrupt()
    assert docker.names() == []


def test_a_model_runs_in_the_image_of_its_engine_and_answers(installation: Installation, docker: Engine) -> None:
    # The image has a name for Python alone: Stoker, llama.cpp and what both need are this machine's own.
    image = docker.tagged("stoker-tests-engine:latest", path=f"{Path(sys.executable).parent}:/bin")
    root = Path(stoker.__file__).parents[2]
    homes = {"/usr", "/lib", "/lib64", sys.prefix, sys.base_prefix, str(root)}
    folders = [f"{home}:{home}" for home in sorted(homes) if Path(home).is_dir()]
    provided(installation, docker, engine_images={"llamacpp": image}, folders=folders)
    installation.up()
    deploy(
        installation,
        launch={"model": "smollm2", "parameters": ["--max-model-len", "256"]},
        pools=[{"provider": "docker", "bounds": {"min": 0, "max": 1}, "hardware": {"ram_gib": 2}}],
    )
    body = {"model": "smollm2", "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 4}
    sent = json.dumps(body).encode()
    with installation.request("POST", "/v1/chat/completions", body=sent, timeout_s=120) as response:
        answer = response.read()
    assert response.status == 200, (answer, installation.log.read_text()[-3000:])
    assert json.loads(answer)["choices"][0]["message"]["content"]
    [name] = docker.names()
    found = docker.inspect(name)
    assert found["Config"]["Image"] == image
    [weights] = [mount for mount in found["Mounts"] if mount["Destination"].endswith(".gguf")]
    assert not weights["RW"], "weights of this host are seen as they lie, and not changed"
    installation.interrupt()
    assert docker.names() == []
