"""Models, AI keys and what there is to choose from, through Exoscale's API on virtual time."""

from __future__ import annotations

from uuid import uuid4

import pytest

from dialects.exoscale.client import SMOL, Cloud, deployment, play, told
from stoker.domain.models import FetchFailed

REPO = "owner/tiny"


def test_a_model_is_fetched_used_and_deleted_when_nothing_uses_it_any_more() -> None:
    async def main(cloud: Cloud) -> None:
        operation = await cloud.ok("POST", "/ai/model", {"name": REPO, "huggingface-token": "hf_secret"})
        id = operation["reference"]["id"]
        assert operation["state"] == "pending"
        assert operation["reference"] == {"id": id, "link": f"/v2/ai/model/{id}", "command": "get-model"}
        assert (await cloud.ok("GET", f"/ai/model/{id}"))["state"] in ("creating", "downloading")
        assert (await cloud.wait(operation))["state"] == "success"
        got = await cloud.ok("GET", f"/ai/model/{id}")
        assert (got["name"], got["state"], got["model-size"]) == (REPO, "ready", 100 * 2**30)
        assert (await cloud.ok("GET", "/ai/model"))["models"] == [got]
        assert cloud.api.world.fetcher.tokens == ["hf_secret"]
        assert "already" in told(await cloud.call("POST", "/ai/model", {"name": REPO}), 409)
        used = await cloud.deploy("user", model={"name": REPO, "id": id})
        assert (await cloud.ok("GET", f"/ai/deployment/{used}"))["model"] == {"id": id, "name": REPO}
        refused = await cloud.call("DELETE", f"/ai/model/{id}")
        assert "used by user" in told(refused, 412)
        assert refused.json["deployments"] == ["user"]
        await cloud.wait(await cloud.ok("DELETE", f"/ai/deployment/{used}"))
        deleted = await cloud.ok("DELETE", f"/ai/model/{id}")
        assert deleted["state"] == "success"
        assert await cloud.wait(deleted | {"state": "pending"}) == deleted
        told(await cloud.call("GET", f"/ai/model/{id}"), 404)
        gone = await cloud.ok("GET", f"/operation/{operation['id']}")
        assert (gone["state"], gone["reason"]) == ("failure", "interrupted")
        assert (await cloud.api.call("GET", "/secrets")).json["items"] == [], "the token went with it"

    play(main)


def test_a_model_of_the_installation_becomes_the_projects_when_it_is_asked_for() -> None:
    async def main(cloud: Cloud) -> None:
        assert (await cloud.ok("GET", "/ai/model"))["models"] == []
        operation = await cloud.wait(await cloud.ok("POST", "/ai/model", {"name": SMOL}))
        assert operation["state"] == "success"
        [model] = (await cloud.ok("GET", "/ai/model"))["models"]
        assert (model["name"], model["state"], model["id"]) == (SMOL, "ready", operation["reference"]["id"])
        by_id = await cloud.deploy("a", model={"id": model["id"]})
        by_name = await cloud.deploy("b", model={"name": SMOL})
        for each in (by_id, by_name):
            assert (await cloud.ok("GET", f"/ai/deployment/{each}"))["model"] == {"id": model["id"], "name": SMOL}
        told(await cloud.call("POST", "/ai/deployment", deployment("c", model={"id": model["id"], "name": "x"})), 412)

    play(main)


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        pytest.param("https://hub/api answers 401: it needs a token", "forbidden", id="gated"),
        pytest.param("https://hub/api answers 404: check the name", "not-found", id="no such repository"),
        pytest.param("https://hub/api answers 429", "busy", id="too many"),
        pytest.param("https://hub/api answers 500", "unavailable", id="the hub is broken"),
        pytest.param("no file of owner/tiny matches '*.x'; there are none", "incorrect", id="nothing in it"),
        pytest.param("the disk is full", "unavailable", id="another thing"),
    ],
)
def test_a_model_that_cannot_be_fetched_says_why(error: str, reason: str) -> None:
    async def main(cloud: Cloud) -> None:
        cloud.api.world.fetcher.fails[REPO] = [FetchFailed(error, permanent=True)]
        operation = await cloud.wait(await cloud.ok("POST", "/ai/model", {"name": REPO}))
        assert (operation["state"], operation["reason"], operation["message"]) == ("failure", reason, error)
        assert (await cloud.ok("GET", f"/ai/model/{operation['reference']['id']}"))["state"] == "error"
        answer = await cloud.call("POST", "/ai/deployment", deployment(model={"name": REPO}))
        assert error in told(answer, 412)

    play(main)


def test_names_that_no_repository_has_are_refused() -> None:
    async def main(cloud: Cloud) -> None:
        for name in ("", "a/b/c", "../x", "x y", "1", "-x", "x" * 400, "owner/", "é/x"):
            told(await cloud.call("POST", "/ai/model", {"name": name}), 400)
        for id in ("x", REPO, str(uuid4())):
            told(await cloud.call("GET", f"/ai/model/{id}"), 404)
            told(await cloud.call("DELETE", f"/ai/model/{id}"), 404)
        assert (await cloud.ok("GET", "/ai/model"))["models"] == []

    play(main)


def test_ai_keys_call_one_deployment_or_all_and_do_nothing_else() -> None:
    async def main(cloud: Cloud) -> None:
        id = await cloud.deploy()
        one = await cloud.ok("POST", "/ai/api-key", {"name": "one", "scope": id})
        every = await cloud.ok("POST", "/ai/api-key", {"name": "every (1) x", "scope": "public"})
        assert (one["scope"], every["scope"]) == (id, "public")
        assert one["org-uuid"] == every["org-uuid"]
        listed = (await cloud.ok("GET", "/ai/api-key"))["ai-api-keys"]
        assert listed == [{k: v for k, v in each.items() if k != "value"} for each in (one, every)]
        assert await cloud.ok("GET", f"/ai/api-key/{one['id']}") == listed[0]
        keys = cloud.api.world.stoker.keys
        assert keys.principal(one["value"]).endpoints == frozenset({id})
        deleted = await cloud.ok("DELETE", f"/ai/api-key/{one['id']}")
        assert deleted["state"] == "success"
        assert await cloud.ok("GET", f"/operation/{deleted['id']}") == deleted
        told(await cloud.call("GET", f"/ai/api-key/{one['id']}"), 404)
        told(await cloud.call("DELETE", f"/ai/api-key/{one['id']}"), 404)
        told(await cloud.call("POST", "/ai/api-key", {"name": "x", "scope": str(uuid4())}), 404)
        for name in ("", " x", "x ", "é", "x" * 51):
            told(await cloud.call("POST", "/ai/api-key", {"name": name, "scope": "public"}), 400)
        assert await cloud.ok("GET", "/ai/quota") == {"quota-uom-per-minute": None}

    play(main)


def test_instance_types_are_families_with_whether_a_machine_here_has_them() -> None:
    async def main(cloud: Cloud) -> None:
        types = (await cloud.ok("GET", "/ai/instance-type"))["instance-types"]
        assert {each["family"]: each["authorized"] for each in types} == {
            "cpu": True,
            "gpuh100": True,
            "gpua5000": False,
            "gpu3080ti": False,
            "gpurtx6000pro": False,
            "gpu3": False,
        }

    play(main)


def test_parameters_have_texts_for_all_values_and_none_that_stoker_sets() -> None:
    async def main(cloud: Cloud) -> None:
        old = (await cloud.ok("GET", "/ai/help/inference-engine-parameters"))["parameters"]
        assert old == (await cloud.ok("GET", "/ai/help/inference-engine-parameters?version=0.12.0"))["parameters"]
        new = (await cloud.ok("GET", "/ai/help/inference-engine-parameters?version=0.15.1"))["parameters"]
        for parameters in (old, new):
            by_name = {each["name"]: each for each in parameters}
            assert by_name["max-model-len"]["default"] == "None"
            assert by_name["max-model-len"]["flags"] == ["--max-model-len"]
            assert not {"host", "port", "tensor-parallel-size", "data-parallel-size", "ssl-keyfile"} & set(by_name)
            for each in parameters:
                assert isinstance(each["default"], str)
                assert all(isinstance(value, str) for value in each.get("allowed-values", []))
                assert each["description"].strip().endswith("."), each["name"]
        text = told(await cloud.call("GET", "/ai/help/inference-engine-parameters?version=0.16.0"), 400)
        assert '["0.12.0", "0.15.1"]' in text

    play(main)
