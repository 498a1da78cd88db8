"""The table of who may do what, proved route by route with keys of every scope, of its own and of another project."""

from __future__ import annotations

from typing import Any

import pytest
from fastapi import APIRouter

from api.client import Api, run, spec
from stoker.api.actions import ROUTES
from stoker.api.once import OnceRoute
from stoker.domain.access import KeyDraft, KeyId, Principal, Scope
from stoker.domain.authorisation import TABLE, Action, Reach, permits
from stoker.domain.endpoint import EndpointId, ProjectId

# A body that is right, where a route takes one.
BODIES: dict[tuple[str, str], Any] = {
    ("POST", "/endpoints"): spec("another"),
    ("POST", "/endpoints:plan"): spec("another"),
    ("PUT", "/endpoints/{ref}"): spec(),
    ("POST", "/endpoints/{ref}:scale"): {"workers": 1},
    ("POST", "/endpoints/{ref}:rollback"): {},
    ("POST", "/projects"): {"name": "new"},
    ("PATCH", "/projects/{ref}"): {"name": "renamed"},
    ("POST", "/keys"): {"name": "k", "scopes": ["read"]},
    ("PATCH", "/keys/{ref}"): {"name": "renamed"},
    ("POST", "/secrets"): {"name": "new", "value": "v"},
    ("PATCH", "/secrets/{ref}"): {"value": "v"},
    ("POST", "/models"): {"name": "new", "source": {"url": "https://models.test/new.gguf"}},
    ("POST", "/volumes"): {"name": "new", "size_gib": 1},
    ("PATCH", "/volumes/{ref}"): {"size_gib": 2},
    ("POST", "/templates"): {"name": "new", "spec": {"slots": 2}},
    ("PATCH", "/models/{ref}"): {"pinned": True},
    ("POST", "/registry-credentials"): {"name": "new", "registry": "r.test", "username": "u", "password": "p"},
    ("PATCH", "/registry-credentials/{ref}"): {"username": "v"},
    ("POST", "/endpoints/{ref}/tasks"): {"input": 1},
    ("POST", "/endpoints/{ref}/tasks:batch"): {"tasks": [{"input": 1}]},
}


class Objects:
    """One of everything in project 1, and how its paths are filled in."""

    def __init__(self, api: Api) -> None:
        self.api = api
        self.ids: dict[str, str] = {}

    async def make(self) -> None:
        api = self.api
        made = await api.call("POST", "/endpoints", spec(min=1, mode="mixed"))
        self.ids["endpoints"] = made.json["endpoint"]["id"]
        self.ids["operations"] = made.json["operation"]["id"]
        for _ in range(100):
            [worker] = (await api.call("GET", "/workers")).json["items"] or [None]
            if worker is not None:
                break
        self.ids["workers"] = worker["id"]
        key = await api.call("POST", "/keys", {"name": "k", "scopes": ["read"], "revealable": True})
        self.ids["keys"] = key.json["key"]["id"]
        for kind in ("secrets", "registry-credentials", "models", "templates", "volumes"):
            thing = await api.call("POST", f"/{kind}", {**BODIES["POST", f"/{kind}"], "name": "old"})
            assert thing.status == 201, thing.body
            self.ids[kind] = thing.json["id"]
        assert (await api.call("POST", "/endpoints/e/tasks", {"id": "t", "ttl_s": 1})).status == 202
        self.ids["projects"] = (await api.call("GET", "/projects/1")).json["id"]

    def path(self, route: str) -> str:
        kind = route.strip("/").split("/")[0].partition(":")[0]
        route = route.replace("{task}", "t").replace("{delivery}", "msg_d")
        for name in ("{ref}", "{worker}", "{operation}"):
            route = route.replace(name, self.ids.get(kind, ""))
        return route.replace("{name}", "vllm")


async def key(
    api: Api,
    *scopes: Scope,
    project: int = 1,
    endpoints: list[str] | None = None,
    installation: bool = False,
) -> str:
    draft = KeyDraft(
        name="test",
        scopes=frozenset(scopes),
        endpoints=None if endpoints is None else frozenset(map(EndpointId, endpoints)),
        installation=installation,
    )
    return (await api.world.stoker.keys.make(draft, project=ProjectId(project), by=None))[1]


async def another_project(api: Api) -> int:
    first = await key(api, Scope.ADMIN, installation=True)
    made = await api.call("POST", "/projects", {"name": "two"}, key=first)
    assert made.status == 201, made.body
    number: int = made.json["number"]
    return number


def test_every_route_is_an_action_of_the_table_and_no_row_is_left_over() -> None:
    async def body(api: Api) -> None:
        assert sorted(api.routes()) == sorted(ROUTES)
        named = {*ROUTES.values(), Action.ENDPOINT_REVEAL, Action.SHELL_USE, Action.SECRET_USE}
        assert named == set(TABLE)

    run(body)


def test_a_route_that_is_in_no_row_cannot_be_made() -> None:
    router = APIRouter(route_class=OnceRoute)
    with pytest.raises(LookupError, match="GET /backdoor"):
        router.add_api_route("/backdoor", lambda: None, methods=["GET"])


@pytest.mark.parametrize("scope", Scope)
@pytest.mark.parametrize("limited", [False, True], ids=["whole project", "limited"])
@pytest.mark.parametrize("installation", [False, True], ids=["of the project", "of the installation"])
def test_each_row_is_kept_to_in_the_own_project(scope: Scope, limited: bool, installation: bool) -> None:
    if installation and (limited or scope is not Scope.ADMIN):
        return

    async def body(api: Api) -> None:
        objects = Objects(api)
        await objects.make()
        endpoints = [objects.ids["endpoints"]] if limited else None
        mine = await key(api, scope, endpoints=endpoints, installation=installation)
        caller = Principal(
            key=KeyId("k"),
            project=ProjectId(1),
            scopes=frozenset({scope}),
            endpoints=None if endpoints is None else frozenset(map(EndpointId, endpoints)),
            installation=installation,
        )
        # What is refused changes nothing, so those come first; what deletes comes last.
        refused = [route for route, action in ROUTES.items() if not permits(caller, action)]
        before = await api.dump()
        for method, path in refused:
            answer = await api.call(method, objects.path(path), BODIES.get((method, path)), key=mine)
            assert answer.status == 403, (method, path, answer.body)
        assert await api.dump() == before
        allowed = sorted(set(ROUTES) - set(refused), key=lambda route: route[0] == "DELETE")
        for method, path in allowed:
            if path.endswith("/feed"):
                # It would go on for ten minutes.
                begun = api.begin(method, objects.path(path), key=mine)
                assert (await begun.sent())["status"] == 200
                await begun.leave()
                continue
            answer = await api.call(method, objects.path(path), BODIES.get((method, path)), key=mine)
            # Allowed is what is carried out or refused for its state; another's key does not exist for a limited one.
            hidden = limited and (TABLE[ROUTES[method, path]].reach is Reach.KEY)
            expected = {200, 201, 202, 204, 409} | ({404, 403} if hidden or path == "/endpoints:plan" else set())
            expected |= {404} if path.endswith((":rollback", "/{reservation}", ":redeliver", "/result")) else set()
            # Its worker may not be ready yet.
            expected |= {503} if path.endswith("/reservations") else set()
            assert answer.status in expected, (method, path, answer.body)

    run(body)


@pytest.mark.parametrize("scope", Scope)
def test_for_a_key_of_another_project_nothing_exists(scope: Scope) -> None:
    async def body(api: Api) -> None:
        objects = Objects(api)
        await objects.make()
        stranger = await key(api, scope, project=await another_project(api))
        before = await api.dump()
        for method, path in ROUTES:
            if "{" not in path or "{name}" in path:
                continue
            found = await api.call(method, objects.path(path), BODIES.get((method, path)), key=stranger)
            nothing = await api.call(
                method, objects.path(path).replace("0", "f"), BODIES.get((method, path)), key=stranger
            )
            assert found.status in (403, 404), (method, path, found.body)
            assert found.status == nothing.status, "what exists elsewhere must look like what does not exist at all"
            if scope is Scope.ADMIN and ROUTES[method, path] not in (Action.PROJECT_UPDATE, Action.PROJECT_DELETE):
                assert found.status == 404, (method, path)
        assert await api.dump() == before
        for kind in ("endpoints", "workers", "keys", "secrets", "registry-credentials", "models", "audit"):
            listed = await api.call("GET", f"/{kind}", key=stranger)
            if listed.status == 200:
                assert objects.ids.get(kind, "none").encode() not in listed.body

    run(body)


def test_a_key_of_the_installation_acts_for_the_project_that_it_names_and_others_for_none() -> None:
    async def body(api: Api) -> None:
        two = await another_project(api)
        first = await key(api, Scope.ADMIN, installation=True)
        for reference in ("two", str(two)):
            made = await api.call(
                "POST",
                "/secrets",
                {"name": f"s{reference}", "value": "v"},
                key=first,
                headers={"x-stoker-project": reference},
            )
            assert (made.status, made.json["project"]) == (201, two)
        ordinary = await key(api, Scope.ADMIN)
        for reference, status in (("two", 404), (str(two), 404), ("nowhere", 404), ("default", 200), ("1", 200)):
            answer = await api.call("GET", "/secrets", key=ordinary, headers={"x-stoker-project": reference})
            assert answer.status == status, reference

    run(body)


def test_a_limited_admin_administers_nothing_beyond_its_endpoints() -> None:
    async def body(api: Api) -> None:
        mine, other = await api.create("mine"), await api.create("other")
        limited = await key(api, Scope.ADMIN, endpoints=[mine["id"]])
        whole = (await api.call("POST", "/keys", {"name": "w", "scopes": ["read"], "revealable": True})).json["key"]
        wanted = {"name": "k", "scopes": ["admin"], "endpoints": ["mine"]}
        made = await api.call("POST", "/keys", wanted, key=limited)
        assert made.status == 201
        listed = (await api.call("GET", "/keys", key=limited)).json["items"]
        assert {item["name"] for item in listed} == {"test", "k"}, "it sees what reaches no further than itself"
        before = await api.dump()
        for method, path, body in (
            ("GET", f"/keys/{whole['id']}", None),
            ("GET", f"/keys/{whole['id']}/secret", None),
            ("PATCH", f"/keys/{whole['id']}", {"name": "x"}),
            ("DELETE", f"/keys/{whole['id']}", None),
            ("DELETE", f"/endpoints/{other['id']}", None),
            ("PATCH", f"/keys/{made.json['key']['id']}", {"endpoints": ["other"]}),
        ):
            assert (await api.call(method, path, body, key=limited)).status == 404, (method, path)
        more: Any
        for method, path, more in (
            ("PATCH", f"/keys/{made.json['key']['id']}", {"endpoints": None}),
            ("POST", "/secrets", {"name": "s", "value": "v"}),
            ("GET", "/audit", None),
            ("PUT", f"/endpoints/{mine['id']}", spec("mine") | {"pools": [{"provider": "process"}]}),
        ):
            assert (await api.call(method, path, more, key=limited)).status == 403, (method, path)
        assert await api.dump() == before

    run(body)


def test_a_shell_on_the_machine_is_for_the_first_project_and_the_installation() -> None:
    async def body(api: Api) -> None:
        two = await another_project(api)
        shell = {"name": "sh", "launch": {"command": ["sh"]}, "pools": [{"provider": "process"}]}
        tenant = await key(api, Scope.ADMIN, project=two)
        answer = await api.call("POST", "/endpoints", shell, key=tenant)
        assert answer.status == 403
        assert (await api.call("POST", "/endpoints", shell, key=await key(api, Scope.DEPLOY))).status == 403
        first = await key(api, Scope.ADMIN, installation=True)
        assert (
            await api.call("POST", "/endpoints", shell, key=first, headers={"x-stoker-project": "two"})
        ).status == 201

    run(body)
