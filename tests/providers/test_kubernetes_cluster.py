"""How the Kubernetes provider speaks with its cluster: what it may do, lists, watches, and what is not there."""

from __future__ import annotations

import asyncio
import base64
import json
from pathlib import Path

import pytest

from cluster.objects import Fault
from cluster.rbac import Call, allowed, manifests
from cluster.running import NAMESPACE, Cluster, cluster
from conftest import DEPLOYED
from providers.pods import LASTING, Installation, Told, known_end, pods
from providers.workers import clear, run, said, shell
from stoker.domain.errors import Invalid, Unavailable
from stoker.domain.secrets import RegistryLogin
from stoker.domain.worker import WorkerId
from stoker.providers.base import HoldsVolumes
from stoker.providers.kubernetes.cluster import opened
from stoker.providers.kubernetes.options import parse

pytestmark = pytest.mark.process


def test_every_call_is_allowed_and_every_permission_is_used(tmp_path: Path, kubernetes: Cluster) -> None:
    async def main() -> None:
        async with pods(kubernetes, tmp_path) as found:
            told = Told(found.provider)
            await told.more(0)
            await found.provider.offers()
            login = RegistryLogin(registry="ghcr.io", username="me", password="pass-word")
            wanted = shell("a", LASTING, env={"TOKEN": "t"}, secrets={"TOKEN": "t"}, login=login)
            await found.provider.start(wanted)
            await said(found.provider, "a")
            assert await found.provider.execute(WorkerId("a"), ("true",), 10.0) == 0
            await found.provider.stop(WorkerId("nobody"), grace_s=1.0)
            assert isinstance(found.provider, HoldsVolumes)
            for size_gib in (1.0, 2.0):
                await found.provider.make_volume("v", size_gib=size_gib)
            await found.provider.volumes()
            await found.provider.remove_volume("v")
            await clear(found.provider)

    run(main())
    assert kubernetes.authoriser.asked == allowed(manifests(DEPLOYED))


@pytest.mark.parametrize("refuses", [True, False], ids=["by its status", "by an event"])
def test_a_watch_that_is_too_old_begins_anew_with_a_list(tmp_path: Path, kubernetes: Cluster, refuses: bool) -> None:
    async def main() -> None:
        kubernetes.server.refuses_watches = refuses
        async with pods(kubernetes, tmp_path) as found:
            told = Told(found.provider)
            await found.provider.start(shell("a", LASTING))
            await found.provider.start(shell("b", LASTING))
            await said(found.provider, "a")
            await told.hears("b", "placed")
            kubernetes.do(lambda: _forget(kubernetes))
            # What happened while it did not look is not lost.
            end = await known_end(found.provider, "a")
            assert "deleted by somebody else" in end.reason
            await found.provider.start(shell("c", LASTING))
            await told.hears("c", "placed")

    def _forget(kubernetes: Cluster) -> None:
        kubernetes.server.cut_watches()
        pod = next(p for p in kubernetes.objects.all("Pod") if p["metadata"]["labels"]["stoker/worker"] == "a")
        kubernetes.objects.remove(("Pod", NAMESPACE, pod["metadata"]["name"]))
        kubernetes.objects.forget()

    run(main())


def test_a_watch_that_breaks_off_goes_on_where_it_was(tmp_path: Path, kubernetes: Cluster) -> None:
    async def main() -> None:
        async with pods(kubernetes, tmp_path) as found:
            told = Told(found.provider)
            await found.provider.start(shell("a", LASTING))
            await told.hears("a", "placed")
            for name in ("b", "c"):
                kubernetes.do(kubernetes.server.cut_watches)
                await found.provider.start(shell(name, LASTING))
                await told.hears(name, "placed")
            assert kubernetes.server.watched_from == sorted(kubernetes.server.watched_from)
            assert len([what for _, what in told.said if "placed" in what]) == 3, "each is told once"

    run(main())


def test_a_list_of_many_pages_is_whole(tmp_path: Path, kubernetes: Cluster) -> None:
    async def main() -> None:
        kubernetes.server.page_most = 2
        async with pods(kubernetes, tmp_path) as found:
            for number in range(5):
                await found.provider.start(shell(f"w{number}", LASTING))
            assert {one.id for one in await found.provider.list()} == {f"w{number}" for number in range(5)}

    run(main())


def test_a_server_that_does_not_answer_is_unavailable(tmp_path: Path, kubernetes: Cluster) -> None:
    async def main() -> None:
        async with pods(kubernetes, tmp_path) as found:
            await found.provider.start(shell("a", LASTING))
            for code, why in ((500, "InternalError"), (429, "TooManyRequests"), (401, "Unauthorized")):
                kubernetes.server.failing = [Fault(code, why, "not now")]
                with pytest.raises(Unavailable, match="not now"):
                    await found.provider.list()
            kubernetes.do(kubernetes.server.thawed.clear)
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(found.provider.list(), 0.3)
            kubernetes.do(kubernetes.server.thawed.set)
            assert [one.id for one in await found.provider.list()] == ["a"]

    run(main())


def test_a_cluster_that_is_not_there_is_unavailable(tmp_path: Path) -> None:
    async def main() -> None:
        (tmp_path / "cluster").mkdir()
        with cluster(tmp_path / "cluster") as running:
            found = Installation(None, running, tmp_path, {"kubeconfig": str(running.kubeconfig)})  # type: ignore[arg-type]
            provider = found.connect()
        with pytest.raises(Unavailable, match="cannot list the pods"):
            await provider.list()
        await provider.close()

    run(main())


def test_a_configuration_that_is_not_there_is_named(tmp_path: Path, kubernetes: Cluster) -> None:
    async def main() -> None:
        for options in ({"kubeconfig": str(tmp_path / "nowhere")}, {"context": "nobody"}):
            found = Installation(None, kubernetes, tmp_path, {"kubeconfig": str(kubernetes.kubeconfig), **options})  # type: ignore[arg-type]
            with pytest.raises(Invalid, match="finds no cluster"):
                await found.connect().list()

    run(main())


def test_within_a_cluster_its_own_service_account_is_used(
    tmp_path: Path, kubernetes: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = json.loads(kubernetes.kubeconfig.read_text())
    where = config["clusters"][0]["cluster"]
    (tmp_path / "token").write_text(config["users"][0]["user"]["token"])
    (tmp_path / "namespace").write_text(NAMESPACE)
    (tmp_path / "ca.crt").write_bytes(base64.b64decode(where["certificate-authority-data"]))
    host, _, port = where["server"].removeprefix("https://").partition(":")
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", host)
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", port)

    async def main() -> None:
        found = await opened(parse({}), account=tmp_path)
        assert found.namespace == NAMESPACE
        assert len(await found.nodes(None)) == 1
        await found.close()

    run(main())


def test_nodes_that_may_not_be_listed_can_be_described(tmp_path: Path, kubernetes: Cluster) -> None:
    async def main() -> None:
        rules = kubernetes.authoriser.rules
        assert rules is not None
        kubernetes.authoriser.rules = rules - {Call(False, "nodes", "list")}
        async with pods(kubernetes, tmp_path) as found:
            with pytest.raises(Unavailable, match=r"cannot list the nodes: .*forbidden.* describe the nodes"):
                await found.provider.offers()
        described = [{"name": "any", "vcpu": 8, "ram_gib": 32, "labels": {"kubernetes.io/hostname": "node-a"}}]
        async with pods(kubernetes, tmp_path, nodes=described) as found:
            [offer] = await found.provider.offers()
            await found.provider.start(shell("a", LASTING, host=offer.host))
            await said(found.provider, "a")

    run(main())
