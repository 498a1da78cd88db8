"""The model of a form is found wherever it stands, in whatever pieces the form comes."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.loopback import KEY, endpoint, run, site, worker
from stoker.gateway.head import Request
from stoker.gateway.multipart import Field, boundary_of

FILE = b'--B\r\nContent-Disposition: form-data; name="file"; filename="model"\r\n\r\nRIFF--B\r\n\r\nx\r\n'
MODEL = b'--B\r\nContent-Disposition: form-data; name="model"\r\n\r\nchat\r\n'
END = b"--B--\r\n"


def asked(body: bytes, *, complete: bool = False, kind: bytes = b"multipart/form-data; boundary=B") -> Request:
    request = Request(b"POST", b"/", persistent=True, keep_alive=True)
    request.lines = [b"Content-Type: %b\r\n" % kind]
    request.pending, request.pending_bytes, request.complete = [body], len(body), complete
    return request


@pytest.mark.parametrize(
    ("kind", "boundary"),
    [
        (b"multipart/form-data; boundary=B", b"B"),
        (b'Multipart/Form-Data; charset=x; Boundary="a b"', b"a b"),
        (b"multipart/form-data", None),
        (b"application/json; boundary=B", None),
    ],
)
def test_a_form_says_what_separates_its_parts(kind: bytes, boundary: bytes | None) -> None:
    assert boundary_of(asked(b"", kind=kind)) == boundary


@pytest.mark.parametrize(
    ("body", "value"),
    [
        pytest.param(FILE + MODEL + END, "chat", id="last"),
        pytest.param(MODEL + FILE + END, "chat", id="first"),
        pytest.param(b"preamble\r\n" + MODEL + END, "chat", id="after a preamble"),
        pytest.param(FILE + END, None, id="absent"),
        pytest.param(b"no form at all", None, id="nonsense"),
        pytest.param(MODEL.replace(b"chat", b"x" * 2_000) + END, None, id="too long to be one"),
    ],
)
def test_the_field_is_found_or_is_not_there(body: bytes, value: str | None) -> None:
    field = Field(b"B", b"model")
    request = asked(body, complete=True)
    field.look(request)
    assert field.value == value
    assert b"".join(request.pending) == body, "nothing is taken out of it"


@given(st.lists(st.integers(1, 60), min_size=1, max_size=8))
def test_it_is_found_in_whatever_pieces_it_comes(sizes: list[int]) -> None:
    whole = FILE + MODEL + FILE + END
    field, request = Field(b"B", b"model"), asked(b"")
    at = 0
    for size in sizes:
        piece = whole[at : at + size]
        at += len(piece)
        request.pending.append(piece)
        request.pending_bytes += len(piece)
        known = field.look(request)
        assert known == (at >= len(FILE + MODEL + b"--B") - 0), "as soon as it is whole, and not before"


def test_a_form_goes_to_its_model_before_it_is_there_as_a_whole(tmp_path: Path) -> None:
    async def main() -> None:
        async with worker() as w, site(tmp_path, endpoint(w.entry())) as s:
            body = MODEL + FILE + b"y" * 12_000_000 + b"\r\n" + END
            client = await s.connect()
            head = (
                "POST /v1/audio/transcriptions HTTP/1.1\r\nHost: a\r\nContent-Type: multipart/form-data; boundary=B\r\n"
            )
            head += f"Authorization: Bearer {KEY}\r\nContent-Length: {len(body)}\r\n\r\n"
            await client.write(head.encode() + body)
            assert (await client.reply()).status == 200
            assert w.asked[0].body == body
            missing = await s.ask("POST", "/v1/x", "Content-Type: multipart/form-data; boundary=B", body=FILE + END)
            assert (missing.status, missing.header("X-Stoker-Reason")) == (400, "model_missing")

    run(main)
