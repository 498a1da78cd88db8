"""Plays many requests made up from the dialects' own descriptions: `python bench/fuzz.py [gcore] [--examples 500]`.

Against a real `stoker up` for each cloud; ends with the first request that meets a fault of ours, or is answered
otherwise than described, and says how to send it again. Else prints how each operation was answered.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from clients import fuzzing
from clients.exoscale import running as exoscale
from clients.gcore import running as gcore
from clients.novita import running as novita
from clients.yotta import running as yotta

# Where the description is, and where its paths begin.
FACES = {
    "exoscale": ("/exoscale/v2/openapi.json", "/exoscale"),
    "gcore": ("/gcore/cloud/openapi.json", "/gcore"),
    "novita": ("/novita/gpu-instance/openapi/v1/openapi.json", "/novita"),
    "yotta": ("/yotta/v2/openapi.json", "/yotta"),
}
Running = AbstractContextManager[exoscale.Stoker | gcore.Stoker | novita.Stoker | yotta.Stoker]
RUNNING: dict[str, Callable[[Path], Running]] = {
    "exoscale": exoscale.running,
    "gcore": gcore.running,
    "novita": novita.running,
    "yotta": yotta.running,
}


def play(cloud: str, *, examples: int, seed: int | None) -> fuzzing.Played:
    """Ask for everything of one cloud's API so many times."""
    description, base = FACES[cloud]
    with tempfile.TemporaryDirectory() as folder, RUNNING[cloud](Path(folder)) as stoker:
        return fuzzing.play(stoker, description, base, examples=examples, known=stoker.fill(), seeded=seed)


def main() -> None:
    """Read the arguments, play, and say what came of it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("clouds", nargs="*", choices=[[], *FACES], default=[], help="all of them, if none is named")
    parser.add_argument("--examples", type=int, default=500, help="requests for each operation")
    parser.add_argument("--seed", type=int, help="the same requests again")
    given = parser.parse_args()
    for cloud in given.clouds or FACES:
        begun = time.monotonic()
        answers = play(cloud, examples=given.examples, seed=given.seed).answers
        for operation in sorted({operation for operation, _ in answers}):
            shown = ", ".join(
                f"{count} x {status}" for (of, status), count in sorted(answers.items()) if of == operation
            )
            sys.stdout.write(f"{cloud:9} {operation:32} {shown}\n")
        sys.stdout.write(f"{cloud}: {answers.total()} requests in {time.monotonic() - begun:.0f} s, all as described\n")


if __name__ == "__main__":
    main()
