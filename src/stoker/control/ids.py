"""Fresh identifiers and secrets."""

from __future__ import annotations

import os
import secrets
import uuid

from stoker.domain.access import KEY_PREFIX

# 256 random bits, twice what looking keys up by a plain digest asks for.
_SECRET_BYTES = 32


def uuid7(now: float) -> str:
    """A UUID of version 7: `now`, in milliseconds since the epoch, then 74 random bits (RFC 9562, section 5.7)."""
    value = (int(now * 1000) & (1 << 48) - 1) << 80
    value |= int.from_bytes(os.urandom(10), "big")
    value = value & ~(0xF << 76) | 0x7 << 76
    value = value & ~(0x3 << 62) | 0x2 << 62
    return str(uuid.UUID(int=value))


def signing_pair() -> tuple[str, str]:
    """Id and secret of a new signing key, in the form that Exoscale's clients know."""
    return "EXO" + secrets.token_hex(12), secrets.token_urlsafe(_SECRET_BYTES)


def api_key() -> str:
    """A new API key."""
    return KEY_PREFIX + secrets.token_urlsafe(_SECRET_BYTES)
