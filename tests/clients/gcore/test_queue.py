"""A queue of SQS wakes a deployment that Gcore's own client made, and lets it go again."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from acceptance.installation import until
from clients.gcore import conformance
from clients.gcore.running import IDLE, Stoker, opened

pytestmark = [pytest.mark.process, pytest.mark.timeout(300)]
I = "cloud.inference"  # noqa: E741
D = f"{I}.deployments"


class Queue:
    """What speaks a queue's JSON protocol on loopback. `keys` are the access keys that it was asked with."""

    def __init__(self) -> None:
        self.messages = 2
        self.keys: set[str] = set()
        queue = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                self.rfile.read(int(self.headers["content-length"]))
                queue.keys.add(self.headers["authorization"].partition("Credential=")[2].partition("/")[0])
                body = json.dumps({"Attributes": {"ApproximateNumberOfMessages": str(queue.messages)}}).encode()
                self.send_response(200)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: Any) -> None:
                """Says nothing."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"


@pytest.fixture
def queue() -> Iterator[Queue]:
    made = Queue()
    thread = threading.Thread(target=made.server.serve_forever)
    thread.start()
    yield made
    made.server.shutdown()
    thread.join()
    made.server.server_close()


def test_messages_in_a_queue_wake_a_deployment(
    stoker: Stoker, queue: Queue, client_python: Callable[[str], Path]
) -> None:
    with opened(client_python(conformance.NEW), stoker, "0.59.0", "sync") as call:
        data = {"aws_access_key_id": "AKIDEXAMPLE", "aws_secret_access_key": "b"}
        call(f"{I}.secrets.create", name="aws-queue", type="aws-iam", data=data)
        sqs = {
            "activation_queue_length": 2,
            "aws_endpoint": queue.url,
            "aws_region": "eu",
            "queue_length": 10,
            "queue_url": f"{queue.url}/1/q",
            "secret_name": "aws-queue",
        }
        scale = {"min": 0, "max": 2, "polling_interval": 5, "triggers": {"sqs": sqs}}
        call(
            f"{D}.create_and_poll",
            name="consumer",
            # Its workers need not be ready: that they are there is enough.
            image=IDLE,
            listening_port=80,
            flavor_name="inference-1vcpu-4gib",
            containers=[{"region_id": 1, "scale": scale}],
        )

        def shown() -> Any:
            return call(f"{D}.get", deployment_name="consumer")

        until(lambda: shown()["containers"][0]["deploy_status"]["total"] == 1, what="it is awake")
        assert queue.keys == {"AKIDEXAMPLE"}
        assert shown()["containers"][0]["error_message"] is None
        call(f"{D}.delete_and_poll", deployment_name="consumer")
        call(f"{I}.secrets.delete", secret_name="aws-queue")
