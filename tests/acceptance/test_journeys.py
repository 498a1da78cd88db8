"""The journeys of a user, on a real Stoker with real workers."""

from __future__ import annotations

import json
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from acceptance.installation import WORKER, Installation, until

pytestmark = [pytest.mark.process, pytest.mark.timeout(300)]


def test_creating_and_calling_at_once_never_sees_404_or_401(installation: Installation) -> None:
    installation.up()
    for number in range(10):
        installation.create(f"e{number}", low=0, high=1)
        status, _ = installation.get(f"/e/e{number}/who", X_Stoker_Hold="0")
        assert status == 503, "known, with nothing running yet"
    made = installation.api("POST", "/keys", {"name": "k", "scopes": ["invoke"]})
    with installation.request(
        "GET", "/e/e0/who", Authorization=f"Bearer {made['secret']}", X_Stoker_Hold="0"
    ) as answer:
        assert answer.status in (200, 503), "asked before, it may have been woken already"


def test_projects_are_apart_and_secrets_reach_workers_through_the_front_door(installation: Installation) -> None:
    installation.up()
    installation.api("POST", "/projects", {"name": "team"})
    installation.api("POST", "/secrets", {"name": "token", "value": "theirs"}, X_Stoker_Project="team")
    assert installation.api("GET", "/secrets")["items"] == []
    assert [s["project"] for s in installation.api("GET", "/secrets", X_Stoker_Project="team")["items"]] == [2]
    installation.api("POST", "/secrets", {"name": "token", "value": "a value of ours"})
    say = "import os; print('it is', os.environ['TOKEN'][::-1]); raise SystemExit(3)"
    result = installation.run(
        "deploy", "--name", "e", "--min", "1", "--secret", "TOKEN=token", "--", sys.executable, "-c", say
    )
    assert "it is sruo fo eulav a" in result.stdout + result.stderr
    state = installation.api("POST", "/master-key:rotate")
    assert (state["sealed"], state["left"], state["old"]) == (2, 0, [])
    assert installation.api("GET", "/secrets/token/value")["value"] == "a value of ours"
    for file in installation.folder.rglob("stoker.db*"):
        assert b"a value of ours" not in file.read_bytes()


def test_zero_to_two_and_back_on_real_processes(installation: Installation) -> None:
    installation.up()
    installation.create(low=0, high=2, slots=1, scaling={"idle_timeout_s": 1, "scale_down_delay_s": 1})
    with ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(lambda _: installation.get("/e/e/slow?s=0.5"), range(6)))
    assert {status for status, _ in answers} == {200}
    until(lambda: not installation.worker_pids(), what="zero")
    decisions = installation.api("GET", "/endpoints/e/decisions")["items"]
    assert max(decision["workers"] for decision in decisions) == 2
    assert decisions[0]["workers"] == 0


def test_a_request_with_a_ticket_goes_to_the_reserved_worker(installation: Installation) -> None:
    installation.up()
    installation.create(low=2, high=2, slots=4)
    until(lambda: len(installation.ready_workers("e")) == 2, what="two workers")
    for _ in range(4):
        ticket = installation.api("POST", "/endpoints/e/reservations", {"cost": 2, "expires_s": 60})
        with installation.request("GET", "/e/e/who", X_Stoker_Reservation=ticket["id"]) as answer:
            assert (answer.status, answer.headers["X-Stoker-Worker"]) == (200, ticket["worker"])
        installation.api("DELETE", f"/endpoints/e/reservations/{ticket['id']}")
        with installation.request("GET", "/e/e/who", X_Stoker_Reservation=ticket["id"]) as answer:
            assert (answer.status, answer.headers["X-Stoker-Reason"]) == (410, "reservation_gone")


def test_a_command_that_exits_at_once_shows_its_last_lines(installation: Installation) -> None:
    installation.up()
    result = installation.run(
        "deploy",
        "--name",
        "bad",
        "--min",
        "1",
        "--",
        sys.executable,
        "-c",
        "print('no such table'); raise SystemExit(3)",
    )
    assert result.returncode == 1
    shown = result.stdout + result.stderr
    assert "no such table" in shown
    assert "code 3" in shown


def test_a_port_that_never_opens_is_said_so(installation: Installation) -> None:
    installation.up()
    spec = {
        "name": "shut",
        "launch": {"command": ["sleep", "60"]},
        "probes": {"startup": {"path": None, "start_timeout_s": 1}},
        "pools": [{"bounds": {"min": 1, "max": 1}}],
    }
    installation.api("POST", "/endpoints", spec)
    until(
        lambda: "not ready within 1 s" in installation.api("GET", "/endpoints/shut")["state_reason"],
        what="the reason",
    )


def test_the_command_line_from_yaml_to_removal(installation: Installation, tmp_path: Path) -> None:
    installation.up()
    document = tmp_path / "endpoint.yaml"
    document.write_text(
        f"name: from yaml\nlaunch:\n  command: [{sys.executable}, {WORKER}, '{{port}}']\n"
        "pools:\n  - bounds: {min: 1, max: 1}\n"
    )
    applied = installation.run("apply", "-f", str(document))
    assert applied.returncode == 0, applied.stderr
    until(lambda: installation.ready_workers("from-yaml"), what="a worker")
    listed = json.loads(installation.run("ls", "--json").stdout)
    assert [endpoint["slug"] for endpoint in listed] == ["from-yaml"]
    until(lambda: "serves on" in installation.run("logs", "from-yaml").stdout, what="its output")
    assert installation.run("stop", "from-yaml").returncode == 0
    assert installation.get("/e/from-yaml/who")[0] == 503
    assert installation.run("start", "from-yaml").returncode == 0
    assert installation.get("/e/from-yaml/who")[0] == 200
    assert installation.run("rm", "--yes", "from-yaml").returncode == 0
    assert installation.get("/e/from-yaml/who")[0] == 404
    assert installation.run("show", "from-yaml").returncode == 4
    assert installation.run("down").returncode == 0
    assert installation.run("ls").returncode == 3


def test_a_worker_sees_no_credential_and_no_internals(installation: Installation) -> None:
    installation.up()
    installation.create(low=1)
    with installation.request("GET", "/e/e/headers", X_Stoker_Secret="x", Cookie="stoker_session=1; mine=2") as answer:
        headers = json.loads(answer.read())
        assert answer.getheader("Content-Security-Policy") == "sandbox allow-scripts allow-forms"
    assert "authorization" not in headers
    assert not [name for name in headers if name.startswith("x-stoker")]
    assert headers["cookie"] == "mine=2"
    assert headers["x-forwarded-for"] == "127.0.0.1"


def test_real_models_answer_by_name_after_a_cold_start(installation: Installation) -> None:
    installation.up()
    spec = {
        "name": "Small Model",
        "launch": {"model": "smollm2"},
        "pools": [{"bounds": {"min": 0, "max": 1}}],
    }
    installation.api("POST", "/endpoints", spec)
    for model in ("small-model", "Small Model", "HuggingFaceTB/SmolLM2-135M-Instruct"):
        question = {"model": model, "messages": [{"role": "user", "content": "Say hello."}], "max_tokens": 4}
        body = json.dumps(question).encode()
        with installation.request(
            "POST", "/v1/chat/completions", body=body, Content_Type="application/json", timeout_s=90
        ) as answer:
            assert answer.status == 200
            assert json.loads(answer.read())["usage"]["completion_tokens"] > 0


def test_two_endpoints_share_one_card_by_swapping_and_every_request_is_answered(installation: Installation) -> None:
    installation.environ |= {"STOKER_VIRTUAL_GPUS": "[a5000:1]", "STOKER_EVICTION_RESIDENCE_S": "0"}
    installation.up()
    pools = [{"hardware": {"gpu_family": "a5000", "gpu_count": 1}, "bounds": {"min": 0, "max": 1}}]
    for name in ("left", "right"):
        installation.create(name, pools=pools)
    for name in ("left", "right", "left"):
        assert installation.get(f"/e/{name}/who")[0] == 200
        assert len(installation.ready_workers(name)) == 1
    reasons = [d["reason"] for d in installation.api("GET", "/endpoints/left/decisions")["items"]]
    assert any("makes room for right" in reason for reason in reasons)
    assert any("of right is to make room" in reason for reason in reasons)
