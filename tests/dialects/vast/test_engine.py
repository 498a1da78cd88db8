"""Routes, reports, logs and updates through Vast.ai's API: real control, simulated machines, virtual time."""

from __future__ import annotations

import asyncio
import base64
import json
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from dialects.vast.client import ENDPOINTS, GROUPS, Cloud, play, told
from simulation.virtual import wall
from stoker.domain.access import Scope
from stoker.domain.hardware import Offer, PortRange, Prices
from stoker.domain.worker import WorkerState
from stoker.providers.fake import FakeProvider


async def loaded(cloud: Cloud, name: str = "demo", *, count: int = 1, **more: Any) -> tuple[int, int, list[int]]:
    """An endpoint whose workers have reported, its workergroup and the workers' numbers."""
    id = await cloud.endpoint(name, min_load=100 * count * 0.9, **more)
    group = await cloud.group(id)
    workers = [each["id"] for each in await cloud.workers(id, count)]
    for worker in workers:
        assert (await cloud.report(worker)).status == 200
    await asyncio.sleep(1)
    return id, group, workers


async def ready(cloud: Cloud, *, idx: int = 0, cost: float = 100) -> Any:
    """A route that leads to a worker, asked for as clients do."""
    answer = await cloud.route(idx=idx, cost=cost)
    for _ in range(30):
        if "url" in answer:
            return answer
        await asyncio.sleep(1)
        answer = await cloud.route(idx=answer["request_idx"], cost=cost)
    raise AssertionError(answer)


def test_a_route_is_a_signed_address_of_one_worker() -> None:
    async def main(cloud: Cloud) -> None:
        await loaded(cloud)
        answer = await ready(cloud, cost=50)
        assert set(answer) == {
            "endpoint", "url", "cost", "reqnum", "request_idx", "signature", "__request_id"
        }  # fmt: skip
        assert (answer["endpoint"], answer["cost"]) == ("demo", 50)
        assert answer["url"].startswith("http://127.0.0.1:7878/vast/worker/")
        pem = (await cloud.call("GET", "/pubkey/", key="")).body
        key = serialization.load_pem_public_key(pem)
        assert isinstance(key, rsa.RSAPublicKey)
        signed = json.dumps({"url": answer["url"]}, indent=4, sort_keys=True).encode()
        key.verify(base64.b64decode(answer["signature"]), signed, padding.PKCS1v15(), hashes.SHA256())
        certificate = await cloud.call("GET", "/static/jvastai_root.cer", key="")
        assert certificate.body.startswith(b"-----BEGIN CERTIFICATE-----")

    play(main)


def test_a_request_that_waits_keeps_its_number_wakes_the_endpoint_and_counts_once() -> None:
    async def main(cloud: Cloud) -> None:
        id = await cloud.endpoint(min_load=0, max_workers=3)
        await cloud.group(id)
        first = await cloud.route(cost=100)
        assert "url" not in first
        assert first["request_idx"] > 0
        assert isinstance(first["status"], str)
        load = cloud.api.world.stoker.demand.load
        endpoint = cloud.api.world.stoker.fleet.endpoints()[0].id
        for _ in range(5):
            again = await cloud.route(idx=first["request_idx"])
            assert again["request_idx"] == first["request_idx"]
        assert load.waiting(endpoint) == (1, 100.0)
        assert load.rate(endpoint) == pytest.approx(100 / 60)
        # Of a worker that reports is known when it is loaded: until it is, nobody is sent there.
        [worker] = await cloud.workers(id)
        await cloud.report(worker["id"], loadtime=0.0, max_perf=0.0)
        await asyncio.sleep(1)
        assert "url" not in await cloud.route(idx=first["request_idx"])
        assert [each["status"] for each in await cloud.workers(id)] == ["loading"]
        await cloud.report(worker["id"])
        answer = await ready(cloud, idx=first["request_idx"])
        assert answer["request_idx"] == first["request_idx"]
        assert load.waiting(endpoint) == (0, 0)
        [shown] = await cloud.workers(id)
        assert (shown["status"], shown["measured_perf"]) == ("idle", 110.0)

    play(main)


def test_who_asks_no_more_waits_no_more() -> None:
    async def main(cloud: Cloud) -> None:
        await cloud.endpoint(min_load=0)
        idx = (await cloud.route())["request_idx"]
        endpoint = cloud.api.world.stoker.fleet.endpoints()[0].id
        await asyncio.sleep(29)
        assert cloud.api.world.stoker.demand.load.waiting(endpoint)[0] == 1
        await asyncio.sleep(5)
        assert cloud.api.world.stoker.demand.load.waiting(endpoint)[0] == 0
        assert (await cloud.route(idx=idx))["request_idx"] != idx

    play(main)


def test_the_worker_with_the_shorter_queue_is_taken_and_none_whose_queue_is_too_long() -> None:
    async def main(cloud: Cloud) -> None:
        _, _, (one, other) = await loaded(cloud, count=2, max_queue_time=10, target_queue_time=5)
        urls = {(await ready(cloud))["url"] for _ in range(2)}
        assert len(urls) == 2
        # 2000 at 110 a second is more than ten seconds of work.
        await cloud.report(one, cur_load=2000.0)
        last = {(await ready(cloud))["url"] for _ in range(4)}
        assert len(last) == 1
        await cloud.report(other, cur_load=2000.0)
        assert "url" not in await cloud.route()

    play(main)


def test_a_request_is_over_when_its_worker_says_so() -> None:
    async def main(cloud: Cloud) -> None:
        _, _, [worker] = await loaded(cloud)
        answer = await ready(cloud)
        control = cloud.api.world.stoker
        endpoint = control.fleet.endpoints()[0]
        token = cloud.token(worker)
        native = f"/endpoints/{endpoint.id}/reservations"
        [ticket] = (await cloud.api.call("GET", native)).json["items"]
        assert ticket["used"] is False
        await cloud.report(worker, working_request_idxs=[answer["request_idx"]], cur_load=100.0)
        assert (await cloud.api.call("GET", native)).json["items"][0]["used"] is True
        over = {"request_idx": answer["request_idx"], "success": True, "status": "Success"}
        ended = {"worker_id": worker, "mtoken": token, "requests": [over, over, {"request_idx": 0}]}
        assert (await cloud.call("POST", "/delete_requests/", ended, key="")).status == 200
        assert (await cloud.route(idx=answer["request_idx"]))["request_idx"] != answer["request_idx"]

    play(main)


def test_a_worker_that_reports_an_error_is_replaced() -> None:
    async def main(cloud: Cloud) -> None:
        id, _, [worker] = await loaded(cloud)
        assert (await cloud.report(worker, error_msg="out of memory")).status == 200
        for _ in range(60):
            await asyncio.sleep(1)
            found = await cloud.ok("POST", "/get_endpoint_workers/", {"id": id})
            if [each["id"] for each in found if each["status"] in ("idle", "loading")] not in ([], [worker]):
                break
        else:
            raise AssertionError(found)

    play(main)


def test_a_worker_that_cannot_come_up_says_so_and_is_not_waited_for() -> None:
    async def main(cloud: Cloud) -> None:
        # What it says it listens on is taken: it lives on, and would never be ready.
        cloud.api.world.load_s = 10_000
        id = await cloud.endpoint(max_workers=1)
        await cloud.group(id)
        stoker = cloud.api.world.stoker
        endpoint = stoker.fleet.endpoints()[0].id
        for _ in range(60):
            if stoker.fleet.live(endpoint):
                break
            await asyncio.sleep(1)
        [live] = stoker.fleet.live(endpoint)
        await cloud.report(live.number, loadtime=0.0, max_perf=0.0, error_msg="address already in use")
        await asyncio.sleep(1)
        ended = stoker.fleet.worker(live.id)
        assert ended is None or (ended.state is not WorkerState.STARTING and "address already in use" in ended.reason)
        [failures] = stoker.fleet.endpoints()[0].failures.values()
        assert (failures.count, failures.last_reason) == (1, "address already in use")

    play(main)


def test_who_is_not_that_worker_reports_nothing() -> None:
    async def main(cloud: Cloud) -> None:
        _, _, [worker] = await loaded(cloud)
        for path, body in (
            ("/worker_status/", {"id": worker, "mtoken": "wrong", "loadtime": 9.0}),
            ("/worker_status/", {"id": 999, "mtoken": "wrong"}),
            ("/delete_requests/", {"worker_id": worker, "mtoken": "ä", "requests": []}),
        ):
            told(await cloud.call("POST", path, body, key=""), 401, "auth_error")
        told(await cloud.call("POST", "/worker_status/", {"id": "x"}, key=""), 400, "invalid_args")

    play(main)


@pytest.mark.parametrize(
    ("body", "status", "error"),
    [
        ({}, 400, "invalid_args"),
        ({"endpoint": "nobody"}, 404, "not_found"),
        ({"endpoint_id": 999}, 404, "not_found"),
        ({"endpoint": "demo", "cost": -1}, 400, "invalid_args"),
        ({"endpoint": "demo", "cost": "much"}, 400, "invalid_args"),
        ({"endpoint": "demo", "request_idx": 1.5}, 400, "invalid_args"),
    ],
)
def test_a_route_that_cannot_be_is_refused_at_once(body: Any, status: int, error: str) -> None:
    async def main(cloud: Cloud) -> None:
        await cloud.endpoint()
        told(await cloud.call("POST", "/route/", body), status, error)

    play(main)


def test_a_key_that_may_only_call_gets_routes_and_nothing_else() -> None:
    async def main(cloud: Cloud) -> None:
        id, group, _ = await loaded(cloud)
        key = await cloud.api.key(Scope.INVOKE)
        assert (await cloud.call("POST", "/route/", {"endpoint": "demo"}, key=key)).status == 200
        for method, path in (("GET", ENDPOINTS), ("POST", "/get_endpoint_logs/"), ("POST", "/update_workers/")):
            body = {"id": id, "workergroup_id": group} if method == "POST" else None
            told(await cloud.call(method, path, body, key=key), 403, "forbidden")
        # One that may look and not change is shown its own key, not the endpoint's.
        reader = await cloud.api.key(Scope.READ, Scope.INVOKE)
        listed = (await cloud.call("GET", ENDPOINTS, key=reader)).json["results"]
        assert [each["api_key"] for each in listed] == [reader]

    play(main)


def test_logs_have_four_levels_and_as_many_lines_as_are_asked_for() -> None:
    async def main(cloud: Cloud) -> None:
        id, group, _ = await loaded(cloud)
        logs = await cloud.ok("POST", "/get_endpoint_logs/", {"id": id})
        assert set(logs) == {"info0", "info1", "trace", "debug"}
        assert "created as demo" in logs["info1"]
        assert len(logs["trace"]) > len(logs["info0"]) > len(logs["info1"])
        assert (await cloud.ok("POST", "/get_endpoint_logs/", {"endpoint": "demo", "tail": -1})) == logs
        assert len((await cloud.ok("POST", "/get_endpoint_logs/", {"id": id, "tail": 1}))["info0"].splitlines()) == 1
        assert set((await cloud.ok("POST", "/get_endpoint_logs/", {"id": id, "tail": 0})).values()) == {""}
        for path in ("/get_autogroup_logs/", "/get_workergroup_logs/"):
            assert set(await cloud.ok("POST", path, {"id": group})) == set(logs)
        for path in ("/get_autogroup_workers/", "/get_workergroup_workers/"):
            assert len(await cloud.ok("POST", path, {"id": group})) == 1
        told(await cloud.call("POST", "/get_endpoint_logs/", {}), 400, "invalid_args")

    play(main)


def test_workers_are_updated_by_new_ones_and_cancelling_goes_back() -> None:
    async def main(cloud: Cloud) -> None:
        id, group, [worker] = await loaded(cloud)
        assert await cloud.ok("POST", "/update_workers/", {"workergroup_id": group}) == {
            "success": True, "workers_to_update": 1
        }  # fmt: skip
        for _ in range(60):
            await asyncio.sleep(1)
            now = [each["id"] for each in await cloud.ok("POST", "/get_endpoint_workers/", {"id": id})]
            if now and worker not in now:
                break
        else:
            raise AssertionError(now)
        back = {"workergroup_id": group, "cancel_update": True}
        assert await cloud.ok("POST", "/update_workers/", back) == {"success": True, "cancelled": True}
        env = (await cloud.api.call("GET", "/endpoints/demo")).json["spec"]["launch"]["env"]
        assert env == {}
        told(await cloud.call("POST", "/update_workers/", {"workergroup_id": 999001}), 404, "no_such_workergroup")

    play(main)


def test_a_new_workergroup_is_tried_on_different_machines_before_load_alone_decides() -> None:
    machines = tuple(Offer(host=host, vcpu=4_000, ram_gib=64, ports=PortRange(20_000, 20_099)) for host in "abcd")

    async def main(cloud: Cloud) -> None:
        id = await cloud.endpoint(min_load=0, max_workers=8)
        await cloud.group(id, search_params="cpu_cores>=1")
        workers = await cloud.workers(id, 3)
        live = cloud.api.world.stoker.fleet.live(cloud.api.world.stoker.fleet.endpoints()[0].id)
        assert len({worker.placement.host for worker in live if worker.placement}) == len(live) == 3
        [trigger] = [each for each in (await cloud.decision())["triggers"] if each["trigger"] == "load"]
        assert trigger["text"] == "3 workers to measure what one can do"
        for worker in workers:
            await cloud.report(worker["id"])
        await asyncio.sleep(400)
        assert await cloud.ok("POST", "/get_endpoint_workers/", {"id": id}) == []
        assert (await cloud.decision())["workers"] == 0

    play(main, many=FakeProvider(clock=wall, offers=machines))


def test_a_workergroups_own_parameters_hold_instead_of_its_endpoints() -> None:
    async def main(cloud: Cloud) -> None:
        id = await cloud.endpoint(min_load=0, max_workers=8)

        async def load() -> dict[str, Any]:
            triggers = (await cloud.api.call("GET", "/endpoints/demo")).json["spec"]["scaling"]["triggers"]
            [found] = [each for each in triggers if each["type"] == "load"]
            return {name: found[name] for name in ("min_load", "target_util", "cold_mult")}

        first = await cloud.group(id, min_load=150.0, target_util=0.5)
        assert await load() == {"min_load": 150.0, "target_util": 0.5, "cold_mult": 1.0}
        await cloud.group(id, min_load=50.0)
        assert await load() == {"min_load": 200.0, "target_util": 0.5, "cold_mult": 1.0}
        shown = [each["min_load"] for each in (await cloud.ok("GET", GROUPS))["results"]]
        assert (shown, (await cloud.shown(id))["min_load"]) == ([150.0, 50.0], 0.0)
        await cloud.ok("DELETE", f"{GROUPS}{first}/")
        assert await load() == {"min_load": 50.0, "target_util": 0.9, "cold_mult": 1.0}

    play(main)


def test_a_silent_worker_counts_as_one_that_never_reports_at_100_for_each_slot() -> None:
    async def main(cloud: Cloud) -> None:
        id = await cloud.endpoint(min_load=90)
        await cloud.group(id)
        await cloud.workers(id)
        answer = await ready(cloud)
        assert answer["url"]
        [shown] = await cloud.workers(id)
        assert (shown["status"], shown["measured_perf"]) == ("idle", 100.0)

    play(main)


def test_what_workergroups_cost_is_the_sum_of_their_workers_prices_where_all_have_one() -> None:
    prices = Prices(currency="EUR", cpu=1.0)
    ports = PortRange(20_000, 20_099)
    machines = tuple(Offer(host=host, vcpu=4_000, ram_gib=64, ports=ports, prices=prices) for host in "abc")

    async def main(cloud: Cloud) -> None:
        id = await cloud.endpoint(min_load=150, max_workers=4)
        paid = await cloud.group(id, search_params="cpu_cores>=2", test_workers=0)
        await cloud.workers(id, 2)
        free = await cloud.group(await cloud.endpoint("free", min_load=0), test_workers=0)
        native = await cloud.api.create("native", min=1)
        await cloud.workers(native["number"])
        answer = await cloud.ok("GET", "/api/v0/serverless/workergroups/spend")
        spent = {each["id"]: each["hourly_spend"] for each in answer["workergroups"]}
        assert spent == {paid: 2.0, free: 0.0, native["number"] * 1_000 + 900: None}
        assert answer["data_timestamp"] > 1e9

    play(main, paid=FakeProvider(clock=wall, offers=machines))


def test_what_the_program_asks_beside_is_answered() -> None:
    async def main(cloud: Cloud) -> None:
        assert await cloud.ok("GET", "/api/v0/users/current") == {"id": 1, "host_agreement_accepted": 0}
        assert isinstance((await cloud.call("GET", "/api/v0/gpu_names/unique/", key="")).json["gpu_names"], list)
        told(await cloud.call("GET", "/api/v0/nothing/"), 404, "not_found")
        told(await cloud.call("PATCH", ENDPOINTS), 405, "method_not_allowed")

    play(main)


def test_what_workers_have_measured_and_requests_cost_decides_how_many_there_are() -> None:
    async def main(cloud: Cloud) -> None:
        id = await cloud.endpoint(min_load=180, max_workers=2)
        await cloud.group(id)
        # Nothing is measured yet: 180 at 90 % of 100 each.
        workers = [each["id"] for each in await cloud.workers(id, 2)]
        for worker in workers:
            await cloud.report(worker, max_perf=200.0)
        for _ in range(200):
            await asyncio.sleep(1)
            left = [each for each in await cloud.workers(id) if each["status"] == "idle"]
            for each in left:
                await cloud.report(each["id"], max_perf=200.0)
            if len(left) == 1:
                break
        else:
            raise AssertionError("two workers are twice as good as they have to be")
        # One expensive request a second is more than one of them does.
        for _ in range(90):
            await asyncio.sleep(1)
            await cloud.route(cost=300)
            if len(await cloud.ok("POST", "/get_endpoint_workers/", {"id": id})) == 2:
                return
        raise AssertionError("one worker is too few")

    play(main)


def test_a_new_workergroup_measures_before_load_alone_decides() -> None:
    async def main(cloud: Cloud) -> None:
        id = await cloud.endpoint(min_load=0, inactivity_timeout=5)
        await cloud.group(id, test_workers=1)
        [worker] = await cloud.workers(id)
        await cloud.report(worker["id"])
        for _ in range(120):
            await asyncio.sleep(1)
            if not await cloud.ok("POST", "/get_endpoint_workers/", {"id": id}):
                break
        else:
            raise AssertionError("it has measured, and nobody asks for anything")
        # What was measured is known, and nothing is started to measure it again.
        await asyncio.sleep(60)
        assert await cloud.ok("POST", "/get_endpoint_workers/", {"id": id}) == []
        endpoint = cloud.api.world.stoker.fleet.endpoints()[0]
        assert cloud.api.world.stoker.demand.load.perf_of(endpoint) == 110
        # None is to be measured of one that says so.
        quiet = await cloud.endpoint("quiet", min_load=0)
        await cloud.group(quiet, test_workers=0)
        await asyncio.sleep(30)
        assert await cloud.ok("POST", "/get_endpoint_workers/", {"id": quiet}) == []

    play(main)
