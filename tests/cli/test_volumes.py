"""`stoker volumes`."""

from __future__ import annotations

from typing import Any

from cli.fake_stoker import CREATED, Command, FakeStoker, page


def volume(**more: Any) -> dict[str, Any]:
    return {
        "id": "v-1",
        "number": 1,
        "name": "data",
        "size_gib": 10.0,
        "provider": "process",
        "region": "local",
        "state": "ready",
        "used_bytes": 2**30,
        "measured_at": CREATED,
        "over_quota": False,
        "created_at": CREATED,
        **more,
    }


def test_a_volume_is_made_resized_and_listed_with_what_it_holds(stoker: Command, fake: FakeStoker) -> None:
    fake.on("POST", "/volumes", (201, volume(used_bytes=None)))
    assert stoker("volumes", "create", "data", "--size", "10").out == "volume data is ready, up to 10 GiB\n"
    assert fake.of("POST")[0].body == {"name": "data", "size_gib": 10.0, "provider": "process"}
    fake.on("PATCH", "/volumes/data", volume(size_gib=20.0))
    assert stoker("volumes", "resize", "data", "20").out == "volume data may hold 20 GiB\n"
    fake.on("GET", "/volumes", page([volume(), volume(name="full", over_quota=True)]))
    first, second = stoker("volumes", "ls").out.splitlines()[1:]
    assert "1.00 of 10 GiB" in first
    assert "too much" in second
    fake.on("GET", "/volumes/data", volume())
    assert "local" in stoker("volumes", "show", "data").out


def test_a_volume_is_deleted_only_when_that_is_said_aloud(stoker: Command, fake: FakeStoker) -> None:
    fake.on("GET", "/volumes/data", volume())
    fake.on("DELETE", "/volumes/data", {})
    refused = stoker("volumes", "rm", "data")
    assert (refused.code, "holds 1.00 of 10 GiB" in refused.err) == (2, True)
    assert stoker("volumes", "rm", "data", "--yes").out == "volume data is deleted\n"
