"""The installation's own key: made once, kept, and checked by what anybody would check it with."""

from __future__ import annotations

import asyncio
import base64
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from stoker.control.signing import Signing
from stoker.domain.errors import Invalid


def test_what_it_signs_is_checked_with_its_public_key_and_its_certificate(tmp_path: Path) -> None:
    key = asyncio.run(Signing(tmp_path / "signing-key").key())
    public = serialization.load_pem_public_key(key.public_pem.encode())
    assert isinstance(public, rsa.RSAPublicKey)
    public.verify(base64.b64decode(key.sign("text")), b"text", padding.PKCS1v15(), hashes.SHA256())
    certificate = x509.load_pem_x509_certificate(key.certificate.encode())
    assert certificate.public_key() == public
    assert certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca


def test_the_key_is_made_once_for_its_owner_alone_and_found_again(tmp_path: Path) -> None:
    path = tmp_path / "signing-key"

    async def main() -> tuple[str, str, str]:
        signing = Signing(path)
        first, second = await asyncio.gather(signing.key(), signing.key())
        again = await Signing(path).key()
        return first.public_pem, second.public_pem, again.public_pem

    assert len(set(asyncio.run(main()))) == 1
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_file_that_is_no_key_is_told_of_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "signing-key"
    path.write_text("not a key")
    with pytest.raises(Invalid, match="cannot be read"):
        asyncio.run(Signing(path).key())
    assert path.read_text() == "not a key"
