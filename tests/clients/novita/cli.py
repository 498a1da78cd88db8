"""Runs Novita's own command line against another address than the one that is written into it: nothing else is changed.

With `api` in place of a command, it calls a method of the client that the command line is made of.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
from typing import Any

client: Any = importlib.import_module("novita_cli.core.client")
client.BASE_URL = os.environ["NOVITA_TEST_URL"]
if sys.argv[1] == "api":
    try:
        answer = getattr(client.NovitaClient(), sys.argv[2])(*json.loads(sys.argv[3]))
    except client.NovitaError as exc:
        sys.exit(str(exc))
    sys.stdout.write(json.dumps(answer))
else:
    command_line: Any = importlib.import_module("novita_cli.novita_cli")
    command_line.main()
