"""One streamed chat completion: its text as it comes, and its speed. Used by `stoker chat` and `stoker demo`."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from stoker.cli.client import LINE_BYTES_MAX, Client
from stoker.cli.errors import CliError

CHAT_PATH = "/v1/chat/completions"
ENDPOINT_HEADER = "X-Stoker-Endpoint"
# A model may have to be started first: that takes as long as the endpoint lets requests wait.
SILENCE_S_MAX = 1800.0


@dataclass(slots=True)
class Speed:
    """How an answer came. Seconds count from the request. `tokens` is `None` while nobody has said how many."""

    first_s: float | None = None
    total_s: float = 0.0
    pieces: int = 0
    tokens: int | None = None

    @property
    def tokens_per_s(self) -> float | None:
        """Tokens a second after the first one."""
        count = self.tokens if self.tokens is not None else self.pieces
        if self.first_s is None or count < 2 or self.total_s <= self.first_s:
            return None
        return (count - 1) / (self.total_s - self.first_s)

    def __str__(self) -> str:
        if self.first_s is None:
            return f"no answer in {self.total_s:.2f} s"
        rate = "" if self.tokens_per_s is None else f", {self.tokens_per_s:.1f} tokens/s"
        count = f"{self.tokens} tokens" if self.tokens is not None else f"{self.pieces} pieces"
        return f"first token {self.first_s:.2f} s, {count} in {self.total_s:.2f} s{rate}"


def stream(
    client: Client, endpoint: str, body: dict[str, Any], speed: Speed, *, timeout_s: float = SILENCE_S_MAX
) -> Iterator[str]:
    """The answer's text, piece by piece; `speed` is filled in meanwhile. `timeout_s` bounds each silence.

    Raises `CliError`.
    """
    started = time.monotonic()
    asked = body | {"stream": True, "stream_options": {"include_usage": True}}
    finished = False
    try:
        with client.open(
            "POST", CHAT_PATH, asked, headers={ENDPOINT_HEADER: endpoint}, timeout_s=timeout_s
        ) as response:
            while line := response.readline(LINE_BYTES_MAX):
                if not line.startswith(b"data:"):
                    continue
                data = line[5:].strip()
                if data == b"[DONE]":
                    finished = True
                    break
                text = _piece(data, speed)
                if text:
                    speed.pieces += 1
                    if speed.first_s is None:
                        speed.first_s = time.monotonic() - started
                    yield text
    finally:
        speed.total_s = time.monotonic() - started
    if not finished:
        raise CliError("the answer broke off before its end")


def plain(
    client: Client, endpoint: str, body: dict[str, Any], *, timeout_s: float = SILENCE_S_MAX
) -> tuple[str, Speed]:
    """A whole answer, not streamed, and how it came. Raises `CliError`."""
    started = time.monotonic()
    with client.open("POST", CHAT_PATH, body, headers={ENDPOINT_HEADER: endpoint}, timeout_s=timeout_s) as response:
        raw = response.read(LINE_BYTES_MAX)
    total_s = time.monotonic() - started
    try:
        answer = json.loads(raw)
        text = str(answer["choices"][0]["message"]["content"] or "")
        tokens = answer.get("usage", {}).get("completion_tokens")
    except (ValueError, KeyError, IndexError, TypeError, AttributeError) as exc:
        raise CliError(f"the answer is no chat completion: {raw[:200]!r}") from exc
    return text, Speed(first_s=total_s, total_s=total_s, pieces=1, tokens=tokens)


def _piece(data: bytes, speed: Speed) -> str:
    try:
        event = json.loads(data)
    except ValueError as exc:
        raise CliError(f"the answer has something in it that is no JSON: {data[:80]!r}") from exc
    if not isinstance(event, dict):
        raise CliError(f"the answer has something in it that is no event: {data[:80]!r}")
    if error := event.get("error"):
        raise CliError(str(error.get("message") if isinstance(error, dict) else error))
    if usage := event.get("usage"):
        speed.tokens = usage.get("completion_tokens")
    choices = event.get("choices") or [{}]
    return str((choices[0].get("delta") or {}).get("content") or "")
