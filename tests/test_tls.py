"""Certificates: what a listener takes, and what this machine's own clients trust."""

from __future__ import annotations

import socket
import ssl
import threading
from pathlib import Path

import pytest
import trustme

from stoker import tls
from stoker.domain.errors import Invalid


def certificate(folder: Path, name: str = "elsewhere.test") -> tuple[str, str]:
    """A certificate with its chain, and its key, as files."""
    issued = trustme.CA().create_child_ca().issue_cert(name)
    for blob in issued.cert_chain_pems:
        blob.write_to_path(folder / "cert.pem", append=True)
    issued.private_key_pem.write_to_path(folder / "key.pem")
    return str(folder / "cert.pem"), str(folder / "key.pem")


def shake(server: ssl.SSLContext, client: ssl.SSLContext) -> str | None:
    """A handshake; the protocol that was agreed on."""
    ours, theirs = socket.socketpair()

    def serve() -> None:
        with theirs, server.wrap_socket(theirs, server_side=True, do_handshake_on_connect=False) as wrapped:
            try:
                wrapped.do_handshake()
            except ssl.SSLError:
                return

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        with ours, client.wrap_socket(ours) as wrapped:
            return wrapped.selected_alpn_protocol()
    finally:
        thread.join()


def test_a_client_that_knows_the_certificate_trusts_it_whatever_its_name_and_no_other(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    cert, key = certificate(tmp_path / "one")
    known = tmp_path / "known.pem"
    known.write_text(tls.own_certificate(cert))
    assert known.read_text().count("BEGIN CERTIFICATE") == 1 < Path(cert).read_text().count("BEGIN CERTIFICATE")
    client = tls.pinned(known)
    client.set_alpn_protocols(["h2", "http/1.1"])
    assert shake(tls.listening(cert, key), client) == "http/1.1"
    with pytest.raises(ssl.SSLCertVerificationError):
        shake(tls.listening(*certificate(tmp_path / "two")), tls.pinned(known))


def test_a_certificate_that_cannot_be_used_is_told(tmp_path: Path) -> None:
    cert, key = certificate(tmp_path)
    with pytest.raises(Invalid, match=r"missing\.pem"):
        tls.listening(cert, str(tmp_path / "missing.pem"))
    with pytest.raises(Invalid, match="cannot be used"):
        tls.listening(key, cert)


def test_a_key_with_a_password_is_refused_rather_than_asked_about(tmp_path: Path) -> None:
    from cryptography.hazmat.primitives import serialization

    cert, key = certificate(tmp_path)
    loaded = serialization.load_pem_private_key(Path(key).read_bytes(), None)
    locked = loaded.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.BestAvailableEncryption(b"secret")
    )
    Path(key).write_bytes(locked)
    with pytest.raises(Invalid, match="password"):
        tls.listening(cert, key)
