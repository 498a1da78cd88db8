"""Endpoint documents in YAML: read them, and find the line of anything that is wrong with them.

Used by `stoker apply`. Knows no field but the name: the API says what is wrong.
"""

from __future__ import annotations

import datetime
import math
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stoker.cli.errors import CliError, Exit

BYTES_MAX = 4 * 1024 * 1024
# Many times the largest endpoint there can be; without a bound a few lines of aliases stand for billions of values.
VALUES_MAX = 100_000
STDIN = "-"


@dataclass(frozen=True, slots=True)
class Manifest:
    """One document: the spec in it as plain values, and where it was read. `node` has the positions."""

    source: str
    spec: dict[str, Any]
    node: Any

    def place(self, pointer: str) -> str:
        """`file:line:column` of what a JSON pointer names; of its nearest parent where the document lacks it."""
        line, column = _position(self.node, pointer)
        return f"{self.source}:{line}:{column}"


def read(path: str) -> list[Manifest]:
    """All documents of a file, or of standard input for `-`. Raises `CliError` with exit code 2 and the place."""
    found = [_manifest(_source(path), node) for node in _nodes(path)]
    if not found:
        raise CliError(f"{_source(path)} has no endpoints in it", Exit.USAGE)
    return found


def _source(path: str) -> str:
    return "stdin" if path == STDIN else path


def _nodes(path: str) -> list[Any]:
    from ruamel.yaml import YAML
    from ruamel.yaml.error import MarkedYAMLError, YAMLError

    source, content = _source(path), _text(path)
    try:
        return [node for node in YAML(typ="rt", pure=True).load_all(content) if node is not None]
    except MarkedYAMLError as exc:
        mark = exc.problem_mark or exc.context_mark
        place = f"{source}:{mark.line + 1}:{mark.column + 1}" if mark is not None else source
        raise CliError(f"{place}: {exc.problem or exc.context or 'this is no YAML'}", Exit.USAGE) from exc
    except YAMLError as exc:
        raise CliError(f"{source} is no YAML: {' '.join(str(exc).split())}", Exit.USAGE) from exc
    except RecursionError as exc:
        raise _too_deep(source) from exc
    except ValueError as exc:
        # A date that no calendar has, a number of thousands of digits.
        raise CliError(f"{source} has a value that cannot be read: {exc}; put it in quotes", Exit.USAGE) from exc


def part(path: str) -> Manifest:
    """The one document of a file, which need not be a whole endpoint. Raises `CliError` with exit code 2."""
    nodes = _nodes(path)
    if len(nodes) != 1 or not isinstance(nodes[0], Mapping):
        raise CliError(f"{_source(path)} must be one mapping of an endpoint's fields", Exit.USAGE)
    manifest = Manifest(_source(path), {}, nodes[0])
    manifest.spec.update(_whole(manifest))
    return manifest


def text(value: object) -> str:
    """A value as YAML."""
    from io import StringIO

    from ruamel.yaml import YAML

    stream = StringIO()
    yaml = YAML(typ="safe", pure=True)
    yaml.default_flow_style = False
    yaml.dump(value, stream)
    return stream.getvalue()


def _text(path: str) -> str:
    try:
        if path == STDIN:
            text = sys.stdin.read(BYTES_MAX + 1)
        else:
            with Path(path).open(encoding="utf-8") as file:
                text = file.read(BYTES_MAX + 1)
    except (OSError, UnicodeDecodeError) as exc:
        raise CliError(f"{path} cannot be read: {getattr(exc, 'strerror', None) or exc}", Exit.USAGE) from exc
    if len(text) > BYTES_MAX:
        raise CliError(f"{path} is larger than {BYTES_MAX} bytes", Exit.USAGE)
    return text


def _manifest(source: str, node: Any) -> Manifest:
    manifest = Manifest(source, {}, node)
    if not isinstance(node, Mapping):
        raise CliError(f"{manifest.place('')}: an endpoint is a mapping with name and launch", Exit.USAGE)
    manifest.spec.update(_whole(manifest))
    name = manifest.spec.get("name")
    if not isinstance(name, str) or not name:
        where = manifest.place("/name" if "name" in manifest.spec else "")
        raise CliError(f"{where}: an endpoint needs a name, which is a text", Exit.USAGE)
    return manifest


def _whole(manifest: Manifest) -> Any:
    """The document's values. Raises `CliError` with exit code 2, also where aliases make too much of them."""
    count, left = 0, [manifest.node]
    while left:
        item = left.pop()
        left += item.values() if isinstance(item, Mapping) else item if isinstance(item, list) else ()
        if (count := count + 1) > VALUES_MAX:
            raise CliError(f"{manifest.place('')}: more than {VALUES_MAX} values, aliases included", Exit.USAGE)
    try:
        return _plain(manifest, manifest.node, "")
    except RecursionError as exc:
        raise _too_deep(manifest.source) from exc


def _too_deep(source: str) -> CliError:
    return CliError(f"{source} is nested too deeply", Exit.USAGE)


def _plain(manifest: Manifest, value: Any, pointer: str) -> Any:
    """The value without its positions, as JSON has it."""
    if isinstance(value, Mapping):
        return dict(_pairs(manifest, value, pointer))
    if isinstance(value, list | tuple):
        return [_plain(manifest, item, f"{pointer}/{index}") for index, item in enumerate(value)]
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return str(value)
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float) and math.isfinite(value):
        return float(value)
    if isinstance(value, datetime.date):
        return value.isoformat()
    raise CliError(f"{manifest.place(pointer)}: a value of this kind has no place here", Exit.USAGE)


def _pairs(manifest: Manifest, value: Mapping[Any, Any], pointer: str) -> Iterator[tuple[str, Any]]:
    for key, item in value.items():
        if not isinstance(key, str):
            raise CliError(f"{manifest.place(pointer)}: the name {key!r} is no text; put it in quotes", Exit.USAGE)
        yield str(key), _plain(manifest, item, f"{pointer}/{key.replace('~', '~0').replace('/', '~1')}")


def _position(node: Any, pointer: str) -> tuple[int, int]:
    line, column = _start(node)
    for part in pointer.split("/")[1:]:
        key = part.replace("~1", "/").replace("~0", "~")
        marks = getattr(node, "lc", None)
        if marks is None:
            break
        if isinstance(node, Mapping) and key in node:
            line, column = _of(marks.key(key) if key in (marks.data or ()) else None, (line, column))
            node = node[key]
        elif isinstance(node, list) and key.isdigit() and int(key) < len(node):
            line, column = _of(marks.item(int(key)), (line, column))
            node = node[int(key)]
        else:
            break
    return line, column


def _start(node: Any) -> tuple[int, int]:
    marks = getattr(node, "lc", None)
    return (marks.line + 1, marks.col + 1) if marks is not None and marks.line is not None else (1, 1)


def _of(mark: tuple[int, int] | None, otherwise: tuple[int, int]) -> tuple[int, int]:
    # What came in through an anchor has no position of its own here.
    return otherwise if mark is None else (mark[0] + 1, mark[1] + 1)
