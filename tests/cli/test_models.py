"""`stoker models`."""

from __future__ import annotations

from typing import Any

import pytest

from cli.fake_stoker import Asked, Command, FakeStoker, page


def model(**more: Any) -> dict[str, Any]:
    source = {"path": None, "package": None, "huggingface": "o/m", "url": None, "file": "*Q4.gguf", "revision": None}
    return {
        "id": "m-1",
        "number": 1,
        "name": "tiny",
        "aliases": ["o/tiny"],
        "origin": "project",
        "source": source,
        "sha256": None,
        "token_secret": None,
        "pinned": False,
        "state": "absent",
        "available": False,
        "path": None,
        "size_bytes": None,
        "done_bytes": None,
        "progress": None,
        "rate_bytes_per_s": None,
        "error": "",
        "retry_at": None,
        "used_by": [],
        "created_at": None,
    } | more


READY = model(state="ready", available=True, path="/m/tiny.gguf", size_bytes=2**30, done_bytes=2**30, progress=1.0)


def test_models_are_listed_with_how_far_they_are(stoker: Command, fake: FakeStoker) -> None:
    half = model(name="half", state="downloading", progress=0.43, size_bytes=5 * 2**20)
    fake.on("GET", "/models", page([READY, half]))
    first, second = stoker("models", "ls").out.splitlines()[1:]
    assert first.split() == ["1", "tiny", "ready", "1.0", "GiB", "huggingface", "o/m/*Q4.gguf", "/m/tiny.gguf"]
    assert "downloading 43 %" in second


def test_a_model_is_added_from_one_place(stoker: Command, fake: FakeStoker) -> None:
    fake.on("POST", "/models", (201, model()))
    ran = stoker(
        "models", "add", "tiny", "--hf", "o/m", "--file", "*Q4.gguf", "--alias", "o/tiny", "--token-secret", "hf"
    )
    assert (ran.code, ran.out) == (0, "model tiny is in the catalogue\n")
    assert fake.of("POST")[0].body == {
        "name": "tiny",
        "source": {"huggingface": "o/m", "file": "*Q4.gguf"},
        "aliases": ["o/tiny"],
        "pinned": False,
        "pull": False,
        "token_secret": "hf",
    }
    assert stoker("models", "add", "x", "--hf", "o/m", "--from-url", "https://x.test/m").code == 2
    assert stoker("models", "add", "x").code == 2


def answers(*states: dict[str, Any]) -> Any:
    left = list(states)

    def answer(_: Asked) -> Any:
        return left.pop(0) if len(left) > 1 else left[0]

    return answer


def test_a_pull_is_followed_to_its_end_and_told_every_ten_per_cent(stoker: Command, fake: FakeStoker) -> None:
    steps = [model(state="downloading", progress=p, size_bytes=100, done_bytes=int(p * 100)) for p in (0.12, 0.17, 0.5)]
    fake.on("GET", "/models/tiny", model())
    fake.on("POST", "/models/m-1:pull", (202, model()))
    fake.on("GET", "/models/m-1", answers(*steps, READY))
    ran = stoker("models", "pull", "tiny")
    assert (ran.code, ran.out) == (0, "model tiny is ready\n")
    assert ran.err.splitlines() == ["tiny: absent", "tiny: downloading 10 %", "tiny: downloading 50 %"]


def test_a_pull_that_fails_for_good_ends_with_the_reason(stoker: Command, fake: FakeStoker) -> None:
    fake.on("GET", "/models/tiny", model())
    fake.on("POST", "/models/m-1:pull", (202, model()))
    failing = model(state="failed", error="503", retry_at="2026-01-02T03:04:05.000Z")
    fake.on("GET", "/models/m-1", answers(failing, model(state="failed", error="it needs a token")))
    ran = stoker("models", "pull", "tiny")
    assert ran.code == 1
    assert "cannot be fetched: it needs a token" in ran.err


def test_a_pull_that_takes_too_long_goes_on_without_the_one_who_waits(stoker: Command, fake: FakeStoker) -> None:
    fake.on("GET", "/models/tiny", model())
    fake.on("POST", "/models/m-1:pull", (202, model()))
    fake.on("GET", "/models/m-1", model(state="downloading"))
    assert stoker("models", "pull", "tiny", "--timeout", "0.1").code == 5
    assert stoker("models", "pull", "tiny", "--no-wait").code == 0


@pytest.mark.parametrize("which", ["tiny", "o/tiny"])
def test_a_model_is_deleted_by_name_or_alias(stoker: Command, fake: FakeStoker, which: str) -> None:
    fake.on("GET", "/models", page([model()]))
    fake.on("GET", "/models/tiny", model())
    fake.on("DELETE", "/models/m-1", {})
    assert stoker("models", "rm", which).out == "model tiny is deleted\n"


def test_those_of_the_installation_are_shown_and_not_changed(stoker: Command, fake: FakeStoker) -> None:
    fake.on("GET", "/models/smollm2", model(id=None, number=None, name="smollm2", source=None, origin="built-in"))
    assert "built-in" in stoker("models", "show", "smollm2").out
    assert stoker("models", "rm", "smollm2").code == 2


def test_a_model_is_pinned_and_the_rest_pruned(stoker: Command, fake: FakeStoker) -> None:
    fake.on("GET", "/models/tiny", model())
    fake.on("PATCH", "/models/m-1", model(pinned=True))
    assert stoker("models", "pin", "tiny").out == "model tiny is pinned\n"
    assert fake.of("PATCH")[0].body == {"pinned": True}
    fake.on("POST", "/models:prune", {"models": ["old"], "bytes": 3 * 2**30})
    ran = stoker("models", "prune")
    assert (ran.out, ran.err) == ("old\n", "3.0 GiB came free\n")
    assert '"bytes"' in stoker("models", "prune", "--json").out
