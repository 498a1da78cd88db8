"""Opens URLs that users gave: webhooks, model sources, metric queries. The one way to do so.

Refuses, at connect time and for every redirect, addresses that the `UrlRules` refuse; bounds redirects, silence and
bodies. Never uses a proxy of the environment, keeps no cookies, decompresses nothing.
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import AsyncIterator, Iterator, Mapping
from typing import Any

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

from stoker.domain.addresses import UrlRefused, UrlRules, address_of
from stoker.domain.errors import Unavailable

__all__ = ["Answer", "GuardedSession", "TooLarge"]

CHUNK_BYTES = 64 * 1024
REDIRECTS_MAX = 5
CONNECTIONS_MAX = 64
_REDIRECTS = frozenset({301, 302, 303, 307, 308})


class TooLarge(Unavailable):
    """The other side sent more than was asked for."""


class _Refused(OSError):
    """How the refusal of an address travels through the client library, which passes errors of sockets on."""


def _check(rules: UrlRules, host: str) -> None:
    address = address_of(host)
    reason = f"{host[:64]!r} is not an address" if address is None else rules.refusal(address)
    if reason is not None:
        raise _Refused(reason)


class _GuardedResolver(AbstractResolver):
    """Refuses a name when any address behind it is refused."""

    def __init__(self, rules: UrlRules, resolver: AbstractResolver) -> None:
        self._rules = rules
        self._resolver = resolver

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        found = await self._resolver.resolve(host, port, family)
        for result in found:
            _check(self._rules, result["host"])
        return found

    async def close(self) -> None:
        await self._resolver.close()


class Answer:
    """What came back: `status`, `headers`, the last `url`. The body is read by one of the two methods, once."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self._response = response
        self.status = response.status
        self.headers: Mapping[str, str] = response.headers
        self.url = str(response.url)

    async def chunks(self, *, bytes_max: int) -> AsyncIterator[bytes]:
        """The body as it comes, in pieces of at most `CHUNK_BYTES`. Raises `TooLarge` past `bytes_max`, `Unavailable`
        when it breaks off or is compressed.
        """
        if self._response.headers.get("Content-Encoding", "identity").lower() != "identity":
            raise Unavailable(f"{_shown(self._response.url)} sent a compressed body, which was not asked for")
        if (self._response.content_length or 0) > bytes_max:
            raise TooLarge(f"{_shown(self._response.url)} sends more than {bytes_max} bytes")
        size = 0
        with _told(self._response.url):
            async for chunk in self._response.content.iter_chunked(CHUNK_BYTES):
                size += len(chunk)
                if size > bytes_max:
                    raise TooLarge(f"{_shown(self._response.url)} sends more than {bytes_max} bytes")
                yield chunk

    async def body(self, *, bytes_max: int) -> bytes:
        """The whole body. Raises as `chunks` does."""
        return b"".join([chunk async for chunk in self.chunks(bytes_max=bytes_max)])


class GuardedSession:
    """Requests to URLs of users. Has its connections to itself; `close` it."""

    def __init__(
        self,
        rules: UrlRules,
        *,
        resolver: AbstractResolver | None = None,
        connections_max: int = CONNECTIONS_MAX,
        connect_s: float = 10.0,
        silence_s: float = 60.0,
    ) -> None:
        """`resolver` finds the addresses of names (default: the system's). `connect_s` bounds making a connection,
        waiting for a free one included; `silence_s` the time between two pieces of an answer.
        """
        self._rules = rules
        self._resolver = resolver
        self._connections_max = connections_max
        self._connect_s = connect_s
        self._silence_s = silence_s
        self._session: aiohttp.ClientSession | None = None

    @contextlib.asynccontextmanager
    async def request(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
        timeout_s: float | None = None,
        redirects_max: int = REDIRECTS_MAX,
    ) -> AsyncIterator[Answer]:
        """One exchange, redirects followed; past `redirects_max` the redirect itself is the answer when that is 0, else
        an error. `timeout_s` bounds it all, body included (`None`: only silence is bounded).

        `Authorization` is not sent on to another origin. Raises `UrlRefused`, and `Unavailable` without an answer.
        """
        self._rules.check(url)
        try:
            target = URL(url)
        except ValueError as exc:
            raise UrlRefused(f"{url[:200]!r} is not a URL: {exc}") from exc
        timeout = aiohttp.ClientTimeout(total=timeout_s, connect=self._connect_s, sock_read=self._silence_s)
        with _told(target):
            response = await self._connected().request(
                method,
                target,
                headers={"Accept-Encoding": "identity", "User-Agent": "stoker", **(headers or {})},
                data=body,
                timeout=timeout,
                allow_redirects=redirects_max > 0,
                # The library counts the request that is refused for being one too many.
                max_redirects=redirects_max + 1,
            )
        async with response:
            if response.status in _REDIRECTS and redirects_max > 0:
                raise Unavailable(f"{_shown(target)} redirects to nowhere")
            yield Answer(response)

    def _connected(self) -> aiohttp.ClientSession:
        if self._session is None:
            connector = aiohttp.TCPConnector(
                limit=self._connections_max,
                resolver=_GuardedResolver(self._rules, self._resolver or aiohttp.ThreadedResolver()),
                use_dns_cache=False,
                socket_factory=self._socket,
            )
            self._session = aiohttp.ClientSession(
                connector=connector, cookie_jar=aiohttp.DummyCookieJar(), auto_decompress=False, trust_env=False
            )
        return self._session

    def _socket(self, info: Any) -> socket.socket:
        # The last word: every connection begins here with the very address that it goes to, which for an address
        # written in a URL or in a redirect no resolver has seen.
        family, kind, proto, _, address = info
        _check(self._rules, address[0])
        return socket.socket(family=family, type=kind, proto=proto)

    async def close(self) -> None:
        """Close all connections."""
        if self._session is not None:
            await self._session.close()
            self._session = None


@contextlib.contextmanager
def _told(url: URL) -> Iterator[None]:
    """Errors of the client library as Stoker's own."""
    try:
        yield
    except aiohttp.ClientConnectorError as exc:
        if isinstance(exc.os_error, _Refused):
            raise UrlRefused(f"{_shown(url)} is not opened: {exc.os_error}") from exc
        raise Unavailable(f"{_shown(url)} cannot be reached: {exc.os_error}") from exc
    except aiohttp.TooManyRedirects as exc:
        raise Unavailable(f"{_shown(url)} redirects too often") from exc
    except (aiohttp.InvalidURL, aiohttp.NonHttpUrlClientError) as exc:
        raise UrlRefused(f"{_shown(url)} leads to what is not an http or https URL") from exc
    except TimeoutError as exc:
        raise Unavailable(f"{_shown(url)} did not answer in time") from exc
    except (aiohttp.ClientError, OSError) as exc:
        raise Unavailable(f"{_shown(url)} did not answer as it should: {exc or type(exc).__name__}") from exc


def _shown(url: URL) -> str:
    """For messages: without the query, where secrets travel, and without a user."""
    return str(url.with_user(None).with_query(None).with_fragment(None))[:200]
