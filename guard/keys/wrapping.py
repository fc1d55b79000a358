"""Secrets wrapped by a master key (AES-256-GCM), and keys derived from secrets (HKDF-SHA256)."""

from __future__ import annotations

import secrets
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from ..errors import PrivacyFault

__all__ = ["KEY_BYTES", "NONCE_BYTES", "Wrapping", "derived"]

KEY_BYTES: Final = 32
NONCE_BYTES: Final = 12


class Wrapping:
    """Wraps secrets, each under its name: a wrapped one does not open under another name."""

    __slots__ = ("_cipher",)

    def __init__(self, key: bytes) -> None:
        self._cipher = AESGCM(key)

    def new(self, name: str, size_bytes: int) -> bytes:
        """A new random secret, wrapped."""
        nonce = secrets.token_bytes(NONCE_BYTES)
        return nonce + self._cipher.encrypt(nonce, secrets.token_bytes(size_bytes), name.encode())

    def unwrap(self, wrapped: bytes, name: str) -> bytes:
        """The secret; raises PrivacyFault when it was changed."""
        try:
            return self._cipher.decrypt(wrapped[:NONCE_BYTES], wrapped[NONCE_BYTES:], name.encode())
        except InvalidTag as error:
            raise PrivacyFault(
                f"the wrapped key of {name} was changed: restore the store from its backup"
            ) from error


def derived(secret: bytes, info: bytes) -> bytes:
    """A key of 32 bytes for one use of `secret`."""
    return HKDF(algorithm=SHA256(), length=KEY_BYTES, salt=None, info=info).derive(secret)
