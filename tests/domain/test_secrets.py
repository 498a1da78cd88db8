"""Registry credentials: which registry a log-in is shown to, and what makes no sense as one."""

from __future__ import annotations

import pytest

from stoker.domain.access import Sealed
from stoker.domain.endpoint import FIRST_PROJECT
from stoker.domain.errors import Invalid
from stoker.domain.images import registry_of
from stoker.domain.secrets import ANY_REGISTRY, Credential, check_login


@pytest.mark.parametrize(
    ("image", "registry"),
    [
        ("app", "docker.io"),
        ("org/app:1", "docker.io"),
        ("ghcr.io/org/app@sha256:0", "ghcr.io"),
        ("local:5000/app", "local:5000"),
        ("localhost/app", "localhost"),
    ],
)
def test_an_image_says_where_it_comes_from(image: str, registry: str) -> None:
    assert registry_of(image) == registry


@pytest.mark.parametrize(
    ("registry", "image", "shown_to"),
    [
        ("ghcr.io", "ghcr.io/a", "ghcr.io"),
        ("gcr.io", "eu.gcr.io/a", "eu.gcr.io"),
        ("index.docker.io", "org/a", "docker.io"),
        ("docker.io", "registry-1.docker.io/a", "docker.io"),
        (ANY_REGISTRY, "local:5000/a", "local:5000"),
        (ANY_REGISTRY, "a", "docker.io"),
        # A name that only ends alike is another one's.
        ("gcr.io", "ghcr.io/a", None),
        ("gcr.io", "evilgcr.io/a", None),
        ("eu.gcr.io", "gcr.io/a", None),
        ("ghcr.io", "a", None),
    ],
)
def test_a_log_in_is_shown_to_its_registry_those_below_it_or_any(
    registry: str, image: str, shown_to: str | None
) -> None:
    check_login(registry, "u")
    credential = Credential(
        id="c",
        number=1,
        project=FIRST_PROJECT,
        name="c",
        registry=registry,
        username="u",
        sealed=Sealed(text="", by=""),
        created_at=0,
        updated_at=0,
    )
    if shown_to is not None:
        assert credential.registry_for(image) == shown_to
        return
    with pytest.raises(Invalid, match=f"is for {registry}, and the image comes from") as refused:
        credential.registry_for(image)
    assert refused.value.problems[0].pointer == "/launch/credential"


@pytest.mark.parametrize("registry", ["", "**", "*.gcr.io", "https://ghcr.io", "a b"])
def test_what_is_no_host_is_no_registry(registry: str) -> None:
    with pytest.raises(Invalid):
        check_login(registry, "u")
