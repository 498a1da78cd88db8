"""Where the API is, and what its own description says of it."""

from __future__ import annotations

from typing import Any

import pytest

from api.client import Exchange
from dialects.gcore.client import ROOT, Cloud, play, told
from stoker.dialects.gcore.caller import ACTIONS


def test_at_the_clouds_own_host_the_api_begins_at_the_root() -> None:
    async def main(cloud: Cloud) -> None:
        async def at(host: str, target: str) -> Any:
            headers = {"host": host, "authorization": f"APIKey {cloud.api.secret}"}
            return await Exchange(cloud.api.app, "GET", target, headers, b"").answer()

        assert (await at("api.gcore.com", "/cloud/v3/inference/flavors")).status == 200
        assert (await at("127.0.0.1:7878", f"{ROOT}/v3/inference/flavors")).status == 200
        assert (await at("127.0.0.1:7878", "/cloud/v3/inference/flavors")).status == 404
        told(await at("api.gcore.com", "/cloud/v3/inference/flavours"), 404, "NotFoundError")
        told(await at("api.gcore.com", "/v1/tasks/none"), 404, "NotFoundError")
        told(await at("127.0.0.1:7878", "/gcore/v1/tasks/none"), 404, "NotFoundError")

    play(main)


def test_every_operation_has_an_action_and_a_description_with_its_errors() -> None:
    async def main(cloud: Cloud) -> None:
        description = await cloud.ok("GET", "/openapi.json")
        operations = [each for methods in description["paths"].values() for each in methods.values()]
        assert {each["operationId"] for each in operations} == set(ACTIONS)
        for each in operations:
            [success] = {"200", "204"} & set(each["responses"])
            assert set(each["responses"]) == {success, "400", "401", "403", "404", "409", "500"}, each["operationId"]

    play(main)


def test_a_fault_of_our_own_is_told_as_one() -> None:
    async def main(cloud: Cloud) -> None:
        async def broken(*_arguments: object, **_more: object) -> None:
            raise RuntimeError("disk on fire")

        cloud.api.world.stoker.services.models.page = broken  # type: ignore[method-assign,assignment]
        # The server, which is not here, logs what goes on through the answer.
        with pytest.raises(RuntimeError):
            await cloud.call("GET", "/v3/inference/models")

    play(main)
