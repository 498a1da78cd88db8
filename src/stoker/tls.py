"""TLS of the public port: what the gateway speaks there, and what this machine's own clients trust.

No sockets. Called by the gateway, the supervisor and the command line.
"""

from __future__ import annotations

import ssl
from pathlib import Path

from stoker.domain.errors import Invalid

_END = "-----END CERTIFICATE-----"


def listening(cert: str, key: str) -> ssl.SSLContext:
    """What a listener with this certificate speaks: HTTP/1.1 over TLS 1.2 or newer. Raises `Invalid`."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    try:
        context.load_cert_chain(cert, key, password=_no_password)
    except (OSError, ValueError) as exc:
        raise Invalid(f"the certificate {cert} with the key {key} cannot be used: {exc}") from exc
    return context


def _no_password() -> str:
    # OpenSSL would ask at the terminal, which a service does not have.
    raise ValueError("the key has a password")


def own_certificate(cert: str) -> str:
    """The certificate itself out of a file that may hold its chain as well, as text."""
    text = Path(cert).read_text(encoding="ascii", errors="replace")
    return text[: text.index(_END) + len(_END)] + "\n"


def pinned(certificate: Path) -> ssl.SSLContext:
    """What a client speaks that knows the very certificate and so asks for no name in it. Raises `OSError`."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    # The certificate itself is enough, whoever has signed it.
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    context.load_verify_locations(certificate)
    return context
