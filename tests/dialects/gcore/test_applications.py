"""Applications: endpoints that belong together, made, changed and ended as one."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from dialects.gcore.client import DEPLOYMENTS, FLAVOR, Cloud, play, told
from stoker.dialects.gcore.applications import COMPONENTS

APPS = "/v3/inference/applications/1/deployments"
CATALOG = "/v3/inference/applications/catalog"
KEYS = "/v3/inference/1/api_keys"


def component(**more: Any) -> dict[str, Any]:
    return {"exposed": True, "flavor": FLAVOR, "scale": {"min": 1, "max": 2}, **more}


def application(name: str = "app", **more: Any) -> dict[str, Any]:
    return {
        "application_name": "openai-chat",
        "name": name,
        "regions": [1],
        "components_configuration": {"model": component()},
        **more,
    }


async def made(cloud: Cloud, **more: Any) -> Any:
    """An application whose components are there."""
    for task in (await cloud.ok("POST", APPS, application(**more)))["tasks"]:
        await cloud.finished(task)
    return await cloud.ok("GET", f"{APPS}/app")


async def active(cloud: Cloud) -> Any:
    found = await cloud.ok("GET", f"{APPS}/app")
    while found["status"]["consolidated_status"] != "Active":
        assert found["status"]["consolidated_status"] == "PartiallyDeployed", found
        await asyncio.sleep(1)
        found = await cloud.ok("GET", f"{APPS}/app")
    return found


def test_the_template_says_what_there_is_to_choose() -> None:
    async def main(cloud: Cloud) -> None:
        page = await cloud.ok("GET", CATALOG)
        [template] = page["results"]
        assert page["count"] == 1
        assert await cloud.ok("GET", f"{CATALOG}/openai-chat") == template
        assert {name: each["required"] for name, each in template["components"].items()} == COMPONENTS
        model = template["components"]["model"]
        assert {"name": FLAVOR} in model["suitable_flavors"]
        assert model["parameters"]["model"]["default_value"]
        told(await cloud.call("GET", f"{CATALOG}/none"), 404, "NotFoundError")

    play(main)


def test_an_application_from_create_to_gone() -> None:
    async def main(cloud: Cloud) -> None:
        first = await made(cloud)
        assert (first["application_name"], first["regions"], first["api_keys"]) == ("openai-chat", [1], [])
        found = await active(cloud)
        assert found["status"]["component_inferences"] == {"model": {"flavor": FLAVOR, "name": "app-model"}}
        [region] = found["status"]["regions"]
        assert region == {
            "region_id": 1,
            "status": "Active",
            "components": {"model": {"error": "", "status": "Active"}},
        }
        deployment = await cloud.ok("GET", f"{DEPLOYMENTS}/app-model")
        assert deployment["object_references"] == [{"kind": "AppDeployment", "name": "app"}]
        assert found["status"]["expose_addresses"]["model"]["address"] == deployment["address"]
        assert (await cloud.ok("GET", APPS)) == {"count": 1, "results": [found]}
        [task] = (await cloud.ok("DELETE", f"{APPS}/app"))["tasks"]
        assert (await cloud.finished(task))["task_type"] == "delete_inference_application"
        told(await cloud.call("GET", f"{APPS}/app"), 404, "NotFoundError")
        told(await cloud.call("GET", f"{DEPLOYMENTS}/app-model"), 404, "NotFoundError")

    play(main)


def test_a_change_names_components_and_leaves_the_rest() -> None:
    async def main(cloud: Cloud) -> None:
        both = {"model": component(parameter_overrides={"slots": {"value": "3"}}), "second": component(exposed=False)}
        before = await made(cloud, components_configuration=both)
        assert set(before["status"]["expose_addresses"]) == {"model"}
        [native] = [
            e for e in (await cloud.api.call("GET", "/endpoints")).json["items"] if e["spec"]["name"] == "app-model"
        ]
        assert native["spec"]["slots"] == 3
        change = {"model": {"scale": {"max": 4}, "parameter_overrides": {"slots": None}}}
        [task] = (await cloud.ok("PATCH", f"{APPS}/app", {"components_configuration": change}))["tasks"]
        assert (await cloud.finished(task))["task_type"] == "update_inference_application"
        after = (await cloud.ok("GET", f"{APPS}/app"))["components_configuration"]
        assert after["model"] == component(scale={"min": 1, "max": 4}, parameter_overrides={})
        assert after["second"] == before["components_configuration"]["second"]
        [task] = (await cloud.ok("PATCH", f"{APPS}/app", {"components_configuration": {"second": None}}))["tasks"]
        await cloud.finished(task)
        assert set((await cloud.ok("GET", f"{APPS}/app"))["components_configuration"]) == {"model"}
        [task] = (await cloud.ok("PATCH", f"{APPS}/app", {"components_configuration": {"second": component()}}))[
            "tasks"
        ]
        await cloud.finished(task)
        assert set((await cloud.ok("GET", f"{APPS}/app"))["components_configuration"]) == {"model", "second"}
        assert await cloud.ok("PATCH", f"{APPS}/app", {}) == {"tasks": []}

    play(main)


def test_keys_call_the_components_that_are_exposed() -> None:
    async def main(cloud: Cloud) -> None:
        await cloud.ok("POST", KEYS, {"name": "key1"})
        both = {"model": component(), "second": component(exposed=False)}
        app = await made(cloud, components_configuration=both, api_keys=["key1"])
        assert app["api_keys"] == ["key1"]
        assert (await cloud.ok("GET", f"{KEYS}/key1"))["deployment_names"] == ["app-model"]
        assert (await cloud.ok("GET", f"{DEPLOYMENTS}/app-second"))["auth_enabled"] is True, "the project's keys alone"
        await cloud.ok("PATCH", f"{APPS}/app", {"components_configuration": {"second": {"exposed": True}}})
        assert (await cloud.ok("GET", f"{KEYS}/key1"))["deployment_names"] == ["app-model", "app-second"]
        await cloud.ok("PATCH", f"{APPS}/app", {"api_keys": []})
        assert (await cloud.ok("GET", f"{KEYS}/key1"))["deployment_names"] == []
        assert (await cloud.ok("GET", f"{DEPLOYMENTS}/app-model"))["auth_enabled"] is False

    play(main)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"application_name": "none"}, "application_name"),
        ({"name": "far-too-long-a-name"}, "name"),
        ({"regions": []}, "regions"),
        ({"regions": [9]}, "containers.0.region_id"),
        ({"api_keys": ["none"]}, "api_keys"),
        ({"components_configuration": {}}, "components_configuration"),
        ({"components_configuration": {"second": component()}}, "components_configuration.model"),
        (
            {"components_configuration": {"model": component(), "other": component()}},
            "components_configuration.other",
        ),
        ({"components_configuration": {"model": component(flavor="none")}}, "components_configuration.model.flavor"),
        (
            {"components_configuration": {"model": component(scale={"min": 2, "max": 1})}},
            "components_configuration.model.scale",
        ),
        (
            {"components_configuration": {"model": component(parameter_overrides={"slots": {"value": "many"}})}},
            "components_configuration.model.parameter_overrides.slots",
        ),
        (
            {"components_configuration": {"model": component(parameter_overrides={"other": {"value": "1"}})}},
            "components_configuration.model.parameter_overrides.other",
        ),
        (
            {"components_configuration": {"model": component(parameter_overrides={"model": {"value": "none"}})}},
            "components_configuration.model",
        ),
    ],
)
def test_what_does_not_fit_is_told_by_field_and_makes_nothing(change: dict[str, Any], field: str) -> None:
    async def main(cloud: Cloud) -> None:
        fields = told(await cloud.call("POST", APPS, application(**change)), 400, "ValidationError")
        assert list(fields) == [field]
        assert (await cloud.ok("GET", DEPLOYMENTS))["count"] == 0

    play(main)


def test_all_components_are_made_or_none() -> None:
    async def main(cloud: Cloud) -> None:
        await cloud.deploy("app-second")
        both = {"model": component(), "second": component()}
        taken = await cloud.call("POST", APPS, application(components_configuration=both))
        assert taken.status in (400, 409)
        await asyncio.sleep(60)
        assert [each["name"] for each in (await cloud.ok("GET", DEPLOYMENTS))["results"]] == ["app-second"]

    play(main)


def test_what_cannot_be_changed_so_is_refused_and_changes_nothing() -> None:
    async def main(cloud: Cloud) -> None:
        before = await made(cloud)
        told(await cloud.call("POST", APPS, application()), 409, "ConflictError")
        for change, field in (
            ({"model": None}, "components_configuration.model"),
            ({"other": component()}, "components_configuration.other"),
            ({"second": {"exposed": True}}, "components_configuration.second.flavor"),
            ({"model": {"scale": {"min": 9}}}, "components_configuration.model.scale"),
            ({"model": {"flavor": "none"}}, "components_configuration.model.flavor"),
        ):
            answer = await cloud.call("PATCH", f"{APPS}/app", {"components_configuration": change})
            assert field in told(answer, 400, "ValidationError"), change
        after = await cloud.ok("GET", f"{APPS}/app")
        assert after["components_configuration"] == before["components_configuration"]
        told(await cloud.call("PATCH", f"{APPS}/none", {}), 404, "NotFoundError")
        told(await cloud.call("DELETE", f"{APPS}/none"), 404, "NotFoundError")

    play(main)
