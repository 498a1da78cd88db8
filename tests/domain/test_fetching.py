"""What a step is told says the same on both sides, whatever it is; what it tells is read for people."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from stoker.domain.addresses import UrlRules
from stoker.domain.fetching import ModelFetch, StepLine, failure_of, order, ordered, words_of
from stoker.domain.models import ModelSource, SourceKind, WeightsKey

SOURCES = st.one_of(
    st.builds(
        ModelSource,
        kind=st.just(SourceKind.HUGGINGFACE),
        location=st.from_regex(r"[a-z0-9]{1,20}/[a-z0-9]{1,20}", fullmatch=True),
        file=st.none() | st.just("*Q4.gguf"),
        revision=st.none() | st.just("v1/x"),
    ),
    st.builds(
        ModelSource, kind=st.just(SourceKind.URL), location=st.sampled_from(["https://a/m.gguf?sig=$X", "http://b/ü"])
    ),
)
RULES = st.sampled_from([UrlRules(), UrlRules(True), UrlRules.parse(["10.0.0.0/8", "fd00::/8"])])


@given(source=SOURCES, rules=RULES, sha256=st.none() | st.just("a" * 64), pace=st.none() | st.just(1.5))
def test_an_order_is_read_as_it_was_written_and_holds_no_token(
    source: ModelSource, rules: UrlRules, sha256: str | None, pace: float | None
) -> None:
    fetch = ModelFetch(
        key=WeightsKey("0" * 32),
        name="Name.of-it_1",
        source=source,
        sha256=sha256,
        hub="https://hub",
        rules=rules,
        bytes_per_s=pace,
        token_secret="hf",
        token="cellar-door",
    )
    text = order(fetch, folder="/f")
    assert "cellar-door" not in text
    # Which secret it is in nobody there has to know.
    assert ordered(text, "cellar-door") == (replace(fetch, token_secret=None), "/f")


def test_progress_is_told_as_that_of_downloads_to_this_host() -> None:
    assert words_of(StepLine("fetching", done_bytes=437, total_bytes=1000), "m") == "downloading model 43 %"
    assert words_of(StepLine("fetching", done_bytes=437), "m") == "downloading model m"
    assert words_of(None, "m") == "downloading model m"


def test_a_failure_is_told_by_what_the_step_said_or_else_by_its_last_output() -> None:
    failed = StepLine("failed", error="no such file").encode()
    assert failure_of([failed], "m", "code 2") == "the model 'm' could not be fetched: no such file"
    text = failure_of([StepLine("waiting").encode(), "No module named stoker"], "m", "code 1")
    assert text == "the model 'm' could not be fetched: code 1; its last output:\nNo module named stoker"
