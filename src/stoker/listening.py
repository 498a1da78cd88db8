"""The listening sockets: bound once, by the supervisor or by systemd, and inherited by the roles. Serves nothing."""

from __future__ import annotations

import errno
import os
import socket
import stat
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from stoker.domain.errors import Unavailable
from stoker.settings import Settings

BACKLOG = 4096
# A gateway whose supervisor was killed lets go of the port within moments.
BIND_WAIT_S = 10.0
# Where systemd puts the first socket that it hands over (sd_listen_fds(3)).
_SYSTEMD_FIRST_FD = 3


@dataclass(slots=True)
class Sockets:
    """All of them."""

    public: socket.socket
    control: socket.socket
    link: socket.socket

    def close(self) -> None:
        for each in (self.public, self.control, self.link):
            each.close()


def bind(settings: Settings, environ: Mapping[str, str]) -> Sockets:
    """Bind all sockets. Raises `Unavailable` when the public port is taken."""
    paths = settings.paths
    _make_private(paths.run)
    return Sockets(
        public=_inherited(environ) or _bind_public(settings.host, settings.port),
        control=_bind_unix(paths.control_socket),
        link=_bind_unix(paths.link_socket),
    )


def _make_private(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    found = folder.lstat()
    # It may lie in a folder that everybody can write to: somebody else's must not be used.
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
        raise Unavailable(f"{folder} is not a folder of this user; remove it, or choose another data folder")
    folder.chmod(0o700)


def _inherited(environ: Mapping[str, str]) -> socket.socket | None:
    if environ.get("LISTEN_PID") != str(os.getpid()) or environ.get("LISTEN_FDS", "0") == "0":
        return None
    return socket.socket(fileno=_SYSTEMD_FIRST_FD)


def _bind_public(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    deadline = time.monotonic() + BIND_WAIT_S
    while True:
        listening = socket.socket(family, socket.SOCK_STREAM)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listening.bind((host, port))
            listening.listen(BACKLOG)
        except OSError as exc:
            listening.close()
            if exc.errno == errno.EADDRINUSE and time.monotonic() < deadline:
                time.sleep(0.1)
                continue
            hint = "choose another with --port" if exc.errno == errno.EADDRINUSE else "choose another with --host"
            raise Unavailable(f"cannot listen on {host}:{port}: {exc.strerror}; {hint}") from exc
        return listening


def _bind_unix(path: Path) -> socket.socket:
    # Left over from a supervisor that was killed: the lock on the data folder says that nobody uses it.
    path.unlink(missing_ok=True)
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listening.bind(str(path))
    path.chmod(0o600)
    listening.listen(BACKLOG)
    return listening
