"""A whole Stoker whose workers are pods of a cluster."""

from __future__ import annotations

import json
import signal
from concurrent.futures import ThreadPoolExecutor

import pytest

from acceptance.installation import Installation, until
from cluster.running import IMAGE, Cluster

pytestmark = [pytest.mark.process, pytest.mark.timeout(120)]
SERVE = """
import http.server, os, time
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        if self.path == "/slow":
            time.sleep(2)
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


def test_an_evicted_pod_is_replaced_and_the_reason_is_told(installation: Installation, kubernetes: Cluster) -> None:
    provided(installation, kubernetes)
    installation.up()
    launch = {"image": IMAGE, "command": ["python3", "-c", SERVE], "port": 8080, "env": {"TOKEN": {"secret": "token"}}}
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
        assert in_flight.result() == (200, f"{first['id']} cellar-door".encode()), "the pod is held until then"

    def replaced() -> bool:
        return [worker["id"] for worker in installation.ready_workers("e")] not in ([], [first["id"]])

    until(replaced, what="replacement")
    status, who = installation.get("/e/e/")
    assert (status, who.split()[0].decode() != first["id"]) == (200, True)
    assert "EvictionByEvictionAPI" in json.dumps(installation.api("GET", "/endpoints/e/events"))
    installation.interrupt()
    assert (kubernetes.all("Pod"), kubernetes.all("Secret")) == ([], [])
