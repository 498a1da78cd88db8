"""Opening URLs of users: against a real server on loopback, by name, by number, by redirect and by rebinding."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import pytest
from aiohttp import web
from aiohttp.abc import AbstractResolver, ResolveResult

from stoker.domain.addresses import UrlRefused, UrlRules
from stoker.domain.errors import Unavailable
from stoker.net import GuardedSession, TooLarge

LOOPBACK = UrlRules.parse(["127.0.0.0/8"])


class Names(AbstractResolver):
    """A resolver of the test's own: each look-up of a name gives the next list of its addresses, the last for good."""

    def __init__(self, names: dict[str, list[list[str]]]) -> None:
        self.names = names
        self.asked: list[str] = []

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        self.asked.append(host)
        if host not in self.names:
            raise OSError(f"no such name {host}")
        answers = self.names[host]
        addresses = answers.pop(0) if len(answers) > 1 else answers[0]
        return [
            ResolveResult(hostname=host, host=a, port=port, family=socket.AF_INET, proto=0, flags=socket.AI_NUMERICHOST)
            for a in addresses
        ]

    async def close(self) -> None:
        """Holds nothing."""


class Site:
    """A server on loopback that counts who reached it."""

    def __init__(self) -> None:
        self.port = 0
        self.requests: list[web.Request] = []
        self.location = ""

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.requests.append(request)
        match request.path:
            case "/to":
                raise web.HTTPFound(self.location)
            case "/round":
                raise web.HTTPFound(f"/round?{len(self.requests)}")
            case "/nowhere":
                return web.Response(status=302)
            case "/compressed":
                return web.Response(body=b"x", headers={"Content-Encoding": "gzip"})
            case "/endless":
                return await self._endless(request)
            case "/silent":
                await asyncio.sleep(60)
        return web.Response(body=b"x" * int(request.query.get("size", "2")))

    async def _endless(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        while True:
            await response.write(b"x" * 4096)

    def url(self, path: str = "/", host: str = "127.0.0.1") -> str:
        return f"http://{host}:{self.port}{path}"


@asynccontextmanager
async def serving() -> Any:
    site = Site()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", site.handle)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    listener = web.TCPSite(runner, "127.0.0.1", 0)
    await listener.start()
    site.port = runner.addresses[0][1]
    try:
        yield site
    finally:
        await runner.cleanup()


def run(
    rules: UrlRules,
    body: Callable[[Site, GuardedSession], Awaitable[None]],
    *,
    resolver: AbstractResolver | None = None,
    silence_s: float = 5.0,
) -> None:
    async def main() -> None:
        async with serving() as site:
            session = GuardedSession(rules, resolver=resolver, silence_s=silence_s)
            try:
                await body(site, session)
            finally:
                await session.close()

    asyncio.run(main())


@contextmanager
def refused(reason: str | None = None) -> Iterator[None]:
    with pytest.raises(UrlRefused, match=reason):
        yield


async def get(session: GuardedSession, url: str, *, bytes_max: int = 100, **options: Any) -> bytes:
    async with session.request("GET", url, **options) as answer:
        return await answer.body(bytes_max=bytes_max)


def test_an_allowed_address_is_opened() -> None:
    async def body(site: Site, session: GuardedSession) -> None:
        async with session.request("POST", site.url("/hook"), headers={"X-Y": "z"}, body=b"{}") as answer:
            assert (answer.status, await answer.body(bytes_max=2)) == (200, b"xx")
        [request] = site.requests
        assert (request.method, request.headers["X-Y"]) == ("POST", "z")
        assert request.headers["Accept-Encoding"] == "identity"

    run(LOOPBACK, body)


@pytest.mark.parametrize("host", ["127.0.0.1", "[::ffff:127.0.0.1]", "2130706433", "0x7f.1", "127.1", "0177.0.0.1"])
def test_no_spelling_of_loopback_reaches_it(host: str) -> None:
    async def body(site: Site, session: GuardedSession) -> None:
        with refused():
            await get(session, site.url(host=host))
        assert site.requests == []

    run(UrlRules(), body)


def test_a_name_that_leads_to_loopback_is_refused_even_beside_a_public_address() -> None:
    names = Names({"evil.test": [["93.184.216.34", "127.0.0.1"]]})

    async def body(site: Site, session: GuardedSession) -> None:
        with refused("127.0.0.1 is not a public address"):
            await get(session, site.url(host="evil.test"))
        assert site.requests == []

    run(UrlRules(), body, resolver=names)


def test_a_name_that_is_bound_anew_between_two_requests_is_refused_at_the_second() -> None:
    names = Names({"turncoat.test": [["127.0.0.1"], ["169.254.169.254"]]})

    async def body(site: Site, session: GuardedSession) -> None:
        async with session.request("GET", site.url(host="turncoat.test"), headers={"Connection": "close"}) as answer:
            assert answer.status == 200
        with refused("169.254.169.254"):
            await get(session, site.url(host="turncoat.test"))
        assert names.asked == ["turncoat.test", "turncoat.test"]

    run(LOOPBACK, body, resolver=names)


@pytest.mark.parametrize("target", ["http://127.0.0.2:9/", "http://inner.test/", "http://[::1]/", "ftp://x.test/"])
def test_a_redirect_is_checked_like_the_first_address(target: str) -> None:
    rules = UrlRules.parse(["127.0.0.1/32"])
    names = Names({"outer.test": [["127.0.0.1"]], "inner.test": [["10.0.0.1"]]})

    async def body(site: Site, session: GuardedSession) -> None:
        site.location = target
        with refused():
            await get(session, site.url("/to", host="outer.test"))

    run(rules, body, resolver=names)


def test_a_redirect_to_another_origin_does_not_take_the_credential_along() -> None:
    names = Names({"one.test": [["127.0.0.1"]], "two.test": [["127.0.0.1"]]})

    async def body(site: Site, session: GuardedSession) -> None:
        site.location = site.url("/there", host="two.test")
        async with session.request(
            "GET", site.url("/to", host="one.test"), headers={"Authorization": "Bearer t"}
        ) as answer:
            assert answer.url == site.location
        assert [r.headers.get("Authorization") for r in site.requests] == ["Bearer t", None]

    run(LOOPBACK, body, resolver=names)


@pytest.mark.parametrize("redirects_max", [1, 3])
def test_redirects_are_bounded(redirects_max: int) -> None:
    async def body(site: Site, session: GuardedSession) -> None:
        with pytest.raises(Unavailable, match="redirects too often"):
            await get(session, site.url("/round"), redirects_max=redirects_max)
        assert len(site.requests) == redirects_max + 1

    run(LOOPBACK, body)


def test_without_redirects_the_redirect_is_the_answer() -> None:
    async def body(site: Site, session: GuardedSession) -> None:
        async with session.request("GET", site.url("/round"), redirects_max=0) as answer:
            assert answer.status == 302

    run(LOOPBACK, body)


def test_a_redirect_without_a_target_is_no_answer() -> None:
    async def body(site: Site, session: GuardedSession) -> None:
        with pytest.raises(Unavailable, match="nowhere"):
            await get(session, site.url("/nowhere"))

    run(LOOPBACK, body)


@pytest.mark.parametrize("path", ["/?size=101", "/endless"])
def test_a_body_is_bounded_whether_its_length_is_told_or_not(path: str) -> None:
    async def body(site: Site, session: GuardedSession) -> None:
        with pytest.raises(TooLarge, match="more than 100 bytes"):
            await get(session, site.url(path))

    run(LOOPBACK, body)


def test_a_compressed_body_is_not_taken() -> None:
    async def body(site: Site, session: GuardedSession) -> None:
        with pytest.raises(Unavailable, match="compressed"):
            await get(session, site.url("/compressed"))

    run(LOOPBACK, body)


@pytest.mark.parametrize(("silence_s", "timeout_s"), [(0.05, None), (5.0, 0.05)])
def test_a_silent_server_is_given_up(silence_s: float, timeout_s: float | None) -> None:
    async def body(site: Site, session: GuardedSession) -> None:
        with pytest.raises(Unavailable, match="in time"):
            await get(session, site.url("/silent"), timeout_s=timeout_s)

    run(LOOPBACK, body, silence_s=silence_s)


def test_a_name_that_there_is_not_and_a_port_where_nobody_listens_are_told() -> None:
    async def body(site: Site, session: GuardedSession) -> None:
        with pytest.raises(Unavailable, match="no such name"):
            await get(session, site.url("/p?token=s3cret", host="missing.test"))
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
        with pytest.raises(Unavailable, match="cannot be reached") as told:
            await get(session, f"http://127.0.0.1:{port}/p?token=s3cret")
        assert "s3cret" not in str(told.value)

    run(LOOPBACK, body, resolver=Names({}))


def test_a_proxy_of_the_environment_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    async def body(site: Site, session: GuardedSession) -> None:
        monkeypatch.setenv("http_proxy", site.url())
        with refused():
            await get(session, "http://127.0.0.2:1/")
        assert site.requests == []

    run(UrlRules(), body)
