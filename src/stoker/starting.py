"""Starts the process of a role: `python -m stoker.starting MODULE ARGUMENTS`. Run by the supervisor; imports the role
and calls its `main`.

What a role imports makes some hundred thousand objects that stay. The garbage collector, which would look through all
of them again and again meanwhile, begins after that, and leaves them alone.
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
    gc.freeze()
    sys.exit(role.main())


if __name__ == "__main__":
    main()
