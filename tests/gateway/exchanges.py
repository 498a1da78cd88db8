"""Reads exchanges written down as files, and plays them against a gateway: a client, one endpoint and its worker.

A file has blocks: a word and a colon, then indented lines with Python's escapes, which follow each other without a gap.

`what` says what it shows. `client` is one piece that the client sends. `sees` is a request as the worker must have seen
it, `worker` what it then answers (another `more` follows in a piece of its own; `closes` has it close then). `gets` is
an answer as the client must get it, `gets-head` one to HEAD, `gets-status` only the status. `end` is `closed` or
`kept`. Headers that frame a body are part of answers but not of requests, whose framing may depend on what arrived
when; bodies are compared without framing, trailers follow them. Where a request came from is tested elsewhere.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from gateway.loopback import Client, Site
from gateway.wire import Asked, Reply, read_body

FOLDER = Path(__file__).parent / "exchanges"
_BLOCK = re.compile(r"^([a-z-]+):(.*)\n((?:(?:  .*)?\n)*)", re.MULTILINE)
_FRAMING = ("content-length", "transfer-encoding")


@dataclass
class Exchange:
    """One file."""

    what: str = ""
    client: list[bytes] = field(default_factory=list)
    sees: list[bytes] = field(default_factory=list)
    worker: list[list[bytes]] = field(default_factory=list)
    gets: list[tuple[str, bytes]] = field(default_factory=list)
    closes: bool = False
    end: str = "kept"

    @classmethod
    def read(cls, path: Path) -> Exchange:
        """The exchange that a file describes."""
        it = cls()
        text = path.read_text(encoding="ascii")
        assert _BLOCK.sub("", text).strip() == "", f"{path.name} has lines that belong to no block"
        for word, rest, lines in _BLOCK.findall(text):
            data = b"".join(_unescaped(line[2:]) for line in lines.splitlines())
            if word == "client":
                it.client.append(data)
            elif word == "sees":
                it.sees.append(data)
            elif word == "worker":
                it.worker.append([data])
            elif word == "more":
                it.worker[-1].append(data)
            elif word.startswith("gets"):
                it.gets.append((word, data or rest.strip().encode()))
            elif word == "closes":
                it.closes = True
            else:
                assert word in ("what", "end"), f"{path.name} has a block {word!r}"
                setattr(it, word, rest.strip())
        return it

    def splits(self) -> Iterator[list[bytes]]:
        """The client's bytes in other pieces: in two at every point, and one by one."""
        whole = b"".join(self.client)
        for point in range(1, len(whole)):
            yield [whole[:point], whole[point:]]
        yield [whole[point : point + 1] for point in range(len(whole))]

    def answers_split(self) -> Iterator[list[list[bytes]]]:
        """The worker's answers in other pieces."""
        for number, pieces in enumerate(self.worker):
            whole = b"".join(pieces)
            for point in range(1, len(whole)):
                yield [*self.worker[:number], [whole[:point], whole[point:]], *self.worker[number + 1 :]]


def _unescaped(line: str) -> bytes:
    return line.encode("ascii").decode("unicode_escape").encode("latin-1")


class Played:
    """The worker's part: what it saw, and what it is to answer."""

    def __init__(self) -> None:
        self.seen: list[Asked] = []
        self.answers: Sequence[Sequence[bytes]] = ()
        self.closes = False

    def prepare(self, answers: Sequence[Sequence[bytes]], *, closes: bool) -> None:
        """Another exchange begins."""
        self.seen = []
        self.answers = answers
        self.closes = closes

    async def script(self, asked: Asked, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Answers each request with what is next."""
        if not self.closes:
            asked.body = await read_body(reader, asked.headers, to_end=False, trailers=asked.trailers)
        # Only now: the beginning of a request that turns out to be nonsense is none.
        self.seen.append(asked)
        pieces = self.answers[len(self.seen) - 1]
        for number, piece in enumerate(pieces):
            if number:
                await pause()
            writer.write(piece)
        return not self.closes


async def pause() -> None:
    """Let the gateway read what was sent: it runs on the same loop."""
    for _ in range(4):
        await asyncio.sleep(0)


async def play(
    site: Site, played: Played, exchange: Exchange, client_pieces: list[bytes], answers: Sequence[Sequence[bytes]]
) -> None:
    """One run. Fails unless everybody saw what they should."""
    played.prepare(answers, closes=exchange.closes)
    client = await site.connect()
    try:
        for number, piece in enumerate(client_pieces):
            if number:
                await pause()
            client.writer.write(piece)
        for kind, expected in exchange.gets:
            reply = await client.reply(head=kind == "gets-head")
            assert reply.complete
            if kind == "gets-status":
                assert str(reply.status).encode() == expected
            else:
                assert _shown(reply) == expected
        assert [_seen(asked) for asked in played.seen] == exchange.sees
        await _check_end(client, exchange.end)
    finally:
        client.reset()


async def _check_end(client: Client, end: str) -> None:
    if end == "closed":
        assert await client.ended() == b""
    else:
        assert end == "kept"
        client.writer.write(b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n")
        assert (await client.reply()).body == b'{"status":"ok"}'


def _shown(reply: Reply) -> bytes:
    lines = [str(reply.status), *(f"{name}: {value}" for name, value in reply.headers), "", ""]
    trailers = "".join(f"{name}: {value}\r\n" for name, value in reply.trailers)
    return "\r\n".join(lines).encode("latin-1") + reply.body + trailers.encode("latin-1")


def _seen(asked: Asked) -> bytes:
    kept = [
        f"{name}: {value}"
        for name, value in asked.headers
        if name.lower() not in _FRAMING and not name.lower().startswith(("x-forwarded-", "forwarded"))
    ]
    trailers = "".join(f"{name}: {value}\r\n" for name, value in asked.trailers)
    head = "\r\n".join([f"{asked.method} {asked.target}", *kept, "", ""]).encode("latin-1")
    return head + asked.body + trailers.encode("latin-1")


def files() -> list[Path]:
    """All exchanges."""
    return sorted(FOLDER.glob("*.txt"))
