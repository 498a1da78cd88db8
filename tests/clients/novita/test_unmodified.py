"""Novita's command line with nothing changed at all: it finds Stoker at its cloud's own host name, with TLS.

In a network and a view of files of its own, where that name leads to this machine: this needs root.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import trustme

from acceptance.installation import until
from clients.novita.running import IDLE, Stoker

pytestmark = [pytest.mark.process, pytest.mark.timeout(300)]
HOST = "api.novita.ai"


def test_the_program_as_it_is_works_at_its_own_address(tmp_path: Path, client_python: Callable[[str], Path]) -> None:
    _needs_namespaces()
    program = client_python("novita-0.1.0").with_name("novita")
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    issued = authority.issue_cert(HOST, "127.0.0.1")
    issued.cert_chain_pems[0].write_to_path(tmp_path / "cert.pem")
    issued.private_key_pem.write_to_path(tmp_path / "key.pem")
    (tmp_path / "hosts").write_text(f"127.0.0.1 localhost {HOST}\n")
    stoker = Stoker(tmp_path / "stoker")
    stoker.port = 443
    stoker.environ |= {"STOKER_VIRTUAL_GPUS": "[{family: l40s, count: 1}]"}
    stoker.environ |= {"STOKER_IMAGES": json.dumps({IDLE: {"command": ["sleep", "1000"]}})}
    up = stoker.command("up", "--port", "443", "--tls-cert", str(tmp_path / "cert.pem"), "--tls-key", "KEY")
    up[-1] = str(tmp_path / "key.pem")
    inside = f"ip link set lo up && mount --bind {tmp_path / 'hosts'} /etc/hosts && exec {shlex.join(up)}"
    with open(stoker.log, "ab") as log:
        stoker.process = subprocess.Popen(
            ["unshare", "--mount", "--net", "sh", "-c", inside], env=stoker.environ, stdout=log, stderr=log
        )
    environ = {
        "PATH": os.environ["PATH"],
        "REQUESTS_CA_BUNDLE": str(tmp_path / "ca.pem"),
    }

    def novita(*arguments: str) -> subprocess.CompletedProcess[str]:
        assert stoker.process is not None
        enter = ["nsenter", "--target", str(stoker.process.pid), "--mount", "--net"]
        return subprocess.run(
            [*enter, str(program), *arguments], env=environ, capture_output=True, text=True, timeout=60, check=False
        )

    try:
        until(lambda: "ready at https://" in stoker.log.read_text(), what="Stoker")
        environ["NOVITA_API_KEY"] = stoker.key
        made = novita("serverless", "create", "--image", IDLE, "--port", "8080", "--product-id", "1", "--name", "n1")
        assert made.returncode == 0, made.stderr
        id = made.stdout.split()[-1]
        listed = novita("serverless", "list")
        assert ("n1" in listed.stdout, "Total: 1" in listed.stdout) == (True, True), listed
        refused = novita("serverless", "get", "missing")
        assert (refused.returncode, "SERVERLESS_ENDPOINT_NOT_FOUND" in refused.stderr) == (1, True)
        assert "deleted" in novita("serverless", "delete", id).stdout
    finally:
        # It has no workers, and what is left of it is found by this folder.
        stoker.close()


def _needs_namespaces() -> None:
    missing = [tool for tool in ("unshare", "nsenter", "ip", "mount") if shutil.which(tool) is None]
    if not missing:
        tried = subprocess.run(["unshare", "--mount", "--net", "true"], capture_output=True, check=False)
        missing = [] if tried.returncode == 0 else ["the right to make namespaces"]
    if missing and os.environ.get("CI"):
        pytest.fail(f"needs {', '.join(missing)}")
    if missing:
        pytest.skip(f"needs {', '.join(missing)}")
