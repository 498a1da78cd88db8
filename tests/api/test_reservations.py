"""Reservations through the API: who gets a ticket, for which worker, and when it is over."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import pytest

from api.client import Answer, Api, run, spec
from stoker.control.reservations import PER_ENDPOINT_MAX
from stoker.domain.access import Scope
from stoker.domain.worker import WorkerState
from stoker.link.messages import EndpointReport, Report

PATH = "/endpoints/e/reservations"


async def ready(api: Api, count: int = 2, **more: Any) -> Any:
    """An endpoint with so many ready workers."""
    made = await api.create(min=count, max=count, **more)
    for _ in range(200):
        if len(api.world.workers(made["id"], WorkerState.READY)) == count:
            return made
        await asyncio.sleep(0.5)
    raise AssertionError("no workers")


async def reserve(api: Api, **said: Any) -> Any:
    answer = await api.call("POST", PATH, said or None)
    assert answer.status == 201, answer.body
    return answer.json


def is_problem(answer: Answer, status: int, *pointers: str) -> None:
    assert answer.status == status, answer.body
    assert answer.headers["content-type"] == "application/problem+json"
    assert [each["pointer"] for each in answer.json.get("errors", [])] == list(pointers)


def test_a_ticket_names_a_worker_and_can_be_looked_at_and_given_back() -> None:
    async def body(api: Api) -> None:
        made = await ready(api)
        ticket = await reserve(api, cost=2.5, expires_s=30)
        assert ticket["endpoint"] == made["id"]
        assert ticket["worker"] in {w.id for w in api.world.workers(made["id"])}
        assert (ticket["cost"], ticket["used"]) == (2.5, False)
        assert ticket["url"].endswith("/e/e")
        for reference in (ticket["id"], ticket["number"]):
            assert (await api.call("GET", f"{PATH}/{reference}")).json == ticket
        assert (await api.call("GET", PATH)).json == {"items": [ticket], "next": None}
        assert [each.id for each in api.world.stoker.link._reservations_left()] == [ticket["id"]]
        assert (await api.call("DELETE", f"{PATH}/{ticket['id']}")).status == 204
        is_problem(await api.call("DELETE", f"{PATH}/{ticket['id']}"), 404)
        assert api.world.stoker.link._reservations_left() == ()

    run(body)


def test_tickets_are_spread_by_what_they_announce() -> None:
    async def body(api: Api) -> None:
        await ready(api)
        first = await reserve(api, cost=3)
        others = [await reserve(api) for _ in range(3)]
        assert {each["worker"] for each in others} & {first["worker"]} == set()
        assert len({first["number"], *(each["number"] for each in others)}) == 4

    run(body)


def test_what_is_in_flight_counts() -> None:
    async def body(api: Api) -> None:
        made = await ready(api, slots=4)
        for _ in range(4):
            api.world.gateway.request(made["id"], 60)
        await asyncio.sleep(1)
        tickets = [await reserve(api) for _ in range(4)]
        assert sorted(Counter(each["worker"] for each in tickets).values()) == [2, 2]

    run(body)


def test_a_ticket_that_was_shown_no_longer_counts_beside_its_request() -> None:
    async def body(api: Api) -> None:
        made = await ready(api)
        ticket = await reserve(api, cost=5)
        quiet = EndpointReport(made["id"], 0, 0, 0.0, 0, 0, 0, 0, 0.0, 0.0, {})
        seq = api.world.stoker.link.seq
        api.world.gateway.say(Report(seq, 9.0, (quiet,), tickets_used=(ticket["id"], "unknown")))
        await asyncio.sleep(0.1)
        assert (await api.call("GET", f"{PATH}/{ticket['id']}")).json["used"] is True
        assert {(await reserve(api))["worker"] for _ in range(2)} >= {ticket["worker"]}

    run(body)


def test_a_ticket_expires() -> None:
    async def body(api: Api) -> None:
        await ready(api)
        ticket = await reserve(api, expires_s=5)
        await asyncio.sleep(5.1)
        is_problem(await api.call("GET", f"{PATH}/{ticket['id']}"), 404)
        assert (await api.call("GET", PATH)).json["items"] == []

    run(body)


def test_a_ticket_is_over_when_its_worker_takes_no_requests_any_more() -> None:
    async def body(api: Api) -> None:
        made = await ready(api, 1)
        ticket = await reserve(api, expires_s=600)
        assert (await api.call("POST", "/endpoints/e:stop")).status == 202
        await asyncio.sleep(10)
        is_problem(await api.call("GET", f"{PATH}/{ticket['id']}"), 404)
        is_problem(await api.call("POST", PATH), 409)
        assert api.world.stoker.link._reservations_left() == ()
        assert api.world.workers(made["id"]) == []

    run(body)


def test_where_no_worker_is_ready_one_is_woken() -> None:
    async def body(api: Api) -> None:
        made = await api.create(min=0, max=1)
        assert api.world.workers(made["id"]) == []
        answer = await api.call("POST", PATH)
        is_problem(answer, 503)
        assert answer.headers["retry-after"] == "2"
        for _ in range(100):
            await asyncio.sleep(0.5)
            if api.world.workers(made["id"], WorkerState.READY):
                break
        await reserve(api)

    run(body)


@pytest.mark.parametrize(
    ("said", "pointer"),
    [
        ({"cost": 0}, "/cost"),
        ({"cost": -1}, "/cost"),
        ({"cost": 1e9}, "/cost"),
        ({"cost": "1"}, "/cost"),
        ({"expires_s": 0.5}, "/expires_s"),
        ({"expires_s": 601}, "/expires_s"),
        ({"worker": "w"}, "/worker"),
    ],
)
def test_what_cannot_be_reserved_is_told_and_changes_nothing(said: dict[str, Any], pointer: str) -> None:
    async def body(api: Api) -> None:
        await ready(api, 1)
        is_problem(await api.call("POST", PATH, said), 422, pointer)
        assert (await api.call("GET", PATH)).json["items"] == []

    run(body)


def test_tickets_are_bounded_for_each_endpoint() -> None:
    async def body(api: Api) -> None:
        await ready(api, 1)
        endpoint = api.world.stoker.fleet.endpoints()
        [e] = list(endpoint)
        by = api.world.stoker.keys.principal(api.secret)
        for _ in range(PER_ENDPOINT_MAX):
            await api.world.stoker.demand.reservations.create(by, e, expires_s=20)
        is_problem(await api.call("POST", PATH), 429)
        await asyncio.sleep(21)
        await reserve(api)

    run(body)


def test_a_key_that_may_only_call_gets_tickets_and_sees_its_own() -> None:
    async def body(api: Api) -> None:
        made = await ready(api)
        await api.create("other", min=0)
        mine, theirs = await api.key(Scope.INVOKE), await api.key(Scope.INVOKE, endpoints=[made["id"]])
        ticket = (await api.call("POST", PATH, key=mine)).json
        second = (await api.call("POST", PATH, key=theirs)).json
        for key, seen in ((mine, [ticket]), (theirs, [second]), (api.secret, [ticket, second])):
            assert (await api.call("GET", PATH, key=key)).json["items"] == seen
        is_problem(await api.call("DELETE", f"{PATH}/{ticket['id']}", key=theirs), 404)
        is_problem(await api.call("POST", "/endpoints/other/reservations", key=theirs), 404)
        is_problem(await api.call("POST", PATH, key=await api.key(Scope.READ)), 403)
        assert (await api.call("DELETE", f"{PATH}/{ticket['id']}", key=mine)).status == 204

    run(body)


def test_of_an_endpoint_with_attached_keys_only_those_get_tickets() -> None:
    async def body(api: Api) -> None:
        made = await ready(api, access="attached")
        is_problem(await api.call("POST", PATH, key=await api.key(Scope.INVOKE)), 403)
        attached = await api.key(Scope.INVOKE, endpoints=[made["id"]])
        assert (await api.call("POST", PATH, key=attached)).status == 201

    run(body)


def test_a_restart_forgets_tickets() -> None:
    async def body(api: Api) -> None:
        await ready(api)
        ticket = await reserve(api)
        await api.world.crash()
        await asyncio.sleep(0.1)
        await api.world.boot(gateway=api.world.gateway)
        again = Api(api.world, api.secret)
        is_problem(await again.call("GET", f"{PATH}/{ticket['id']}"), 404)
        assert (await reserve(again))["number"] > ticket["number"]

    run(body)


def test_a_document_is_no_ticket() -> None:
    async def body(api: Api) -> None:
        await ready(api, 1)
        is_problem(await api.call("POST", PATH, spec()), 422, *(f"/{name}" for name in spec()))

    run(body)
