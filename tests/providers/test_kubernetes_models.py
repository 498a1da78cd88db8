"""Models that come into a claim by an init container before their workers start.

The stand-in for a cluster runs both as processes that see the claim as a folder; it keeps nobody from writing there.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from cluster.running import Cluster
from models.hub import REPO, Hub, hub
from providers.pods import Installation, pods
from providers.workers import ended, observed, run, said, shell, texts, until
from stoker.domain.addresses import UrlRules
from stoker.domain.errors import Invalid
from stoker.domain.fetching import MODELS_AT, ModelFetch
from stoker.domain.models import ModelSource, SourceKind, WeightsKey
from stoker.domain.worker import WorkerId, WorkerSpec
from stoker.providers.base import ProviderOptions, Tells, load

pytestmark = pytest.mark.process
MIB = 2**20
# It is written and told a MiB at a time, or a little more.
BODY = os.urandom(4 * MIB)
KEY = WeightsKey("a" * 32)
CLAIM = "weights"
STOKER = "registry.test/stoker:1"


@dataclass
class Site:
    """An installation with a cache of models, and the hub that it fetches from."""

    made: Installation
    hub: Hub
    told: list[tuple[str, str]]

    def worker(self, name: str, script: str, *, location: str = REPO, **more: Any) -> WorkerSpec:
        fetch = ModelFetch(
            key=KEY,
            name="tiny",
            source=ModelSource(kind=SourceKind.HUGGINGFACE, location=location, file="*.gguf"),
            sha256=None,
            hub=self.hub.url,
            rules=UrlRules.parse(["127.0.0.0/8"]),
            **more,
        )
        return shell(name, script.replace("MODEL", f"{MODELS_AT}/{fetch.place}"), fetch=fetch, vcpu=1.0, ram_gib=0.25)


@asynccontextmanager
async def site(cluster: Cluster, folder: Path, *, image: bool = True, **more: Any) -> AsyncIterator[Site]:
    told: list[tuple[str, str]] = []
    if not any(claim["metadata"]["name"] == CLAIM for claim in cluster.all("PersistentVolumeClaim")):
        cluster.put("PersistentVolumeClaim", CLAIM, spec={"accessModes": ["ReadWriteMany"]})
    if image:
        cluster.images[STOKER] = None
    async with (
        hub({"tiny.gguf": BODY}, **more) as served,
        pods(cluster, folder, models=CLAIM, models_image=STOKER, failing_s=0.5) as made,
    ):
        assert isinstance(made.provider, Tells)
        made.provider.attach(changed=lambda: None, said=lambda worker, text: told.append((worker, text)))
        yield Site(made, served, told)


def test_a_model_is_fetched_by_an_init_container_and_its_progress_is_told(tmp_path: Path, kubernetes: Cluster) -> None:
    async def main() -> None:
        async with site(kubernetes, tmp_path, token="hf_cellar", stall_after=5 * MIB // 2) as there:
            provider = there.made.provider
            script = "wc -c < MODEL; env | grep -c cellar; exec sleep 600"
            await provider.start(there.worker("a", script, token="hf_cellar"))

            async def half() -> bool:
                found = await observed(provider, "a")
                assert found is not None
                assert (found.running, found.began_at) == (True, None), found
                return found.preparing.startswith("downloading model 5")

            await until(half, what="half of the model")
            assert ("a", "downloading model tiny: 50 % of 4 MiB") in there.told
            pod = kubernetes.pod_of("a")
            assert "hf_cellar" not in json.dumps(pod)
            [init], [container] = pod["spec"]["initContainers"], pod["spec"]["containers"]
            assert init["securityContext"]["runAsUser"] == 0
            assert init["resources"]["limits"] == {"cpu": "1000m", "memory": "524288Ki"}
            [mount] = [each for each in container["volumeMounts"] if each["name"] == "models"]
            assert (mount["subPath"], mount["readOnly"]) == (KEY, True), "it sees its own part, and no more"
            await provider.stop(WorkerId("a"), grace_s=5.0)

            async def gone() -> bool:
                return await provider.list() == ()

            await until(gone, what="end of one that was not done")
            await provider.start(there.worker("b", script, token="hf_cellar"))
            await said(provider, "b", "0")

            async def begun() -> bool:
                found = await observed(provider, "b")
                assert found is not None
                return not found.preparing and abs((found.began_at or 0.0) - time.time()) < 60

            await until(begun, what="beginning of its own")
            assert await texts(provider, "b") == [str(len(BODY)), "0"]
            assert len(there.hub.ranged) == 1, "what was there was not fetched again"
            assert len(list(kubernetes.claims.iterdir())) == 1

    run(main())


def test_a_step_that_fails_fails_its_worker_with_the_reason(tmp_path: Path, kubernetes: Cluster) -> None:
    async def main() -> None:
        async with site(kubernetes, tmp_path) as there:
            await there.made.provider.start(there.worker("a", "true", location="owner/none"))
            end = await ended(there.made.provider, "a")
            assert (end.code, end.reason.startswith("the model 'tiny' could not be fetched: http")) == (2, True), end
            assert "answers 404: check the name" in end.reason

    run(main())


def test_an_image_of_the_step_that_cannot_be_had_is_named(tmp_path: Path, kubernetes: Cluster) -> None:
    async def main() -> None:
        async with site(kubernetes, tmp_path, image=False) as there:
            await there.made.provider.start(there.worker("a", "true"))
            end = await ended(there.made.provider, "a")
            assert STOKER in end.reason
            assert "never ran" in end.reason

    run(main())


def test_options_of_the_cache_belong_together_and_are_needed(tmp_path: Path, kubernetes: Cluster) -> None:
    for options in ({"models": "claim"}, {"models_image": "stoker:1"}):
        with pytest.raises(Invalid, match="belong together"):
            load("kubernetes", ProviderOptions(tmp_path, dict(options)))

    async def main() -> None:
        async with site(kubernetes, tmp_path) as there, pods(kubernetes, tmp_path / "other") as without:
            with pytest.raises(Invalid, match="no cache of models"):
                await without.provider.start(there.worker("a", "true"))

    run(main())
