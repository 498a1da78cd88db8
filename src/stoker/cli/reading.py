"""How secret values come to a command: from standard input or a file, never from its arguments, which all can see."""

from __future__ import annotations

import sys
from pathlib import Path

from stoker.cli.errors import CliError, Exit

VALUE_BYTES_MAX = 128 * 1024


def value(file: Path | None, what: str) -> str:
    """The value: of the file, else asked for without an echo on a terminal, else all of standard input. One newline at
    its end is none of it. Raises `CliError` with exit code 2.
    """
    if file is None and sys.stdin.isatty():
        from getpass import getpass

        return getpass(f"{what}: ")
    try:
        if file is None:
            raw = sys.stdin.buffer.read(VALUE_BYTES_MAX + 1)
        else:
            with open(file, "rb") as opened:
                raw = opened.read(VALUE_BYTES_MAX + 1)
        if len(raw) > VALUE_BYTES_MAX:
            raise CliError(f"{what} is longer than {VALUE_BYTES_MAX} bytes", Exit.USAGE)
        return raw.decode().removesuffix("\n").removesuffix("\r")
    except OSError as exc:
        raise CliError(f"{what} cannot be read: {exc}", Exit.USAGE) from exc
    except UnicodeDecodeError as exc:
        raise CliError(f"{what} is not text (UTF-8)", Exit.USAGE) from exc
