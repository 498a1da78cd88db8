"""Where things lie below the data folder. Touches nothing."""

from __future__ import annotations

import hashlib
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

# A Unix socket's address has 108 bytes on Linux and 104 on macOS, terminator included; the longest name below `run`
# takes 13 of them.
_SOCKET_FOLDER_CHARS_MAX = 88


@dataclass(frozen=True, slots=True)
class Paths:
    """Where things lie below the data folder."""

    data_dir: Path

    @property
    def supervisor_lock(self) -> Path:
        """Held by `stoker up`; contains its process id."""
        return self.data_dir / "stoker.lock"

    @property
    def control_lock(self) -> Path:
        """Held by control, from before it opens the store."""
        return self.data_dir / "control.lock"

    @property
    def database(self) -> Path:
        return self.data_dir / "stoker.db"

    @property
    def admin_key(self) -> Path:
        """The key made at the first start, which the command line on this machine finds."""
        return self.data_dir / "admin-key"

    @property
    def master_key(self) -> Path:
        """What secrets are encrypted under, unless the environment brings it."""
        return self.data_dir / "master-key"

    @property
    def key_files(self) -> tuple[Path, ...]:
        """The files without which the records are of no use, or of less: a backup has them too."""
        return (self.admin_key, self.master_key, self.signing_key)

    @property
    def signing_key(self) -> Path:
        """What the installation signs with, once it has."""
        return self.data_dir / "signing-key"

    @property
    def address(self) -> Path:
        """The URL that the running Stoker answers at, for the command line on this machine."""
        return self.data_dir / "address"

    @property
    def certificate(self) -> Path:
        """The certificate shown at that address, if it is one of TLS, for the command line on this machine."""
        return self.data_dir / "address.pem"

    @property
    def settings(self) -> Path:
        return self.data_dir / "stoker.yaml"

    @property
    def workers(self) -> Path:
        return self.data_dir / "workers"

    @property
    def requests(self) -> Path:
        """Facts of single requests, one folder for each endpoint."""
        return self.data_dir / "requests"

    @property
    def models(self) -> Path:
        """What models are made of, as far as Stoker has fetched it."""
        return self.data_dir / "models"

    @property
    def table(self) -> Path:
        """The gateway's last table."""
        return self.data_dir / "table.json"

    @property
    def attempts(self) -> Path:
        """Answers to attempts of tasks that are not acknowledged yet, a folder for each gateway."""
        return self.data_dir / "attempts"

    @property
    def tasks(self) -> Path:
        """Bodies of tasks that are too large for the database."""
        return self.data_dir / "tasks"

    @property
    def streams(self) -> Path:
        """What workers that ask for tasks have put out so far."""
        return self.data_dir / "streams"

    def attempts_socket(self, incarnation: str) -> Path:
        """The internal listener of one gateway."""
        return self.run / f"a-{incarnation[:6]}.sock"

    @property
    def run(self) -> Path:
        """The folder of the Unix sockets: below the data folder, unless its path is too long for a socket's address."""
        inside = self.data_dir / "run"
        if len(os.fsencode(inside)) <= _SOCKET_FOLDER_CHARS_MAX:
            return inside
        digest = hashlib.sha256(os.fsencode(self.data_dir)).hexdigest()[:16]
        return Path(tempfile.gettempdir()) / f"stoker-{os.getuid()}-{digest}"

    @property
    def handover_socket(self) -> Path:
        """Where the newest gateway takes connections over from the one before it."""
        return self.run / "handover.sock"

    @property
    def upgrade(self) -> Path:
        """What became of the last upgrade of the gateway."""
        return self.run / "upgrade"

    @property
    def control_socket(self) -> Path:
        """Control's HTTP faces."""
        return self.run / "control.sock"

    @property
    def link_socket(self) -> Path:
        """Control's end of the link."""
        return self.run / "link.sock"
