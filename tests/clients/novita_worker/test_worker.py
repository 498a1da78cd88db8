"""Novita's own worker package takes tasks from a real Stoker, with handlers of every kind it knows."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from acceptance.installation import until
from clients.pull_workers import Pulling

pytestmark = [pytest.mark.process, pytest.mark.timeout(300)]

HANDLERS = Path(__file__).parent / "handlers.py"


@pytest.fixture(scope="module")
def stoker(tmp_path_factory: pytest.TempPathFactory, client_python: Callable[[str], Path]) -> Iterator[Pulling]:
    """Running; its workers are of this package."""
    made = Pulling(tmp_path_factory.mktemp("novita") / "stoker", client_python("novita-gpus-0.0.1"), HANDLERS)
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
    assert stoker.result("plain", "one") == {"hello": "Ada", "attempt": 1}


def test_jobs_are_taken_in_batches_within_the_slots(stoker: Pulling) -> None:
    stoker.deploy("waiting", slots=2)
    until(lambda: stoker.ready_workers("waiting"), what="a worker")
    for number in range(4):
        stoker.submit("waiting", f"w{number}", {"held": "w"})
    assert stoker.most_at_once("waiting", 2) == 2, "its package would take three"
    stoker.let("w")
    ends = [stoker.ended("waiting", f"w{number}") for number in range(4)]
    assert {(task["state"], task["attempts"]) for task in ends} == {("succeeded", 1)}


def test_what_an_async_generator_yields_is_the_result(stoker: Pulling) -> None:
    stoker.deploy("streaming")
    stoker.submit("streaming", "words", {"words": ["a", "b", "c"]})
    assert stoker.ended("streaming", "words")["state"] == "succeeded"
    assert stoker.lines("streaming", "words") == ["a", "b", "c"]


def test_errors_of_handlers_are_failures_with_their_text(stoker: Pulling) -> None:
    stoker.deploy("plain", low=0)
    for id, value in (("bad", {"do": "raise", "voice": "ork"}), ("told", {"do": "tell"})):
        stoker.submit("plain", id, value, retries={"retry_on": []})
    ended = stoker.ended("plain", "bad")
    assert (ended["state"], ended["reason"]) == ("failed", "ValueError: no such voice: ork")
    assert (stoker.ended("plain", "told")["reason"], stoker.result("plain", "told")) == (
        "I will not",
        {"error": "I will not"},
    )


def test_progress_is_no_end_even_when_it_comes_late(stoker: Pulling) -> None:
    stoker.deploy("plain", low=0)
    stoker.submit("plain", "slow", {"do": "report"})
    assert stoker.ended("plain", "slow")["state"] == "succeeded"
    assert stoker.result("plain", "slow") == "done"


def test_a_cancelled_job_ends_without_the_word_of_a_worker_that_knows_no_way_to_give_it_up(stoker: Pulling) -> None:
    stoker.deploy("plain", low=0)
    stoker.submit("plain", "long", {"held": "long"})
    until(lambda: "long" in stoker.began("plain"), what="its start")
    stoker.api("POST", "/endpoints/plain/tasks/long:cancel")
    assert stoker.ended("plain", "long")["state"] == "cancelled"
    stoker.submit("plain", "next", {})
    stoker.let("long")
    assert stoker.ended("plain", "next")["state"] == "succeeded", "it takes the next one when it has finished that one"
    assert stoker.task("plain", "long")["state"] == "cancelled"


def test_a_worker_killed_in_the_middle_of_a_job_costs_one_attempt(stoker: Pulling) -> None:
    stoker.deploy("plain", low=0)
    stoker.submit("plain", "killed", {"name": "Bob", "held": "killed"})
    until(lambda: "killed" in stoker.began("plain"), what="its start")
    stoker.kill_workers("plain")
    stoker.let("killed")
    ended = stoker.ended("plain", "killed")
    assert (ended["state"], ended["attempts"]) == ("succeeded", 2), ended
    assert stoker.result("plain", "killed")["attempt"] == 2
