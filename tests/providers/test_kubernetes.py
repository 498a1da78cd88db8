"""What the Kubernetes provider does beyond the contract: what happens to pods without it, and to the cluster."""

from __future__ import annotations

import asyncio
import base64
import json
import re
from pathlib import Path

import pytest

from cluster.objects import Fault
from cluster.rbac import Call, allowed, manifests
from cluster.running import NAMESPACE, Cluster, cluster
from conftest import DEPLOYED
from providers.pods import Installation, pods
from providers.workers import clear, ended, observed, python, run, said, shell, spec, texts, until
from stoker.domain.errors import Invalid, Unavailable
from stoker.domain.probe import Probe, Probes
from stoker.domain.secrets import RegistryLogin
from stoker.domain.volumes import Mount
from stoker.domain.worker import WorkerId
from stoker.providers.base import HoldsVolumes, KeepsOutput, Provider, Tells
from stoker.providers.kubernetes.cluster import opened
from stoker.providers.kubernetes.options import parse

pytestmark = pytest.mark.process
LASTING = "echo up; exec sleep 600"
STUBBORN = "trap '' TERM; echo up; while :; do sleep 0.05; done"


class Told:
    """What a provider tells by itself."""

    def __init__(self, provider: Provider) -> None:
        self.changes, self.said = 0, list[tuple[str, str]]()
        assert isinstance(provider, Tells)
        provider.attach(changed=self._changed, said=lambda worker, text: self.said.append((worker, text)))

    def _changed(self) -> None:
        self.changes += 1

    async def more(self, than: int) -> None:
        async def ask() -> bool:
            return self.changes > than

        await until(ask, what="another change")

    async def hears(self, worker: str, text: str) -> None:
        async def ask() -> bool:
            return any(who == worker and text in what for who, what in self.said)

        await until(ask, what=f"{text!r} of {worker}")


async def no_secrets(cluster: Cluster) -> None:
    """Wait until those that were made have gone with their pods."""

    async def none() -> bool:
        return cluster.all("Secret") == []

    await until(none, what="end of all secrets")


async def reason(found: Installation, name: str) -> str:
    return (await ended(found.provider, name)).reason


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


def test_secrets_are_given_as_secrets_and_end_with_their_pod(tmp_path: Path, kubernetes: Cluster) -> None:
    async def main() -> None:
        async with pods(kubernetes, tmp_path) as found:
            kubernetes.images["ghcr.io/me/private:1"] = "me:pass-word"
            login = RegistryLogin(registry="ghcr.io", username="me", password="pass-word")
            script = "import os, sys; print(os.environ['TOKEN'], os.environ['PLAIN'], sys.argv, flush=True)"
            wanted = spec(
                "a",
                *("python3", "-c", script),
                "$(TOKEN) $$ $",
                image="ghcr.io/me/private:1",
                env={"TOKEN": "a $(b) $$", "PLAIN": "$(TOKEN)"},
                secrets={"TOKEN": "t"},
                login=login,
            )
            await found.provider.start(wanted)
            await found.provider.start(wanted)
            assert await reason(found, "a") == "exited with code 0"
            assert await texts(found.provider, "a") == ["a $(b) $$ $(TOKEN) ['-c', '$(TOKEN) $$ $']"]
            assert len(kubernetes.all("Secret")) == 2
            assert "pass-word" not in json.dumps(kubernetes.all("Pod"))
            uid = kubernetes.pod_of("a")["metadata"]["uid"]
            for secret in kubernetes.all("Secret"):
                assert secret["metadata"]["ownerReferences"][0]["uid"] == uid
            await found.provider.stop(WorkerId("a"), grace_s=1.0)

            await no_secrets(kubernetes)

    run(main())


def test_a_start_that_broke_off_after_its_pod_was_made_is_finished(tmp_path: Path, kubernetes: Cluster) -> None:
    async def main() -> None:
        async with pods(kubernetes, tmp_path) as found:
            wanted = shell("a", LASTING, env={"T": "t"}, secrets={"T": "t"})
            rules = kubernetes.authoriser.rules
            assert rules is not None
            kubernetes.authoriser.rules = rules - {Call(True, "secrets", "patch")}
            with pytest.raises(Invalid, match="have a secret end with its pod"):
                await found.provider.start(wanted)
            kubernetes.authoriser.rules = rules
            await found.provider.start(wanted)
            [secret] = kubernetes.all("Secret")
            assert secret["metadata"]["ownerReferences"][0]["uid"] == kubernetes.pod_of("a")["metadata"]["uid"]

    run(main())


def test_secrets_of_a_start_that_broke_off_are_made_anew_or_removed(tmp_path: Path, kubernetes: Cluster) -> None:
    async def main() -> None:
        async with pods(kubernetes, tmp_path) as found:
            wanted = shell("a", 'echo "$T"', env={"T": "new"}, secrets={"T": "t"})
            await found.provider.start(shell("a", "true", env={"T": "old"}, secrets={"T": "t"}, image="nobody/has:it"))
            [secret] = kubernetes.all("Secret")
            await clear(found.provider)
            await no_secrets(kubernetes)
            for again in (True, False):
                # As if Stoker had ended between the two calls.
                kubernetes.put("Secret", secret["metadata"]["name"], data={"T": "b2xk"}, type="Opaque")
                if again:
                    await found.provider.start(wanted)
                    await ended(found.provider, "a")
                    assert await texts(found.provider, "a") == ["new"]
                await found.provider.stop(WorkerId("a"), grace_s=1.0)

                await no_secrets(kubernetes)

    run(main())


@pytest.mark.parametrize(
    ("image", "words"),
    [
        pytest.param("nobody/has:it", "ImagePullBackOff|ErrImagePull.*not found", id="there is none"),
        pytest.param("ghcr.io/me/private:1", "denied", id="no log-in"),
        pytest.param("Not An Image", "InvalidImageName", id="no name"),
    ],
)
def test_an_image_that_cannot_be_had_fails_the_worker(
    tmp_path: Path, kubernetes: Cluster, image: str, words: str
) -> None:
    async def main() -> str:
        kubernetes.images["ghcr.io/me/private:1"] = "me:pass-word"
        async with pods(kubernetes, tmp_path) as found:
            told = Told(found.provider)
            await found.provider.start(spec("a", "true", image=image))
            why = await reason(found, "a")
            await told.hears("a", why.removeprefix("never ran: ")[:12])
            return why

    assert re.search(words, run(main()))


def test_a_program_that_cannot_be_run_says_why(tmp_path: Path, kubernetes: Cluster) -> None:
    async def main() -> str:
        async with pods(kubernetes, tmp_path) as found:
            await found.provider.start(spec("a", "/no/such/program"))
            return await reason(found, "a")

    assert run(main()).startswith("StartError: failed to create containerd task")


def test_a_worker_over_its_memory_says_so(tmp_path: Path, kubernetes: Cluster) -> None:
    async def main() -> None:
        async with pods(kubernetes, tmp_path) as found:
            await found.provider.start(shell("a", LASTING, ram_gib=0.5))
            await said(found.provider, "a")
            kubernetes.out_of_memory("a")
            end = await ended(found.provider, "a")
            assert (end.code, end.reason) == (-9, "out of memory: killed at its limit of 0.5 GiB (OOMKilled)")

    run(main())


def test_a_pod_that_no_node_takes_says_so_and_then_fails(tmp_path: Path, kubernetes: Cluster) -> None:
    async def main() -> None:
        async with pods(kubernetes, tmp_path, unschedulable_s=0.5) as found:
            told = Told(found.provider)
            await found.provider.start(shell("a", LASTING, vcpu=100.0))
            await told.hears("a", "Unschedulable: 0/1 nodes are available: 1 Insufficient cpu.")
            first = await observed(found.provider, "a")
            assert first is not None
            assert first.running
            why = "never ran: Unschedulable: 0/1 nodes are available: 1 Insufficient cpu."
            assert await reason(found, "a") == why
            await clear(found.provider)
            # One for which room is made in time.
            await found.provider.start(shell("b", LASTING, vcpu=100.0))
            await told.hears("b", "Unschedulable")
            kubernetes.add_node("node-b", cpu="200")
            await said(found.provider, "b")
            await told.hears("b", "placed on the node node-b")

    run(main())


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
            told = Told(found.provider)
            await found.provider.start(
                shell("a", "trap 'sleep 0.3; exit 0' TERM; echo up; while :; do sleep 0.02; done")
            )
            await said(found.provider, "a")
            kubernetes.disrupt("a", cause, "because")
            seen = await observed(found.provider, "a")
            assert seen is not None
            assert (seen.running, seen.leaving) == (True, words)
            end = await ended(found.provider, "a")
            assert words in end.reason

            # It is listed with the same end until it is stopped, though its pod is gone.
            async def gone() -> bool:
                return kubernetes.all("Pod") == []

            await until(gone, what="end of the pod")
            await told.more(0)
            seen = await observed(found.provider, "a")
            assert seen is not None
            assert seen.exit is not None
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
            before = told.changes
            kubernetes.do(lambda: _forget(kubernetes))
            await told.more(before)
            # What happened while it did not look is not lost.
            end = await ended(found.provider, "a")
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


def test_what_pods_of_others_ask_for_is_not_offered_where_that_may_be_seen(tmp_path: Path, kubernetes: Cluster) -> None:
    async def main() -> None:
        asks = {"requests": {"cpu": "60", "memory": "128Gi"}}
        container = {"name": "db", "image": "stoker-tests:1", "command": ["sleep", "600"], "resources": asks}
        spec = {"containers": [container], "nodeName": "node-a", "terminationGracePeriodSeconds": 1}
        kubernetes.put("Pod", "db", spec=spec, status={"phase": "Running"})
        async with pods(kubernetes, tmp_path, count_others=True) as found:
            with pytest.raises(Unavailable, match="list the pods of others"):
                await found.provider.offers()
            assert kubernetes.authoriser.rules is not None
            kubernetes.authoriser.rules |= allowed(manifests(DEPLOYED.parent / "components" / "other-pods"))
            await found.provider.start(shell("a", LASTING, vcpu=2.0))
            [offer] = await found.provider.offers()
            assert (offer.vcpu, offer.ram_gib) == (4.0, 128.0), "what its own workers have is theirs"
            kubernetes.do(lambda: kubernetes.objects.remove(("Pod", NAMESPACE, "db")))

    run(main())


def test_a_quota_makes_a_start_wait_and_says_so(tmp_path: Path, kubernetes: Cluster) -> None:
    async def main() -> None:
        kubernetes.put("ResourceQuota", "few", spec={"hard": {"requests.cpu": "2", "pods": "10"}})
        async with pods(kubernetes, tmp_path) as found:
            told = Told(found.provider)
            await found.provider.start(shell("a", LASTING, vcpu=1.5))
            with pytest.raises(Unavailable, match="exceeded quota: few"):
                await found.provider.start(shell("b", LASTING, vcpu=1.0))
            await told.hears("b", "waits for the namespace's quota")
            with pytest.raises(Invalid, match="must specify requests"):
                await found.provider.start(shell("c", LASTING))
            [offer] = await found.provider.offers()
            assert offer.vcpu == 2.0, "what its own workers have is theirs"
            await clear(found.provider)
            await found.provider.start(shell("b", LASTING, vcpu=1.0))

    run(main())


def test_what_the_cluster_refuses_for_good_is_invalid(tmp_path: Path, kubernetes: Cluster) -> None:
    async def main() -> None:
        async with pods(kubernetes, tmp_path) as found:
            with pytest.raises(Invalid, match="worker's id"):
                await found.provider.start(spec("A_B", "true"))
            with pytest.raises(Invalid, match="Invalid value: 'a=b'"):
                await found.provider.start(spec("a", "true", env={"a=b": "c"}))
            with pytest.raises(Unavailable, match="takes no workers"):
                await found.provider.start(spec("a", "true", host="node-z"))
            assert await found.provider.list() == ()

    run(main())


def test_a_new_namespace_makes_starts_wait_for_its_service_account(tmp_path: Path, kubernetes: Cluster) -> None:
    async def main() -> None:
        kubernetes.do(lambda: kubernetes.objects.remove(("ServiceAccount", NAMESPACE, "default")))
        async with pods(kubernetes, tmp_path) as found:
            with pytest.raises(Unavailable, match="service account"):
                await found.provider.start(shell("a", LASTING))

    run(main())


def test_cards_are_asked_for_by_resource_and_labels(tmp_path: Path, kubernetes: Cluster) -> None:
    async def main() -> None:
        labels = {"nvidia.com/gpu.product": "NVIDIA-A100-SXM4-80GB", "nvidia.com/gpu.memory": "81920"}
        other = {"nvidia.com/gpu.product": "Tesla-T4", "nvidia.com/gpu.memory": "15360"}
        taint = {"key": "nvidia.com/gpu", "effect": "NoSchedule"}
        for name, of in (("a100-0", labels), ("a100-1", labels), ("t4-0", other)):
            kubernetes.add_node(name, labels=of, taints=(taint,), **{"nvidia.com/gpu": "2"})
        async with pods(kubernetes, tmp_path, unschedulable_s=0) as found:
            offers = {offer.host: offer for offer in await found.provider.offers()}
            assert [(gpu.family, gpu.stated_gib) for gpu in offers["a100-0"].gpus] == [("a100", 80)] * 2
            assert [gpu.family for gpu in offers["t4-0"].gpus] == ["t4", "t4"]
            for number in range(2):
                await found.provider.start(shell(f"w{number}", LASTING, host="a100-0", gpus=("0", "1")))
                await said(found.provider, f"w{number}")
            nodes = [kubernetes.pod_of(f"w{number}")["spec"]["nodeName"] for number in range(2)]
            # The first has the node that it was placed on; the second one of the same kind, never one of another.
            assert nodes == ["a100-0", "a100-1"]
            await found.provider.start(shell("w2", LASTING, host="a100-0", gpus=("0",)))
            assert "2 Insufficient nvidia.com/gpu" in await reason(found, "w2")

    run(main())


def test_a_pinned_worker_waits_for_its_node(tmp_path: Path, kubernetes: Cluster) -> None:
    async def main() -> None:
        kubernetes.add_node("node-b")
        async with pods(kubernetes, tmp_path, pin=True, unschedulable_s=0) as found:
            await found.provider.start(shell("a", LASTING, host="node-a", vcpu=60.0))
            await said(found.provider, "a")
            await found.provider.start(shell("b", LASTING, host="node-a", vcpu=60.0))
            assert "Insufficient cpu" in await reason(found, "b")

    run(main())


def test_a_worker_is_reached_at_its_pod_and_only_while_it_listens(tmp_path: Path, kubernetes: Cluster) -> None:
    serve = "import http.server, os; http.server.HTTPServer((os.environ['HOST'], int(os.environ['PORT'])), "
    serve += "http.server.SimpleHTTPRequestHandler).serve_forever()"

    async def main() -> None:
        async with pods(kubernetes, tmp_path) as found:
            probes = Probes(readiness=Probe(path="/"))
            for name in ("a", "b"):
                await found.provider.start(python(name, serve, listen=8080, probes=probes))

            async def listening() -> bool:
                return all([await found.provider.listens(WorkerId(name), 8080) for name in ("a", "b")])

            await until(listening, what="both at one port, each in a network of its own")
            assert not await found.provider.listens(WorkerId("a"), 8081)
            one, two = [await observed(found.provider, name) for name in ("a", "b")]
            assert one is not None
            assert two is not None
            assert one.address is not None
            assert one.address != two.address

            async def ready() -> bool:
                conditions = kubernetes.pod_of("a")["status"]["conditions"]
                return any(each["type"] == "Ready" and each["status"] == "True" for each in conditions)

            await until(ready, what="readiness, as the cluster sees it")

    run(main())


def test_output_is_followed_through_interruptions(tmp_path: Path, kubernetes: Cluster) -> None:
    async def main() -> None:
        async with pods(kubernetes, tmp_path) as found:
            await found.provider.start(shell("a", "for i in 1 2 3 4 5 6 7 8; do echo $i; echo $i; sleep 0.08; done"))
            seen: list[str] = []
            async for line in found.provider.logs(WorkerId("a"), tail=100, follow=True):
                seen.append(line.text)
                if len(seen) in (4, 9):
                    kubernetes.do(kubernetes.server.cut_output)
            assert seen == [str(i) for i in range(1, 9) for _ in range(2)]

    run(main())


def test_what_a_stopped_worker_had_said_is_kept_until_it_is_discarded(tmp_path: Path, kubernetes: Cluster) -> None:
    async def main() -> None:
        async with pods(kubernetes, tmp_path) as found:
            provider = found.provider
            assert isinstance(provider, KeepsOutput)
            await provider.start(shell("a", LASTING))
            await said(provider, "a")
            await clear(provider)
            assert await texts(provider, "a") == ["up"]
            assert [kept.worker for kept in await provider.kept()] == ["a"]
            await provider.discard(WorkerId("a"))
            assert await texts(provider, "a") == []

    run(main())


def test_volumes_are_claims_that_grow_and_are_mounted(tmp_path: Path, kubernetes: Cluster) -> None:
    async def main() -> None:
        async with pods(kubernetes, tmp_path, storage_class="fast", volume_access="ReadWriteMany") as found:
            provider = found.provider
            assert isinstance(provider, HoldsVolumes)
            await provider.make_volume("v1", size_gib=1.0)
            await provider.make_volume("v1", size_gib=2.5)
            with pytest.raises(Invalid, match="less than previous"):
                await provider.make_volume("v1", size_gib=1.0)
            [claim] = kubernetes.all("PersistentVolumeClaim")
            assert claim["spec"] == {
                "accessModes": ["ReadWriteMany"],
                "resources": {"requests": {"storage": "2560Mi"}},
                "storageClassName": "fast",
            }
            assert await provider.volumes() == {"v1"}
            mount = Mount(name="data", source="/work", path="/work", read_only=True, held="v1")
            await provider.start(shell("a", LASTING, mounts=(mount,)))
            await said(provider, "a")
            pod = kubernetes.pod_of("a")["spec"]
            assert {"name": "claim-0", "persistentVolumeClaim": {"claimName": claim["metadata"]["name"]}} in pod[
                "volumes"
            ]
            assert {"name": "claim-0", "mountPath": "/work", "readOnly": True} in pod["containers"][0]["volumeMounts"]
            assert {one.id for one in await provider.list()} == {"a"}
            for _ in range(2):
                await provider.remove_volume("v1")
            assert await provider.volumes() == frozenset()

    run(main())


def test_exit_codes_of_commands_come_back(tmp_path: Path, kubernetes: Cluster) -> None:
    async def main() -> None:
        async with pods(kubernetes, tmp_path) as found:
            await found.provider.start(shell("a", LASTING))
            await said(found.provider, "a")
            assert await found.provider.execute(WorkerId("a"), ("sh", "-c", "exit 7"), 10.0) == 7
            with pytest.raises(Unavailable, match="did not answer within"):
                await found.provider.execute(WorkerId("a"), ("sleep", "60"), 0.2)

    run(main())
