"""RunPod's own worker package takes tasks from a real Stoker, with handlers of every kind it knows."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from acceptance.installation import until
from clients.pull_workers import Pulling

pytestmark = [pytest.mark.process, pytest.mark.timeout(300)]

HANDLERS = Path(__file__).parent / "handlers.py"
EXAMPLE = Path(__file__).parents[3] / "examples" / "pull"


@pytest.fixture(scope="module")
def stoker(tmp_path_factory: pytest.TempPathFactory, client_python: Callable[[str], Path]) -> Iterator[Pulling]:
    """Running; its workers are of this package."""
    made = Pulling(tmp_path_factory.mktemp("runpod") / "stoker", client_python("runpod-1.12.0"), HANDLERS)
    try:
        made.up()
        yield made
    finally:
        made.close()


def test_a_handler_answers_a_task_that_woke_it_from_zero(stoker: Pulling) -> None:
    stoker.deploy("plain", low=0)
    stoker.submit("plain", "one", {"name": "Ada"})
    ended = stoker.ended("plain", "one")
    assert (ended["state"], ended["status"], ended["attempts"]) == ("succeeded", 200, 1), ended
    result = stoker.result("plain", "one")
    assert (result["hello"], result["attempt"]) == ("Ada", 1)


def test_the_example_of_the_documents_runs(stoker: Pulling) -> None:
    text = (EXAMPLE / "endpoint.yaml").read_text()
    spec = stoker.folder.with_suffix(".yaml")
    shown = "[/srv/shouter/bin/python, /srv/shouter/handler.py]"
    assert shown in text
    spec.write_text(text.replace(shown, f"['{stoker.python}', '{EXAMPLE / 'handler.py'}']"))
    applied = stoker.run("apply", "-f", str(spec))
    assert applied.returncode == 0, applied.stderr
    said = stoker.run("task", "submit", "shouter", "--input", '{"text": "hello"}', "--wait")
    assert said.returncode == 0, said.stderr
    assert '{"shouted": "HELLO"}' in said.stdout


def test_an_async_handler_works_on_as_many_jobs_at_once_as_the_endpoint_has_slots(stoker: Pulling) -> None:
    stoker.deploy("waiting", slots=3)
    until(lambda: stoker.ready_workers("waiting"), what="a worker")
    for number in range(6):
        stoker.submit("waiting", f"w{number}", {"held": "w"})
    assert stoker.most_at_once("waiting", 3) == 3, "its package would take four"
    stoker.let("w")
    ends = [stoker.ended("waiting", f"w{number}") for number in range(6)]
    assert {(task["state"], task["attempts"]) for task in ends} == {("succeeded", 1)}


@pytest.mark.parametrize("name", ["counting", "telling"])
def test_what_a_generator_yields_is_the_result_whether_its_package_gathers_it_or_not(
    stoker: Pulling, name: str
) -> None:
    stoker.deploy(name)
    stoker.submit(name, "three", {"n": 3})
    assert stoker.ended(name, "three")["state"] == "succeeded"
    assert stoker.lines(name, "three") == [{"number": 0}, {"number": 1}, {"number": 2}]


def test_what_a_generator_yields_is_told_while_it_is_at_it(stoker: Pulling) -> None:
    stoker.deploy("telling")
    stoker.submit("telling", "slow", {"n": 4, "held": "slow"})
    found = list[str]()
    with stoker.request("GET", "/api/v1/endpoints/telling/tasks/slow/events", timeout_s=60) as response:
        for line in response:
            if line.startswith(b'data: {"number"'):
                found.append(line.decode().strip())
                # It has not thought of the next one yet.
                stoker.let(f"slow-{len(found)}")
    assert found == [f'data: {{"number": {n}}}' for n in range(4)]
    assert stoker.ended("telling", "slow")["state"] == "succeeded"


def test_what_a_handler_raises_is_the_reason_and_the_result_of_the_failure(stoker: Pulling) -> None:
    stoker.deploy("plain", low=0)
    stoker.submit("plain", "bad", {"do": "raise", "voice": "ork"}, retries={"attempts_max": 2, "backoff_s": 0.1})
    ended = stoker.ended("plain", "bad")
    assert (ended["state"], ended["status"], ended["attempts"]) == ("failed", 500, 2), ended
    assert ended["reason"] == "ValueError: no such voice: ork, after 2 attempts"
    assert "Traceback" in stoker.result("plain", "bad")["error"]


def test_an_error_that_a_handler_returns_is_a_failure_too(stoker: Pulling) -> None:
    stoker.deploy("plain", low=0)
    stoker.submit("plain", "told", {"do": "tell"}, retries={"retry_on": []})
    ended = stoker.ended("plain", "told")
    assert (ended["state"], ended["reason"], ended["attempts"]) == ("failed", "I will not", 1)
    assert stoker.result("plain", "told") == {"error": "I will not"}


def test_progress_is_no_end(stoker: Pulling) -> None:
    stoker.deploy("plain", low=0)
    stoker.submit("plain", "slow", {"do": "report"})
    assert stoker.ended("plain", "slow")["state"] == "succeeded"
    assert stoker.result("plain", "slow") == "done"


def test_an_output_that_is_no_json_fails_and_says_so(stoker: Pulling) -> None:
    stoker.deploy("plain", low=0)
    stoker.submit("plain", "nan", {"do": "nan"}, retries={"retry_on": []})
    ended = stoker.ended("plain", "nan")
    assert ended["state"] == "failed"
    assert "not JSON that can be kept" in ended["reason"]


def test_a_large_output_is_kept_whole(stoker: Pulling) -> None:
    stoker.deploy("plain", low=0)
    stoker.submit("plain", "big", {"do": "fill", "bytes": 3_000_000})
    assert stoker.ended("plain", "big")["state"] == "succeeded"
    assert stoker.result("plain", "big") == "x" * 3_000_000


def test_a_worker_that_wants_to_be_fresh_is_replaced_and_that_is_no_failure(stoker: Pulling) -> None:
    stoker.deploy("plain", low=0)
    stoker.submit("plain", "f1", {"do": "renew"})
    stoker.ended("plain", "f1")
    stoker.submit("plain", "f2", {})
    stoker.ended("plain", "f2")
    first, second = (stoker.result("plain", id)["pid"] for id in ("f1", "f2"))
    assert first != second


def test_a_cancelled_job_is_given_up_by_its_worker_which_goes_on(stoker: Pulling) -> None:
    stoker.deploy("waiting", slots=3)
    stoker.submit("waiting", "long", {"held": "long"})
    until(lambda: "long" in stoker.began("waiting"), what="its start")
    assert stoker.api("POST", "/endpoints/waiting/tasks/long:cancel")["cancelling"] is True
    assert stoker.ended("waiting", "long")["state"] == "cancelled"
    stoker.submit("waiting", "next", {})
    assert stoker.ended("waiting", "next")["state"] == "succeeded"


def test_a_worker_killed_in_the_middle_of_a_job_costs_one_attempt(stoker: Pulling) -> None:
    stoker.deploy("plain", low=0)
    stoker.submit("plain", "killed", {"name": "Bob", "held": "killed"})
    until(lambda: "killed" in stoker.began("plain"), what="its start")
    stoker.kill_workers("plain")
    stoker.let("killed")
    ended = stoker.ended("plain", "killed")
    assert (ended["state"], ended["attempts"]) == ("succeeded", 2), ended
    assert stoker.result("plain", "killed")["attempt"] == 2
    first, second = ended["tried"]
    assert first["outcome"] == "broken"
    assert first["reason"].startswith("its worker ended")
    assert first["worker"] != second["worker"]
    assert stoker.began("plain").count("killed") == 2


def test_a_restart_of_control_costs_no_attempt(stoker: Pulling) -> None:
    stoker.deploy("plain", low=0)
    stoker.submit("plain", "through", {"name": "Cy", "held": "through"})
    until(lambda: "through" in stoker.began("plain"), what="its start")
    os.kill(stoker.role("stoker.serving"), signal.SIGKILL)
    until(stoker.ready, what="the next control")
    stoker.let("through")
    ended = stoker.ended("plain", "through")
    assert (ended["state"], ended["attempts"]) == ("succeeded", 1), ended
    assert stoker.began("plain").count("through") == 1
