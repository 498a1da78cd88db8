"""The differences between two documents made of plain values. Pure; called for previews and for the audit."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from stoker.domain.views import FieldChange


def differences(before: object, after: object, pointer: str = "") -> tuple[FieldChange, ...]:
    """Every place at which the two differ, in the order of the document, as JSON pointers.

    >>> differences({"a": 1, "b": [1]}, {"a": 2, "b": [1, 5]})[0]
    FieldChange(pointer='/a', before=1, after=2)
    """
    return tuple(_differences(before, after, pointer))


def _differences(before: object, after: object, pointer: str) -> Iterator[FieldChange]:
    if isinstance(before, Mapping) and isinstance(after, Mapping):
        for key in dict.fromkeys((*before, *after)):
            place = f"{pointer}/{str(key).replace('~', '~0').replace('/', '~1')}"
            yield from _differences(before.get(key), after.get(key), place)
    elif isinstance(before, list) and isinstance(after, list) and _structured(before, after):
        for index in range(max(len(before), len(after))):
            one = before[index] if index < len(before) else None
            other = after[index] if index < len(after) else None
            yield from _differences(one, other, f"{pointer}/{index}")
    elif before != after:
        yield FieldChange(pointer, before, after)


def _structured(before: list[object], after: list[object]) -> bool:
    """Lists of plain values, such as a command, are compared as a whole."""
    return any(isinstance(item, Mapping) for item in (*before, *after))
