"""What the Kubernetes provider does beyond the contract: secrets, starts that fail or wait, cards, volumes, output."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from cluster.rbac import Call, allowed, manifests
from cluster.running import NAMESPACE, Cluster
from conftest import DEPLOYED
from providers.pods import LASTING, Told, pods, reason
from providers.workers import clear, ended, observed, python, run, said, shell, spec, texts, until
from stoker.domain.errors import Invalid, Unavailable
from stoker.domain.probe import Probe, Probes
from stoker.domain.secrets import RegistryLogin
from stoker.domain.volumes import Mount
from stoker.domain.worker import WorkerId
from stoker.providers.base import HoldsVolumes, KeepsOutput

pytestmark = pytest.mark.process


async def no_secrets(cluster: Cluster) -> None:
    """Wait until those that were made have gone with their pods."""

    async def none() -> bool:
        return cluster.all("Secret") == []

    await until(none, what="end of all secrets")


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
