"""Vast.ai's own command line, unmodified, against a real Stoker: what it sends is done, what it prints is right."""

from __future__ import annotations

import json

import pytest

from acceptance.installation import until
from clients.vast import conformance
from clients.vast.running import TOY, Cli, Stoker

pytestmark = [pytest.mark.process, pytest.mark.timeout(300)]


def test_every_command_from_create_to_gone(stoker: Stoker, cli: Cli) -> None:
    template = stoker.template("typed", TOY)
    other = stoker.template("typed-otherwise", TOY.replace(":1", ":2"))
    out, _ = cli(
        *("create", "endpoint", "--endpoint_name", "typed", "--min_load", "10", "--target_util", "0.9"),
        *("--cold_mult", "2.0", "--cold_workers", "0", "--max_workers", "1", "--inactivity_timeout", "300"),
        *("--max_queue_time", "30", "--target_queue_time", "10"),
    )
    assert out.startswith("create endpoint {'success': True, 'result': "), out
    id = out.rpartition(" ")[2].removesuffix("}")
    plain, _ = cli("create", "endpoint", "--endpoint_name", "typed plain", "--raw")
    defaults = json.loads(plain)["result"]
    listed = json.loads(cli("show", "endpoints", "--raw")[0])
    [shown] = [each for each in listed if each["id"] == int(id)]
    assert (shown["endpoint_name"], shown["min_load"], shown["inactivity_timeout"]) == ("typed", 10.0, 300)
    assert "api_key" not in shown
    [of_defaults] = [each for each in listed if each["id"] == defaults]
    assert [of_defaults[f] for f in ("min_load", "cold_mult", "cold_workers", "max_workers")] == [0.0, 2.5, 5, 20]
    out, err = cli("create", "workergroup", "--template_hash", template, "--endpoint_name", "typed", "--gpu_ram", "24")
    assert out.startswith("workergroup create {'success': True, 'id': "), out + err
    group = out.partition("'id': ")[2].partition(",")[0].removesuffix("}")
    [listed_group] = [each for each in json.loads(cli("show", "workergroups")[0]) if str(each["id"]) == group]
    assert (listed_group["template_hash"], listed_group["gpu_ram"]) == (template, 24.0)
    assert listed_group["search_query"]["verified"] == {"eq": True}
    workers = until(lambda: _idle(cli, id), what="a worker is ready")
    assert "gpu_name=" in workers
    assert cli("get", "endpt-logs", id, "--level", "1", "--tail", "100")[0]
    assert "workers" in cli("get", "wrkgrp-logs", group, "--level", "2")[0]
    assert cli("update", "workers", group)[0] == f"Update started for workergroup {group} (1 workers)"
    assert cli("update", "workers", group, "--cancel")[0] == f"Update cancelled for workergroup {group}"
    words = ("--endpoint_id", id, "--template_hash", other)
    assert cli("update", "workergroup", group, *words)[0] == "workergroup update {'success': True}"
    assert stoker.api("GET", "/endpoints/typed")["spec"]["launch"]["image"].endswith(":2")
    assert cli("update", "workergroup", group, "--endpoint_id", id)[0] == "workergroup update {'success': True}"
    stopped = cli("update", "endpoint", id, "--min_load", "100", "--endpoint_state", "stopped")[0]
    assert stopped == "update endpoint {'success': True}"
    assert "'success': True" in cli("delete", "workergroup", group)[0]
    assert "'success': True" in cli("delete", "endpoint", id)[0]
    assert "'success': True" in cli("delete", "endpoint", str(defaults))[0]
    assert '"typed' not in cli.program("show", "endpoints")
    assert conformance.of(conformance.CLI) - cli.driven == set()


def _idle(cli: Cli, id: str) -> str:
    out, _ = cli("get", "endpt-workers", id)
    return out if "status=idle" in out and "measured_perf=0" not in out else ""


def test_arguments_instead_of_a_template_say_what_runs(stoker: Stoker, cli: Cli) -> None:
    out, _ = cli("create", "endpoint", "--endpoint_name", "argued", "--cold_workers", "0")
    id = out.rpartition(" ")[2].removesuffix("}")
    out, err = cli(
        *("create", "workergroup", "--endpoint_id", id, "-n", "--search_params", "gpu_ram>=23 num_gpus=1"),
        *("--launch_args", f"--image {TOY} --disk 4 --env '-e A=b -p 8000:8000'"),
    )
    assert out.startswith("workergroup create {'success': True, 'id': "), out + err
    [group] = [each for each in json.loads(cli("show", "workergroups")[0]) if str(each["endpoint_id"]) == id]
    assert group["launch_args"].startswith(f"--image {TOY}")
    assert group["search_query"] == {"gpu_ram": {"gte": 23000.0}, "num_gpus": {"eq": 1}}
    # What else there is shows it as what it is.
    spec = stoker.api("GET", "/endpoints/argued")["spec"]
    assert (spec["launch"]["port"], spec["launch"]["env"]) == (8000, {"A": "b"})
    assert (spec["pools"][0]["hardware"]["gpu_count"], spec["pools"][0]["hardware"]["vram_gib_min"]) == (1, 23)
    cli("delete", "endpoint", id)


def test_what_is_wrong_is_said_on_stderr_in_words(cli: Cli) -> None:
    assert cli("show", "endpoints", key="sk-wrong")[1].startswith("Failed with error 401: Invalid user key")
    message = cli("update", "endpoint", "999", "--min_load", "1")[1]
    assert message == "Failed with error 404: Endpoint 999 for user 1 not found."
    raw = json.loads(cli("delete", "endpoint", "999", "--raw")[1])
    assert (raw["error"], raw["status_code"]) == (True, 404)
    assert "No workergroup by that id is available." in cli("delete", "workergroup", "999001")[1]
    out, _ = cli("create", "workergroup", "--endpoint_id", "999", "--template_hash", "none")
    assert "400" in out
    message = cli("create", "endpoint", "--endpoint_name", "bad", "--cold_workers", "5", "--max_workers", "1")[1]
    assert "cold_workers must not be above max_workers" in message
    for command in ("endpt-logs", "wrkgrp-logs"):
        assert "404" in "".join(cli("get", command, "999001"))
    assert "404" in "".join(cli("update", "workers", "999001"))
