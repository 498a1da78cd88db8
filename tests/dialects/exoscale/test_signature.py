"""The signature by itself: the worked vectors, and everything that must not pass."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stoker.dialects.exoscale.signature import SCHEME, digest_of, parse, signed_text, verify
from stoker.domain.errors import Unauthenticated

KEY, SECRET, EXPIRES = "EXOtestkey0001", "s3cr3t-value", 1_767_225_600
ID = "11111111-1111-4111-8111-111111111111"
SCALE, LOGS = f"/v2/ai/deployment/{ID}/scale", f"/v2/ai/deployment/{ID}/logs"
VECTORS = [
    pytest.param("GET", "/v2/ai/deployment", "", b"", "", "32b4klOLug64THj+73b8P/21X8pTKR9AjensJma4Szk=", id="list"),
    pytest.param(
        "POST", SCALE, "", b'{"replicas": 0}', "", "QZOtMhHbk35GHqC8VC+69bUG5+W2OeZHlA3DFN69/ms=", id="python"
    ),
    pytest.param("POST", SCALE, "", b'{"replicas":0}', "", "xwuCULiNMusuLx+ryU7bF5XmhsB3/SPcFQpgtx7lCYI=", id="go"),
    pytest.param(
        "GET",
        LOGS,
        "tail=5&stream=True",
        b"",
        ",signed-query-args=stream;tail",
        "aQAU7YFjg06POX8F3REqhIKnx0mnYGYlUuxwxP0IV3Y=",
        id="two arguments",
    ),
    pytest.param(
        "GET",
        LOGS,
        "tail=10",
        b"",
        ",signed-query-args=tail",
        "HS6c7fuO/2vYwJbBnV+927zTKGhNz4XHw6qRZZybCdE=",
        id="one argument",
    ),
]


def check(
    header: str, method: str, path: str, query: str = "", body: bytes = b"", *, secret: str = SECRET, now: float = 0.0
) -> None:
    found = parse(header)
    verify(found, [signed_text(found, method=method, path=path, query=query, body=body)], secret, now=now)


@pytest.mark.parametrize(("method", "path", "query", "body", "arguments", "signature"), VECTORS)
def test_what_clients_sign_is_accepted_and_nothing_else(
    method: str, path: str, query: str, body: bytes, arguments: str, signature: str
) -> None:
    header = f"{SCHEME} credential={KEY}{arguments},expires={EXPIRES},signature={signature}"
    check(header, method, path, query, body, now=EXPIRES - 0.5)
    check(f"{SCHEME} signature={signature}, expires={EXPIRES}{arguments}, credential={KEY}", method, path, query, body)
    for secret, now in (("s3cr3t-valuf", 0), (SECRET, EXPIRES)):
        with pytest.raises(Unauthenticated):
            check(header, method, path, query, body, secret=secret, now=now)
    later = header.replace(str(EXPIRES), str(EXPIRES + 600))
    for wrong in (
        (header, method, path, query, body + b" "),
        (header, method, path + "/", query, body),
        (header, method, "/lab1" + path, query, body),
        (header, "PUT", path, query, body),
        (header, method, path, "x=1", body),
        (later, method, path, query, body),
    ):
        with pytest.raises(Unauthenticated):
            check(*wrong)


def test_an_argument_that_comes_twice_has_no_signed_value_and_a_blank_one_needs_none() -> None:
    names = f"{SCHEME} credential=k,signed-query-args=a;b,expires=9,signature="
    assert signed_text(parse(names), method="GET", path="/p", query="a=1&a=2&b=3", body=b"").split(b"\n")[2] == b"3"
    assert (
        signed_text(parse(names), method="GET", path="/p", query="b=%C3%A9+x&a=1", body=b"").split(b"\n")[2]
        == "1é x".encode()
    )
    none = f"{SCHEME} credential=k,expires=9,signature="
    assert signed_text(parse(none), method="GET", path="/p", query="a=&b=1&b=2", body=b"").split(b"\n")[2] == b""
    with pytest.raises(Unauthenticated, match="'a' of the query is not signed"):
        signed_text(parse(none), method="GET", path="/p", query="a=1", body=b"")


@pytest.mark.parametrize(
    "header",
    [
        pytest.param("", id="nothing"),
        pytest.param("Bearer x", id="another scheme"),
        pytest.param(SCHEME, id="only the scheme"),
        pytest.param(f"{SCHEME} expires=9,signature=", id="no credential"),
        pytest.param(f"{SCHEME} credential=k,signature=", id="no end"),
        pytest.param(f"{SCHEME} credential=k,expires=soon,signature=", id="an end that is no number"),
        pytest.param(f"{SCHEME} credential=k,expires={'9' * 13},signature=", id="an end beyond all times"),
        pytest.param(f"{SCHEME} credential=k,expires=9,signature=?", id="no Base64"),
        pytest.param(f"{SCHEME} credential={'k' * 9_000},expires=9,signature=", id="too long"),
    ],
)
def test_a_header_that_makes_no_sense_is_refused(header: str) -> None:
    with pytest.raises(Unauthenticated):
        parse(header)


@given(st.text())
def test_no_header_makes_it_fail_otherwise(rest: str) -> None:
    try:
        parse(f"{SCHEME} {rest}")
    except Unauthenticated:
        return


@given(
    body=st.binary(max_size=64),
    other=st.binary(max_size=64),
    path=st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=20),
    secret=st.text(min_size=1, max_size=20),
)
def test_a_signature_is_good_for_the_body_it_was_made_for(body: bytes, other: bytes, path: str, secret: str) -> None:
    bare = parse(f"{SCHEME} credential=k,expires=9,signature=")
    text = signed_text(bare, method="POST", path=path, query="", body=body)
    signature = base64.b64encode(digest_of(text, secret)).decode()
    header = f"{SCHEME} credential=k,expires=9,signature={signature}"
    check(header, "POST", path, body=body, secret=secret)
    if other != body:
        with pytest.raises(Unauthenticated):
            check(header, "POST", path, body=other, secret=secret)
