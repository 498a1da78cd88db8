"""Ports for servers that tests start by number: below those that the kernel hands out, so that no connection of anybody
has one by chance between the moment it is chosen and the moment the server listens, or while the server is away.
"""

from __future__ import annotations

import itertools
import os
import socket

# Up to 19,999. Those of workers begin above (`acceptance.installation`), those of containers higher still.
_FIRST = 10_000
# For each of the processes that share the tests, so that none chooses what another one is about to use.
_SHARE = 1_000
_SHARES = 10
# Several runs at a time begin at different places.
_turns = itertools.count(os.getpid() * 37)


def free() -> int:
    """One that nobody listens at, and that this process was not given before as far as there are others."""
    seat = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0")[2:]) % _SHARES
    for turn in itertools.islice(_turns, _SHARE):
        port = _FIRST + seat * _SHARE + turn % _SHARE
        with socket.socket() as probe:
            # As servers bind it: connections that have ended are in nobody's way.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        return port
    raise OSError("no port is free")
