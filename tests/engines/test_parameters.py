"""Parameters are read as the worker's own `argparse` would read them."""

from __future__ import annotations

import pytest

from stoker.domain.errors import Invalid
from stoker.engines.base import Parameter
from stoker.engines.parameters import Given, check, last, whole


def _parameter(
    flags: str, kind: str, *, allowed: tuple[str, ...] = (), nargs: str | None = None, closed: bool = False
) -> Parameter:
    spellings = tuple(flags.split())
    return Parameter(
        name=spellings[0].removeprefix("--"),
        flags=spellings,
        type=kind,
        default=None,
        allowed=allowed,
        section="",
        description="",
        nargs=nargs,
        closed=closed,
    )


TABLE = (
    _parameter("--context", "integer"),
    _parameter("--share", "number"),
    _parameter("--fast --no-fast -f", "boolean"),
    _parameter("--quiet", "boolean"),
    _parameter("--kind", "enum", allowed=("a", "b"), closed=True),
    _parameter("--parser", "enum", allowed=("x",)),
    _parameter("--more-options", "json"),
    _parameter("--files", "string", nargs="+"),
    _parameter("--token", "string", nargs="?"),
    _parameter("--host", "string"),
)


def _check(*arguments: str) -> tuple[Given, ...]:
    return check(
        arguments, (TABLE,), engine="engine", owned={"host": "it is decided elsewhere"}, scaled=frozenset({"context"})
    )


@pytest.mark.parametrize(
    ("arguments", "name", "values"),
    [
        pytest.param(("--context", "4096"), "context", ("4096",), id="value behind its flag"),
        pytest.param(("--context=4096",), "context", ("4096",), id="value attached to its flag"),
        pytest.param(("--context", "-1"), "context", ("-1",), id="a negative number is a value"),
        pytest.param(("--context", "32K"), "context", ("32K",), id="scaled number"),
        pytest.param(("--share", ".5"), "share", (".5",), id="number without a leading zero"),
        pytest.param(("--fast",), "fast", (), id="boolean"),
        pytest.param(("-f",), "fast", (), id="short flag"),
        pytest.param(("--kind", "b"), "kind", ("b",), id="allowed choice"),
        pytest.param(("--parser", "mine"), "parser", ("mine",), id="a choice that is not closed takes others"),
        pytest.param(
            ("--more_options", '{"a": {"b": 1}}'), "more-options", ('{"a": {"b": 1}}',), id="underscores, JSON"
        ),
        pytest.param(
            ("--more-options.method", "ngram"), "more-options", ("ngram",), id="one entry of a JSON parameter"
        ),
        pytest.param(("--files", "a", "b", "--fast"), "files", ("a", "b"), id="several values end at the next flag"),
        pytest.param(("--token",), "token", (), id="optional value left out"),
        pytest.param(("--token", "abc"), "token", ("abc",), id="optional value given"),
        pytest.param(("--files=-x",), "files", ("-x",), id="attached value that looks like a flag"),
    ],
)
def test_what_a_server_takes_is_accepted(arguments: tuple[str, ...], name: str, values: tuple[str, ...]) -> None:
    given = _check(*arguments)[0]
    assert (given.parameter.name, given.values) == (name, values)


@pytest.mark.parametrize(
    ("arguments", "index", "message"),
    [
        pytest.param(("--contxt", "1"), 0, "no parameter '--contxt'; did you mean --context?", id="misspelt"),
        pytest.param(("--fast", "--nonsense-at-all"), 1, "no parameter '--nonsense-at-all'", id="unknown"),
        pytest.param(
            ("--context 4096",), 0, "give the flag --context and its value as two", id="flag and value in one"
        ),
        pytest.param(("4096",), 0, "belongs to no parameter", id="no flag at all"),
        pytest.param(("--fast", "yes"), 1, "'yes' belongs to no parameter", id="value behind a boolean"),
        pytest.param(("--fast=yes",), 0, "--fast takes no value; --no-fast switches it off", id="value on a boolean"),
        pytest.param(("--quiet=1",), 0, "leave it out to switch it off", id="value on a boolean without a negation"),
        pytest.param(("--context",), 0, "--context needs a value .a whole number", id="value missing at the end"),
        pytest.param(("--context", "--fast"), 0, "--context needs a value", id="value missing before a flag"),
        pytest.param(("--context", "4.5"), 0, "cannot be '4.5': expected a whole number", id="fraction"),
        pytest.param(("--context", "9" * 30), 0, "expected a whole number", id="absurdly long number"),
        pytest.param(("--share", "lots"), 0, "expected a number", id="no number"),
        pytest.param(("--kind", "c"), 0, "expected one of a, b", id="not among the choices"),
        pytest.param(("--more-options", "{oops"), 0, "expected JSON", id="no JSON"),
        pytest.param(("--files",), 0, "--files needs a value", id="several values, none given"),
        pytest.param(("--fast", "--host", "h"), 1, "--host is not yours to set: it is decided elsewhere", id="owned"),
        pytest.param(("--fast.x", "1"), 0, "no parameter '--fast.x'", id="entry of something that is no JSON"),
    ],
)
def test_what_a_server_would_refuse_is_refused_at_its_place(
    arguments: tuple[str, ...], index: int, message: str
) -> None:
    with pytest.raises(Invalid, match=message) as caught:
        _check(*arguments)
    assert caught.value.problems[0].pointer == f"/launch/parameters/{index}"


def test_places_count_values_too() -> None:
    assert [item.index for item in _check("--files", "a", "b", "--fast", "--context", "1")] == [0, 3, 4]


def test_a_boolean_knows_whether_it_is_on() -> None:
    assert [item.on for item in _check("--fast", "--no-fast", "-f")] == [True, False, True]


def test_the_last_of_several_counts() -> None:
    given = _check("--context", "1", "--context", "2")
    found = last(given, "context")
    assert found is not None
    assert found.value == "2"
    assert last(given, "share") is None


@pytest.mark.parametrize(
    ("text", "number"),
    [("12", 12), ("-1", -1), ("4k", 4000), ("4K", 4096), ("1.5M", 1_572_864), ("1.5", None), ("k", None), ("", None)],
)
def test_whole_numbers_may_be_scaled(text: str, number: int | None) -> None:
    assert whole(text) == number
