"""What an endpoint is called in addresses: its id, then the name of its application. Pure."""

from __future__ import annotations

import re

from stoker.domain.endpoint import Endpoint

# An annotation: the application's name, of those that were given one.
APP = "novita/app"
_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?\Z")
_ID = re.compile(r"([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})(?:-.+)?\Z")


def app_of(endpoint: Endpoint) -> str:
    """The application's name; of an endpoint without one, its id."""
    given = endpoint.spec.annotations.get(APP, "")
    # Anybody may write annotations.
    return given if _LABEL.match(given) else endpoint.id


def label_of(endpoint: Endpoint) -> str:
    """Id and application's name, as addresses have them."""
    return f"{endpoint.id}-{app_of(endpoint)}"


def reference_of(name: str) -> str:
    """What Stoker finds the endpoint by that an address names: by both, or by an id, slug, number or name alone."""
    found = _ID.match(name)
    return name if found is None else found[1]
