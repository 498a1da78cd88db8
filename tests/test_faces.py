"""All faces as one application, and how dialects are found and reached."""

from __future__ import annotations

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse
from starlette.routing import Route

from api.client import Answer, Api, Exchange, run
from stoker import faces
from stoker.domain.routing import InferenceAddress
from stoker.web import Dialect, Services

made: list[Services] = []


def make(services: Services) -> Starlette:
    """The face of a cloud that says where it was asked."""
    made.append(services)

    async def where(request: Request) -> JSONResponse:
        return JSONResponse({"path": request.url.path, "root": request.scope.get("root_path", "")})

    return Starlette(routes=[Route("/v1/things", where)])


CLOUD = Dialect(
    name="cloud",
    face=f"{__name__}:make",
    hosts=("api.cloud.example",),
    addresses=lambda endpoint, workers: [InferenceAddress(prefix=f"/cloud/run/{endpoint.slug}", keys=("query:key",))],
)


async def _get(app: Starlette, path: str, host: str = "127.0.0.1") -> Answer:
    return await Exchange(app, "GET", path, {"host": host}, b"").answer()


def test_a_dialect_is_below_its_prefix_and_at_its_hosts_and_is_made_when_first_asked_for() -> None:
    async def main(a: Api) -> None:
        made.clear()
        metrics = Route("/metrics", lambda _request: PlainTextResponse("page"))
        app = faces.make(a.world.stoker.services, (CLOUD,), metrics)
        assert (await _get(app, "/metrics")).body == b"page"
        assert not made
        below = await _get(app, "/cloud/v1/things")
        assert (below.status, below.json["root"]) == (200, "/cloud")
        assert (await _get(app, "/v1/things", "api.cloud.example")).json["path"] == "/v1/things"
        assert (await _get(app, "/api/v1/info", "api.cloud.example")).status == 404, "there it is the cloud's"
        assert (await _get(app, "/v1/things")).status == 404
        assert made == [a.world.stoker.services], "once"

    run(main)


def test_dialects_are_found_by_their_folders_and_agree_with_their_names() -> None:
    spoken = faces.found()
    assert [dialect.name for dialect in spoken] == sorted(dialect.name for dialect in spoken)
    hosts = faces.hosts_of(spoken)
    assert len(set(hosts)) == len(hosts), "a host has one face"
