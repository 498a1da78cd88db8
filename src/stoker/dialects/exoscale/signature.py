"""EXO2-HMAC-SHA256, by which Exoscale's clients sign their requests. Pure: reads no clock and knows no key.

What is signed is five lines: method and path, body, values of the query's arguments, nothing, and when it expires.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import parse_qsl

from stoker.domain.errors import Unauthenticated

SCHEME = "EXO2-HMAC-SHA256"
HEADER_CHARS_MAX = 8_192
ARGUMENTS_MAX = 64
_EXPIRES_DIGITS_MAX = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class Signature:
    """The header's parts. `arguments` are the names of signed arguments of the query, in their order; `expires` is in
    seconds since the epoch.
    """

    credential: str
    arguments: tuple[str, ...]
    expires: int
    digest: bytes


def parse(header: str) -> Signature:
    """What an `Authorization` header of this scheme says. Raises `Unauthenticated`."""
    scheme, _, rest = header.partition(" ")
    if scheme != SCHEME or len(header) > HEADER_CHARS_MAX:
        raise Unauthenticated(f"a request is signed by an Authorization header that begins with {SCHEME}")
    # A signature may end with `=`, and a name of an argument may have anything in it but a comma and a semicolon.
    parts = dict(part.strip().partition("=")[::2] for part in rest.split(","))
    expires, credential = parts.get("expires", ""), parts.get("credential", "")
    if not credential or not (expires.isascii() and expires.isdigit() and len(expires) <= _EXPIRES_DIGITS_MAX):
        raise Unauthenticated("the signature has no credential, or does not say when it expires")
    try:
        digest = base64.b64decode(parts.get("signature", ""), validate=True)
    except (binascii.Error, ValueError):
        raise Unauthenticated("the signature is not Base64") from None
    arguments = tuple(name for name in parts.get("signed-query-args", "").split(";") if name)
    return Signature(credential=credential, arguments=arguments, expires=int(expires), digest=digest)


def signed_text(signature: Signature, *, method: str, path: str, query: str, body: bytes) -> bytes:
    """What `signature` is of. `path` is as it was sent, escaped; `query` is without its question mark.

    Raises `Unauthenticated` for an argument that is not signed although it could be, which somebody may have put there.
    """
    pairs = _arguments(query)
    count = Counter(name for name, _ in pairs)
    values = {name: value for name, value in pairs if count[name] == 1}
    # Clients leave out what has no value, and what is there more than once.
    unsigned = [name for name, value in values.items() if value and name not in signature.arguments]
    if unsigned:
        raise Unauthenticated(f"the argument {unsigned[0][:64]!r} of the query is not signed")
    signed = "".join(values.get(name, "") for name in signature.arguments)
    return b"\n".join(
        (f"{method} {path}".encode(), body, signed.encode("utf-8", "replace"), b"", str(signature.expires).encode())
    )


def _arguments(query: str) -> list[tuple[str, str]]:
    try:
        return parse_qsl(query, keep_blank_values=True, max_num_fields=ARGUMENTS_MAX)
    except ValueError:
        raise Unauthenticated(f"a query has at most {ARGUMENTS_MAX} arguments") from None


def verify(signature: Signature, texts: Sequence[bytes], secret: str, *, now: float) -> None:
    """Raises `Unauthenticated` when it is no signature of one of `texts` by this secret, or has expired at `now`. One
    that was seen before is good: clients send the same request again, unchanged, when they had no answer.
    """
    if not any(hmac.compare_digest(digest_of(text, secret), signature.digest) for text in texts):
        raise Unauthenticated("the signature does not match the request")
    if now >= signature.expires:
        raise Unauthenticated("the signature has expired; check the clocks on both sides")


def digest_of(text: bytes, secret: str) -> bytes:
    """The signature of `text`."""
    return hmac.new(secret.encode(), text, hashlib.sha256).digest()
