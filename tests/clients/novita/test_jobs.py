"""The gateway of jobs, called by the clients of `novita-gpus` and `runpod`, with handlers of both packages at work."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from acceptance.installation import until
from clients.novita import conformance
from clients.novita.running import CONTROL, IMAGE, Jobs, Raised, Stoker, asked, opened
from clients.pull_workers import let

pytestmark = [pytest.mark.process, pytest.mark.timeout(300)]


def of_jobs(stoker: Stoker, image: str, name: str, **more: Any) -> str:
    """A new endpoint of jobs; what it is called at their gateway."""
    made = stoker.ok("POST", f"{CONTROL}/endpoint/create", {"endpoint": asked(image, type="async", name=name, **more)})
    return f"{made['id']}-{made['id']}"


def delete(stoker: Stoker, name: str) -> None:
    stoker.ok("POST", f"{CONTROL}/endpoint/delete", {"id": name[:36]})


@pytest.fixture(scope="module")
def plain(stoker: Stoker) -> Iterator[str]:
    """An endpoint whose handler does what it is asked for."""
    name = of_jobs(stoker, "novita-gpus-0.0.1/plain:1", "plain")
    yield name
    delete(stoker, name)


def test_jobs_from_the_first_to_the_last_by_its_own_client(stoker: Stoker, gpus: Jobs, plain: str) -> None:
    job = gpus("run", plain, {"name": "Ada"})
    assert gpus("output", plain, job, 60) == {"hello": "Ada", "attempt": 1}
    assert gpus("status", plain, job) == "COMPLETED"
    # One that runs, and others behind it.
    first, second, third = (gpus("run", plain, {"input": value}) for value in ({"held": "first"}, {}, {}))
    until(lambda: gpus("status", plain, first) == "IN_PROGRESS", what="its start")
    health = gpus("health", plain)
    assert (health["jobs"]["inQueue"], health["jobs"]["inProgress"]) == (2, 1)
    assert (health["workers"]["ready"], health["workers"]["running"]) == (1, 1)
    assert gpus("cancel", plain, second) == {"id": second, "status": "CANCELLED"}
    assert gpus("status", plain, second) == "CANCELLED"
    assert gpus("purge_queue", plain) == {"removed": 1, "status": "completed"}
    assert gpus("status", plain, third) == "CANCELLED"
    assert gpus("cancel", plain, first)["status"] == "CANCELLED"
    # Its package of workers gives nothing up: an answer that comes soon is one.
    let(stoker, "first")
    until(lambda: gpus("status", plain, first) in ("CANCELLED", "COMPLETED"), what="its end")
    assert conformance.of(conformance.GPUS) - gpus.driven == set()


def test_what_handlers_say_of_failures_and_progress(stoker: Stoker, gpus: Jobs, plain: str) -> None:
    jobs = {do: gpus("run", plain, {"do": do, "voice": "ork"}) for do in ("tell", "raise", "report")}
    assert gpus("output", plain, jobs["tell"], 60) is None
    assert gpus("status", plain, jobs["tell"]) == "FAILED"
    told = stoker.ok("GET", f"/v1/{plain}/status/{jobs['tell']}")
    assert (told["error"], "output" in told) == ("I will not", False)
    assert {"delayTime", "executionTime"} <= told.keys()
    assert gpus("output", plain, jobs["raise"], 60) is None
    told = stoker.ok("GET", f"/v1/{plain}/status/{jobs['raise']}")
    assert (told["status"], "no such voice: ork" in told["error"]) == ("FAILED", True)
    # What it reports on the way is no end, even when it comes late.
    assert gpus("output", plain, jobs["report"], 60) == "done"


def test_a_generator_that_takes_several_jobs_at_once_is_told_as_a_list(stoker: Stoker, gpus: Jobs) -> None:
    config = {"minNum": 0, "maxNum": 1, "freeTimeout": 300, "maxConcurrent": 2, "gpuNum": 0}
    name = of_jobs(stoker, "novita-gpus-0.0.1/both:1", "both", workerConfig=config)
    jobs = [gpus("run", name, {"words": [letter, "x"]}) for letter in "abc"]
    assert [gpus("output", name, job, 60) for job in jobs] == [["a", "x"], ["b", "x"], ["c", "x"]]
    delete(stoker, name)


def test_everything_that_its_older_client_does(stoker: Stoker, runpod: Jobs) -> None:
    name = of_jobs(stoker, "runpod-1.12.0/telling:1", "telling")
    job = runpod("run", name, {"n": 4})
    assert runpod("stream", name, job) == [{"number": n} for n in range(4)]
    assert runpod("output", name, job) == [{"number": n} for n in range(4)]
    assert runpod("run_sync", name, {"n": 1}) == [{"number": 0}]
    assert runpod("health", name)["jobs"]["completed"] == 2
    assert runpod("purge_queue", name)["removed"] == 0
    assert runpod("status", name, job) == "COMPLETED"
    assert runpod("cancel", name, job)["status"] == "COMPLETED", "a final state is final"
    delete(stoker, name)
    assert conformance.of(conformance.RUNPOD) - runpod.driven == set()


def test_jobs_of_an_endpoint_that_was_made_elsewhere_are_posted_to_its_model(stoker: Stoker, runpod: Jobs) -> None:
    spec = {
        "name": "native",
        "launch": {"model": "smollm2"},
        "mode": "mixed",
        "queue": {"path": "/v1/chat/completions"},
    }
    stoker.api("POST", "/endpoints", spec)
    body = {"model": "smollm2", "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 4}
    answer = runpod("run_sync", "native", {"input": body})
    assert answer["choices"][0]["message"]["content"]
    stoker.api("DELETE", "/endpoints/native")


def test_a_webhook_is_posted_the_status(stoker: Stoker, gpus: Jobs, plain: str) -> None:
    got: list[bytes] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            got.append(self.rfile.read(int(self.headers["content-length"])))
            self.send_response(200)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:
            """Says nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        url = f"http://127.0.0.1:{server.server_port}/done"
        job = gpus("run", plain, {"input": {"name": "Bo"}, "webhook": url})
        [body] = until(lambda: got, what="the webhook")
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
    told = stoker.ok("GET", f"/v1/{plain}/status/{job}")
    assert told.items() <= json.loads(body).items()


def test_mistakes_are_raised_as_clients_have_them(
    stoker: Stoker, gpus: Jobs, plain: str, client_python: Callable[[str], Path]
) -> None:
    for method, name in (("health", "nobody"), ("purge_queue", "nobody"), ("run", "nobody")):
        with pytest.raises(Raised, match="404") as raised:
            gpus(method, name, *([{"a": 1}] if method == "run" else []))
        assert raised.value.kind == "HTTPError"
    for package, environment in (("novita_gpus", "novita-gpus-0.0.1"), ("runpod", "runpod-1.12.0")):
        with (
            opened(client_python(environment), package, stoker, key="none at all") as stranger,
            pytest.raises(Raised, match=r"(?i)unauthorized"),
        ):
            stranger("health", plain)
    made = stoker.ok("POST", f"{CONTROL}/endpoint/create", {"endpoint": asked(IMAGE, name="requests")})["id"]
    with pytest.raises(Raised, match="400"):
        gpus("run", made, {"a": 1})
    assert stoker.ask("POST", f"/v1/{made}/run", {"input": 1})[1]["reason"] == "CONFLICT"
    assert stoker.ask("POST", f"/v1/{plain}/run", {})[1]["reason"] == "VALIDATOR_PARAM"
    stoker.ok("POST", f"{CONTROL}/endpoint/delete", {"id": made})
