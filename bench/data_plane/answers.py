"""What the benchmark's clients send and its workers answer, in bytes that both sides know by heart. Pure."""

from __future__ import annotations

from typing import Final

MODEL: Final = "bench"
SLUG: Final = "bench"
KEY: Final = "sk-bench-0123456789abcdef0123456789abcdef"

# Questions of many lengths, as they are asked: no proxy should gain from one that is always the same.
QUESTIONS: Final = tuple(
    b'{"model":"bench","messages":[{"role":"user","content":"%b?"}],"max_tokens":32}'
    % (b"Why is the sky blue, " * count)
    for count in range(1, 17)
)
# As a chat completion looks that says what it has used, which a gateway that meters has to find.
ANSWER: Final = (
    b'{"id":"chatcmpl-0123456789abcdef","object":"chat.completion","created":1700000000,"model":"bench","choices":'
    b'[{"index":0,"message":{"role":"assistant","content":"Because of how air scatters light."},"finish_reason":"stop"}'
    b'],"usage":{"prompt_tokens":17,"completion_tokens":8,"total_tokens":25}}'
)
ANSWER_HEAD: Final = (
    b"HTTP/1.1 200 OK\r\ndate: Sat, 01 Jan 2022 00:00:00 GMT\r\nserver: bench\r\ncontent-type: application/json\r\n"
    b"content-length: %d\r\n\r\n" % len(ANSWER)
)
PATH: Final = "/v1/chat/completions"


def request(target: str, body: bytes, *headers: str, secret: str = KEY) -> bytes:
    """A POST with the headers that the usual client library sends."""
    lines = (
        f"POST {target} HTTP/1.1",
        "Host: 127.0.0.1",
        "Accept: application/json",
        "Content-Type: application/json",
        "User-Agent: OpenAI/Python 1.99.0",
        f"Authorization: Bearer {secret}",
        *headers,
        f"Content-Length: {len(body)}",
    )
    return "\r\n".join([*lines, "", ""]).encode() + body


def chunk(index: int) -> bytes:
    """One event of a stream, as long as those of engines."""
    return (
        b'data: {"id":"chatcmpl-0123456789abcdef","object":"chat.completion.chunk","created":1700000000,"model":"bench"'
        b',"choices":[{"index":0,"delta":{"content":"%08d"},"finish_reason":null}]}\n\n' % index
    )


LAST_CHUNK: Final = b"data: [DONE]\n\n"
