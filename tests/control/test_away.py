"""Weights come to this host only for pools whose providers do not fetch them by themselves."""

from __future__ import annotations

from dataclasses import replace

import pytest

from builders import endpoint
from stoker.control.away import Away, named
from stoker.domain.endpoint import FIRST_PROJECT, Endpoint, PoolSpec
from stoker.domain.launch import Launch
from stoker.domain.models import ModelSource, SourceKind, Weights, WeightsKey, WeightsState

KEY = WeightsKey("a" * 32)
AWAY = Away(providers=frozenset({"docker"}), hub="https://hub")


def weights(kind: SourceKind, location: str) -> Weights:
    return Weights(
        key=KEY,
        source=ModelSource(kind=kind, location=location),
        sha256=None,
        project=FIRST_PROJECT,
        token_secret="hf",
        state=WeightsState.ABSENT,
        asked=False,
        used_at=0.0,
    )


REMOTE = weights(SourceKind.URL, "https://models.test/tiny.gguf")
HERE = weights(SourceKind.PATH, "/srv/tiny.gguf")


def on(*providers: str) -> Endpoint:
    pools = tuple(PoolSpec(name=f"p{number}", provider=provider) for number, provider in enumerate(providers))
    launch = Launch(engine="llamacpp", command=("x",), weights=KEY)
    made = endpoint()
    return replace(made, spec=replace(made.spec, pools=pools), launches={pool.name: launch for pool in pools})


@pytest.mark.parametrize(
    ("providers", "known", "here"),
    [
        pytest.param(("process",), REMOTE, True, id="no cache there"),
        pytest.param(("docker",), REMOTE, False, id="a cache there"),
        pytest.param(("docker", "process"), REMOTE, True, id="one pool of two"),
        pytest.param(("docker",), HERE, True, id="what lies on this host nobody else can fetch"),
        pytest.param(("docker",), None, True, id="nobody knows any more what it is"),
    ],
)
def test_what_comes_to_this_host(providers: tuple[str, ...], known: Weights | None, here: bool) -> None:
    made = on(*providers)
    assert AWAY.needed_here(made, {} if known is None else {KEY: known}) == (frozenset({KEY}) if here else frozenset())
    assert named(made) == {KEY}, "it is in use in any case"


def test_a_provider_is_told_all_but_the_token_itself() -> None:
    found = AWAY.fetch(REMOTE, "tiny")
    assert found is not None
    assert (found.name, found.hub, found.token_secret, found.token) == ("tiny", "https://hub", "hf", None)
    assert AWAY.fetch(HERE, "tiny") is None
