"""A whole Stoker whose workers are containers of a real engine."""

from __future__ import annotations

import json
import os
import signal

import pytest

from acceptance.installation import Installation, until
from docker_engine import IMAGE, Engine

pytestmark = [pytest.mark.process, pytest.mark.timeout(180)]
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
