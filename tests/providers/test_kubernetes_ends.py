"""What the Kubernetes provider makes of pods that others end: evictions, lost nodes, graces."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from cluster.running import Cluster
from providers.pods import LASTING, STUBBORN, Told, known_end, pods, reason
from providers.workers import observed, run, said, shell, texts, until
from stoker.domain.errors import Unavailable
from stoker.domain.worker import WorkerId

pytestmark = pytest.mark.process


@pytest.mark.parametrize(
    ("cause", "words"),
    [
        ("EvictionByEvictionAPI", "evicted, as before work on its node (EvictionByEvictionAPI): because"),
        ("PreemptionByScheduler", "preempted for a pod of higher priority (PreemptionByScheduler): because"),
    ],
)
def test_a_pod_that_others_end_is_leaving_and_then_gone_with_its_reason(
    tmp_path: Path, kubernetes: Cluster, cause: str, words: str
) -> None:
    async def main() -> None:
        async with pods(kubernetes, tmp_path) as found:
            Told(found.provider)
            await found.provider.start(
                shell("a", "trap 'sleep 0.3; exit 0' TERM; echo up; while :; do sleep 0.02; done")
            )
            await said(found.provider, "a")
            kubernetes.disrupt("a", cause, "because")
            seen = await observed(found.provider, "a")
            assert seen is not None
            assert (seen.running, seen.leaving) == (True, words)
            end = await known_end(found.provider, "a")
            assert words in end.reason

            # It is listed with the same end until it is stopped, though its pod is gone.
            async def gone() -> bool:
                return kubernetes.all("Pod") == []

            await until(gone, what="end of the pod")
            assert await known_end(found.provider, "a") == end
            await found.provider.start(shell("a", LASTING))
            assert kubernetes.all("Pod") == [], "an ended one is not run again"
            await found.provider.stop(WorkerId("a"), grace_s=1.0)
            assert await found.provider.list() == ()

    run(main())


def test_a_node_that_is_lost_loses_its_workers_and_those_are_told_why(tmp_path: Path, kubernetes: Cluster) -> None:
    async def main() -> None:
        kubernetes.add_node("node-b")
        async with pods(kubernetes, tmp_path, node_lost_s=0) as found:
            Told(found.provider)
            await found.provider.offers()
            await found.provider.start(shell("a", LASTING, host="node-a"))
            await found.provider.start(shell("b", LASTING, host="node-b"))
            await said(found.provider, "a")
            await said(found.provider, "b")
            kubernetes.silence("node-a")
            assert await reason(found, "a") == "its node has stopped answering (NodeLost)"
            # Asking for its end reaches nobody, but it is not an error either, and output cannot be read.
            await found.provider.stop(WorkerId("a"), grace_s=1.0)
            with pytest.raises(Unavailable, match="i/o timeout"):
                await texts(found.provider, "a")
            still = await observed(found.provider, "b")
            assert still is not None
            assert still.running
            assert [offer.host for offer in await found.provider.offers()] == ["node-b"]
            kubernetes.silence("node-a", silent=False)

            async def gone() -> bool:
                return await observed(found.provider, "a") is None

            await until(gone, what="end of a")
            assert [offer.host for offer in await found.provider.offers()] == ["node-a", "node-b"]

    run(main())


def test_a_pod_of_a_silent_node_is_removed_by_force_in_the_end(tmp_path: Path, kubernetes: Cluster) -> None:
    async def main() -> None:
        async with pods(kubernetes, tmp_path) as found:
            await found.provider.start(shell("a", STUBBORN))
            await said(found.provider, "a")
            kubernetes.silence("node-a")
            await found.provider.stop(WorkerId("a"), grace_s=1.0)
            pod = kubernetes.pod_of("a")
            assert pod["metadata"]["deletionGracePeriodSeconds"] == 1
            # Long after its time.
            late = {**pod["metadata"], "deletionTimestamp": "2026-01-01T00:00:00Z"}
            kubernetes.do(lambda: kubernetes.objects.update({**pod, "metadata": late}))
            await found.provider.stop(WorkerId("a"), grace_s=1.0)
            assert await found.provider.list() == ()
            kubernetes.silence("node-a", silent=False)

    run(main())


def test_of_two_graces_the_shorter_one_counts(tmp_path: Path, kubernetes: Cluster) -> None:
    async def main() -> None:
        async with pods(kubernetes, tmp_path) as found:
            await found.provider.start(shell("a", STUBBORN))
            await said(found.provider, "a")
            for grace_s, counts in ((60.0, 60), (120.0, 60), (0.0, 1)):
                await found.provider.stop(WorkerId("a"), grace_s=grace_s)
                assert kubernetes.pod_of("a")["metadata"]["deletionGracePeriodSeconds"] == counts
            with pytest.raises(Unavailable, match="being removed"):
                await found.provider.start(shell("a", LASTING))

    run(main())


def test_a_pod_that_others_end_goes_on_until_it_is_drained(tmp_path: Path, kubernetes: Cluster) -> None:
    async def main() -> None:
        async with pods(kubernetes, tmp_path) as found:
            for name in ("a", "b"):
                await found.provider.start(shell(name, LASTING, drain_s=30.0, grace_s=5.0))
                await said(found.provider, name)
            kubernetes.disrupt("a", "EvictionByEvictionAPI", "because")
            assert kubernetes.pod_of("a")["metadata"]["deletionGracePeriodSeconds"] == 35
            begun = asyncio.get_running_loop().time()
            await asyncio.sleep(0.3)
            assert kubernetes.do(lambda: kubernetes.processes("a")) == 1, "its program has heard of nothing"
            # Stoker asks for an end when nothing is in flight, and then nobody waits any more.
            for name in ("a", "b"):
                await found.provider.stop(WorkerId(name), grace_s=10.0)

            async def gone() -> bool:
                return await found.provider.list() == ()

            await until(gone, what="end of both")
            assert asyncio.get_running_loop().time() - begun < 25.0, "nobody waited for the 30 s of its drain"

    run(main())
