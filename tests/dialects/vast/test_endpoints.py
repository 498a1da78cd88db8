"""Endpoints and workergroups through Vast.ai's API: real control, simulated machines, virtual time."""

from __future__ import annotations

import shlex
from typing import Any

import pytest

from api.client import spec
from dialects.vast.client import ARGS, ENDPOINTS, GROUPS, TEMPLATES, Cloud, play, told
from simulation import virtual
from stoker.domain.hardware import Offer, PortRange
from stoker.providers.fake import FakeProvider

DEFAULTS = {
    "min_load": 1.0,
    "min_cold_load": 0.0,
    "target_util": 0.9,
    "cold_mult": 3.0,
    "cold_workers": 5,
    "max_workers": 16,
    "max_queue_time": 30.0,
    "target_queue_time": 10.0,
    "inactivity_timeout": None,
    "endpoint_state": "active",
}


def test_what_is_left_out_is_the_default_and_everything_said_comes_back() -> None:
    async def main(cloud: Cloud) -> None:
        made = await cloud.ok("POST", ENDPOINTS, {"min_load": None, "autoscaler_instance": "prod", "newer": 1})
        shown = await cloud.shown(made["result"])
        assert shown.items() >= {**DEFAULTS, "endpoint_name": "default-endpoint", "user_id": 1}.items()
        said = {"min_load": 10.0, "min_cold_load": 5.0, "target_util": 0.5, "cold_mult": 2.0, "cold_workers": 1}
        said |= {"max_workers": 4, "max_queue_time": 9.0, "target_queue_time": 3.0, "inactivity_timeout": 60.0}
        id = await cloud.endpoint("with spaces", **said)
        assert (await cloud.shown(id)).items() >= {**said, "endpoint_name": "with spaces"}.items()
        assert await cloud.ok("PUT", f"{ENDPOINTS}{id}/", {"endptjob_id": id, "min_load": 0.0}) == {"success": True}
        assert (await cloud.shown(id)).items() >= {**said, "min_load": 0.0}.items()
        listed = (await cloud.ok("GET", ENDPOINTS))["results"]
        assert [each["id"] for each in listed] == [made["result"], id]
        assert all(isinstance(each["api_key"], str) and each["created_at"] > 1e9 for each in listed)
        gone = await cloud.ok("DELETE", f"{ENDPOINTS}{id}/", {"client_id": "me", "endptjob_id": id})
        assert gone == {"success": True, "deleted_workers": [], "failed_workers": []}
        told(await cloud.call("GET", f"{ENDPOINTS}{id}/"), 404, "not_found")

    play(main)


@pytest.mark.parametrize(
    ("body", "about"),
    [
        ({"cold_workers": 3, "max_workers": 2}, "cold_workers"),
        ({"target_queue_time": 31}, "target_queue_time"),
        ({"target_util": 1.5}, "target_util"),
        ({"target_util": 0}, "target_util"),
        ({"min_load": -1}, "min_load"),
        ({"max_workers": 1.5}, "max_workers"),
        ({"max_workers": "3"}, "max_workers"),
        ({"endpoint_state": "sleeping"}, "endpoint_state"),
        ({"endpoint_name": ""}, "endpoint_name"),
        ({"endpoint_name": "x" * 256}, "endpoint_name"),
        ([], "body"),
    ],
)
def test_what_cannot_be_is_refused_and_makes_nothing(body: Any, about: str) -> None:
    async def main(cloud: Cloud) -> None:
        assert about in told(await cloud.call("POST", ENDPOINTS, body), 400, "invalid_args")
        assert (await cloud.ok("GET", ENDPOINTS))["results"] == []

    play(main)


def test_a_name_is_there_once_and_numbers_that_are_not_there_are_not_found() -> None:
    async def main(cloud: Cloud) -> None:
        await cloud.endpoint("demo")
        assert "taken" in told(await cloud.call("POST", ENDPOINTS, {"endpoint_name": "demo"}), 400, "invalid_args")
        for method in ("GET", "PUT", "DELETE"):
            told(await cloud.call(method, f"{ENDPOINTS}999/", {} if method == "PUT" else None), 404, "not_found")
            told(await cloud.call(method, f"{ENDPOINTS}demo/", {} if method == "PUT" else None), 400, "invalid_args")
        answer = await cloud.call("DELETE", f"{GROUPS}999001/")
        assert told(answer, 404, "no_such_workergroup") == "No workergroup by that id is available."
        assert answer.json["id"] == 999001
        told(await cloud.call("PUT", f"{GROUPS}1001/", {"endpoint_id": 1}), 404, "no_such_workergroup")

    play(main)


def test_the_key_may_stand_in_the_header_the_body_or_the_query() -> None:
    async def main(cloud: Cloud) -> None:
        secret = cloud.api.secret
        assert (await cloud.call("GET", ENDPOINTS, {"client_id": "me", "api_key": secret}, key="")).status == 200
        assert (await cloud.call("GET", f"{ENDPOINTS}?client_id=me&api_key={secret}", key="")).status == 200
        for answer in (
            await cloud.call("GET", ENDPOINTS, key=""),
            await cloud.call("GET", ENDPOINTS, key="sk-wrong"),
            await cloud.call("GET", ENDPOINTS, {"api_key": 7}, key=""),
            await cloud.call("POST", "/route/", {"endpoint": "demo"}, key=""),
        ):
            assert told(answer, 401, "auth_error") == "Invalid user key"

    play(main)


@pytest.mark.parametrize("path", [ENDPOINTS, ENDPOINTS.rstrip("/"), f"/{ENDPOINTS}"])
def test_an_address_may_begin_with_two_slashes_and_end_with_one_or_none(path: str) -> None:
    async def main(cloud: Cloud) -> None:
        assert await cloud.ok("GET", path) == {"success": True, "results": []}

    play(main)


def test_a_workergroup_is_a_pool_that_runs_what_its_arguments_say() -> None:
    async def main(cloud: Cloud) -> None:
        id = await cloud.endpoint(min_load=150, max_workers=4)
        group = await cloud.group(id, search_params="cpu_cores>=1 cpu_ram>=0.5 geolocation=XX")
        shown = await cloud.shown_group(group)
        defaults = {"gpu_ram": 24.0, "test_workers": 3, "cold_mult": 1.0, "min_load": 150.0, "max_workers": 4}
        assert shown.items() >= {**defaults, "endpoint_id": id, "endpoint_name": "demo", "launch_args": ARGS}.items()
        assert shown["search_query"]["cpu_ram"] == {"gte": 500.0}
        native = (await cloud.api.call("GET", "/endpoints/demo")).json
        [pool] = native["spec"]["pools"]
        assert (native["spec"]["launch"]["image"], native["spec"]["launch"]["port"]) == ("worker:1", 80)
        assert pool["bounds"] == {"min": 1, "max": 4, "cold": 0}
        hardware = pool["hardware"]
        assert (hardware["vcpu"], hardware["ram_gib"], hardware["gpu_count"], hardware["region"]) == (1, 0.5, 0, None)
        # 150 at 90 % of 100 for each worker.
        workers = await cloud.workers(id, 2)
        assert len(workers) == 2
        gone = await cloud.ok("DELETE", f"{GROUPS}{group}/")
        assert gone["deleted_workers"] == [each["id"] for each in workers]
        assert (await cloud.ok("GET", GROUPS))["results"] == []
        # The endpoint is still there, and takes another one under a number of its own.
        assert await cloud.group(id) != group

    play(main)


def test_a_second_workergroup_shares_the_workers_and_may_run_something_else() -> None:
    async def main(cloud: Cloud) -> None:
        id = await cloud.endpoint(max_workers=5, min_load=0)
        first = await cloud.group(id)
        second = await cloud.group(id, max_workers=1)
        assert second == first + 1
        pools = (await cloud.api.call("GET", "/endpoints/demo")).json["spec"]["pools"]
        assert [pool["bounds"]["max"] for pool in pools] == [4, 1]
        assert [pool["launch"] for pool in pools] == [None, None]
        third = await cloud.group(id, launch_args="--image other:1 --args serve", max_workers=1)
        assert await cloud.images() == {"group-1": "worker:1", "group-2": "worker:1", "group-3": "other:1"}
        await cloud.ok("PUT", f"{GROUPS}{first}/", {"endpoint_id": id, "launch_args": "--image newer:1"})
        assert await cloud.images() == {"group-1": "newer:1", "group-2": "worker:1", "group-3": "other:1"}
        # An update of one replaces the workers of that one alone.
        before = cloud.launches()
        await cloud.ok("POST", "/update_workers/", {"workergroup_id": third})
        after = cloud.launches()
        assert [name for name in after if after[name] != before[name]] == ["group-3"]
        await cloud.ok("POST", "/update_workers/", {"workergroup_id": third, "cancel_update": True})
        assert cloud.launches() == before
        # Each goes alone, the first as well.
        await cloud.ok("DELETE", f"{GROUPS}{first}/")
        assert await cloud.images() == {"group-2": "worker:1", "group-3": "other:1"}
        spec = (await cloud.api.call("GET", "/endpoints/demo")).json["spec"]
        assert (spec["launch"]["image"], [pool["launch"] is None for pool in spec["pools"]]) == (
            "worker:1",
            [True, False],
        )

    play(main)


def test_an_unknown_name_makes_the_endpoint_with_what_the_workergroup_says() -> None:
    async def main(cloud: Cloud) -> None:
        said = {"endpoint_name": "new", "launch_args": ARGS, "max_workers": 2, "cold_workers": 0, "min_load": 0.0}
        group = (await cloud.ok("POST", GROUPS, said))["id"]
        assert (await cloud.shown(group // 1_000)).items() >= {"endpoint_name": "new", "max_workers": 2}.items()

    play(main)


def test_a_workergroup_that_is_refused_leaves_no_endpoint_that_was_to_be_made_with_it() -> None:
    async def main(cloud: Cloud) -> None:
        elsewhere = "--image worker:1 --login '-u me -p secret registry.test'"
        body = {"endpoint_name": "new", "launch_args": elsewhere}
        assert "registry.test" in told(await cloud.call("POST", GROUPS, body), 400, "invalid_args")
        assert (await cloud.ok("GET", ENDPOINTS))["results"] == []

    play(main)


@pytest.mark.parametrize(
    ("body", "about"),
    [
        ({"launch_args": ARGS}, "valid endpoint identifier"),
        ({"endpoint_id": 999, "launch_args": ARGS}, "valid endpoint identifier"),
        ({"endpoint_id": 1}, "say template_hash"),
        ({"endpoint_id": 1, "launch_args": "--disk 5"}, "--image"),
        ({"endpoint_id": 1, "launch_args": "--image x --onstart file.sh"}, "--onstart-cmd"),
        ({"endpoint_id": 1, "launch_args": "--image 'x"}, "launch_args"),
        ({"endpoint_id": 1, "launch_args": "--image x --nonsense"}, "nonsense"),
        ({"endpoint_id": 1, "launch_args": '--image x --login "-u me -p it\'s here"'}, "--login"),
        ({"endpoint_id": 1, "launch_args": ARGS, "search_params": "num_gpus>=1e999"}, "too large"),
        ({"endpoint_id": 1, "launch_args": ARGS, "search_params": "inet_down>=1e999"}, "too large"),
        ({"endpoint_id": 1, "launch_args": ARGS, "search_params": "gpu_ram >"}, "cannot be read"),
        ({"endpoint_id": 1, "launch_args": ARGS, "search_params": "num_gpus=512"}, ""),
        ({"endpoint_id": 1, "template_hash": "0" * 32}, "template_hash"),
        ({"endpoint_id": 1, "template_id": 999}, "template_id"),
    ],
)
def test_a_workergroup_that_cannot_be_is_refused_and_changes_nothing(body: Any, about: str) -> None:
    async def main(cloud: Cloud) -> None:
        await cloud.endpoint()
        before = await cloud.api.dump()
        assert about in told(await cloud.call("POST", GROUPS, body), 400, "invalid_args")
        after = await cloud.api.dump()
        assert {name: rows for name, rows in before.items() if rows != after[name]} == {}

    play(main)


def test_a_template_says_what_runs_and_where_and_an_update_changes_only_what_it_says() -> None:
    async def main(cloud: Cloud) -> None:
        template = {
            "name": "My worker",
            "image": "worker",
            "tag": "2",
            "env": "-p 80:80 -e A='b c'",
            "extra_filters": {"cpu_cores": {"gte": 1}},
            "recommended_disk_space": "",
            "docker_login_user": "me",
            "docker_login_pass": "secret",
            "readme": "long",
        }
        made = (await cloud.ok("POST", TEMPLATES, template))["template"]
        assert (made["name"], len(made["hash_id"])) == ("My worker", 32)
        assert (await cloud.ok("POST", TEMPLATES, template))["template"] == made
        found = await cloud.ok("GET", f'{TEMPLATES}?select_filters={{"name":{{"eq":"My%20worker"}}}}')
        assert (found["templates_found"], found["templates"]) == (1, [made])
        id = await cloud.endpoint(min_load=0)
        group = (
            await cloud.ok("POST", GROUPS, {"endpoint_id": id, "template_hash": made["hash_id"], "search_params": ""})
        )["id"]
        native = (await cloud.api.call("GET", "/endpoints/demo")).json["spec"]
        assert (native["launch"]["image"], native["launch"]["env"]) == ("worker:2", {"A": "b c"})
        assert native["launch"]["credential"].startswith("vast-")
        assert native["pools"][0]["hardware"]["vcpu"] == 1
        default = "verified=True rentable=True rented=False"
        await cloud.ok("PUT", f"{GROUPS}{group}/", {"endpoint_id": id, "search_params": default, "gpu_ram": None})
        assert (await cloud.api.call("GET", "/endpoints/demo")).json["spec"]["pools"] == native["pools"]
        await cloud.ok("PUT", f"{GROUPS}{group}/", {"endpoint_id": id, "search_params": "cpu_cores>=2"})
        changed = (await cloud.api.call("GET", "/endpoints/demo")).json["spec"]
        assert (changed["pools"][0]["hardware"]["vcpu"], changed["launch"]) == (2, native["launch"])
        assert "endpoint" in told(await cloud.call("PUT", f"{GROUPS}{group}/", {"gpu_ram": 8}), 400, "invalid_args")

    play(main)


@pytest.mark.parametrize("spelled", ["hunter2", r"hun\ter2", '"hunter2"', "hunt''er2"])
def test_a_password_in_the_arguments_is_never_shown_again(spelled: str) -> None:
    async def main(cloud: Cloud) -> None:
        id = await cloud.endpoint()
        inside = f"-u me -p {spelled} registry.test"
        group = await cloud.group(id, launch_args=f"--image registry.test/worker:1 --login {shlex.quote(inside)}")
        args = "--image registry.test/worker:1 --login '-u me -p *** registry.test'"
        assert (await cloud.shown_group(group))["launch_args"] == args
        dump = str(await cloud.api.dump())
        assert (spelled in dump, "hunter2" in dump) == (False, False)

    play(main)


def test_a_template_that_was_made_elsewhere_is_no_matter_whatever_it_is_annotated_with() -> None:
    async def main(cloud: Cloud) -> None:
        spec = {"launch": {"image": "worker:1"}, "annotations": {"vast/template": "somebody's own"}}
        assert (await cloud.api.call("POST", "/templates", {"name": "other", "spec": spec})).status == 201
        [shown] = (await cloud.ok("GET", TEMPLATES))["templates"]
        assert (shown["name"], shown["image"]) == ("other", "worker:1")
        await cloud.ok("POST", GROUPS, {"endpoint_name": "demo", "template_hash": "other"})
        assert list((await cloud.images()).values()) == ["worker:1"]

    play(main)


def test_a_filter_of_a_template_may_be_a_value_alone() -> None:
    async def main(cloud: Cloud) -> None:
        template = {"name": "t", "image": "worker:1", "extra_filters": {"cpu_cores": 2}}
        await cloud.ok("POST", TEMPLATES, template)
        await cloud.ok("POST", GROUPS, {"endpoint_name": "demo", "template_hash": "t", "search_params": ""})
        spec = (await cloud.api.call("GET", "/endpoints/demo")).json["spec"]
        assert spec["pools"][0]["hardware"]["vcpu"] == 2

    play(main)


def test_an_endpoint_is_stopped_held_and_started_by_its_state() -> None:
    async def main(cloud: Cloud) -> None:
        id = await cloud.endpoint(min_load=150)
        await cloud.group(id)
        await cloud.workers(id, 2)
        await cloud.ok("PUT", f"{ENDPOINTS}{id}/", {"endpoint_state": "stopped"})
        assert (await cloud.shown(id))["endpoint_state"] == "stopped"
        assert (await cloud.route())["status"] == "endpoint stopped"
        await cloud.ok("PUT", f"{ENDPOINTS}{id}/", {"endpoint_state": "active"})
        await cloud.workers(id, 2)
        await cloud.ok("PUT", f"{ENDPOINTS}{id}/", {"endpoint_state": "suspended", "min_load": 0.0})
        assert (await cloud.shown(id))["endpoint_state"] == "suspended"
        assert (await cloud.api.call("GET", "/endpoints/demo")).json["override"]["workers"] == 2
        await cloud.ok("PUT", f"{ENDPOINTS}{id}/", {"endpoint_state": "active"})
        assert (await cloud.shown(id))["endpoint_state"] == "active"

    play(main)


def test_an_endpoint_made_elsewhere_is_shown_and_changed_here() -> None:
    async def main(cloud: Cloud) -> None:
        native = await cloud.api.create("native", min=1, max=3)
        shown = await cloud.shown(native["number"])
        assert (shown["endpoint_name"], shown["max_workers"], shown["min_load"]) == ("native", 3, 100.0)
        [group] = (await cloud.ok("GET", GROUPS))["results"]
        assert (group["id"], group["template_hash"], group["max_workers"]) == (native["number"] * 1_000 + 900, None, 3)
        await cloud.ok("PUT", f"{ENDPOINTS}{native['number']}/", {"max_workers": 2})
        after = (await cloud.api.call("GET", "/endpoints/native")).json["spec"]
        assert after["pools"][0]["bounds"] == {"min": 1, "max": 2, "cold": 0}
        # And the other way round.
        id = await cloud.endpoint(min_load=0, max_workers=2)
        await cloud.group(id)
        changed = (await cloud.api.call("GET", "/endpoints/demo")).json["spec"]
        changed["pools"][0]["bounds"]["max"] = 7
        assert (await cloud.api.call("PUT", "/endpoints/demo", changed)).status == 200
        assert (await cloud.shown(id))["max_workers"] == 7
        assert (await cloud.ok("DELETE", f"{ENDPOINTS}{native['number']}/"))["success"]
        assert spec()["name"] == "e"

    play(main)


def test_what_somebody_else_annotates_an_endpoint_with_keeps_no_workergroup_from_being_listed() -> None:
    async def main(cloud: Cloud) -> None:
        id = await cloud.endpoint()
        group = await cloud.group(id)
        notes = {"vast/endpoint": "mine", "vast/group/default": "{}", "vast/group/group-1": "mine"}
        await cloud.api.create("e", annotations=notes)
        listed = (await cloud.ok("GET", GROUPS))["results"]
        assert [each["id"] for each in listed] == [group, 2_900]

    play(main)


def test_an_image_runs_where_images_do_even_if_others_have_more_room() -> None:
    machines = tuple(Offer(host=name, vcpu=1_000, ram_gib=1_000, ports=PortRange(20_000, 29_999)) for name in "abc")
    process = FakeProvider(clock=virtual.wall, offers=machines)
    process.images = False

    async def main(cloud: Cloud) -> None:
        id = await cloud.endpoint()
        await cloud.group(id)
        await cloud.group(id, launch_args="--image other:1 --env '-p 80:80'")
        spec = (await cloud.api.call("GET", "/endpoints/demo")).json["spec"]
        assert [pool["provider"] for pool in spec["pools"]] == ["fake", "fake"]

    play(main, process=process)
