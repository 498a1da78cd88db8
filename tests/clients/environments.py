"""Other clouds' clients, unmodified: an environment for each file of `requirements/clients/`, in `.venv/clients/`, and
the sources of those whose vendors' examples are run.

`make test` runs this as a program, which makes those that are missing or old; a test that is run alone makes its own.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
REQUIREMENTS = ROOT / "requirements" / "clients"
FOLDER = ROOT / ".venv" / "clients"
INSTALL_S_MAX = 300
# Only these have the vendors' own example programs.
SOURCES = {"gcore-0.59.0": "sha256:f6c2b452900fac3d779c679ae8d6cf3d19bbf4094e7fab0c5856989d56a09fc8"}


class NoClient(Exception):
    """The client is not installed and could not be."""


def names() -> list[str]:
    """The environments there can be: client and version, as in `exoscale-0.16.4`."""
    return sorted(path.stem for path in REQUIREMENTS.glob("*.txt"))


def interpreter(name: str) -> Path:
    """The Python of that environment, which is made when it is missing or its requirements have changed since. Raises
    `NoClient` when that cannot be done, as without a network.
    """
    requirements = REQUIREMENTS / f"{name}.txt"
    if not requirements.is_file():
        raise NoClient(f"there is no {requirements.relative_to(ROOT)}")
    folder = _made(name, requirements.read_bytes(), lambda folder: _install(requirements, folder))
    return folder / "bin" / "python"


def source(name: str) -> Path:
    """The unpacked source of one of `SOURCES`, which is fetched when it is missing. Raises `NoClient`."""
    folder = _made(f"{name}-source", SOURCES[name].encode(), lambda folder: _fetch(name, folder))
    return folder / name


def _made(name: str, content: bytes, make: Callable[[Path], None]) -> Path:
    """The folder of that name, made once for this content."""
    folder, mark = FOLDER / name, FOLDER / name / ".installed"
    # The interpreter is part of it: a new `.venv` may come with another Python.
    digest = hashlib.sha256(sys.version.encode() + content).hexdigest()
    FOLDER.mkdir(parents=True, exist_ok=True)
    # Processes of tests run side by side: one of them installs, the others wait for it.
    with open(FOLDER / f"{name}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not mark.is_file() or mark.read_text() != digest:
            shutil.rmtree(folder, ignore_errors=True)
            make(folder)
            mark.write_text(digest)
    return folder


def _install(requirements: Path, folder: Path) -> None:
    uv = Path(sys.executable).with_name("uv")
    _run([str(uv), "venv", "--quiet", "--python", sys.executable, str(folder)])
    options = ["--quiet", "--compile-bytecode", "--require-hashes", "--python", str(folder / "bin" / "python")]
    _run([str(uv), "pip", "sync", *options, str(requirements)])


def _fetch(name: str, folder: Path) -> None:
    package, _, version = name.rpartition("-")
    folder.mkdir()
    (folder / "source.txt").write_text(f"{package}=={version} --hash={SOURCES[name]}\n")
    options = ["--quiet", "--no-deps", "--no-binary", package, "--require-hashes", "--dest", str(folder)]
    _run([sys.executable, "-m", "pip", "download", *options, "-r", str(folder / "source.txt")])
    with tarfile.open(next(folder.glob("*.tar.gz"))) as archive:
        archive.extractall(folder, filter="data")


def _run(command: list[str]) -> None:
    # Without the settings of an environment that happens to be active.
    environ = {name: value for name, value in os.environ.items() if name not in ("VIRTUAL_ENV", "PYTHONPATH")}
    try:
        ended = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=INSTALL_S_MAX, check=False)
    except (OSError, subprocess.TimeoutExpired) as exc:
        raise NoClient(f"{command[0]}: {exc}") from exc
    if ended.returncode:
        raise NoClient(ended.stderr.strip()[-2_000:])


def main() -> None:
    """Make all of them. A machine without a network gets to its tests all the same, which say what they miss."""
    for make, found in ((interpreter, names()), (source, list(SOURCES))):
        for name in found:
            try:
                make(name)
            except NoClient as exc:
                sys.stderr.write(f"the client {name} could not be installed: {exc}\n")


if __name__ == "__main__":
    main()
