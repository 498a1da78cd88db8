"""Who is let in, how everything that fails is told, and where the server says it is."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from api.client import Api
from dialects.exoscale.client import ROOT, Cloud, authorization, deployment, pair, play, told
from simulation.virtual import wall
from stoker.dialects.exoscale.caller import ACTIONS
from stoker.domain.access import Scope


def test_a_signed_request_is_let_in_and_any_other_is_403() -> None:
    async def main(cloud: Cloud) -> None:
        target, body = f"{ROOT}/ai/model", b'{"name": ""}'

        async def send(credential: str, secret: str, sent: bytes = body, **more: Any) -> Any:
            signed = authorization(credential, secret, method="POST", target=target, body=body, **more)
            return await cloud.send("POST", target, sent, headers={"authorization": signed})

        told(await send(cloud.credential, cloud.secret), 400)
        told(await send(cloud.credential, cloud.secret), 400)
        assert "does not match" in told(await send(cloud.credential, cloud.secret, b'{"name": "x"}'), 403)
        assert "does not match" in told(await send(cloud.credential, "s" + cloud.secret), 403)
        assert "not known" in told(await send("EXO" + "0" * 24, cloud.secret), 403)
        assert "expired" in told(await send(cloud.credential, cloud.secret, expires=int(wall())), 403)
        told(await cloud.send("POST", target, body), 403)
        told(await cloud.send("POST", target, body, headers={"authorization": "EXO2-HMAC-SHA256 nonsense"}), 403)
        told(await cloud.send("POST", target, body, headers={"authorization": "Bearer sk-nobody"}), 403)
        bearer = f"Bearer {cloud.api.secret}"
        assert (await cloud.send("GET", target, headers={"authorization": bearer})).json == {"models": []}

    play(main)


def test_the_query_is_signed_too() -> None:
    async def main(cloud: Cloud) -> None:
        target = f"{ROOT}/ai/deployment?visibility=private"
        signed = authorization(cloud.credential, cloud.secret, method="GET", target=target)
        assert (await cloud.send("GET", target, headers={"authorization": signed})).status == 200
        for other in ("?visibility=public", "?visibility=private&visibility=public", ""):
            told(await cloud.send("GET", f"{ROOT}/ai/deployment{other}", headers={"authorization": signed}), 403)

    play(main)


def test_a_pair_may_do_what_its_scopes_say() -> None:
    async def main(cloud: Cloud) -> None:
        reader = Cloud(cloud.api, *await pair(cloud.api, Scope.READ))
        deployer = Cloud(cloud.api, *await pair(cloud.api, Scope.DEPLOY))
        assert "scope admin" in told(await deployer.call("POST", "/ai/deployment", deployment()), 403), (
            "processes of ours"
        )
        id = await cloud.deploy()
        assert (await reader.ok("GET", f"/ai/deployment/{id}"))["name"] == "d"
        assert "scope deploy" in told(await reader.call("GET", f"/ai/deployment/{id}/api-key"), 403)
        assert (await deployer.ok("GET", f"/ai/deployment/{id}/api-key"))["api-key"].startswith("sk-")
        told(await reader.call("DELETE", f"/ai/deployment/{id}"), 403)
        told(await deployer.call("GET", "/ai/api-key"), 403)

    play(main)


def test_at_the_clouds_own_host_the_api_begins_at_the_root_and_its_zone_is_there() -> None:
    async def main(cloud: Cloud) -> None:
        host = {"host": "api-ch-dk-2.exoscale.com"}
        zones = (await cloud.send("GET", "/v2/zone", headers=host)).json["zones"]
        assert zones == [{"name": "ch-dk-2", "api-endpoint": "http://api-ch-dk-2.exoscale.com/v2"}]
        signed = authorization(cloud.credential, cloud.secret, method="GET", target="/v2/ai/model")
        assert (await cloud.send("GET", "/v2/ai/model", headers={**host, "authorization": signed})).status == 200
        signed = authorization(cloud.credential, cloud.secret, method="GET", target=f"{ROOT}/ai/model")
        told(await cloud.send("GET", "/v2/ai/model", headers={**host, "authorization": signed}), 403)

    play(main)


@pytest.mark.parametrize(
    ("host", "url"),
    [
        pytest.param("127.0.0.1:7878", "http://127.0.0.1:7878/exoscale/v2", id="its own"),
        pytest.param("box.lan:7878", "http://box.lan:7878/exoscale/v2", id="another name of the machine"),
    ],
)
def test_the_only_zone_is_where_it_was_asked_signed_or_not(host: str, url: str) -> None:
    async def main(cloud: Cloud) -> None:
        for headers in (dict[str, str](), {"authorization": "EXO2-HMAC-SHA256 nonsense"}):
            answer = await cloud.send("GET", f"{ROOT}/zone", headers={"host": host, **headers})
            assert answer.json == {"zones": [{"name": "ch-dk-2", "api-endpoint": url}]}

    play(main)


def test_everything_that_fails_comes_in_the_same_envelope() -> None:
    async def main(cloud: Cloud) -> None:
        told(await cloud.call("GET", "/nothing"), 404)
        told(await cloud.call("PUT", "/zone"), 404)
        told(await cloud.send("GET", "/exoscale/"), 404)
        target = f"{ROOT}/ai/model"
        for body in (b"{", b"[]", b'"x"', b'{"name": "\\ud800"}', b"x" * (4 * 1024 * 1024 + 1), b'{"name": 1}', b""):
            signed = authorization(cloud.credential, cloud.secret, method="POST", target=target, body=body)
            told(await cloud.send("POST", target, body, headers={"authorization": signed}), 400)
        for id in ("x", "00000000-0000-4000-8000-000000000000"):
            told(await cloud.call("GET", f"/operation/{id}"), 404)

    play(main)


def test_a_fault_of_our_own_is_500_in_the_envelope() -> None:
    async def main(cloud: Cloud) -> None:
        async def broken(*_arguments: object, **_more: object) -> None:
            raise RuntimeError("disk on fire")

        cloud.api.world.stoker.services.models.page = broken  # type: ignore[method-assign,assignment]
        with pytest.raises(RuntimeError):
            await cloud.call("GET", "/ai/model")

    play(main)


def test_every_operation_has_an_action_and_a_description_with_its_errors() -> None:
    async def main(cloud: Cloud) -> None:
        description = (await cloud.send("GET", f"{ROOT}/openapi.json")).json
        operations = [each for methods in description["paths"].values() for each in methods.values()]
        assert {each["operationId"] for each in operations} == set(ACTIONS)
        for each in operations:
            assert set(each["responses"]) == {"200", "400", "403", "404", "409", "412", "500"}, each["operationId"]

    play(main)


def test_a_proxys_prefix_is_signed_though_it_is_taken_away_on_the_way() -> None:
    async def main(cloud: Cloud) -> None:
        stoker = cloud.api.world.stoker
        stoker.services = replace(stoker.services, url="https://x.test/lab1")
        behind = replace(cloud, api=Api(cloud.api.world, cloud.api.secret))
        for prefix, status in (("/lab1", 200), ("", 200), ("/lab2", 403)):
            target = f"{ROOT}/ai/model"
            signed = authorization(cloud.credential, cloud.secret, method="GET", target=prefix + target)
            headers = {"authorization": signed, "host": "x.test"}
            assert (await behind.send("GET", target, headers=headers)).status == status
        zones = (await behind.send("GET", f"{ROOT}/zone", headers={"host": "x.test"})).json["zones"]
        assert zones[0]["api-endpoint"] == "https://x.test/lab1/exoscale/v2"

    play(main)
