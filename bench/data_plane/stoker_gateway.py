"""This gateway as a process, with a control that tells it a table and takes its reports."""

from __future__ import annotations

import contextlib
import os
import socket
import socketserver
import sys
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from data_plane.answers import KEY, MODEL, SLUG
from data_plane.processes import process

from stoker.domain.access import digest_of
from stoker.link.messages import (
    PROTOCOL_VERSION,
    AddressEntry,
    EndpointEntry,
    Hello,
    KeyEntry,
    Snapshot,
    WorkerEntry,
    encode,
)
from stoker.settings import Settings

SLOTS: Final = 100_000


@dataclass(frozen=True, slots=True)
class Gateway:
    """A gateway that runs."""

    port: int
    pid: int


def snapshot(workers: Sequence[int]) -> Snapshot:
    """A table of one endpoint with workers on these ports, and a key."""
    entry = EndpointEntry(
        id="0190-bench",
        number=1,
        project=1,
        slug=SLUG,
        name=SLUG,
        access="project",
        models=(MODEL,),
        addresses=(AddressEntry(f"/e/{SLUG}"),),
        workers=tuple(
            WorkerEntry(f"w{order}", "127.0.0.1", port, SLOTS, order, False) for order, port in enumerate(workers)
        ),
        waiting_max=100,
        wait_s_max=30.0,
        connect_s=5.0,
        first_byte_s=60.0,
        idle_s=60.0,
        total_s=None,
    )
    return Snapshot(1, (entry,), (KeyEntry(digest_of(KEY), "key", 1, True),))


@contextlib.contextmanager
def running(folder: Path, workers: Sequence[int]) -> Iterator[Gateway]:
    """A gateway in front of workers on these ports, for the block."""
    settings = Settings(data_dir=folder / "stoker")
    settings.paths.run.mkdir(parents=True, exist_ok=True)
    listening = socket.create_server(("127.0.0.1", 0), backlog=16_384)
    port = listening.getsockname()[1]
    reading, writing = os.pipe()
    command = [sys.executable, "-m", "stoker.gateway.main", "--data-dir", str(settings.data_dir)]
    command += ["--listen-fd", str(listening.fileno()), "--lifeline-fd", str(reading)]
    fds = (listening.fileno(), reading)
    try:
        with (
            _control(settings.paths.link_socket, snapshot(workers)) as told,
            process(command, port=port, log=folder / "stoker.log", pass_fds=fds) as it,
        ):
            told.wait(10.0)
            yield Gateway(port, it.pid)
    finally:
        listening.close()
        os.close(reading)
        os.close(writing)


@contextlib.contextmanager
def _control(path: Path, table: Snapshot) -> Iterator[threading.Event]:
    """Control's end of the link: says its table once, and hears what it is told. The event: it was acknowledged."""
    told = threading.Event()

    class Talk(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            self.wfile.write(encode(Hello(PROTOCOL_VERSION, "bench", 1)))
            self.wfile.write(encode(table))
            for line in self.rfile:
                if b'"ack"' in line.lower():
                    told.set()

    path.unlink(missing_ok=True)
    with socketserver.ThreadingUnixStreamServer(str(path), Talk) as server:
        server.daemon_threads = True
        server.block_on_close = False
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield told
        finally:
            server.shutdown()
