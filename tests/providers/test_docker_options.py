"""What can be set of the Docker provider, and what a daemon's answers mean; no daemon needed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from stoker.domain.errors import Invalid, Unsupported
from stoker.domain.hardware import PortRange
from stoker.domain.worker import WorkerId
from stoker.providers.base import ProviderOptions, load
from stoker.providers.docker import containers
from stoker.providers.docker.containers import PAUSED_S, Pauses
from stoker.providers.docker.images import Progress
from stoker.providers.docker.options import DockerOptions, Folder, parse


@pytest.mark.parametrize(
    ("given", "match"),
    [
        ({"hots": "unix:///x"}, "no option 'hots'"),
        ({"host": "10.0.0.1"}, "unix:///, tcp:// or ssh://"),
        ({"ports": "9-1"}, "FIRST-LAST"),
        ({"reach": "magic"}, "published or container"),
        ({"folders": ["models:/models"]}, "expected folders like"),
        ({"gpus": ["h100"]}, "how many cards"),
        ({"read_only": "yes"}, "true or false"),
        ({"pids_max": 1}, "between 16"),
        ({"host": "tcp://10.0.0.1:2376", "publish": "10.0.0.1", "tls_ca": "/ca.pem"}, "belong together"),
        ({"host": "tcp://10.0.0.1:2376"}, "say with publish"),
    ],
)
def test_an_option_that_cannot_be_is_named(given: dict[str, Any], match: str) -> None:
    with pytest.raises(Invalid, match=match):
        parse(given)


def test_options_are_what_they_say() -> None:
    found = parse(
        {
            "host": "tcp://10.0.0.1:2376",
            "publish": "10.0.0.1",
            "ports": "4000-4009",
            "capabilities": ["cap_chown", "SETUID"],
            "folders": ["/srv/models:/models", "/srv/cache:/cache:rw"],
        }
    )
    assert (found.local, found.published, found.ports) == (False, True, PortRange(4000, 4009))
    assert found.capabilities == ("CHOWN", "SETUID")
    assert found.folders == (Folder("/srv/models", "/models", True), Folder("/srv/cache", "/cache", False))


def test_a_provider_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(Unsupported, match="there is no provider 'nonsense'"):
        load("nonsense", ProviderOptions(tmp_path, {}))
    with pytest.raises(Invalid, match="no option 'nonsense'"):
        load("process", ProviderOptions(tmp_path, {"ports": PortRange(1, 2), "nonsense": 1}))


def _ended(**state: Any) -> dict[str, Any]:
    state = {"Status": "exited", "ExitCode": 0, "FinishedAt": "2026-01-01T00:00:00.123456789Z"} | state
    labels = {containers.WORKER: "w"}
    return {
        "Config": {"Labels": labels},
        "State": state,
        "HostConfig": {"Memory": 2**30},
        "Created": "2026-01-01T00:00:00Z",
    }


@pytest.mark.parametrize(
    ("state", "code", "reason"),
    [
        ({}, 0, "exited with code 0"),
        ({"ExitCode": 3}, 3, "exited with code 3"),
        ({"ExitCode": 143}, -15, "killed by signal 15 (SIGTERM)"),
        ({"ExitCode": 255}, 255, "exited with code 255"),
        ({"ExitCode": 137, "OOMKilled": True}, -9, "out of memory: killed at its limit of 1 GiB"),
        ({"ExitCode": 0, "OOMKilled": True}, 0, "exited with code 0"),
        ({"ExitCode": 128, "Error": "no such device"}, 128, "exited with code 128: no such device"),
        (
            {"Status": "created", "FinishedAt": "0001-01-01T00:00:00Z", "Error": "port is taken"},
            None,
            "never ran: port is taken",
        ),
    ],
)
def test_an_end_has_a_code_and_a_reason(state: dict[str, Any], code: int | None, reason: str) -> None:
    found = containers.observed(_ended(**state), None)
    assert found.id == WorkerId("w")
    assert not found.running
    assert found.exit is not None
    assert (found.exit.code, found.exit.reason) == (code, reason)
    assert abs(found.exit.at - 1767225600) < 1


def test_a_worker_is_reached_where_the_options_say() -> None:
    listed = {
        "Labels": {containers.PORT: "30001", containers.LISTEN: "80"},
        "NetworkSettings": {"Networks": {"bridge": {"IPAddress": "172.17.0.2"}}},
    }
    published = containers.address_of(listed, DockerOptions(publish="10.0.0.1"))
    assert published is not None
    assert (published.host, published.port) == ("10.0.0.1", 30001)
    own = containers.address_of(listed, DockerOptions(reach="container"))
    assert own is not None
    assert (own.host, own.port) == ("172.17.0.2", 80)
    assert containers.address_of({"Labels": {}}, DockerOptions()) is None


def test_progress_counts_the_bytes_of_all_layers() -> None:
    progress = Progress()
    assert str(progress) == "its layers are being looked at"
    progress.take({"status": "Pulling from x", "id": "1"})
    progress.take({"status": "Downloading", "id": "a", "progressDetail": {"current": 2**20, "total": 3 * 2**20}})
    progress.take({"status": "Downloading", "id": "b", "progressDetail": {"current": 0, "total": 2**20}})
    assert str(progress) == "25% of 4 MiB"
    progress.take({"status": "Download complete", "id": "b", "progressDetail": {}})
    assert str(progress) == "50% of 4 MiB"


def test_several_daemons_keep_their_files_apart(tmp_path: Path) -> None:
    for name in ("left", "right"):
        load("docker", ProviderOptions(tmp_path, {"host": "unix:///nowhere"}, name))
    assert {path.name for path in tmp_path.iterdir()} == {"left", "right"}


def test_an_engine_runs_in_its_own_image_else_in_that_of_all(tmp_path: Path) -> None:
    images = {"vllm": "my/vllm:{version}"}
    provider = load("docker", ProviderOptions(tmp_path, {"image": "all", "engine_images": images}))
    assert (provider.image_of("vllm"), provider.image_of("llamacpp")) == ("my/vllm:{version}", "all")
    with pytest.raises(Invalid, match="engine_images"):
        load("docker", ProviderOptions(tmp_path, {"engine_images": ["x"]}))


def test_a_container_that_stays_paused_should_serve_no_more() -> None:
    pauses, paused, running = Pauses(), {"Id": "a", "State": "paused"}, {"Id": "a", "State": "running"}
    assert pauses.seen(paused, now=100.0) == ""
    assert pauses.seen(paused, now=100.0 + PAUSED_S - 1) == "", "as for a picture of it"
    assert pauses.seen(running, now=110.0) == ""
    assert pauses.seen(paused, now=111.0) == "", "another time"
    assert pauses.seen(paused, now=111.0 + PAUSED_S) == "its container is paused"
    pauses.keep(())
    assert pauses.seen(paused, now=200.0) == ""
