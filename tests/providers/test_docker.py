"""The Docker provider on a real engine: what the contract suite, which is for all providers, does not ask."""

from __future__ import annotations

import asyncio
import json
import os
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from docker_engine import Engine
from providers.containers import Installation, container_of, containers
from providers.registry import registry
from providers.workers import clear, ended, observed, run, said, shell, texts, until
from stoker.domain.errors import Invalid, Unavailable
from stoker.domain.secrets import RegistryLogin
from stoker.domain.volumes import Mount
from stoker.domain.worker import Address, WorkerId, WorkerSpec
from stoker.providers.base import HoldsVolumes, KeepsOutput, ProviderOptions, Tells, load

pytestmark = pytest.mark.process
SERVE = "echo hello > /tmp/index.html; exec httpd -f -p $HOST:$PORT -h /tmp"
LAST = "echo up; exec sleep 600"


def test_limits_and_the_lack_of_privileges_are_the_daemons(docker: Engine, tmp_path: Path) -> None:
    async def main() -> None:
        async with containers(docker, tmp_path, pids_max=64, shm_gib=0.5, user="1000", read_only=True) as made:
            spec = shell("a", "id -u; touch /x; touch /tmp/x && echo tmp; grep CapBnd /proc/self/status; " + LAST)
            spec = _with(spec, vcpu=0.5, ram_gib=0.25)
            await made.provider.start(spec)
            await said(made.provider, "a")
            # Nobody orders the two streams of a container beside each other.
            assert sorted(await texts(made.provider, "a")) == [
                "1000",
                "CapBnd:\t0000000000000000",
                "tmp",
                "touch: /x: Read-only file system",
                "up",
            ]
            host = docker.inspect(container_of(docker, "a"))["HostConfig"]
            assert (host["NanoCpus"], host["Memory"], host["MemorySwap"]) == (500_000_000, 2**28, 2**28)
            assert (host["PidsLimit"], host["ShmSize"], host["SecurityOpt"]) == (64, 2**29, ["no-new-privileges"])
            assert host["LogConfig"]["Config"] == {"max-file": "2", "max-size": "512k"}

    run(main())


def _with(spec: WorkerSpec, **more: Any) -> WorkerSpec:
    return replace(spec, **more)


def test_a_worker_over_its_memory_is_said_to_be(docker: Engine, tmp_path: Path) -> None:
    async def main() -> None:
        async with containers(docker, tmp_path) as made:
            await made.provider.start(_with(shell("a", "tail /dev/zero"), ram_gib=1 / 64))
            end = await ended(made.provider, "a")
            assert end.code in (-9, 137)
            assert "out of memory: killed at its limit of 0.015625 GiB" in end.reason

    run(main())


def test_a_worker_is_called_at_its_published_port_only_once_it_listens(docker: Engine, tmp_path: Path) -> None:
    async def main() -> None:
        async with containers(docker, tmp_path) as made:
            port = _port()
            script = f"while [ ! -e /tmp/go ]; do sleep 0.05; done; {SERVE}"
            await made.provider.start(shell("a", script, port=port, listen=80, ports={80: port}))
            found = await observed(made.provider, "a")
            assert found is not None
            assert found.address == Address(host="127.0.0.1", port=port)
            assert not await made.provider.listens(WorkerId("a"), port), "a forwarder alone is no worker"
            assert not await made.provider.listens(WorkerId("a"), port + 1)
            docker.docker("exec", container_of(docker, "a"), "touch", "/tmp/go")

            async def listens() -> bool:
                return await made.provider.listens(WorkerId("a"), port)

            await until(listens, what="listener")

    run(main())


def test_volumes_are_where_the_worker_expects_them(docker: Engine, tmp_path: Path) -> None:
    async def main() -> None:
        (tmp_path / "data").mkdir()
        (tmp_path / "data" / "x").write_text("of the host\n")
        mount = Mount(name="v", source=str(tmp_path / "data"), path="/data", read_only=True)
        async with containers(docker, tmp_path) as made:
            await made.provider.start(shell("a", "cat /data/x; touch /data/y || echo refused", mounts=(mount,)))
            await ended(made.provider, "a")
            assert {"of the host", "refused"} <= set(await texts(made.provider, "a"))
            missing = Mount(name="w", source=str(tmp_path / "nothing"), path="/data", read_only=True)
            with pytest.raises(Invalid, match="nothing"):
                await made.provider.start(shell("b", "true", mounts=(missing,)))

    run(main())


def test_a_volume_of_the_daemon_outlives_its_workers(docker: Engine, tmp_path: Path) -> None:
    async def main() -> None:
        async with containers(docker, tmp_path) as made:
            provider = made.provider
            assert isinstance(provider, HoldsVolumes)
            for _ in range(2):
                await provider.make_volume("v1", size_gib=1.0)
            assert await provider.volumes() == {"v1"}
            mount = Mount(name="data", source="/work", path="/work", read_only=False, held="v1")
            await provider.start(shell("a", "echo kept > /work/file", mounts=(mount,)))
            assert (await ended(provider, "a")).code == 0
            with pytest.raises(Unavailable, match="in use"):
                await provider.remove_volume("v1")
            await clear(provider)
            reading = replace(mount, read_only=True)
            await provider.start(shell("b", "cat /work/file; touch /work/other || echo barred", mounts=(reading,)))
            await ended(provider, "b")
            assert "kept" in await texts(provider, "b")
            assert "barred" in await texts(provider, "b")
            await clear(provider)
            for _ in range(2):
                await provider.remove_volume("v1")
            assert await provider.volumes() == frozenset()
            assert docker.docker("volume", "ls", "--quiet") == ""

    run(main())


@pytest.mark.parametrize(
    ("more", "match"),
    [
        ({"gpus": ("GPU-1",)}, "could not select device driver"),
        ({"image": "Not A Name"}, "reference"),
    ],
    ids=["card", "image"],
)
def test_what_can_never_run_is_refused_and_leaves_nothing(
    docker: Engine, tmp_path: Path, more: dict[str, Any], match: str
) -> None:
    async def main() -> None:
        async with containers(docker, tmp_path) as made:
            with pytest.raises(Invalid, match=match):
                await made.provider.start(_with(shell("a", LAST), **more))
            assert docker.names() == []

    run(main())


def test_a_port_that_somebody_else_has_is_said_at_once_and_leaves_nothing(docker: Engine, tmp_path: Path) -> None:
    async def main() -> None:
        async with containers(docker, tmp_path) as made:
            with socket.socket() as other:
                other.bind(("127.0.0.1", 0))
                other.listen()
                port = other.getsockname()[1]
                with pytest.raises(Invalid, match=f"{port}.* address already in use"):
                    await made.provider.start(shell("a", SERVE, port=port))
            assert docker.names() == []

    run(main())


def test_two_containers_at_one_port_are_told_apart(docker: Engine, tmp_path: Path) -> None:
    async def main() -> None:
        async with containers(docker, tmp_path) as made:
            port = _port()
            await made.provider.start(shell("a", SERVE, port=port))
            with pytest.raises(Invalid, match="port is already allocated"):
                await made.provider.start(shell("b", SERVE, port=port))
            assert [found.id for found in await made.provider.list()] == ["a"]

    run(main())


def test_a_program_that_is_not_there_is_named(docker: Engine, tmp_path: Path) -> None:
    async def main() -> None:
        async with containers(docker, tmp_path) as made:
            await made.provider.start(_with(shell("a", ""), command=("/bin/nonsense",)))
            assert (await ended(made.provider, "a")).reason == "exited with code 127"
            assert "/bin/nonsense" in "".join(await texts(made.provider, "a"))
        (tmp_path / "b").mkdir()
        async with containers(docker, tmp_path / "b", init=False) as made:
            with pytest.raises(Invalid, match="/bin/nonsense"):
                await made.provider.start(_with(shell("a", ""), command=("/bin/nonsense",)))
            assert docker.names() == []

    run(main())


def test_an_image_without_a_command_runs_its_own_and_a_command_without_an_image_needs_one(
    docker: Engine, tmp_path: Path
) -> None:
    docker.docker("import", "--change", 'CMD ["echo", "its own"]', str(docker.archive), "stoker-own:1")

    async def main() -> None:
        async with containers(docker, tmp_path) as made:
            await made.provider.start(_with(shell("a", ""), command=(), image="stoker-own:1"))
            await ended(made.provider, "a")
            assert await texts(made.provider, "a") == ["its own"]
        bare = load("docker", ProviderOptions(tmp_path, {"host": docker.host}))
        with pytest.raises(Invalid, match="say which"):
            await bare.start(shell("b", LAST))
        await bare.close()

    run(main())


def test_images_come_from_a_registry_with_its_login_and_the_progress_is_told(docker: Engine, tmp_path: Path) -> None:
    async def main() -> None:
        with registry(docker.archive) as served:
            image = f"{served.host}/mine:1"
            right = RegistryLogin(registry=served.host, username="me", password=served.password)
            async with containers(docker, tmp_path) as made:
                told = _attach(made)
                with pytest.raises(Invalid, match="pull the image"):
                    await made.provider.start(_with(shell("a", LAST), image=image))
                wrong = RegistryLogin(registry=served.host, username="me", password="guess")
                with pytest.raises(Invalid, match="pull the image"):
                    await made.provider.start(_with(shell("a", LAST), image=image, login=wrong))
                told.clear()
                names = [f"w{number}" for number in range(4)]
                starts = (_with(shell(name, LAST), image=image, login=right) for name in names)
                await asyncio.gather(*(made.provider.start(spec) for spec in starts))
                assert served.layers_sent == 1
                assert [text.split(" in ")[0] for _, text in told] == [
                    f"pulling the image {image}",
                    f"pulled the image {image}",
                ]
        with pytest.raises(Unavailable, match="connection refused"):
            async with containers(docker, tmp_path / "b") as made:
                await made.provider.start(_with(shell("a", LAST), image=f"{served.host}/other:1"))

    (tmp_path / "b").mkdir()
    run(main())


def _attach(made: Installation) -> list[tuple[str, str]]:
    told: list[tuple[str, str]] = []
    assert isinstance(made.provider, Tells)
    made.provider.attach(changed=lambda: None, said=lambda worker, text: told.append((worker, text)))
    return told


def test_what_happens_is_told_without_being_asked(docker: Engine, tmp_path: Path) -> None:
    async def main() -> None:
        async with containers(docker, tmp_path) as made:
            changes = asyncio.Event()
            assert isinstance(made.provider, Tells)
            made.provider.attach(changed=changes.set, said=lambda worker, text: None)
            await asyncio.wait_for(changes.wait(), 60)
            await made.provider.start(shell("a", LAST))
            await observed(made.provider, "a")
            await asyncio.sleep(0.5)
            changes.clear()
            docker.docker("kill", container_of(docker, "a"))
            await asyncio.wait_for(changes.wait(), 60)
            assert (await ended(made.provider, "a")).reason == "killed by signal 9 (SIGKILL)"

    run(main())


def test_output_outlives_the_container_until_it_is_discarded(docker: Engine, tmp_path: Path) -> None:
    async def main() -> None:
        async with containers(docker, tmp_path, workers_kept=2) as made:
            provider = made.provider
            assert isinstance(provider, KeepsOutput)
            for name in ("a", "b", "c"):
                await provider.start(shell(name, f"echo {name}; echo bad >&2"))
                await ended(provider, name)
                await provider.stop(WorkerId(name), grace_s=1)
            assert await provider.list() == ()
            assert sorted(await texts(provider, "c")) == ["bad", "c"]
            assert {kept.worker for kept in await provider.kept()} == {"b", "c"}
            await provider.discard(WorkerId("c"))
            assert await texts(provider, "c") == []

    run(main())


def test_a_long_line_is_one_line_as_it_was_written(docker: Engine, tmp_path: Path) -> None:
    async def main() -> None:
        async with containers(docker, tmp_path) as made:
            # The daemon keeps at most 16 KiB of a line in one piece.
            await made.provider.start(shell("a", "head -c 40000 /dev/zero | tr '\\0' x; echo; echo y"))
            await ended(made.provider, "a")
            assert await texts(made.provider, "a") == ["x" * 40_000, "y"]

    run(main())


def test_installations_at_one_daemon_do_not_see_each_other(docker: Engine, tmp_path: Path) -> None:
    async def main() -> None:
        (tmp_path / "other").mkdir()
        async with containers(docker, tmp_path) as made:
            await made.provider.start(shell("a", LAST))
            other = load("docker", ProviderOptions(tmp_path / "other", {"host": docker.host}))
            assert await other.list() == ()
            await other.stop(WorkerId("a"), grace_s=0)
            assert (await observed(made.provider, "a")) is not None
            await other.close()

    run(main())


@asynccontextmanager
async def lost(docker: Engine) -> AsyncIterator[None]:
    await asyncio.to_thread(docker.stop)
    try:
        yield
    finally:
        await asyncio.to_thread(docker.start)


def test_a_daemon_that_vanishes_proves_nothing_and_returns(docker: Engine, tmp_path: Path) -> None:
    async def main() -> None:
        async with containers(docker, tmp_path) as made:
            provider = made.provider
            _attach(made)
            await provider.start(shell("a", LAST))
            await said(provider, "a")
            async with lost(docker):
                for call in (
                    provider.list(),
                    provider.start(shell("b", LAST)),
                    provider.stop(WorkerId("a"), grace_s=1),
                    provider.pause(WorkerId("a")),
                    provider.execute(WorkerId("a"), ("true",), 5.0),
                    provider.offers(),
                ):
                    with pytest.raises(Unavailable):
                        await call
            [found] = await provider.list()
            assert (found.id, found.running) == ("a", False), "it ended with its daemon"
            await provider.start(shell("b", LAST))
            await clear(provider)

    run(main(), within_s=100)


def _port() -> int:
    return 29_000 + os.getpid() % 900


def test_what_the_daemon_says_of_its_host_is_offered(docker: Engine, tmp_path: Path) -> None:
    async def main() -> None:
        async with containers(docker, tmp_path, gpus={"h100": 2}, reach="container", region="eu") as made:
            [offer] = await made.provider.offers()
            info = json.loads(docker.docker("info", "--format", "{{json .}}"))
            assert (offer.host, offer.vcpu, offer.region) == (info["Name"], info["NCPU"], "eu")
            assert offer.ports is None
            assert [(gpu.id, gpu.family, gpu.vram_gib) for gpu in offer.gpus] == [("0", "h100", 80), ("1", "h100", 80)]
            assert any("NVIDIA runtime" in note for note in offer.notes)

    run(main())
