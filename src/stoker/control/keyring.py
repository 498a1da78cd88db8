"""Master keys: what everything secret in the store is encrypted under, by AES-256-GCM.

The first one encrypts; the others are those that a rotation has not finished with. They lie in a file of the data
folder (0600) or come with `STOKER_MASTER_KEY`. Nothing here logs.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import os
import threading
from collections.abc import Callable, Mapping
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from stoker import key_files
from stoker.domain.access import Sealed
from stoker.domain.errors import Conflict, Invalid, Unavailable
from stoker.settings import MASTER_KEY_VARIABLE

KEY_BYTES = 32
NONCE_BYTES = 12
KEYS_MAX = 8
VARIABLE = MASTER_KEY_VARIABLE
_VERSION = "1."


class Keyring:
    """See the module. Made by `open_file`, `of_text` or `fresh`. Safe to use from several threads."""

    def __init__(self, keys: list[bytes], save: Callable[[list[bytes]], None] | None) -> None:
        """`save` keeps the keys, the current one first; `None` when that is somebody else's business."""
        if not 1 <= len(keys) <= KEYS_MAX or any(len(key) != KEY_BYTES for key in keys):
            raise Invalid(f"a master key is {KEY_BYTES} random bytes in base64, and there are at most {KEYS_MAX}")
        self._keys = list(keys)
        self._save = save
        self._lock = threading.Lock()
        # Keys that were dropped still open what was read before: until the end of this process.
        self._ciphers = {id_of(key): AESGCM(key) for key in keys}
        self._proofs = list(keys)

    @property
    def current(self) -> str:
        """The id of the key that encrypts."""
        return id_of(self._keys[0])

    @property
    def old(self) -> tuple[str, ...]:
        """The ids of keys that something may still be encrypted under."""
        return tuple(id_of(key) for key in self._keys[1:])

    @property
    def external(self) -> bool:
        """Do the keys come from the environment, where only the operator can change them?"""
        return self._save is None

    def knows(self, key: str) -> bool:
        """Can it open what is sealed by this key?"""
        return key in self._ciphers

    def seal(self, plain: str, place: str) -> Sealed:
        """Encrypt. What is sealed for one `place` (kind and id of its row) opens at no other."""
        with self._lock:
            by = self.current
            cipher = self._ciphers[by]
        nonce = os.urandom(NONCE_BYTES)
        data = nonce + cipher.encrypt(nonce, plain.encode(), place.encode())
        return Sealed(text=_VERSION + base64.b64encode(data).decode(), by=by)

    def open(self, sealed: Sealed, place: str) -> str:
        """Decrypt. Raises `Unavailable` when its key is not here or it was tampered with."""
        cipher = self._ciphers.get(sealed.by)
        if cipher is None:
            raise Unavailable(f"this is encrypted under the master key {sealed.by}, which is not here")
        try:
            data = base64.b64decode(sealed.text.removeprefix(_VERSION), validate=True)
            return cipher.decrypt(data[:NONCE_BYTES], data[NONCE_BYTES:], place.encode()).decode()
        except (InvalidTag, ValueError) as exc:
            raise Unavailable(f"what is stored as the secret of {place} is not what was encrypted") from exc

    def token(self, place: str) -> str:
        """A credential for `place`, the same whenever it is asked for under the same master key."""
        return _token(self._keys[0], place)

    def proves(self, token: str, place: str) -> bool:
        """Is it one for `place`, under any master key that was here since this process began?"""
        given = token.encode("utf-8", "replace")
        return any(hmac.compare_digest(_token(key, place).encode(), given) for key in self._proofs)

    def renew(self) -> str:
        """Make a new key the current one, kept before it is used; the id of the one before. Touches the disk."""
        if self._save is None:
            raise Conflict(f"the master key comes from {VARIABLE}: put a new one before it, separated by a comma")
        if len(self._keys) >= KEYS_MAX:
            raise Conflict("earlier rotations of the master key have not ended")
        before, key = self.current, os.urandom(KEY_BYTES)
        self._save([key, *self._keys])
        with self._lock:
            self._ciphers[id_of(key)] = AESGCM(key)
            self._proofs.append(key)
            self._keys.insert(0, key)
        return before

    def forget_old(self) -> None:
        """Nothing is encrypted under the old keys any more. Touches the disk."""
        if self._save is not None and len(self._keys) > 1:
            self._save(self._keys[:1])
            with self._lock:
                del self._keys[1:]


def _token(key: bytes, place: str) -> str:
    digest = hmac.new(key, b"stoker token\0" + place.encode(), hashlib.sha256).digest()
    return base64.urlsafe_b64encode(digest).decode().rstrip("=")


def id_of(key: bytes) -> str:
    """A name for a master key that says nothing of it."""
    return hashlib.sha256(b"stoker master key\0" + key).hexdigest()[:16]


def fresh() -> Keyring:
    """One that is kept nowhere: for tests."""
    kept: list[bytes] = []
    return Keyring([os.urandom(KEY_BYTES)], kept.extend)


def of_text(text: str) -> Keyring:
    """Of the environment's variable: keys in base64, the current one first, separated by commas. Raises `Invalid`."""
    return Keyring(_parse(text.split(","), VARIABLE), None)


def open_file(path: Path) -> Keyring:
    """Of a file, made with a new key when there is none. Raises `Invalid` for one that cannot be read."""
    if not path.exists():
        _write(path, [os.urandom(KEY_BYTES)])
    try:
        text = path.read_text(encoding="ascii")
    except (OSError, UnicodeDecodeError) as exc:
        raise Invalid(f"the master key {path} cannot be read: {exc}") from exc
    return Keyring(_parse(text.split(), str(path)), lambda keys: _write(path, keys))


def opened(path: Path, environ: Mapping[str, str]) -> Keyring:
    """Of the environment if it has any, else of the file."""
    text = environ.get(VARIABLE)
    return of_text(text) if text else open_file(path)


def _parse(texts: list[str], source: str) -> list[bytes]:
    try:
        return [base64.b64decode(text.strip(), validate=True) for text in texts if text.strip()]
    except binascii.Error as exc:
        raise Invalid(f"{source} has a master key that is not base64") from exc


def _write(path: Path, keys: list[bytes]) -> None:
    key_files.write(path, b"".join(base64.b64encode(key) + b"\n" for key in keys))
