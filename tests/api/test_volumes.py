"""Volumes through the native API, in a real folder on virtual time."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path
from typing import Any

import pytest

from api.client import OFFERS, Api, run
from simulation.virtual import wall
from stoker.domain.errors import Invalid, StokerError, Unavailable
from stoker.domain.volumes import Mount
from stoker.providers.fake import FakeProvider


async def create(api: Api, name: str = "data", size_gib: float = 1) -> Any:
    answer = await api.call("POST", "/volumes", {"name": name, "size_gib": size_gib})
    assert answer.status == 201, answer.body
    return answer.json


def using(*volumes: dict[str, Any], name: str = "e", low: int = 0, **more: Any) -> dict[str, Any]:
    pools = [{"provider": "process", "bounds": {"min": low, "max": 2}}]
    launch = {"command": ["serve", "{port}", "--at={volume:data}/x"]}
    return {"name": name, "launch": launch, "pools": pools, "volumes": list(volumes), **more}


DATA = {"volume": "data"}


def test_a_worker_is_given_its_volumes_as_data_and_in_command_and_environment(tmp_path: Path) -> None:
    async def body(api: Api) -> None:
        made = await create(api)
        folder = tmp_path / "volumes" / made["id"]
        assert (made["state"], folder.is_dir()) == ("ready", True)
        answer = await api.call("POST", "/endpoints", using(DATA, low=1))
        assert answer.status == 201, answer.body
        await asyncio.sleep(5)
        [worker] = api.world.providers["process"].workers.values()  # type: ignore[attr-defined]
        assert worker.spec.command[2] == f"--at={folder}/x"
        assert worker.spec.env["STOKER_VOLUME_DATA"] == str(folder)
        assert worker.spec.mounts == (Mount(name="data", source=str(folder), path=None, read_only=False),)

    run(body, data_dir=tmp_path)


@pytest.mark.parametrize(
    ("wrong", "pointer"),
    [
        (using({"volume": "none"}), "/launch/command/2"),
        (using({"volume": "none"}, DATA), "/volumes/0/volume"),
        (using(DATA | {"path": "/data"}), "/volumes/0/path"),
        (using(DATA | {"read_only": True}), "/volumes/0/read_only"),
        (using(DATA, pools=[{"provider": "fake"}]), "/volumes/0/volume"),
        (using(DATA, DATA), "/volumes/1"),
    ],
)
def test_what_cannot_be_honoured_is_refused_at_its_place(tmp_path: Path, wrong: Any, pointer: str) -> None:
    async def body(api: Api) -> None:
        await create(api)
        before = await api.dump()
        for path in ("/endpoints", "/endpoints:plan"):
            answer = await api.call("POST", path, wrong)
            assert answer.status == 422, answer.body
            assert [error["pointer"] for error in answer.json["errors"]] == [pointer]
        assert await api.dump() == before

    run(body, data_dir=tmp_path)


def test_data_survives_workers_endpoint_and_control_and_goes_with_the_volume_alone(tmp_path: Path) -> None:
    async def body(api: Api) -> None:
        made = await create(api)
        file = tmp_path / "volumes" / made["id"] / "file"
        await asyncio.to_thread(file.write_text, "kept")
        await api.call("POST", "/endpoints", using(DATA, low=1))
        await asyncio.sleep(5)
        refused = await api.call("DELETE", "/volumes/data")
        assert (refused.status, "is used by e" in refused.json["detail"]) == (409, True)
        # Its worker still has it while it drains.
        await api.call("PUT", "/endpoints/e", using(launch={"command": ["x"]}, low=1))
        assert (await api.call("DELETE", "/volumes/data")).status == 409
        await api.call("DELETE", "/endpoints/e")
        await asyncio.sleep(60)
        gateway = api.world.gateway
        await api.world.crash()
        await api.world.boot(gateway=gateway)
        again = Api(api.world, api.secret)
        assert await asyncio.to_thread(file.read_text) == "kept"
        assert (await again.call("DELETE", "/volumes/data")).status == 204
        assert list((tmp_path / "volumes").iterdir()) == []

    run(body, data_dir=tmp_path)


def test_a_full_volume_keeps_workers_from_starting_until_it_is_made_larger(tmp_path: Path) -> None:
    async def body(api: Api) -> None:
        made = await create(api, size_gib=0.001)
        file = tmp_path / "volumes" / made["id"] / "file"
        await asyncio.to_thread(file.write_bytes, bytes(2**21))
        await asyncio.sleep(40)
        shown = (await api.call("GET", "/volumes/data")).json
        assert (shown["used_bytes"], shown["over_quota"]) == (2**21, True)
        endpoint = (await api.call("POST", "/endpoints", using(DATA, low=1))).json["endpoint"]
        await asyncio.sleep(5)
        state = (await api.call("GET", "/endpoints/e")).json
        assert state["state"] == "failing"
        assert "stoker volumes resize data" in state["state_reason"]
        entry = api.world.stoker.link.endpoint(endpoint["id"])
        assert entry is not None
        assert entry.refusal == "volume_unavailable"
        assert (await api.call("PATCH", "/volumes/data", {"size_gib": 1})).status == 200
        await asyncio.sleep(10)
        assert len(api.world.providers["process"].workers) == 1  # type: ignore[attr-defined]
        assert (await api.call("GET", "/endpoints/e")).json["state_reason"] == ""

    run(body, data_dir=tmp_path)


def test_a_volume_whose_folder_is_gone_says_so_and_is_never_made_anew_in_silence(tmp_path: Path) -> None:
    async def body(api: Api) -> None:
        made = await create(api)
        await asyncio.to_thread(shutil.rmtree, tmp_path / "volumes" / made["id"])
        await asyncio.sleep(40)
        assert (await api.call("GET", "/volumes/data")).json["state"] == "lost"
        assert (await api.call("DELETE", "/volumes/data")).status == 204

    run(body, data_dir=tmp_path)


@pytest.mark.parametrize(
    ("wrong", "pointer"),
    [
        ({"name": "No"}, "/name"),
        ({"size_gib": 0}, "/size_gib"),
        ({"provider": "docker"}, "/provider"),
        ({"region": "mars"}, "/region"),
    ],
)
def test_a_volume_that_makes_no_sense_is_refused_and_changes_nothing(tmp_path: Path, wrong: Any, pointer: str) -> None:
    async def body(api: Api) -> None:
        before = await api.dump()
        answer = await api.call("POST", "/volumes", {"name": "data", "size_gib": 1} | wrong)
        assert answer.status == 422, answer.body
        assert [error["pointer"] for error in answer.json["errors"]] == [pointer]
        assert await api.dump() == before
        await create(api)
        assert (await api.call("POST", "/volumes", {"name": "data", "size_gib": 1})).status == 409

    run(body, data_dir=tmp_path)


def test_what_a_dead_control_had_begun_is_finished(tmp_path: Path) -> None:
    async def body(api: Api) -> None:
        # A file stands where the folder of volumes should be: it cannot be made now.
        await asyncio.to_thread((tmp_path / "volumes").write_text, "")
        assert (await create(api))["state"] == "creating"
        await asyncio.to_thread((tmp_path / "volumes").unlink)
        await asyncio.sleep(40)
        assert (await api.call("GET", "/volumes/data")).json["state"] == "ready"

    run(body, data_dir=tmp_path)


class Keeper(FakeProvider):
    """A provider that keeps volumes by itself. `refuses`: what it says to the next."""

    def __init__(self) -> None:
        super().__init__(clock=wall, offers=OFFERS)
        self.held: dict[str, float] = {}
        self.refuses: StokerError | None = None

    async def make_volume(self, volume: str, *, size_gib: float) -> None:
        if self.refuses is not None:
            raise self.refuses
        self.held[volume] = max(size_gib, self.held.get(volume, 0.0))

    async def remove_volume(self, volume: str) -> None:
        if self.refuses is not None:
            raise self.refuses
        self.held.pop(volume, None)

    async def volumes(self) -> frozenset[str]:
        return frozenset(self.held)


def test_a_provider_that_keeps_volumes_is_asked_for_them(tmp_path: Path) -> None:
    keeper = Keeper()

    async def body(api: Api) -> None:
        wanted = {"name": "data", "size_gib": 2, "provider": "keeper"}
        made = (await api.call("POST", "/volumes", wanted)).json
        assert (made["state"], keeper.held) == ("ready", {made["id"]: 2.0})
        pools = [{"provider": "keeper", "bounds": {"min": 1, "max": 1}}]
        volumes = [{"volume": "data", "path": "/work", "read_only": True}]
        answer = await api.call("POST", "/endpoints", using(pools=pools) | {"volumes": volumes})
        assert answer.status == 201, answer.body
        await asyncio.sleep(5)
        [worker] = keeper.workers.values()
        assert worker.spec.command[2] == "--at=/work/x"
        mount = Mount(name="data", source="/work", path="/work", read_only=True, held=made["id"])
        assert worker.spec.mounts == (mount,)
        answer = await api.call("PATCH", "/volumes/data", {"size_gib": 1})
        assert (answer.status, answer.json["errors"][0]["pointer"]) == (422, "/size_gib")
        keeper.refuses = Invalid("its class cannot grow")
        assert (await api.call("PATCH", "/volumes/data", {"size_gib": 3})).status == 422
        keeper.refuses = None
        assert (await api.call("GET", "/volumes/data")).json["size_gib"] == 2
        assert (await api.call("PATCH", "/volumes/data", {"size_gib": 3})).json["size_gib"] == 3
        assert keeper.held == {made["id"]: 3.0}

    run(body, data_dir=tmp_path, keeper=keeper)


def test_what_its_provider_cannot_do_now_is_done_later_and_what_it_never_can_is_forgotten(tmp_path: Path) -> None:
    keeper = Keeper()

    async def body(api: Api) -> None:
        wanted = {"name": "data", "size_gib": 2, "provider": "keeper"}
        before = await api.dump()
        keeper.refuses = Invalid("there is no such class")
        answer = await api.call("POST", "/volumes", wanted)
        assert (answer.status, (await api.call("GET", "/volumes/data")).status) == (422, 404)
        assert [row for row in before if "volume" in row] == [row for row in await api.dump() if "volume" in row]
        keeper.refuses = Unavailable("not now")
        assert (await api.call("POST", "/volumes", wanted)).json["state"] == "creating"
        keeper.refuses = None
        await asyncio.sleep(60)
        assert (await api.call("GET", "/volumes/data")).json["state"] == "ready"
        keeper.refuses = Unavailable("not now")
        await api.call("DELETE", "/volumes/data")
        keeper.refuses = None
        await asyncio.sleep(60)
        assert ((await api.call("GET", "/volumes/data")).status, keeper.held) == (404, {})

    run(body, data_dir=tmp_path, keeper=keeper)
