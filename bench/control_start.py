"""From `stoker up` to ready, in a fresh data folder and in one that was used; and where control spends its part.

`bench/control.py` starts it. The phases are measured in a process of their own, one after the other.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

READY_WITHIN_S = 60.0
# In this order: what a later one shares with an earlier one counts for the earlier.
GROUPS = (
    ("asyncio, uvloop", ("asyncio", "uvloop")),
    ("structlog", ("structlog",)),
    ("sqlalchemy", ("sqlalchemy",)),
    ("aiohttp", ("aiohttp",)),
    ("fastapi, pydantic", ("fastapi",)),
    ("uvicorn", ("uvicorn",)),
    ("cryptography", ("cryptography.fernet", "cryptography.hazmat.primitives.ciphers.aead")),
    ("Stoker: store", ("stoker.store.opening",)),
    ("Stoker: control", ("stoker.control.endpoints", "stoker.control.reconciler")),
    ("Stoker: faces", ("stoker.faces",)),
    ("Stoker: the rest", ("stoker.serving",)),
)


def up(folder: Path) -> dict[str, float]:
    """Seconds from the command to what it says."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    stoker = str(Path(sys.executable).with_name("stoker"))
    began = time.perf_counter()
    process = subprocess.Popen(
        [stoker, "up", "--data-dir", str(folder), "--port", str(port)],
        stderr=subprocess.PIPE,
        env={**os.environ, "STOKER_LOG_LEVEL": "info"},
        text=True,
    )
    found: dict[str, float] = {}
    assert process.stderr is not None
    try:
        for line in process.stderr:
            at = time.perf_counter() - began
            for said in ("gateway_serving", "gateway_connected", "control_ready", "stoker: ready at"):
                if said in line:
                    found.setdefault(said.removeprefix("stoker: ").removesuffix(" at"), at)
            if "stoker: ready at" in line or at > READY_WITHIN_S:
                break
    finally:
        process.send_signal(signal.SIGTERM)
        process.stderr.close()
        process.wait(60)
    return found


def phases(folder: Path) -> dict[str, float]:
    """What control does until it is ready, each in seconds. Runs once in a process."""
    found: dict[str, float] = {}
    last = time.perf_counter()

    def lap(name: str) -> None:
        nonlocal last
        found[name] = time.perf_counter() - last
        last = time.perf_counter()

    for name, modules in GROUPS:
        for module in modules:
            importlib.import_module(module)
        lap(f"import {name}")
    from stoker import serving
    from stoker.settings import read
    from stoker.store.opening import open_store
    from stoker.telemetry.logs import log_to_stderr

    settings = read(os.environ, data_dir=folder)
    log_to_stderr("error")
    lap("settings")

    async def run() -> None:
        store = await open_store(None, file=settings.paths.database, data_dir=folder)
        lap("open the store")
        async with serving.opened(settings, store) as stoker:
            lap("put together")
            await stoker.start()
            lap("load, look at what runs")
            stoker.faces()
            lap("faces")

    import uvloop

    uvloop.run(run())
    return found


def main() -> None:
    """Measure one part and print it as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("part", choices=("up", "phases"))
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    if options.part == "phases":
        sys.stdout.write(json.dumps(phases(options.data_dir)) + "\n")
        return
    with tempfile.TemporaryDirectory() as name:
        fresh = [up(Path(name) / f"d{index}") for index in range(options.rounds)]
        again = [up(Path(name) / f"d{index}") for index in range(options.rounds)]
        found: dict[str, dict[str, float]] = {
            "fresh": min(fresh, key=lambda each: each["ready"]),
            "again": min(again, key=lambda each: each["ready"]),
        }
        for which, folder in (("fresh", "phases"), ("again", "phases")):
            command = [sys.executable, __file__, "phases", "--data-dir", str(Path(name) / folder)]
            found[f"phases, {which}"] = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
    sys.stdout.write(json.dumps(found) + "\n")


if __name__ == "__main__":
    main()
