"""Models that come into a cache at a Docker daemon before their workers start, from a hub that its containers reach."""

from __future__ import annotations

import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from docker_engine import Engine
from models.hub import REPO, Hub, hub
from providers.containers import Installation, container_of, containers
from providers.stoker_image import stoker_image
from providers.workers import ended, observed, run, said, shell, until, until_true
from stoker.domain.addresses import UrlRules
from stoker.domain.errors import Invalid
from stoker.domain.fetching import MODELS_AT, ModelFetch
from stoker.domain.models import ModelSource, SourceKind, WeightsKey
from stoker.domain.worker import WorkerId, WorkerSpec
from stoker.providers.base import Provider, ProviderOptions, Tells, load
from stoker.providers.docker.containers import MODEL

pytestmark = pytest.mark.process
MIB = 2**20
# It is written and told a MiB at a time, or a little more.
BODY = os.urandom(4 * MIB)
VOLUME = "models-of-tests"


@dataclass
class Site:
    """An installation with a cache of models, and the hub that it fetches from."""

    made: Installation
    hub: Hub
    told: list[tuple[str, str]]

    def worker(self, name: str, script: str, *, key: str = "a" * 32, location: str = REPO, **more: Any) -> WorkerSpec:
        fetch = ModelFetch(
            key=WeightsKey(key),
            name="tiny",
            source=ModelSource(kind=SourceKind.HUGGINGFACE, location=location, file="*.gguf"),
            sha256=None,
            hub=self.hub.url,
            rules=UrlRules.parse(["198.18.0.0/15"]),
            **more,
        )
        return shell(name, script.replace("MODEL", f"{MODELS_AT}/{fetch.place}"), fetch=fetch)


@asynccontextmanager
async def site(engine: Engine, folder: Path, *, models: str = VOLUME, **more: Any) -> AsyncIterator[Site]:
    told: list[tuple[str, str]] = []
    image = stoker_image(engine)
    try:
        async with (
            hub({"tiny.gguf": BODY}, host=engine.address, **more) as served,
            containers(engine, folder, models=models, **image) as made,
        ):
            assert isinstance(made.provider, Tells)
            made.provider.attach(changed=lambda: None, said=lambda worker, text: told.append((worker, text)))
            yield Site(made, served, told)
    finally:
        made_here = engine.docker("volume", "ls", "--quiet", f"--filter=label={MODEL}=tiny").split()
        assert all(name.startswith(f"{models}-") for name in made_here)
        if made_here:
            engine.docker("volume", "rm", *made_here)


async def begun(provider: Provider, name: str) -> float:
    """When its own program began, as soon as a list shows that."""

    async def ask() -> float | None:
        found = await observed(provider, name)
        assert found is not None
        assert found.exit is None, found.exit
        return None if found.preparing else found.began_at

    return await until(ask, what=f"beginning of {name}")


def test_a_model_is_fetched_once_before_workers_that_may_only_read_it(docker: Engine, tmp_path: Path) -> None:
    async def main() -> None:
        async with site(docker, tmp_path, token="hf_cellar", stall_after=5 * MIB // 2) as there:
            provider = there.made.provider
            script = f"wc -c < MODEL; touch MODEL 2>&1; ls {MODELS_AT}; echo $(env | grep -c cellar); sleep 600"
            await provider.start(there.worker("a", script, token="hf_cellar"))

            async def half() -> bool:
                found = await observed(provider, "a")
                assert found is not None
                assert (found.running, found.began_at) == (True, None)
                return found.preparing.startswith("downloading model 5")

            await until(half, what="half of the model")
            assert ("a", "downloading model tiny: 50 % of 4 MiB") in there.told
            # Stoker goes away in the middle; its next one carries on with nothing but what the daemon knows.
            await provider.close()
            docker.docker("kill", "--signal=TERM", f"{container_of(docker, 'a')}-models")
            again = there.made.connect()
            end = await ended(again, "a")
            assert end.reason.startswith("the model 'tiny' could not be fetched: ")
            await again.stop(WorkerId("a"), grace_s=0.0)
            await again.start(there.worker("b", script, token="hf_cellar"))
            assert abs(await begun(again, "b") - time.time()) < 60
            await said(again, "b", "0")
            lines = [line.text async for line in again.logs(WorkerId("b"), tail=10, follow=False)]
            assert lines[0] == str(len(BODY))
            assert "Read-only file system" in lines[1]
            assert lines[2:] == ["a" * 32, "0"], "it sees no other model, and no token"
            assert len(there.hub.ranged) == 1
            await until_true(lambda: docker.names() == [container_of(docker, "b")], what="end of the step")
            sent = there.hub.sent
            await again.start(there.worker("c", "wc -c < MODEL; sleep 600"))
            await begun(again, "c")
            await said(again, "c", str(len(BODY)))
            assert there.hub.sent == sent
            await again.close()

    run(main())


def test_a_folder_of_the_daemons_host_is_a_cache_too_and_what_fails_is_told(docker: Engine, tmp_path: Path) -> None:
    async def main() -> None:
        folder = tmp_path / "cache"
        async with site(docker, tmp_path, models=str(folder)) as there:
            provider = there.made.provider
            await provider.start(there.worker("a", "wc -c < MODEL", location="owner/none", key="b" * 32))
            end = await ended(provider, "a")
            assert (end.code, "answers 404: check the name" in end.reason) == (2, True), end
            await provider.start(there.worker("b", "wc -c < MODEL; sleep 600"))
            await begun(provider, "b")
            await said(provider, "b", str(len(BODY)))
            assert (folder / ("a" * 32) / "files" / "tiny.gguf").stat().st_size == len(BODY)

    run(main())


def test_a_worker_is_stopped_while_its_model_comes_and_nothing_is_left(docker: Engine, tmp_path: Path) -> None:
    async def main() -> None:
        async with site(docker, tmp_path, stall_after=3 * MIB // 2) as there:
            provider = there.made.provider
            await provider.start(there.worker("a", "sleep 600"))
            await provider.start(there.worker("a", "sleep 600"))

            async def third() -> bool:
                found = await observed(provider, "a")
                return found is not None and found.preparing.startswith("downloading model 2")

            await until(third, what="a beginning")
            assert len(docker.names()) == 2
            await provider.stop(WorkerId("a"), grace_s=60.0)
            assert await provider.list() == ()
            assert docker.names() == []

    run(main())


def test_options_of_the_cache_belong_together(tmp_path: Path) -> None:
    for options in ({"models": VOLUME}, {"models_image": "stoker:1"}, {"models": "a:b", "models_image": "stoker:1"}):
        with pytest.raises(Invalid, match="models"):
            load("docker", ProviderOptions(tmp_path, dict(options)))
