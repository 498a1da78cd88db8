"""The connection to the daemon: how it is reached, and what its errors mean to those who call a provider."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Iterator
from urllib.parse import urlsplit

import aiohttp
from aiodocker import Docker
from aiodocker.exceptions import DockerError

from stoker.domain.errors import Invalid, Unavailable
from stoker.providers.docker.options import DockerOptions

# A daemon that starts fifty containers at once takes its time; one that takes longer is stuck.
CALL_TIMEOUT_S = 60.0
# What no later try will change, though the daemon calls it a failure of its own.
_FOR_GOOD = (
    "could not select device driver",
    "no such image",
    "unknown or invalid runtime name",
    # Of a port that is pinned; another worker gets another one.
    "address already in use",
    "port is already allocated",
)


def connection(options: DockerOptions) -> Docker:
    """To be made within a running loop. Any number of requests go side by side: a followed log holds one."""
    host = options.host
    timeout = aiohttp.ClientTimeout(sock_connect=10.0)
    if host.startswith("unix://"):
        path = host.removeprefix("unix://")
        # A new connection costs less here than to keep one for each of many calls at once.
        connector = aiohttp.UnixConnector(path, limit=0, force_close=True)
        return Docker(url="unix://localhost", connector=connector, timeout=timeout)
    if host.startswith("ssh://"):
        return Docker(url=host, timeout=timeout)
    context = _tls(options)
    parts = urlsplit(host)
    url = f"{'http' if context is None else 'https'}://{parts.netloc}"
    return Docker(url=url, connector=aiohttp.TCPConnector(ssl=context or True, limit=0), timeout=timeout)


def _tls(options: DockerOptions) -> ssl.SSLContext | None:
    if options.tls_ca is None or options.tls_cert is None or options.tls_key is None:
        return None
    try:
        context = ssl.create_default_context(cafile=options.tls_ca)
        context.load_cert_chain(options.tls_cert, options.tls_key)
    except (OSError, ssl.SSLError) as exc:
        raise Invalid(f"the docker provider cannot use its TLS files: {exc}") from exc
    return context


@contextlib.asynccontextmanager
async def asking(what: str, *, timeout_s: float | None = CALL_TIMEOUT_S) -> AsyncIterator[None]:
    """Turns what goes wrong within into `Unavailable`, or `Invalid` for what the daemon will never do."""
    try:
        async with asyncio.timeout(timeout_s):
            with failing(what):
                yield
    except TimeoutError as exc:
        raise Unavailable(f"cannot {what}: the Docker daemon did not answer within {timeout_s} s") from exc


@contextlib.contextmanager
def failing(what: str) -> Iterator[None]:
    """The same without a bound."""
    try:
        yield
    except DockerError as exc:
        text = f"cannot {what}: {exc.message}"
        if exc.status == 400 or any(words in exc.message.lower() for words in _FOR_GOOD):
            raise Invalid(text) from exc
        raise Unavailable(text) from exc
    except (aiohttp.ClientError, OSError) as exc:
        if isinstance(exc, TimeoutError):
            raise
        raise Unavailable(f"cannot {what}: {exc or type(exc).__name__}") from exc
