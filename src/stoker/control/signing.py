"""The installation's own RSA key: what it signs, others check with the public half.

The key lies in a file of the data folder (0600), made when it is first needed. Nothing here logs.
"""

from __future__ import annotations

import asyncio
import base64
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.x509.oid import NameOID

from stoker import key_files
from stoker.domain.errors import Invalid

KEY_BITS = 2048
YEARS = 20
_PRIVATE_END = b"-----END PRIVATE KEY-----\n"


@dataclass(frozen=True, slots=True)
class Key:
    """The key as it is used. `certificate` names it as an authority of its own."""

    private: rsa.RSAPrivateKey
    public_pem: str
    certificate: str

    def sign(self, text: str) -> str:
        """PKCS#1 v1.5 over SHA-256, in base64."""
        return base64.b64encode(self.private.sign(text.encode(), padding.PKCS1v15(), hashes.SHA256())).decode()


class Signing:
    """Has the key ready."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._key: Key | None = None
        self._making = asyncio.Lock()

    async def key(self) -> Key:
        """The key, made at the first time. Raises `Invalid` for a file that cannot be read."""
        async with self._making:
            if self._key is None:
                # To find large primes takes a while: the loop goes on meanwhile.
                self._key = await asyncio.to_thread(_opened, self._path)
            return self._key


def _opened(path: Path) -> Key:
    if not path.exists():
        key_files.write(path, _made())
    try:
        content = path.read_bytes()
        pem, end, certificate = content.partition(_PRIVATE_END)
        private = serialization.load_pem_private_key(pem + end, password=None)
        x509.load_pem_x509_certificate(certificate)
    except (OSError, ValueError) as exc:
        raise Invalid(f"the signing key {path} cannot be read: {exc}") from exc
    if not isinstance(private, rsa.RSAPrivateKey):
        raise Invalid(f"the signing key {path} is not one of RSA")
    public = private.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return Key(private, public.decode("ascii"), certificate.decode("ascii"))


def _made() -> bytes:
    """A new key and its certificate, in PEM."""
    private = rsa.generate_private_key(public_exponent=65_537, key_size=KEY_BITS)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Stoker")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(private.public_key())
        .serial_number(x509.random_serial_number())
        # Clocks of workers may be behind.
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=365 * YEARS))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(private.public_key()), critical=False)
        .sign(private, hashes.SHA256())
    )
    pem = private.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return pem + certificate.public_bytes(serialization.Encoding.PEM)
