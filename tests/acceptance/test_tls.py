"""`stoker up` with a certificate: one public port, and it speaks TLS."""

from __future__ import annotations

import json
import ssl
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from pathlib import Path

import pytest
import trustme

from acceptance.installation import Installation, until

pytestmark = pytest.mark.process


def test_the_public_port_speaks_tls_and_the_command_line_finds_it(installation: Installation, tmp_path: Path) -> None:
    authority = trustme.CA()
    issued = authority.issue_cert("127.0.0.1", "stoker.test")
    issued.cert_chain_pems[0].write_to_path(tmp_path / "cert.pem")
    issued.private_key_pem.write_to_path(tmp_path / "key.pem")
    installation.start("--tls-cert", str(tmp_path / "cert.pem"), "--tls-key", str(tmp_path / "key.pem"))
    until(lambda: installation.run("ls", "--json").returncode == 0, what="Stoker")
    assert json.loads(installation.run("ls", "--json").stdout) is not None
    until(lambda: f"ready at https://127.0.0.1:{installation.port}" in installation.log.read_text(), what="the word")
    context = ssl.create_default_context()
    authority.configure_trust(context)
    secure = HTTPSConnection("127.0.0.1", installation.port, timeout=60, context=context)
    secure.request("GET", "/healthz")
    assert secure.getresponse().status == 200
    secure.close()
    plain = HTTPConnection("127.0.0.1", installation.port, timeout=60)
    plain.request("GET", "/healthz")
    with pytest.raises((HTTPException, OSError)):
        plain.getresponse()
    plain.close()
    assert installation.interrupt() == 0


def test_a_certificate_without_its_key_is_refused_at_once(installation: Installation, tmp_path: Path) -> None:
    ended = installation.run("up", "--tls-cert", str(tmp_path / "cert.pem"))
    assert (ended.returncode, "tls_key" in ended.stderr) == (2, True)
    ended = installation.run("up", "--tls-cert", str(tmp_path / "no.pem"), "--tls-key", str(tmp_path / "no.key"))
    assert ended.returncode != 0
    assert "no.pem" in ended.stderr
