"""What runs instead of an image: the most specific rule, or a refusal that names those there are."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stoker.domain.errors import Invalid
from stoker.domain.images import ImageRule
from stoker.policy.images import rule_for


def rules(*patterns: str) -> list[ImageRule]:
    return [ImageRule(pattern=pattern, command=("x",)) for pattern in patterns]


@pytest.mark.parametrize(
    ("image", "pattern"),
    [
        ("vllm/vllm-openai:v0.12.0", "vllm/vllm-openai:*"),
        ("docker.io/vllm/vllm-openai", "vllm/vllm-openai:*"),
        ("vllm/vllm-openai@sha256:" + "0" * 64, "vllm/vllm-openai:*"),
        ("vllm/other:1", "vllm/*"),
        ("nginx", "nginx"),
        ("nginx:1.27", "nginx:1.*"),
        ("nginx:1.27-alpine", "nginx:1.*-alpine"),
        ("docker.io/library/nginx:2", "nginx"),
        ("index.docker.io/library/nginx:2", "nginx"),
        ("registry.test:5000/team/app:3", "registry.test:5000/*"),
        ("anything/else", "*"),
    ],
)
def test_the_most_specific_pattern_wins(image: str, pattern: str) -> None:
    given = rules("*", "nginx", "nginx:1.*", "nginx:1.*-alpine", "vllm/*", "vllm/vllm-openai:*", "registry.test:5000/*")
    assert rule_for(image, given).pattern == pattern
    assert rule_for(image, given[::-1]).pattern == pattern, "in whatever order they stand"


def test_an_image_without_a_rule_is_refused_with_the_rules_there_are() -> None:
    with pytest.raises(Invalid, match=r"nothing stands in for 'redis:7'.* has nginx, vllm/\*$") as caught:
        rule_for("redis:7", rules("nginx", "vllm/*"))
    assert caught.value.problems[0].pointer == "/launch/image"
    with pytest.raises(Invalid, match="`images` in the settings may say"):
        rule_for("redis:7", [])
    with pytest.raises(Invalid, match="and 5 more"):
        rule_for("redis:7", rules(*(f"a{number}" for number in range(15))))


def test_a_tag_that_was_asked_for_is_not_another_one() -> None:
    with pytest.raises(Invalid):
        rule_for("nginx:2", rules("nginx:1.*"))
    assert rule_for("nginx", rules("nginx:latest")).pattern == "nginx:latest"


names = st.from_regex(r"[a-z]{1,4}(/[a-z]{1,4}){0,2}(:[a-z0-9.]{1,4})?", fullmatch=True)


@given(image=names, cut=st.integers(0, 6))
def test_a_pattern_made_of_an_image_matches_it(image: str, cut: int) -> None:
    pattern = image[:cut] + "*"
    assert rule_for(image, rules(pattern)).pattern == pattern
    assert rule_for(image, rules(image)).pattern == image
