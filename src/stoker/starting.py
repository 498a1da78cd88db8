"""Starts the process of a role: `python -m stoker.starting MODULE ARGUMENTS`. Run by the supervisor; imports the role
and calls its `main`.

What a role imports makes some hundred thousand objects that stay. The garbage collector, which would look through all
of them again and again meanwhile, begins after that, leaves them alone, and looks less often than it would by default:
hardly anything that roles make goes round in circles.
"""

from __future__ import annotations

import gc
import sys
from importlib import import_module


def main() -> None:
    """Become the role that the first argument names."""
    gc.disable()
    role = import_module(sys.argv.pop(1))
    gc.enable()
    settle_garbage()
    sys.exit(role.main())


def settle_garbage() -> None:
    """From now on the garbage collector leaves alone what is there, and looks seldom at what comes."""
    gc.freeze()
    gc.set_threshold(50_000, 20, 20)


if __name__ == "__main__":
    main()
