"""Heads and bodies of all kinds, in chunks of all sizes, cut anywhere: everybody sees what was sent."""

from __future__ import annotations

import asyncio
import itertools
import tempfile
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.exchanges import pause
from gateway.loopback import Client, endpoint, run, site, worker
from gateway.wire import Asked, Reply, read_body

# What a hop removes, adds or reads itself; names of those are another test's business.
OWN = frozenset(
    b"connection content-length transfer-encoding host expect te upgrade keep-alive forwarded cookie authorization "
    b"x-real-ip x-api-key trailer set-cookie content-security-policy clear-site-data".split()
)
TOKEN = b"!#$%&'*+-.^`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
VALUE = bytes({9, *range(0x20, 0x7F), *range(0x80, 0x100)})
TARGET = b"!$&'()*+,-./0123456789:;=?@ABCDEFGHIJKLMNOPQRSTUVWXYZ_abcdefghijklmnopqrstuvwxyz~%|\"<>[]^`{}"

names = (
    st.lists(st.sampled_from(TOKEN), min_size=1, max_size=20)
    .map(bytes)
    .filter(
        lambda name: name.lower() not in OWN and not name.lower().startswith((b"x-", b"proxy-", b"http2-", b"content-"))
    )
)
values = st.lists(st.sampled_from(VALUE), max_size=40).map(lambda value: bytes(value).strip(b" \t"))
headers = st.lists(st.tuples(names, values), max_size=8)
targets = st.lists(st.sampled_from(TARGET), max_size=30).map(bytes)
bodies = st.lists(st.binary(max_size=200), max_size=6)
cuts = st.lists(st.integers(0, 2_000), max_size=6)
methods = st.sampled_from([b"GET", b"POST", b"PUT", b"PATCH", b"DELETE", b"OPTIONS", b"PROPFIND", b"REPORT"])
Fields = list[tuple[bytes, bytes]]


@st.composite
def messages(draw: st.DrawFn) -> tuple[Fields, bytes, Fields, bytes]:
    """Headers, body and trailers, and what stands for them after the first line."""
    fields, parts = draw(headers), draw(bodies)
    trailers: Fields = []
    lines = [b"%b: %b\r\n" % field for field in fields]
    body = b"".join(parts)
    if draw(st.booleans()):
        trailers = draw(headers)
        zeros, capital = draw(st.integers(0, 3)), draw(st.booleans())
        ends = [b"%b: %b\r\n" % field for field in trailers]
        chunks = []
        for part in filter(None, parts):
            size = (b"%X" if capital else b"%x") % len(part)
            chunks.append(b"0" * zeros + size + draw(st.sampled_from([b"", b";a", b';b="c;d"'])) + b"\r\n%b\r\n" % part)
        framed = b"Transfer-Encoding: chunked\r\n\r\n" + b"".join([*chunks, b"0\r\n", *ends, b"\r\n"])
    else:
        framed = b"Content-Length: %d\r\n\r\n" % len(body) + body
    return fields, body, trailers, b"".join(lines) + framed


def pieces(data: bytes, at: list[int]) -> list[bytes]:
    """The bytes, cut there."""
    points = sorted({0, len(data), *(point % (len(data) + 1) for point in at)})
    return [data[start:end] for start, end in itertools.pairwise(points)]


def lines(fields: list[tuple[str, str]]) -> Fields:
    """As bytes, without what the gateway adds."""
    kept = [(name.encode("latin-1"), value.strip(" \t").encode("latin-1")) for name, value in fields]
    return [(n, v) for n, v in kept if n.lower() not in OWN and not n.lower().startswith(b"x-forwarded-")]


class Scene:
    """A gateway and its worker for many examples, on a loop of their own."""

    def __init__(self) -> None:
        self.asked: list[Asked] = []
        self.answer: list[bytes] = []

    async def script(self, asked: Asked, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.body = await read_body(reader, asked.headers, to_end=False, trailers=asked.trailers)
        self.asked.append(asked)
        for piece in self.answer:
            writer.write(piece)
            await pause()


Message = tuple[Fields, bytes, Fields, bytes]


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    requests=st.lists(st.tuples(methods, targets, messages()), min_size=1, max_size=3),
    cut=cuts,
    answer=messages(),
    answer_cut=cuts,
)
def test_what_is_sent_arrives(
    requests: list[tuple[bytes, bytes, Message]], cut: list[int], answer: Message, answer_cut: list[int]
) -> None:
    async def main() -> None:
        scene = Scene()
        scene.answer = pieces(b"HTTP/1.1 200 OK\r\n" + answer[3], answer_cut)
        with tempfile.TemporaryDirectory() as folder:
            async with (
                worker(scene.script) as w,
                site(Path(folder), endpoint(w.entry(slots=4), access="open")) as s,
            ):
                client = await s.connect()
                data = b"".join(
                    b"%b /e/chat/%b HTTP/1.1\r\nHost: a\r\n%b" % (method, target, message[3])
                    for method, target, message in requests
                )
                for piece in pieces(data, cut):
                    client.writer.write(piece)
                    await pause()
                replies = [await reply_of(client) for _ in requests]
                client.close()
        for asked, (method, target, (fields, body, trailers, _)) in zip(scene.asked, requests, strict=True):
            assert (asked.method.encode(), asked.target.encode("latin-1")) == (method, b"/" + target)
            assert (lines(asked.headers), asked.body, lines(asked.trailers)) == (fields, body, trailers)
        fields, body, trailers, _ = answer
        for reply in replies:
            assert (lines(reply.headers), reply.body, lines(reply.trailers)) == (fields, body, trailers)

    run(main)


async def reply_of(client: Client) -> Reply:
    """The next answer, which must be complete."""
    reply = await client.reply()
    assert (reply.status, reply.complete) == (200, True)
    return reply
