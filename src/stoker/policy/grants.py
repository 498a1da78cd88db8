"""What a key may be made or changed into, and by whom: nobody gives what they lack."""

from __future__ import annotations

from dataclasses import replace

from stoker.domain.access import ApiKey, KeyDraft, KeyLimits, KeyPatch, Principal, reach
from stoker.domain.errors import Forbidden, Invalid

NAME_CHARS_MAX = 255
DESCRIPTION_CHARS_MAX = 1_024
# A hundred years; beyond some thousand there is no date for it.
EXPIRES_S_MAX = 3_153_600_000.0


def check_name(name: str) -> None:
    """Raises `Invalid`."""
    if not name.strip() or len(name) > NAME_CHARS_MAX or not name.isprintable():
        raise Invalid.at("/name", f"a key's name has between 1 and {NAME_CHARS_MAX} printable characters")


def check_description(text: str) -> None:
    """Raises `Invalid`."""
    if len(text) > DESCRIPTION_CHARS_MAX:
        raise Invalid.at("/description", f"a key's description has at most {DESCRIPTION_CHARS_MAX} characters")


def check_expiry(expires_in_s: float | None) -> None:
    """Raises `Invalid`."""
    if expires_in_s is not None and not 0 < expires_in_s <= EXPIRES_S_MAX:
        raise Invalid.at("/expires_in_s", f"expires_in_s must be above 0 and at most {EXPIRES_S_MAX:.0f}")


def check_grant(by: Principal, draft: KeyDraft) -> None:
    """May this caller make such a key? Raises `Forbidden`."""
    beyond = reach(draft.scopes) - reach(by.scopes)
    if beyond:
        raise Forbidden(f"a key cannot give scopes that it lacks: {', '.join(sorted(beyond))}")
    if by.endpoints is not None and (draft.endpoints is None or not draft.endpoints <= by.endpoints):
        raise Forbidden("a key limited to some endpoints cannot make one that reaches further")
    if draft.installation and not by.installation:
        raise Forbidden("a key of the installation is made by such a key only")


def check_reach(by: Principal, after: ApiKey) -> None:
    """May this caller leave a key so? Raises `Forbidden`, `Invalid`."""
    if by.endpoints is not None and (after.endpoints is None or not after.endpoints <= by.endpoints):
        raise Forbidden("a key limited to some endpoints cannot let another reach further")
    if after.installation and after.endpoints is not None:
        raise Invalid.at("/endpoints", "a key of the installation is not limited")


def patched(key: ApiKey, patch: KeyPatch, *, now: float) -> ApiKey:
    """The key with the changes, which run from `now`. Raises `Invalid` for limits that make no sense."""
    limits = {
        name: getattr(patch if name in patch.fields else key.limits, name)
        for name in ("rate_per_s", "burst", "concurrency")
    }
    if "name" in patch.fields:
        key = replace(key, name=patch.name)
    if "description" in patch.fields:
        key = replace(key, description=patch.description)
    if "endpoints" in patch.fields:
        key = replace(key, endpoints=patch.endpoints)
    if "expires_in_s" in patch.fields:
        key = replace(key, expires_at=None if patch.expires_in_s is None else now + patch.expires_in_s)
    return replace(key, limits=KeyLimits(**limits))
