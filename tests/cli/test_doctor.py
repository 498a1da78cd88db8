"""`stoker doctor`."""

from __future__ import annotations

import json
import socket
from pathlib import Path

import pytest

from cli.fake_stoker import Command, FakeStoker
from docker_engine import Engine
from stoker.cli import doctor
from stoker.settings import Settings

INFO = {"version": "0.1.0", "gateway": {"connected": True, "uptime_s": 1.0}, "endpoints": 1, "workers": 2}


def test_a_healthy_machine_has_nothing_wrong(stoker: Command, fake: FakeStoker) -> None:
    fake.on("GET", "/info", INFO)
    ran = stoker("doctor", "--json")
    checks = {check["name"]: check for check in json.loads(ran.out)}
    assert ran.code == 0
    assert checks["stoker"]["finding"].endswith("1 endpoint, 2 workers")
    assert checks["gateway"]["verdict"] == "ok"
    assert all(check["remedy"] for check in checks.values() if check["verdict"] != "ok")


@pytest.mark.parametrize(
    "info", [INFO | {"gateway": {"connected": False, "uptime_s": None}}, (401, {"detail": "unknown key"})]
)
def test_something_wrong_is_an_exit_code(stoker: Command, fake: FakeStoker, info: object) -> None:
    fake.on("GET", "/info", info)
    ran = stoker("doctor")
    assert ran.code == 1
    assert "wrong" in ran.out


def test_settings_that_cannot_be_read_are_found(stoker: Command, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "stoker.yaml").write_text("prot: 1\n")
    ran = stoker("doctor")
    assert ran.code == 1
    assert "unknown setting 'prot'" in ran.out


def test_a_port_that_is_taken_is_wrong() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        number = taken.getsockname()[1]
        assert doctor.port("127.0.0.1", number).verdict == "wrong"
    assert doctor.port("127.0.0.1", number).remedy == "stoker up"


def test_an_admin_key_that_others_may_read_is_wrong(tmp_path: Path) -> None:
    path = tmp_path / "admin-key"
    assert doctor.admin_key(path).verdict == "ok"
    path.touch(mode=0o600)
    assert doctor.admin_key(path).verdict == "ok"
    path.chmod(0o644)
    assert doctor.admin_key(path).remedy == f"chmod 600 {path}"


def test_a_data_folder_others_may_write_to_is_a_warning(tmp_path: Path) -> None:
    tmp_path.chmod(0o777)
    assert doctor.data_folder(tmp_path).verdict == "warning"
    tmp_path.chmod(0o700)
    assert doctor.data_folder(tmp_path).verdict == "ok"
    assert "first start" in doctor.data_folder(tmp_path / "new" / "one").finding


def test_no_driver_is_no_gpus() -> None:
    def missing() -> list[str]:
        raise OSError("no driver")

    assert doctor.gpus(missing).finding == "none (no driver)"
    assert doctor.gpus(lambda: ["NVIDIA H200"]).finding == "NVIDIA H200"


def test_a_docker_daemon_that_is_wanted_must_answer(tmp_path: Path) -> None:
    path = tmp_path / "d.sock"
    settings = Settings(data_dir=tmp_path, providers={"docker": {"host": f"unix://{path}"}})
    assert [check.verdict for check in doctor.docker(settings)] == ["wrong"]
    assert [check.verdict for check in doctor.docker(Settings(data_dir=tmp_path))] == ["ok"]
    elsewhere = Settings(data_dir=tmp_path, providers={"docker": {"host": "tcp://10.0.0.1:2376"}})
    assert "elsewhere" in next(doctor.docker(elsewhere)).finding


def test_a_cluster_that_is_wanted_needs_a_configuration(tmp_path: Path) -> None:
    path = tmp_path / "config"
    settings = Settings(data_dir=tmp_path, providers={"kubernetes": {"kubeconfig": str(path)}})
    assert [check.verdict for check in doctor.kubernetes(settings)] == ["wrong"]
    path.touch()
    assert [check.verdict for check in doctor.kubernetes(settings)] == ["ok"]
    assert list(doctor.kubernetes(Settings(data_dir=tmp_path))) == []


@pytest.mark.process
def test_a_docker_daemon_that_answers_is_found(tmp_path: Path, docker: Engine) -> None:
    settings = Settings(data_dir=tmp_path, providers={"docker": {"host": docker.host}})
    [check] = doctor.docker(settings)
    assert (check.verdict, check.finding) == ("ok", f"a daemon answers at {docker.host}")
