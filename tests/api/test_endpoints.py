"""Endpoints through the native API: what is taken, what is refused and where, who sees what."""

from __future__ import annotations

import asyncio
from typing import Any

from api.client import Api, run, spec
from stoker.domain.access import Scope


def pool(**more: Any) -> dict[str, Any]:
    return {"pools": [{"provider": "fake", **more}]}


def launch(**more: Any) -> dict[str, Any]:
    return {"launch": more}


COMMAND = {"command": ["x"]}
# What is wrong with a spec, the status of the answer, the place that it names, and a word of it.
REFUSED: list[tuple[dict[str, Any], int, str, str]] = [
    # Types
    ({"name": 5}, 422, "/name", "valid string"),
    ({"name": None}, 422, "/name", "valid string"),
    ({"pools": {}}, 422, "/pools", "a list"),
    ({"pools": "x"}, 422, "/pools", "a list"),
    ({"launch": ["x"]}, 422, "/launch", "an object"),
    (launch(command="x"), 422, "/launch/command", "a list"),
    (launch(command=[1]), 422, "/launch/command/0", "valid string"),
    (launch(command=["x"], env=["A=1"]), 422, "/launch/env", "an object"),
    (launch(command=["x"], env={"A": 1}), 422, "/launch/env/A", "must be text"),
    (pool(bounds={"min": 0.5}), 422, "/pools/0/bounds/min", "valid integer"),
    (pool(bounds={"min": "many"}), 422, "/pools/0/bounds/min", "valid integer"),
    ({"access": "everybody"}, 422, "/access", "'project', 'attached' or 'open'"),
    ({"slots": []}, 422, "/slots", "valid integer"),
    # Fields
    ({"replicas": 3}, 422, "/replicas", "no such field"),
    (pool(min=1), 422, "/pools/0/min", "no such field"),
    (launch(cmd=["x"]), 422, "/launch/cmd", "no such field"),
    # Numbers
    ({"scaling": {"target": float("nan")}}, 422, "/scaling/target", "finite"),
    ({"scaling": {"idle_timeout_s": float("inf")}}, 422, "/scaling/idle_timeout_s", "finite"),
    ({"slots": float("inf")}, 422, "/slots", "integer"),
    (pool(bounds={"min": -1}), 422, "/pools/0/bounds/min", "between 0 and 1000"),
    (pool(bounds={"max": 1001}), 422, "/pools/0/bounds/max", "between 0 and 1000"),
    (pool(bounds={"max": 10**400}), 422, "/pools/0/bounds/max", "between 0 and 1000"),
    (pool(bounds={"min": 3, "max": 2}), 422, "/pools/0/bounds/min", "above max"),
    (pool(bounds={"max": 2, "cold": 3}), 422, "/pools/0/bounds/cold", "between 0 and max"),
    ({"slots": 0}, 422, "/slots", "between"),
    ({"slots": -(10**300)}, 422, "/slots", "between"),
    ({"scaling": {"target": 0}}, 422, "/scaling/target", "between"),
    ({"probes": {"startup": {"period_s": 0}}}, 422, "/probes/startup/period_s", "between"),
    ({"probes": {"liveness": {"path": "health"}}}, 422, "/probes/liveness/path", "starts with /"),
    ({"probes": {"readiness": {"path": "/a b"}}}, 422, "/probes/readiness/path", "no spaces"),
    ({"probes": {"readiness": {"command": ["x\0"]}}}, 422, "/probes/readiness/command/0", "no NUL"),
    ({"timeouts": {"connect_s": 0}}, 422, "/timeouts/connect_s", "between"),
    ({"waiting": {"requests_max": -1}}, 422, "/waiting/requests_max", "between"),
    ({"rollout": {"surge": 0}}, 422, "/rollout/surge", "between"),
    (launch(command=["x"], port=70_000), 422, "/launch/port", "between"),
    # Texts
    ({"name": ""}, 422, "/name", "between 1 and 255"),
    ({"name": " "}, 422, "/name", "between 1 and 255"),
    ({"name": "n" * 256}, 422, "/name", "between 1 and 255"),
    ({"name": "a\nb"}, 422, "/name", "control characters"),
    ({"name": "a\0b"}, 422, "/name", "control characters"),
    ({"name": "a\u202eb"}, 422, "/name", "control characters"),
    (launch(command=["a\0b"]), 422, "/launch/command/0", "NUL"),
    (launch(command=["x"] * 257), 422, "/launch/command", "256 arguments"),
    (launch(command=["x", "y" * 8_193]), 422, "/launch/command/1", "8192"),
    (launch(command=["x"], env={"A B": "1"}), 422, "/launch/env", "'A B' is not a name"),
    (launch(command=["x"], env={"": "1"}), 422, "/launch/env", "'' is not a name"),
    (launch(command=["x"], env={"A": "x" * 32_769}), 422, "/launch/env/A", "32768"),
    (launch(command=["x"], env={"A": "x\0"}), 422, "/launch/env/A", "NUL"),
    (launch(command=["x"], env={f"A{i}": "" for i in range(257)}), 422, "/launch/env", "256"),
    ({"labels": {str(i): "" for i in range(65)}}, 422, "/labels", "at most 64"),
    ({"annotations": {"a": "x" * 4097}}, 422, "/annotations", "4096"),
    # What to run
    (launch(), 422, "/launch", "say what to run"),
    (launch(model="smollm2", command=["x"]), 422, "/launch", "once"),
    (launch(command=["x"], parameters=["--x"]), 422, "/launch/parameters", "need a model"),
    (launch(model="smollm"), 422, "/launch/model", "did you mean smollm2"),
    (launch(model="/" + "x" * 300, engine="llamacpp"), 422, "/launch/model", "File name too long"),
    (launch(model="org/model", engine="vlm"), 422, "/launch/engine", "there are auto, llamacpp, vllm"),
    (launch(model="org/model", engine="vllm", parameters=["--max-modle-len=5"]), 422, "/launch/parameters/0", "max"),
    (launch(model="org/model", engine="vllm", engine_version="0.0.1"), 422, "/launch/engine_version", "0.0.1"),
    # Where to run
    ({"pools": []}, 422, "/pools", "at least 1"),
    ({"pools": [{"provider": "fake"}] * 2}, 422, "/pools/1/name", "two pools"),
    ({"pools": [{"provider": "moon"}]}, 422, "/pools/0/provider", "there are fake, process"),
    (pool(hardware={"gpu_count": 2}), 422, "/pools/0/hardware", "no host can ever run this"),
    (pool(hardware={"gpu_count": 65}), 422, "/pools/0/hardware/gpu_count", "between 0 and 64"),
    (pool(hardware={"gpu_count": 1, "gpu_family": "t4"}), 422, "/pools/0/hardware", "1 t4 GPU"),
    (pool(hardware={"gpu_count": 1, "gpu_family": "h1000"}), 422, "/pools/0/hardware/gpu_family", "did you mean"),
    (pool(hardware={"gpu_count": 1, "gpu_family": 5}), 422, "/pools/0/hardware/gpu_family", "list"),
    (pool(hardware={"gpu_count": 1, "gpu_family": ["h100", 5]}), 422, "/pools/0/hardware/gpu_family/1", "string"),
    (pool(hardware={"gpu_count": 2, "gpu_family": "1xh100-80gb"}), 422, "/pools/0/hardware/gpu_count", "another"),
    (pool(hardware={"gpu_count": "1"}), 422, "/pools/0/hardware/gpu_count", "integer"),
    (pool(hardware={"gpu_count": True}), 422, "/pools/0/hardware/gpu_count", "integer"),
    (pool(hardware={"vcpu": "1"}), 422, "/pools/0/hardware/vcpu", "number"),
    (pool(hardware={"vcpu": True}), 422, "/pools/0/hardware/vcpu", "number"),
    (pool(hardware={"vcpu_per_gpu": 1}), 422, "/pools/0/hardware/gpu_count", "at least 1"),
    (pool(hardware={"region": "moon"}), 422, "/pools/0/hardware/region", "there are local"),
    (pool(hardware={"price_max": 1}), 422, "/pools/0/hardware", "has no price here"),
    (launch(command=["x"], ports=[1]), 422, "/launch/ports", "need a port"),
    (launch(command=["x"], port=1, ports=[2, 2]), 422, "/launch/ports/1", "twice"),
    (launch(command=["x"], port="80"), 422, "/launch/port", "integer"),
    (pool(hardware={"gpu_family": "h100"}), 422, "/pools/0/hardware/gpu_count", "at least 1"),
    (pool(hardware={"gpu_count": 1, "vram_gib_min": 81}), 422, "/pools/0/hardware", "no host can ever run this"),
    (pool(hardware={"vcpu": 1_001}), 422, "/pools/0/hardware", "1001 vCPU"),
    (pool(hardware={"ram_gib": 0}), 422, "/pools/0/hardware/ram_gib", "above 0"),
    ({"pools": [{"provider": "process"}], **launch(image="nginx")}, 422, "/launch/image", "not images"),
]


def test_a_spec_that_makes_no_sense_is_refused_with_the_place_and_changes_nothing() -> None:
    async def body(api: Api) -> None:
        await api.create()
        before = await api.dump()
        wrong = []
        for index, (change, status, pointer, word) in enumerate(REFUSED):
            value = {**spec("new"), **change}
            for method, path in (("POST", "/endpoints"), ("PUT", "/endpoints/e")):
                answer = await api.call(method, path, value, headers={"idempotency-key": str(index)})
                problems = answer.json.get("errors") or [{"pointer": None, "detail": ""}]
                found = any(p["pointer"] == pointer and word in p["detail"] for p in problems)
                if answer.status != status or not found:
                    wrong.append((method, str(change)[:100], answer.status, problems))
        assert wrong == [], wrong
        assert await api.dump() == before

    run(body)


def test_what_a_user_may_do_depends_on_the_provider() -> None:
    async def body(api: Api) -> None:
        deployer = await api.key(Scope.DEPLOY)
        on_process = {**spec("p"), "pools": [{"provider": "process"}]}
        before = await api.dump()
        answer = await api.call("POST", "/endpoints", on_process, key=deployer)
        assert (answer.status, "scope admin" in answer.json["detail"]) == (403, True)
        assert await api.dump() == before
        assert (await api.call("POST", "/endpoints", on_process)).status == 201
        await api.create("f")
        for path, value in (("/endpoints/p", {**on_process, "slots": 2}), ("/endpoints/f", on_process)):
            assert (await api.call("PUT", path, value, key=deployer)).status == 403
        assert (await api.call("POST", "/endpoints", spec("mine"), key=deployer)).status == 201

    run(body)


def test_an_endpoint_is_found_by_id_slug_number_and_name() -> None:
    async def body(api: Api) -> None:
        made = await api.create("My Chat")
        for reference in (made["id"], "my-chat", str(made["number"]), "My Chat"):
            answer = await api.call("GET", f"/endpoints/{reference}")
            assert answer.json["id"] == made["id"], reference
        for reference in ("my", "My chat", "9" * 30, "%00", "\N{PILE OF POO}", "0", "-1"):
            answer = await api.call("GET", f"/endpoints/{reference}")
            assert answer.status == 404, reference

    run(body)


def test_a_name_of_digits_or_of_anothers_id_never_stands_for_the_other() -> None:
    async def body(api: Api) -> None:
        first = await api.create("first")
        digits = await api.create(str(first["number"]))
        stolen = await api.create(first["id"])
        assert (await api.call("GET", f"/endpoints/{first['number']}")).json["id"] == first["id"]
        assert (await api.call("GET", f"/endpoints/{first['id']}")).json["id"] == first["id"]
        assert len({first["slug"], digits["slug"], stolen["slug"], first["id"]}) == 4
        for made in (digits, stolen):
            assert (await api.call("GET", f"/endpoints/{made['slug']}")).json["id"] == made["id"]

    run(body)


def test_a_taken_name_is_a_conflict_also_for_a_rename_that_comes_at_the_same_time() -> None:
    async def body(api: Api) -> None:
        await api.create("a")
        await api.create("b")
        assert (await api.call("POST", "/endpoints", spec("a"))).status == 409
        assert (await api.call("PUT", "/endpoints/b", spec("a"))).status == 409
        both = await asyncio.gather(*(api.call("PUT", f"/endpoints/{e}", spec("c")) for e in ("a", "b")))
        assert sorted(answer.status for answer in both) == [200, 409]

    run(body)


def test_putting_the_same_again_changes_nothing() -> None:
    async def body(api: Api) -> None:
        made = await api.create(min=1)
        again = await api.call("PUT", "/endpoints/e", made["spec"])
        assert (again.status, again.json["operation"]) == (200, None)
        before = await api.dump()
        assert (await api.call("PUT", "/endpoints/e", spec(min=1))).json["operation"] is None
        assert await api.dump() == before
        changed = await api.call("PUT", "/endpoints/e", spec(min=1, launch={"command": ["other"]}))
        assert changed.json["operation"]["kind"] == "update"
        assert changed.json["endpoint"]["revision"] == 2

    run(body)


def test_a_key_for_some_endpoints_sees_no_other() -> None:
    async def body(api: Api) -> None:
        mine, other = await api.create("mine", min=1), await api.create("other", min=1)
        await asyncio.sleep(10)
        key = await api.key(Scope.DEPLOY, endpoints=[mine["id"]])
        workers = {w["endpoint"]["id"]: w["id"] for w in (await api.call("GET", "/workers")).json["items"]}
        stopped = await api.call("POST", f"/endpoints/{other['id']}:stop")
        before = await api.dump()
        for reference in (other["id"], "other", str(other["number"])):
            for method, rest, value in (
                ("GET", "", None),
                ("PUT", "", spec("other")),
                ("DELETE", "", None),
                ("POST", ":start", None),
                ("POST", ":stop", None),
                ("POST", ":scale", {"workers": 1}),
                ("GET", "/workers", None),
                ("GET", "/logs", None),
                ("GET", "/events", None),
                ("GET", "/decisions", None),
            ):
                answer = await api.call(method, f"/endpoints/{reference}{rest}", value, key=key)
                assert answer.status == 404, (method, reference, rest)
        for path in (
            f"/workers/{workers[other['id']]}",
            f"/workers/{workers[other['id']]}/logs",
            f"/operations/{stopped.json['operation']['id']}",
        ):
            assert (await api.call("GET", path, key=key)).status == 404
        assert (await api.call("POST", "/endpoints", spec("new"), key=key)).status == 403
        assert await api.dump() == before
        listed = await api.call("GET", "/endpoints", key=key)
        assert [item["id"] for item in listed.json["items"]] == [mine["id"]]
        listed = await api.call("GET", "/workers", key=key)
        assert {item["endpoint"]["id"] for item in listed.json["items"]} == {mine["id"]}
        assert (await api.call("GET", "/endpoints/mine", key=key)).status == 200
        assert (await api.call("POST", "/endpoints/mine:stop", key=key)).status == 202

    run(body)


def test_pages_are_followed_by_their_cursor_and_have_everything_once() -> None:
    async def body(api: Api) -> None:
        for index in range(7):
            await api.create(f"e{index}")
        names: list[str] = []
        cursor, pages = "", 0
        while True:
            answer = (await api.call("GET", f"/endpoints?limit=3{cursor}")).json
            names += [item["name"] for item in answer["items"]]
            pages += 1
            if answer["next"] is None:
                break
            cursor = f"&cursor={answer['next']}"
        assert (names, pages) == ([f"e{index}" for index in range(7)], 3)
        whole = (await api.call("GET", "/endpoints?limit=7")).json
        assert (len(whole["items"]), whole["next"]) == (7, None)
        for query in ("limit=0", "limit=501", "limit=x", "cursor=x", "cursor=-1", "cursor=" + "9" * 19):
            assert (await api.call("GET", f"/endpoints?{query}")).status == 422, query

    run(body)


def test_the_environment_is_shown_to_those_alone_who_may_set_it() -> None:
    async def body(api: Api) -> None:
        made = await api.create(launch={"command": ["x"], "env": {"TOKEN": "very-secret"}})
        assert made["spec"]["launch"]["env"] == {"TOKEN": "very-secret"}
        reader, deployer = await api.key(Scope.READ), await api.key(Scope.DEPLOY)
        assert b"very-secret" in (await api.call("GET", "/endpoints/e", key=deployer)).body
        for path in ("/endpoints/e", "/endpoints"):
            answer = await api.call("GET", path, key=reader)
            assert b"very-secret" not in answer.body
            assert b"TOKEN" in answer.body

    run(body)


def test_an_endpoint_goes_through_its_life_by_commands() -> None:
    async def body(api: Api) -> None:
        made = await api.create(min=1)
        assert (made["state"], made["urls"]["inference"]) == ("starting", "http://127.0.0.1:7878/e/e")
        await asyncio.sleep(10)
        found = (await api.call("GET", "/endpoints/e")).json
        assert (found["state"], found["workers"]) == ("ready", {"ready": 1})
        scaled = await api.call("POST", "/endpoints/e:scale", {"workers": 2, "for_s": 60})
        assert (scaled.status, scaled.json["endpoint"]["override"]["workers"]) == (202, 2)
        assert scaled.json["endpoint"]["override"]["until"].endswith("Z")
        stopped = await api.call("POST", "/endpoints/e:stop")
        assert (stopped.status, stopped.json["operation"]["kind"]) == (202, "stop")
        assert (await api.call("POST", "/endpoints/e:scale", {"workers": 2})).status == 409
        await asyncio.sleep(10)
        assert (await api.call("GET", "/endpoints/e")).json["state"] == "stopped"
        assert (await api.call("POST", "/endpoints/e:start")).status == 202
        deleted = await api.call("DELETE", "/endpoints/e")
        assert deleted.status == 202
        twice = await api.call("DELETE", "/endpoints/e")
        assert (twice.status, twice.json["operation"]) == (202, deleted.json["operation"])
        assert (await api.call("PUT", "/endpoints/e", spec(min=0))).status == 409
        await asyncio.sleep(10)
        assert (await api.call("GET", "/endpoints/e")).status == 404

    run(body)


def test_a_number_of_workers_is_refused_when_it_makes_no_sense() -> None:
    async def body(api: Api) -> None:
        await api.create()
        before = await api.dump()
        for value, pointer in (
            ({"workers": -1}, "/workers"),
            ({"workers": 1_001}, "/workers"),
            ({"workers": 10**400}, "/workers"),
            ({"workers": "many"}, "/workers"),
            ({}, "/workers"),
            ({"workers": 1, "for_s": 0}, "/for_s"),
            ({"workers": 1, "for_s": 1e300}, "/for_s"),
            ({"workers": 1, "for_s": float("nan")}, "/for_s"),
            ({"workers": None, "for_s": 5}, "/for_s"),
            ({"workers": 1, "for": 5}, "/for"),
        ):
            answer = await api.call("POST", "/endpoints/e:scale", value)
            assert answer.status == 422, value
            assert pointer in [problem["pointer"] for problem in answer.json["errors"]], answer.json
        assert await api.dump() == before

    run(body)


def test_a_plan_says_what_would_change_and_changes_nothing() -> None:
    async def body(api: Api) -> None:
        created = (await api.call("POST", "/endpoints:plan", spec("new"))).json
        assert (created["action"], created["endpoint"], created["revision"]) == ("create", None, 1)
        made = await api.create()
        await asyncio.sleep(10)
        before = await api.dump()
        same = (await api.call("POST", "/endpoints:plan", spec())).json
        assert (same["action"], same["changes"], same["endpoint"]) == ("none", [], made["id"])
        wanted = {**spec(), "launch": {"command": ["other"], "env": {"TOKEN": "x"}}, "labels": {"a": "b"}}
        plan = (await api.call("POST", "/endpoints:plan", wanted)).json
        assert (plan["action"], plan["revision"]) == ("update", 2)
        assert {c["pointer"]: c["after"] for c in plan["changes"]} == {
            "/launch/command": ["other"],
            "/launch/env/TOKEN": "***",
            "/labels/a": "b",
        }
        [pool] = plan["pools"]
        assert (pool["launch"]["command"], pool["obstacle"]) == (["other"], None)
        assert await api.dump() == before

    run(body)


def test_revisions_are_kept_and_can_be_gone_back_to() -> None:
    async def body(api: Api) -> None:
        await api.create()
        await api.call("PUT", "/endpoints/e", {**spec(), "launch": {"command": ["other"]}})
        await api.call("PUT", "/endpoints/e", {**spec(), "launch": {"command": ["other"]}, "labels": {"a": "b"}})
        items = (await api.call("GET", "/endpoints/e/revisions")).json["items"]
        assert [(item["number"], item["present"]) for item in items] == [(3, True), (2, False), (1, False)]
        assert [[c["pointer"] for c in item["changes"]] for item in items] == [["/labels/a"], ["/launch/command"], []]
        back = await api.call("POST", "/endpoints/e:rollback", {"revision": 1})
        assert back.status == 202
        assert (back.json["endpoint"]["revision"], back.json["endpoint"]["spec"]) == (4, items[2]["spec"])
        again = await api.call("POST", "/endpoints/e:rollback", {"revision": 1})
        assert (again.status, "already" in again.json["detail"]) == (409, True)
        assert (await api.call("POST", "/endpoints/e:rollback", {"revision": 99})).status == 404

    run(body)
