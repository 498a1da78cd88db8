"""Which rule says what runs instead of an image. Pure; called where an endpoint's launch is resolved.

Names are compared in full form: `nginx` is `docker.io/library/nginx:latest`, whatever of it was written.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from stoker.domain.errors import Invalid
from stoker.domain.images import ImageRule

PATTERNS_SHOWN_MAX = 10
_HUB = "docker.io/"


def rule_for(image: str, rules: Sequence[ImageRule]) -> ImageRule:
    """The most specific rule for this image: the one with most characters that are no `*`. Raises `Invalid`."""
    name = _full(image, tag="latest")
    matching = [rule for rule in rules if _matches(_full(rule.pattern, tag="*"), name)]
    if not matching:
        raise Invalid.at("/launch/image", _nothing(image, rules))
    return min(matching, key=lambda rule: (-_literal(rule.pattern), len(rule.pattern), rule.pattern))


def _nothing(image: str, rules: Sequence[ImageRule]) -> str:
    reason = f"the process provider runs models and commands, not images, and nothing stands in for {image[:200]!r}"
    if not rules:
        return f"{reason}; `images` in the settings may say what does"
    shown = ", ".join(rule.pattern for rule in rules[:PATTERNS_SHOWN_MAX])
    more = len(rules) - PATTERNS_SHOWN_MAX
    return f"{reason}; `images` in the settings has {shown}{f' and {more} more' if more > 0 else ''}"


def _literal(pattern: str) -> int:
    return len(_full(pattern, tag="*").replace("*", ""))


def _matches(pattern: str, name: str) -> bool:
    return re.fullmatch(".*".join(re.escape(part) for part in re.split(r"\*+", pattern)), name) is not None


def _full(image: str, *, tag: str) -> str:
    """With a tag and without the hub's own address. A digest stands for itself and has no say in what runs."""
    name, _, _digest = image.partition("@")
    name = name.removeprefix("index.docker.io/").removeprefix(_HUB).removeprefix("library/")
    if ":" in name.rpartition("/")[2] or name == "*":
        return name
    return f"{name}:{tag}"
