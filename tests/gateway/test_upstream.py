"""One connection to a worker: what becomes of an answer when the connection ends badly."""

from __future__ import annotations

import socket
import struct

from gateway.loopback import run, until
from gateway.wire import answer
from stoker.gateway.pools import Pool, Upstreams
from stoker.gateway.response import ResponseHead
from stoker.gateway.upstream import Upstream
from stoker.link.messages import WorkerEntry


class Recorder:
    """The exchange that a connection serves: remembers what it is told."""

    def __init__(self) -> None:
        self.upstream: Upstream | None = None
        self.status: int | None = None
        self.body = b""
        self.ended = False
        self.lost: str | None = None

    def connected(self, upstream: Upstream) -> None:
        self.upstream = upstream

    def connect_failed(self, detail: str) -> None:
        self.lost = detail

    def interim(self, status: int, headers: object) -> None:
        """Nothing of interest."""

    def switches(self, headers: object) -> bool:
        return False

    def switched(self, early: bytes) -> None:
        """Never."""

    def answer_began(self, status: int, headers: object) -> ResponseHead:
        self.status = status
        return ResponseHead(status, ())

    def answer_again(self, head: ResponseHead, body: bytes) -> None:
        self.status, self.body = head.status, body

    def answer_data(self, data: bytes) -> None:
        self.body += data

    def answer_trailer(self, name: bytes, value: bytes) -> None:
        """None come."""

    def answer_ended(self, *, reusable: bool) -> None:
        self.ended = True
        assert self.upstream is not None
        self.upstream.abort()

    def flush(self) -> None:
        """Nothing to send on."""

    def upstream_lost(self, detail: str) -> None:
        self.lost = detail

    def upstream_blocked(self) -> None:
        """Nothing more is sent."""

    def upstream_writable(self) -> None:
        """Nothing more is sent."""


def reset_after(reply: bytes, listening: socket.socket) -> None:
    """A worker that reads a little of an upload, answers, and resets the connection."""
    connection, _ = listening.accept()
    connection.recv(10)
    connection.sendall(reply)
    # A close that resets, as one with unread bytes does.
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


async def uploaded(reply: bytes) -> Recorder:
    """What is heard of an answer that lies unread when an upload that goes on meets the reset."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        upstreams, recorder = Upstreams(), Recorder()
        pool: Pool = upstreams.pool(WorkerEntry("w", "127.0.0.1", listening.getsockname()[1], 1, 1))
        await pool.open(recorder)
        upstream = recorder.upstream
        assert upstream is not None
        upstream.begin(recorder, head_request=False)
        upstream.write(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n" + b"x" * 1_000)
        # On this very thread: the gateway's loop sees neither the answer nor the reset before it sends more.
        reset_after(reply, listening)
        upstream.write(b"x" * 1_000)
        await until(lambda: recorder.ended or recorder.lost)
        upstreams.close()
        return recorder


def test_an_answer_is_saved_although_sending_the_rest_of_the_upload_fails() -> None:
    heard = run(lambda: uploaded(answer(b"x" * 50_000, status="413 Content Too Large")))
    assert (heard.status, len(heard.body), heard.ended, heard.lost) == (413, 50_000, True, None)


def test_half_an_answer_is_none() -> None:
    heard = run(lambda: uploaded(b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 10\r\n\r\nhalf"))
    assert (heard.status, heard.body, heard.ended) == (413, b"half", False)
    assert heard.lost


def test_a_reset_without_an_answer_is_none() -> None:
    assert run(lambda: uploaded(b"\r\n")).lost
