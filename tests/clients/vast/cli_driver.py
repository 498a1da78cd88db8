"""Runs in the environment of Vast.ai's own package, unmodified: its command line, once for each line of JSON on stdin.

Its imports take longer than all else, so they are done once; every command then has a process of its own, as typed. A
line is `[words, key]`, the answer `[stdout, stderr]`.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import tempfile
from typing import IO


def main() -> None:
    program = importlib.import_module("vastai.cli.main")
    for name in ("endpoints", "instances", "offers", "machines", "deployments", "benchmarks"):
        importlib.import_module(f"vastai.cli.commands.{name}")
    for line in sys.stdin:
        words, key = json.loads(line)
        with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
            child = os.fork()
            if not child:
                _run(program, words, key, out, err)
            os.waitpid(child, 0)
            answer = [_text(out), _text(err)]
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


def _run(program: object, words: list[str], key: str, out: IO[bytes], err: IO[bytes]) -> None:
    os.dup2(out.fileno(), 1)
    os.dup2(err.fileno(), 2)
    os.environ["VAST_API_KEY"] = key
    sys.argv = ["vastai", *words]
    try:
        program.main()  # type: ignore[attr-defined]
    except SystemExit:
        # What it ends with is what the command returned, which may be anything.
        pass
    except BaseException:  # noqa: BLE001
        importlib.import_module("traceback").print_exc()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


def _text(file: IO[bytes]) -> str:
    file.seek(0)
    return file.read().decode()


if __name__ == "__main__":
    main()
