"""The installation through the native API."""

from __future__ import annotations

import asyncio

from api.client import Api, run
from stoker import __version__


def test_it_says_what_it_is_and_whether_its_parts_are_there() -> None:
    async def body(api: Api) -> None:
        await api.create(min=2)
        await asyncio.sleep(10)
        info = (await api.call("GET", "/info")).json
        assert (info["version"], info["url"]) == (__version__, "http://127.0.0.1:7878")
        assert (info["endpoints"], info["workers"]) == (1, 2)
        assert info["gateway"]["connected"] is True
        assert info["gateway"]["uptime_s"] > 5
        await api.world.gateway.close()
        assert (await api.call("GET", "/info")).json["gateway"] == {"connected": False, "uptime_s": None}

    run(body)


def test_models_engines_and_their_parameters_can_be_looked_up() -> None:
    async def body(api: Api) -> None:
        models = (await api.call("GET", "/models")).json
        assert "smollm2" in [model["name"] for model in models["items"]]
        engines = (await api.call("GET", "/engines")).json["items"]
        assert engines == ["llamacpp", "vllm"]
        for engine in engines:
            items = (await api.call("GET", f"/engines/{engine}/parameters")).json["items"]
            assert all(item["flags"] and item["type"] for item in items)
        answer = await api.call("GET", "/engines/vlm/parameters")
        assert (answer.status, "vllm" in answer.json["detail"]) == (422, True)
        assert (await api.call("GET", "/engines/vllm/parameters?version=0.0.1")).status == 422
        assert (await api.call("GET", "/engines/vllm/parameters?version=" + "9" * 65)).status == 422

    run(body)
