"""A real Docker Engine for tests: a daemon of our own on a socket in a temporary folder, with an image made here.

It has a bridge of its own and touches no firewall, so that it disturbs neither another daemon nor the machine. Needs
root and Debian's docker.io, iproute2 and busybox-static (`make test` installs them).
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

IMAGE = "stoker-tests:1"
_STARTED_WITHIN_S = 30.0
_PROGRAMS = ("dockerd", "docker", "ip", "busybox")


class NoDocker(Exception):
    """There is none on this machine; says why."""


class Engine:
    """A running daemon. `host` is its address; `IMAGE` is a busybox, made of `archive`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._bridge = f"stk{os.getpid()}"
        self._process: subprocess.Popen[bytes] | None = None
        self.host = f"unix://{folder}/docker.sock"
        self._busybox = _programs()["busybox"]
        self._add_bridge()
        try:
            self.start()
            self._import()
        except BaseException:
            self.close()
            raise

    def _add_bridge(self) -> None:
        _run("ip", "link", "add", self._bridge, "type", "bridge")
        taken = json.loads(_run("ip", "-json", "address"))
        used = {address["local"].rsplit(".", 1)[0] for link in taken for address in link["addr_info"]}
        # From the range for tests of networks, where nobody lives.
        subnet = next(s for s in (f"198.18.{(os.getpid() + n) % 256}" for n in range(256)) if s not in used)
        # Where containers reach this machine.
        self.address = f"{subnet}.1"
        _run("ip", "address", "add", f"{self.address}/24", "dev", self._bridge)
        _run("ip", "link", "set", self._bridge, "up")

    def start(self) -> None:
        """Start it, until it answers."""
        folder = self._folder
        with (folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [
                    "dockerd",
                    f"--host={self.host}",
                    f"--data-root={folder}/data",
                    f"--exec-root={folder}/exec",
                    f"--pidfile={folder}/docker.pid",
                    f"--bridge={self._bridge}",
                    # Published ports on loopback need neither.
                    "--iptables=false",
                    "--ip6tables=false",
                    "--ip-masq=false",
                ],
                stdout=log,
                stderr=log,
                cwd="/",
                env={**os.environ, "TMPDIR": str(folder)},
            )
        deadline = time.monotonic() + _STARTED_WITHIN_S
        while subprocess.run(self._docker("version"), capture_output=True, check=False).returncode:
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise NoDocker(f"the daemon did not start: {(folder / 'log').read_text()[-2000:]}")
            time.sleep(0.05)

    def stop(self) -> None:
        """End it, and with it its containers."""
        if self._process is not None:
            self._process.send_signal(signal.SIGTERM)
            self._process.wait(60)
            self._process = None

    def freeze(self, *, stopped: bool) -> None:
        """Have it answer nobody, or everybody again."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP if stopped else signal.SIGCONT)
        # It is not told of at once on a busy machine, and what still runs may answer.
        deadline = time.monotonic() + _STARTED_WITHIN_S
        while self._stopped() is not stopped:
            if time.monotonic() > deadline:
                raise NoDocker("the daemon does not hear signals")
            time.sleep(0.005)

    def _stopped(self) -> bool:
        """Are all its threads?"""
        assert self._process is not None
        states = []
        for task in Path(f"/proc/{self._process.pid}/task").iterdir():
            with contextlib.suppress(OSError):
                states.append((task / "stat").read_text().rpartition(")")[2].split()[0])
        return all(state == "T" for state in states)

    def close(self) -> None:
        """End it, and take away what it leaves."""
        try:
            self.stop()
        finally:
            subprocess.run(["ip", "link", "delete", self._bridge], capture_output=True, check=False)

    def _import(self) -> None:
        root = self._folder / "root"
        (root / "bin").mkdir(parents=True)
        (root / "tmp").mkdir()
        # As in every real image; a file system in memory at its place takes the mode over.
        (root / "tmp").chmod(0o1777)
        shutil.copy(self._busybox, root / "bin" / "busybox")
        for name in _run(self._busybox, "--list").split():
            if name != "busybox":
                (root / "bin" / name).symlink_to("busybox")
        self.archive = Path(shutil.make_archive(str(self._folder / "image"), "tar", root))
        self.docker("import", str(self.archive), IMAGE)

    def tagged(self, name: str, *, path: str) -> str:
        """An image like `IMAGE` under another name, whose programs are found in `path`."""
        self.docker("import", f"--change=ENV PATH={path}", str(self.archive), name)
        return name

    def add_image(self, name: str, links: dict[str, str], **environ: str) -> None:
        """One of nothing but these links, which lead into what is mounted there, and an environment."""
        file = self._folder / "links.tar"
        with tarfile.open(file, "w") as archive:
            for path, target in links.items():
                link = tarfile.TarInfo(path)
                link.type, link.linkname = tarfile.SYMTYPE, target
                archive.addfile(link)
        changes = [f"--change=ENV {variable}={value}" for variable, value in environ.items()]
        self.docker("import", *changes, str(file), name)

    def docker(self, *arguments: str) -> str:
        """What Docker's own command line says."""
        return _run(*self._docker(*arguments))

    def inspect(self, name: str) -> dict[str, Any]:
        """A container in full."""
        found: dict[str, Any] = json.loads(self.docker("inspect", name))[0]
        return found

    def names(self) -> list[str]:
        """All containers there are."""
        return self.docker("ps", "--all", "--format", "{{.Names}}").split()

    def _docker(self, *arguments: str) -> list[str]:
        return ["docker", f"--host={self.host}", *arguments]


def _run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise NoDocker(f"{' '.join(command[:3])} failed: {done.stderr.strip()}")
    return done.stdout


def _programs() -> dict[str, str]:
    if sys.platform != "linux" or os.getuid() != 0:
        raise NoDocker("a daemon of our own needs Linux and root")
    found = {name: shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin") for name in _PROGRAMS}
    missing = [name for name, path in found.items() if path is None]
    if missing:
        raise NoDocker(f"not installed: {', '.join(missing)} (Debian: docker.io iproute2 busybox-static)")
    return {name: path for name, path in found.items() if path is not None}


@contextlib.contextmanager
def engine() -> Iterator[Engine]:
    """An engine for the time of the block. Raises `NoDocker`."""
    _programs()
    # Not below pytest's own folders: a socket's address is short.
    folder = Path(tempfile.mkdtemp(prefix="stoker-docker-"))
    try:
        started = Engine(folder)
        try:
            yield started
        finally:
            started.close()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
