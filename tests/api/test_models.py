"""Models through the native API, with endpoints that wait for them, on virtual time."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from api.client import Api, run
from stoker.domain.access import Scope
from stoker.domain.endpoint import EndpointId
from stoker.domain.models import FetchFailed

URL = "https://models.test/tiny.gguf"


async def add(api: Api, name: str = "tiny", **more: Any) -> Any:
    answer = await api.call("POST", "/models", {"name": name, "source": {"url": URL}, **more})
    assert answer.status == 201, answer.body
    return answer.json


async def deploy(api: Api, model: str = "tiny", name: str = "e", *, low: int = 0, **more: Any) -> Any:
    pools = [{"provider": "fake", "bounds": {"min": low, "max": 2}}]
    spec = {"name": name, "launch": {"model": model}, "pools": pools, **more}
    answer = await api.call("POST", "/endpoints", spec)
    assert answer.status == 201, answer.body
    return answer.json["endpoint"]


async def get(api: Api, path: str) -> Any:
    answer = await api.call("GET", path)
    assert answer.status == 200, answer.body
    return answer.json


def test_a_model_is_found_by_id_number_name_and_alias_and_listed_after_those_of_the_installation() -> None:
    async def body(api: Api) -> None:
        made = await add(api, aliases=["owner/tiny", "t"])
        assert (made["state"], made["origin"], made["source"]["url"]) == ("absent", "project", URL)
        for reference in ("tiny", "t", made["id"], str(made["number"])):
            assert await get(api, f"/models/{reference}") == made
        listed = (await get(api, "/models"))["items"]
        assert [item["origin"] for item in listed] == ["built-in", "project"]
        assert (await get(api, "/models/smollm2"))["id"] is None
        other = await api.call("POST", "/models", {"name": "x", "source": {"url": URL}, "aliases": ["owner/tiny"]})
        assert (other.status, "called 'owner/tiny' already" in other.json["detail"]) == (409, True)

    run(body)


@pytest.mark.parametrize(
    ("wrong", "pointer"),
    [
        ({"source": {}}, "/source"),
        ({"source": {"url": URL, "path": "/x"}}, "/source"),
        ({"source": {"url": "ftp://x.test/m"}}, "/source/url"),
        ({"source": {"url": "http://169.254.169.254/m"}}, "/source/url"),
        ({"source": {"path": "relative"}}, "/source/path"),
        ({"source": {"package": "p", "file": "../../etc/passwd"}}, "/source/file"),
        ({"source": {"huggingface": "a/../b"}}, "/source/huggingface"),
        ({"source": {"huggingface": "a/b", "revision": "../x"}}, "/source/revision"),
        ({"sha256": "abc"}, "/sha256"),
        ({"name": "17"}, "/name"),
        ({"aliases": ["tiny"]}, "/aliases/0"),
        ({"token_secret": "missing"}, "/token_secret"),
    ],
)
def test_a_model_that_makes_no_sense_is_refused_at_its_place_and_changes_nothing(wrong: Any, pointer: str) -> None:
    async def body(api: Api) -> None:
        before = await api.dump()
        answer = await api.call("POST", "/models", {"name": "tiny", "source": {"url": URL}, **wrong})
        assert answer.status == 422, answer.body
        assert [error["pointer"] for error in answer.json["errors"]] == [pointer]
        assert await api.dump() == before

    run(body)


def test_an_endpoint_waits_for_its_model_says_so_and_starts_when_it_is_here() -> None:
    async def body(api: Api) -> None:
        await add(api)
        made = await deploy(api, low=1)
        await asyncio.sleep(43.5)
        shown = await get(api, "/endpoints/e")
        assert (shown["state"], shown["state_reason"]) == ("starting", "downloading model 43 %")
        assert api.world.provider.workers == {}
        model = await get(api, "/models/tiny")
        assert (model["state"], round(model["progress"], 2), model["used_by"]) == ("downloading", 0.43, ["e"])
        await asyncio.sleep(65)
        assert (await get(api, "/endpoints/e"))["state"] == "ready"
        [worker] = api.world.provider.workers.values()
        assert worker.spec.command[worker.spec.command.index("--model") + 1].endswith("/model.gguf")
        kinds = await api.world.events(EndpointId(made["id"]))
        assert kinds.count("model_download_started") == 1
        assert kinds.count("model_download_progress") == 9
        assert kinds.index("model_ready") < kinds.index("worker_starting")

    run(body)


def test_a_model_that_is_here_is_not_fetched_once_more_while_it_is_measured() -> None:
    async def body(api: Api) -> None:
        api.world.fetcher.measure_s = 5.0
        await add(api)
        made = await deploy(api, low=1)
        await asyncio.sleep(103)
        assert (await get(api, "/models/tiny"))["state"] == "downloading"
        await asyncio.sleep(20)
        assert (await get(api, "/endpoints/e"))["state"] == "ready"
        assert api.world.fetcher.fetched == [URL]
        assert (await api.world.events(EndpointId(made["id"]))).count("model_ready") == 1

    run(body)


def test_one_download_serves_all_who_ask_and_only_some_go_on_at_once() -> None:
    async def body(api: Api) -> None:
        fetcher = api.world.fetcher
        for name in ("a", "b"):
            await add(api, name)
            await deploy(api, name, name, low=1)
        for number in range(4):
            await add(api, f"other{number}", source={"url": f"{URL}?{number}"}, pull=True)
        await asyncio.sleep(30)
        assert fetcher.running_most == 2, "downloads_at_once"
        await asyncio.sleep(600)
        assert fetcher.fetched.count(URL) == 1
        assert len(fetcher.fetched) == 5
        assert {(await get(api, f"/endpoints/{name}"))["state"] for name in ("a", "b")} == {"ready"}

    run(body)


def test_deleting_the_endpoint_cancels_what_nobody_else_wants_and_the_next_one_goes_on_with_it() -> None:
    async def body(api: Api) -> None:
        await add(api)
        await deploy(api, low=1)
        await asyncio.sleep(50)
        await api.call("DELETE", "/endpoints/e")
        await asyncio.sleep(60)
        assert (api.world.fetcher.running, (await get(api, "/models/tiny"))["state"]) == (0, "absent")
        await deploy(api, low=1)
        await asyncio.sleep(58)
        assert (await get(api, "/endpoints/e"))["state"] == "ready", "the first half was not fetched again"

    run(body)


def test_a_control_that_dies_in_the_middle_goes_on_where_it_was() -> None:
    async def body(api: Api) -> None:
        await add(api)
        await deploy(api, low=1)
        await asyncio.sleep(60)
        gateway = api.world.gateway
        await api.world.crash()
        await api.world.boot(gateway=gateway)
        again = Api(api.world, api.secret)
        await asyncio.sleep(2)
        shown = await get(again, "/endpoints/e")
        assert shown["state_reason"].startswith("downloading model 6")
        await asyncio.sleep(45)
        assert (await get(again, "/endpoints/e"))["state"] == "ready"

    run(body)


async def away(api: Api) -> Api:
    """The same with workers whose provider fetches what they need by itself."""
    gateway = api.world.gateway
    await api.world.crash()
    api.world.provider.models_at = "/cache"
    await api.world.boot(gateway=gateway)
    return Api(api.world, api.secret)


def test_where_a_provider_fetches_by_itself_nothing_comes_to_this_host_and_no_limit_ends_a_long_download() -> None:
    async def body(api: Api) -> None:
        api = await away(api)
        await api.call("POST", "/secrets", {"name": "hf", "value": "hf-value"})
        await add(api, token_secret="hf")
        made = await deploy(api, low=1, probes={"startup": {"start_timeout_s": 100}})
        await asyncio.sleep(5)
        [(id, worker)] = api.world.provider.workers.items()
        fetch = worker.spec.fetch
        assert fetch is not None
        assert (fetch.name, fetch.token, fetch.source.location) == ("tiny", "hf-value", URL)
        assert "hf-value" not in repr(worker.spec)
        assert worker.spec.command[worker.spec.command.index("--model") + 1] == f"/cache/{fetch.key}/model.gguf"
        assert worker.spec.mounts == ()
        api.world.provider.fetching(id, "downloading model 43 %")
        for times in range(3):
            await asyncio.sleep(150)
            shown = await get(api, "/endpoints/e")
            assert (shown["state"], shown["state_reason"]) == ("starting", "downloading model 43 %"), times
        assert [each.id for each in api.world.workers(EndpointId(made["id"]))] == [id]
        api.world.provider.fetched(id)
        await asyncio.sleep(5)
        shown = await get(api, "/endpoints/e")
        assert (shown["state"], shown["state_reason"]) == ("ready", "")
        assert api.world.fetcher.fetched == []
        model = await get(api, "/models/tiny")
        assert (model["state"], model["used_by"]) == ("absent", ["e"])
        assert (await api.call("DELETE", "/models/tiny")).status == 409

    run(body)


def test_the_time_to_become_ready_counts_from_a_workers_own_beginning() -> None:
    async def body(api: Api) -> None:
        api = await away(api)
        api.world.load_s = 10**9
        await add(api)
        await deploy(api, low=1, probes={"startup": {"start_timeout_s": 100}})
        await asyncio.sleep(5)
        [id] = api.world.provider.workers
        await asyncio.sleep(150)
        api.world.provider.fetched(id)
        await asyncio.sleep(90)
        assert list(api.world.provider.workers) == [id]
        await asyncio.sleep(20)
        assert id not in api.world.provider.workers
        assert "not ready within 100 s" in str(await get(api, "/endpoints/e/events"))

    run(body)


def test_a_fetch_that_fails_at_the_provider_fails_the_worker_with_its_reason() -> None:
    async def body(api: Api) -> None:
        api = await away(api)
        await add(api)
        await deploy(api, low=1)
        await asyncio.sleep(5)
        [id] = api.world.provider.workers
        api.world.provider.crash(id, code=2)
        await asyncio.sleep(2)
        assert "exited with code 2" in (await get(api, "/endpoints/e"))["state_reason"]

    run(body)


def test_a_failure_that_passes_is_tried_again_and_one_that_does_not_waits_for_somebody() -> None:
    async def body(api: Api) -> None:
        api.world.fetcher.fails[URL] = [FetchFailed("the server answers 503"), FetchFailed("no token", permanent=True)]
        await add(api)
        made = await deploy(api, low=1)
        await asyncio.sleep(1)
        shown = await get(api, "/endpoints/e")
        assert "could not be fetched, next try in" in shown["state_reason"]
        await asyncio.sleep(10)
        shown = await get(api, "/endpoints/e")
        assert (shown["state"], shown["state_reason"]) == ("failing", "the model 'tiny' cannot be fetched: no token")
        entry = api.world.stoker.link.endpoint(made["id"])
        assert entry is not None
        assert (entry.refusal, entry.refusal_text) == ("model_failed", shown["state_reason"])
        await asyncio.sleep(10_000)
        assert len(api.world.fetcher.fetched) == 2
        pulled = await api.call("POST", "/models/tiny:pull")
        assert (pulled.status, pulled.json["error"]) == (202, "")
        await asyncio.sleep(110)
        assert (await get(api, "/endpoints/e"))["state"] == "ready"
        assert entry.refusal != getattr(api.world.stoker.link.endpoint(made["id"]), "refusal", "")

    run(body)


def test_the_operation_fails_with_the_model() -> None:
    async def body(api: Api) -> None:
        api.world.fetcher.fails[URL] = [FetchFailed("404: check the name", permanent=True)]
        await add(api)
        await deploy(api, low=1)
        await asyncio.sleep(5)
        [event] = [e for e in (await get(api, "/endpoints/e/events"))["items"] if e["kind"] == "create_failure"]
        assert "check the name" in event["message"]

    run(body)


def test_a_model_that_turns_out_too_large_for_its_cards_starts_no_worker_and_says_the_numbers() -> None:
    lack = "the weights take 100.0 GiB, and cannot fit a card with 80 GiB"

    async def body(api: Api) -> None:
        await add(api)
        pools = [{"provider": "fake", "hardware": {"gpu_count": 1}, "bounds": {"min": 1, "max": 1}}]
        await deploy(api, pools=pools)
        await asyncio.sleep(110)
        shown = await get(api, "/endpoints/e")
        assert lack in shown["state_reason"], shown
        assert api.world.provider.workers == {}
        refused = await api.call("POST", "/endpoints", {"name": "f", "launch": {"model": "tiny"}, "pools": pools})
        assert refused.status == 422, refused.body
        assert lack in refused.body.decode()
        assert "/pools/0/hardware/vram_gib_min" in refused.body.decode()

    run(body)


def test_requests_that_would_wait_in_vain_are_refused_with_how_long_it_takes() -> None:
    async def body(api: Api) -> None:
        await add(api)
        made = await deploy(api, waiting={"wait_s_max": 60})
        await asyncio.sleep(20)
        entry = api.world.stoker.link.endpoint(made["id"])
        assert entry is not None
        assert entry.refusal == "model_downloading"
        assert entry.refusal_text.startswith("downloading model ")
        assert 70 <= (entry.retry_after_s or 0) <= 90
        await asyncio.sleep(30)
        entry = api.world.stoker.link.endpoint(made["id"])
        assert entry is not None
        assert entry.refusal is None, "what is left is short enough to wait for"

    run(body)


def test_the_token_comes_from_the_secret_of_that_moment_and_is_shown_nowhere() -> None:
    async def body(api: Api) -> None:
        await api.call("POST", "/secrets", {"name": "hf", "value": "hf-value"})
        await add(api, token_secret="hf", pull=True)
        await asyncio.sleep(5)
        assert api.world.fetcher.tokens == ["hf-value"]
        assert "hf-value" not in str(await api.dump())
        assert (await api.call("DELETE", "/models/tiny")).status == 204

    run(body)


def test_a_model_in_use_is_not_deleted_and_a_free_one_is_with_its_files() -> None:
    async def body(api: Api) -> None:
        await add(api, aliases=["t"])
        await deploy(api, "t", low=1)
        await asyncio.sleep(110)
        refused = await api.call("DELETE", "/models/tiny")
        assert (refused.status, "is used by e" in refused.json["detail"]) == (409, True)
        # Its workers still have it open while they drain.
        await api.call(
            "PUT",
            "/endpoints/e",
            {
                "name": "e",
                "launch": {"command": ["x"]},
                "pools": [{"provider": "fake", "bounds": {"min": 1, "max": 2}}],
            },
        )
        assert (await api.call("DELETE", "/models/tiny")).status == 409
        await asyncio.sleep(60)
        assert (await api.call("DELETE", "/models/tiny")).status == 204
        assert api.world.fetcher.here == {}
        assert (await api.call("GET", "/models/tiny")).status == 404
        back = await api.call("POST", "/endpoints/e:rollback", {})
        assert (back.status, "stoker models add" in back.json["detail"]) == (409, True)

    run(body)


def test_weights_that_two_models_share_stay_with_the_second() -> None:
    async def body(api: Api) -> None:
        await add(api, "a", pull=True)
        await add(api, "b")
        await asyncio.sleep(110)
        assert (await get(api, "/models/b"))["state"] == "ready"
        assert (await api.call("DELETE", "/models/a")).status == 204
        assert (await get(api, "/models/b"))["state"] == "ready"

    run(body)


def test_room_is_made_by_what_was_used_least_recently_and_never_by_what_is_in_use_or_pinned() -> None:
    async def body(api: Api) -> None:
        fetcher = api.world.fetcher
        fetcher.limit = 3 * fetcher.size
        for name in ("used", "pinned", "old"):
            await add(api, name, source={"url": f"{URL}?{name}"}, pull=True, pinned=name == "pinned")
            await asyncio.sleep(110)
        await deploy(api, "used", low=1)
        await asyncio.sleep(10)
        await add(api, "new", source={"url": f"{URL}?new"}, pull=True)
        await asyncio.sleep(110)
        states = {name: (await get(api, f"/models/{name}"))["state"] for name in ("used", "pinned", "old", "new")}
        assert states == {"used": "ready", "pinned": "ready", "old": "absent", "new": "ready"}
        await api.call("PATCH", "/models/new", {"pinned": True})
        await add(api, "more", source={"url": f"{URL}?more"}, pull=True)
        await asyncio.sleep(10)
        more = await get(api, "/models/more")
        assert more["state"] == "failed"
        assert "models_cache_gib" in more["error"]
        assert "100.0 GiB more are needed" in more["error"]

    run(body)


def test_prune_removes_what_no_active_endpoint_uses_and_keeps_the_catalogue() -> None:
    async def body(api: Api) -> None:
        for name in ("used", "pinned", "free"):
            await add(api, name, source={"url": f"{URL}?{name}"}, pull=True, pinned=name == "pinned")
        await deploy(api, "used")
        await asyncio.sleep(250)
        pruned = await api.call("POST", "/models:prune")
        assert pruned.json == {"models": ["free"], "bytes": api.world.fetcher.size}
        assert [(await get(api, f"/models/{name}"))["state"] for name in ("used", "free")] == ["ready", "absent"]
        [event] = (await get(api, "/audit?action=model.prune"))["items"]
        assert event["after"]["models"] == ["free"]

    run(body)


def test_a_path_is_for_admins_and_is_looked_at_at_once(tmp_path: Path) -> None:
    async def body(api: Api) -> None:
        path = {"name": "p", "source": {"path": str(tmp_path)}}
        assert (await api.call("POST", "/models", path, key=await api.key(Scope.DEPLOY))).status == 403
        assert (await api.call("POST", "/models", path)).status == 201
        assert (
            await api.call("POST", "/models", {"name": "u", "source": {"url": URL}}, key=await api.key(Scope.DEPLOY))
        ).status == 201
        assert (await api.call("POST", "/models:prune", key=await api.key(Scope.DEPLOY))).status == 403

    run(body)


def test_another_projects_models_are_neither_seen_nor_used() -> None:
    async def body(api: Api) -> None:
        await add(api)
        project = await api.world.stoker.projects.create((await installation_principal(api)), "two")
        stranger = await api.call("GET", "/models/tiny", headers={"x-stoker-project": str(project.number)})
        assert stranger.status == 404

    run(body)


async def installation_principal(api: Api) -> Any:
    from dataclasses import replace

    return replace(api.world.stoker.keys.principal(api.secret), installation=True)
