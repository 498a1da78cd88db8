"""Talks HTTP to a Stoker: the native API as JSON, and streams of lines. One connection for each request.

Every failure becomes a `CliError` with the exit code that fits. Used by all commands.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode, urlsplit

from stoker.cli.errors import CliError, Exit

if TYPE_CHECKING:
    from http.client import HTTPConnection, HTTPResponse
    from pathlib import Path

API = "/api/v1"
# Longer than the longest poll, which is 20 s.
TIMEOUT_S = 60.0
BODY_BYTES_MAX = 64 * 1024 * 1024
LINE_BYTES_MAX = 4 * 1024 * 1024
_PLAIN_REFERENCE = re.compile(r"[A-Za-z0-9._-]+\Z")


class Client:
    """A Stoker at `url`, spoken to with `key` (`None`: without one).

    `certificate`, if that file is there, is the one it must show; else it must show one that this machine trusts.
    """

    def __init__(
        self,
        url: str,
        key: str | None,
        *,
        project: str | None = None,
        certificate: Path | None = None,
        timeout_s: float = TIMEOUT_S,
    ) -> None:
        """`project` is the one to act for (`None`: the key's own). Raises `CliError` with exit code 2."""
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError as exc:
            raise CliError(f"{url!r} is no address: {exc}", Exit.USAGE) from exc
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise CliError(f"{url!r} is no address of a Stoker; it looks like http://127.0.0.1:7878", Exit.USAGE)
        if key is not None and not (key.isascii() and key.isprintable()):
            # Said without the key, which is nobody's to read on a screen.
            raise CliError("the key has characters that no key has; look at --key or STOKER_KEY", Exit.USAGE)
        self.url = url.rstrip("/")
        self.key = key
        self.project = project
        self._secure = parts.scheme == "https"
        self._host = parts.hostname
        self._port = port or (443 if self._secure else 80)
        self._prefix = parts.path.rstrip("/")
        self._timeout_s = timeout_s
        self._certificate = certificate

    def get(self, path: str, **query: object) -> Any:
        """What the API has at `path`. A query value of `None` is left out."""
        return self.call("GET", path, query=query)

    def post(self, path: str, body: object = None) -> Any:
        """Post to the API. Never repeated: the caller decides."""
        return self.call("POST", path, body)

    def send(
        self,
        path: str,
        content: bytes,
        content_type: str,
        *,
        query: Mapping[str, object],
        headers: Mapping[str, str] | None = None,
    ) -> Any:
        """Post content as it is."""
        headers = {"Content-Type": content_type, **(headers or {})}
        with self.open("POST", API + path, content, query=query, headers=headers) as response:
            return _parse(response.read(BODY_BYTES_MAX), self.url)

    def put(self, path: str, body: object) -> Any:
        """Replace what the API has at `path`."""
        return self.call("PUT", path, body)

    def patch(self, path: str, body: object) -> Any:
        """Change a part of what the API has at `path`."""
        return self.call("PATCH", path, body)

    def delete(self, path: str) -> Any:
        """Delete what the API has at `path`."""
        return self.call("DELETE", path)

    def items(self, path: str, **query: object) -> Iterator[Any]:
        """All items of a list, page by page. A query value of `None` is left out."""
        cursor: str | None = None
        while True:
            page = self.get(path, **query, cursor=cursor)
            yield from page["items"]
            cursor = page.get("next")
            if cursor is None:
                return

    def endpoint(self, reference: str) -> Any:
        """The endpoint by id, number, slug or exact name. Raises `CliError` with exit code 4."""
        if _PLAIN_REFERENCE.match(reference):
            return self.get(f"/endpoints/{reference}")
        # Other characters have a meaning in a path; the name is looked for in the list.
        if (found := self.named(reference)) is not None:
            return found
        raise CliError(f"no endpoint {reference[:64]!r}; `stoker ls` lists those there are", Exit.NOT_FOUND)

    def named(self, name: str) -> Any | None:
        """The endpoint of exactly that name, whatever numbers and slugs there are."""
        return next((item for item in self.items("/endpoints") if item["name"] == name), None)

    def call(self, method: str, path: str, body: object = None, *, query: Mapping[str, object] | None = None) -> Any:
        """One exchange with the API; the answer's JSON, `None` for an empty one."""
        with self.open(method, API + path, body, query=query) as response:
            raw = response.read(BODY_BYTES_MAX)
        return _parse(raw, self.url) if raw else None

    @contextmanager
    def open(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        query: Mapping[str, object] | None = None,
        headers: Mapping[str, str] | None = None,
        timeout_s: float | None = None,
    ) -> Iterator[HTTPResponse]:
        """One exchange, of which the caller reads the answer. `timeout_s` bounds each silence. Raises `CliError`."""
        from http.client import HTTPException

        connection: HTTPConnection | None = None
        try:
            connection = self._connect(timeout_s or self._timeout_s)
            connection.request(method, self._target(path, query), _encode(body), self._headers(body, headers or {}))
            response = connection.getresponse()
            if response.status >= 400:
                raise _refusal(response.status, response.read(BODY_BYTES_MAX), f"{method} {path}", self.url)
            yield response
        except TimeoutError as exc:
            raise CliError(f"{self.url} did not answer in time ({method} {path})", Exit.UNREACHABLE) from exc
        except BrokenPipeError:
            # Of standard output, written to while the answer is read: the reader has gone.
            raise
        except (OSError, HTTPException) as exc:
            reason = getattr(exc, "strerror", None) or str(exc) or type(exc).__name__
            raise CliError(
                f"Stoker does not answer at {self.url}: {reason}",
                Exit.UNREACHABLE,
                details=("start it with `stoker up`, or say where it is with --url or STOKER_URL",),
            ) from exc
        finally:
            if connection is not None:
                connection.close()

    def lines(self, path: str, *, query: Mapping[str, object], timeout_s: float) -> Iterator[Any]:
        """A stream of JSON lines of the API, as they come."""
        with self.open("GET", API + path, query=query, timeout_s=timeout_s) as response:
            while line := response.readline(LINE_BYTES_MAX):
                if line.strip():
                    yield _parse(line, self.url)

    def text(self, path: str, *, query: Mapping[str, object], timeout_s: float | None = None) -> Iterator[str]:
        """A text of the API, line by line."""
        with self.open("GET", API + path, query=query, timeout_s=timeout_s) as response:
            while line := response.readline(LINE_BYTES_MAX):
                yield line.decode("utf-8", "replace")

    def _connect(self, timeout_s: float) -> HTTPConnection:
        # Imported here: it loads the TLS library, which `stoker --help` has no use for.
        from http import client as http

        if not self._secure:
            return http.HTTPConnection(self._host, self._port, timeout=timeout_s)
        context = None
        if self._certificate is not None and self._certificate.exists():
            from stoker import tls

            context = tls.pinned(self._certificate)
        return http.HTTPSConnection(self._host, self._port, timeout=timeout_s, context=context)

    def _target(self, path: str, query: Mapping[str, object] | None) -> str:
        given = [
            (name, str(each).lower() if isinstance(each, bool) else str(each))
            for name, value in _given(query)
            for each in (value if isinstance(value, list) else [value])
        ]
        return quote(self._prefix + path, safe="/:%@") + ("?" + urlencode(given) if given else "")

    def _headers(self, body: object, more: Mapping[str, str]) -> dict[str, str]:
        headers = {"Accept": "application/json", "User-Agent": "stoker-cli", **more}
        if body is not None:
            headers.setdefault("Content-Type", "application/json")
        if self.key is not None:
            headers["Authorization"] = f"Bearer {self.key}"
        if self.project is not None:
            headers["X-Stoker-Project"] = self.project
        return headers


def _given(query: Mapping[str, object] | None) -> Iterator[tuple[str, object]]:
    return ((name, value) for name, value in (query or {}).items() if value is not None)


def _encode(body: object) -> bytes | None:
    if body is None or isinstance(body, bytes):
        return body
    try:
        return json.dumps(body, allow_nan=False).encode()
    except ValueError as exc:
        raise CliError("a number must be finite: neither NaN nor infinite", Exit.USAGE) from exc


def _parse(raw: bytes, url: str) -> Any:
    try:
        return json.loads(raw)
    except ValueError as exc:
        raise CliError(f"{url} answered with something that is no JSON; is it a Stoker?") from exc


def _refusal(status: int, raw: bytes, what: str, url: str) -> CliError:
    """The error that an answer stands for: a problem document, an OpenAI-style error, or whatever it is."""
    try:
        document = json.loads(raw)
    except ValueError:
        document = None
    problems: tuple[tuple[str, str], ...] = ()
    message = f"{what} was answered with status {status}"
    if isinstance(document, dict):
        nested = document.get("error")
        inner = nested.get("message") if isinstance(nested, dict) else nested
        message = str(document.get("detail") or inner or document.get("title") or message)
        listed = document.get("errors")
        problems = tuple((str(item["pointer"]), str(item["detail"])) for item in listed) if listed else ()
    details: tuple[str, ...] = ()
    if status == 401:
        details = ("say which key with --key or STOKER_KEY; on Stoker's own machine it is found in the data folder",)
    code = Exit.NOT_FOUND if status == 404 else Exit.FAILED
    if document is None and status in (502, 503, 504):
        code, message = Exit.UNREACHABLE, f"{url} answered with status {status}: Stoker is starting or stopping"
    return CliError(message, code, details=details, problems=problems, status=status)
