"""Ports for servers that tests start by number: below those that the kernel hands out, so that no connection of anybody
has one by chance between the moment it is chosen and the moment the server listens, or while the server is away.
"""

from __future__ import annotations

import itertools
import os
import socket

# Those of workers begin above (`acceptance.installation`), those of containers higher still.
FIRST, LAST = 10_000, 19_999
# Processes of tests side by side have process ids, and so shares, of their own.
_SHARE = 24
_SHARES = (LAST + 1 - FIRST) // _SHARE
_turns = itertools.count()


def free() -> int:
    """One that nobody listens at, and that this process has not been given for as long as possible."""
    begin = os.getpid() % _SHARES * _SHARE
    for _ in range(LAST + 1 - FIRST):
        port = FIRST + (begin + next(_turns)) % (LAST + 1 - FIRST)
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        return port
    raise OSError("no port is free")
