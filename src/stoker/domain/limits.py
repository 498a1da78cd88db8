"""Checks that several kinds of values share. They raise `Invalid` at the place of what is wrong."""

from __future__ import annotations

from stoker.domain.errors import Invalid

ARGUMENTS_MAX = 256
ARGUMENT_CHARS_MAX = 8_192


def within(pointer: str, value: float, low: float, high: float) -> None:
    """`value` must be between `low` and `high`, both included."""
    if not low <= value <= high:
        # Cut, since a whole number may have thousands of digits.
        raise Invalid.at(
            pointer, f"{pointer.rsplit('/', 1)[-1]} must be between {low:g} and {high:g}, not {str(value)[:20]}"
        )


def check_arguments(pointer: str, arguments: tuple[str, ...]) -> None:
    """A command's arguments: bounded, and such that an operating system takes them."""
    if len(arguments) > ARGUMENTS_MAX:
        raise Invalid.at(pointer, f"at most {ARGUMENTS_MAX} arguments")
    for index, argument in enumerate(arguments):
        if len(argument) > ARGUMENT_CHARS_MAX or "\0" in argument:
            raise Invalid.at(
                f"{pointer}/{index}", f"an argument has at most {ARGUMENT_CHARS_MAX} characters and no NUL"
            )
