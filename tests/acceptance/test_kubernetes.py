"""A whole Stoker whose workers are pods of a cluster."""

from __future__ import annotations

import json
import os
import signal
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from acceptance.installation import Installation, until
from cluster.running import IMAGE, Cluster

pytestmark = [pytest.mark.process, pytest.mark.timeout(300)]
SERVE = """
import http.server, os, time
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        if self.path == "/slow":
            while not os.path.exists(os.environ["GO"]):
                time.sleep(0.02)
        body = (os.environ["STOKER_WORKER_ID"] + " " + os.environ.get("TOKEN", "")).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
print("serving", flush=True)
http.server.ThreadingHTTPServer((os.environ["HOST"], int(os.environ["PORT"])), Handler).serve_forever()
"""


def deploy(installation: Installation, **more: object) -> None:
    pool = {"provider": "kubernetes", "bounds": {"min": 0, "max": 1, "cold": 0}, "hardware": {"ram_gib": 0.05}}
    launch = {"image": IMAGE, "command": ["python3", "-c", SERVE], "port": 8080}
    spec = {"name": "e", "launch": launch, "pools": [pool], "slots": 4, **more}
    installation.api("POST", "/endpoints", spec)


def provided(installation: Installation, cluster: Cluster, **options: object) -> None:
    kubernetes = {"kubeconfig": str(cluster.kubeconfig), **options}
    installation.environ["STOKER_PROVIDERS"] = json.dumps({"process": {}, "kubernetes": kubernetes})


def test_a_request_wakes_a_pod_which_outlives_stoker(installation: Installation, kubernetes: Cluster) -> None:
    provided(installation, kubernetes)
    installation.up()
    deploy(installation, scaling={"idle_timeout_s": 600})
    status, who = installation.get("/e/e/")
    assert status == 200, (who, installation.log.read_text()[-3000:])
    [worker] = installation.ready_workers("e")
    assert who.decode().strip() == worker["id"]
    assert "serving" in installation.run("logs", "e").stdout
    before = kubernetes.pod_of(worker["id"])["metadata"]["uid"]
    installation.interrupt(signal.SIGTERM)
    assert kubernetes.pod_of(worker["id"])["status"]["phase"] == "Running"
    installation.up()
    assert installation.get("/e/e/") == (200, who)
    assert kubernetes.pod_of(worker["id"])["metadata"]["uid"] == before
    installation.interrupt()
    assert kubernetes.all("Pod") == [], "Ctrl-C ends the workers too"


def test_an_evicted_pod_is_replaced_and_the_reason_is_told(
    installation: Installation, kubernetes: Cluster, tmp_path: Path
) -> None:
    provided(installation, kubernetes)
    installation.up()
    go = tmp_path / "go"
    env = {"TOKEN": {"secret": "token"}, "GO": str(go)}
    launch = {"image": IMAGE, "command": ["python3", "-c", SERVE], "port": 8080, "env": env}
    installation.api("POST", "/secrets", {"name": "token", "value": "cellar-door"})
    installation.api("POST", "/volumes", {"name": "data", "size_gib": 1, "provider": "kubernetes"})
    pools = [{"provider": "kubernetes", "bounds": {"min": 1, "max": 1}}]
    deploy(installation, launch=launch, pools=pools, volumes=[{"volume": "data", "path": "/data"}])
    [first] = until(lambda: installation.ready_workers("e"), what="ready worker")
    assert installation.get("/e/e/") == (200, f"{first['id']} cellar-door".encode())
    assert "cellar-door" not in json.dumps(kubernetes.all("Pod"))
    [claim] = kubernetes.all("PersistentVolumeClaim")
    assert claim["metadata"]["name"] in json.dumps(kubernetes.pod_of(first["id"])["spec"]["volumes"])
    with ThreadPoolExecutor() as pool:
        in_flight = pool.submit(installation.get, "/e/e/slow")
        # Its worker has it by then.
        until(lambda: installation.traffic("in_flight") == 1, what="request in flight")
        kubernetes.disrupt(first["id"], "EvictionByEvictionAPI", "Eviction API: evicting")
        until(lambda: first["id"] not in {worker["id"] for worker in installation.ready_workers("e")}, what="its word")
        go.touch()
        assert in_flight.result() == (200, f"{first['id']} cellar-door".encode()), "the pod is held until then"

    def replaced() -> bool:
        return [worker["id"] for worker in installation.ready_workers("e")] not in ([], [first["id"]])

    until(replaced, what="replacement")
    status, who = installation.get("/e/e/")
    assert (status, who.split()[0].decode() != first["id"]) == (200, True)
    assert "EvictionByEvictionAPI" in json.dumps(installation.api("GET", "/endpoints/e/events"))
    installation.interrupt()
    assert (kubernetes.all("Pod"), kubernetes.all("Secret")) == ([], [])


# What vLLM answers in development mode, as far as Stoker asks for it. It sleeps only once a request has come.
VLLM = """#!{python}
import http.server, json, os, sys
state = {{"asleep": False, "slept": 0}}
names = sys.argv[sys.argv.index("--served-model-name") + 1 :]
host, port = (sys.argv[sys.argv.index(name) + 1] for name in ("--host", "--port"))
assert os.environ["VLLM_SERVER_DEV_MODE"] == "1"
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.answer(200, {{"data": [{{"id": name}} for name in names], **state}})
    def do_POST(self):
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.path == "/sleep?level=1":
            state.update(asleep=True, slept=state["slept"] + 1)
        elif self.path == "/wake_up":
            state.update(asleep=False)
        elif state["asleep"]:
            return self.answer(500, {{"error": "asleep"}})
        self.answer(200, {{"worker": os.environ["STOKER_WORKER_ID"], **state}})
    def answer(self, status, found):
        body = json.dumps(found).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
http.server.ThreadingHTTPServer((host, int(port)), Handler).serve_forever()
"""


def test_a_pod_with_vllm_sleeps_when_idle_gives_back_its_card_and_wakes_for_a_request(
    installation: Installation, kubernetes: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "bin" / "vllm"
    program.parent.mkdir()
    program.write_text(VLLM.format(python=sys.executable))
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    labels = {"nvidia.com/gpu.product": "NVIDIA-H100-80GB-HBM3", "nvidia.com/gpu.memory": "81559"}
    kubernetes.add_node("gpu", labels=labels, taints=(), **{"nvidia.com/gpu": "1"})
    provided(installation, kubernetes, engine_images={"vllm": IMAGE})
    installation.up()
    pools = [{"provider": "kubernetes", "bounds": {"min": 0, "max": 1, "cold": 1}, "hardware": {"gpu_count": 1}}]
    launch = {"model": "owner/name", "engine": "vllm", "parameters": ["--enable-sleep-mode"]}
    scaling = {"idle_timeout_s": 1, "scale_down_delay_s": 0}
    spec = {"name": "e", "launch": launch, "pools": pools, "scaling": scaling, "probes": {"startup": {}}}
    installation.api("POST", "/endpoints", spec)
    body = json.dumps({"model": "owner/name", "prompt": "Hi"}).encode()

    def ask() -> dict[str, Any]:
        with installation.request("POST", "/v1/completions", body=body) as response:
            found: dict[str, Any] = json.loads(response.read())
            assert response.status == 200, (found, installation.log.read_text()[-3000:])
            return found

    def asleep() -> bool:
        items = installation.api("GET", "/endpoints/e/workers")["items"]
        return [worker["state"] for worker in items if worker["state"] != "stopped"] == ["cold"]

    first = ask()
    uid = kubernetes.pod_of(first["worker"])["metadata"]["uid"]
    until(asleep, what="a worker that sleeps")
    again = ask()
    assert (again["worker"], again["asleep"], again["slept"]) == (first["worker"], False, 1)
    assert kubernetes.pod_of(first["worker"])["metadata"]["uid"] == uid
    installation.interrupt()
    assert kubernetes.all("Pod") == []
