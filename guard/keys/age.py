"""Files encrypted to public keys in the age format, https://c2sp.org/age; `age -d` reads them.

Whoever encrypts needs the recipient only (`age1...`): the process that writes the log cannot read
what it has put away. The library is pyrage, in the extra `encryption`.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

from ..errors import AuditFault, ConfigError

__all__ = ["decrypt", "encrypt", "identities_in", "new_identity", "recipients_from"]


def recipients_from(texts: Sequence[str]) -> list[Any]:
    """The public keys; raises ConfigError for what is none."""
    if not texts:
        return []
    pyrage = _library()
    found = []
    for number, text in enumerate(texts):
        try:
            found.append(pyrage.x25519.Recipient.from_str(text))
        except pyrage.RecipientError as error:
            raise ConfigError(
                f"recipient {number} of encrypt_to is no public key: expected `age1...`, as "
                "`guard audit new-identity` or age-keygen prints it"
            ) from error
    return found


def new_identity(path: Path) -> str:
    """Write a new private key into a file of its owner; its recipient. Raises AuditFault."""
    identity = _library().x25519.Identity.generate()
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        with os.fdopen(os.open(path, flags, 0o600), "w") as file:
            file.write(f"# public key: {identity.to_public()}\n{identity}\n")
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise AuditFault(f"cannot write {path}: {error.strerror}") from error
    return str(identity.to_public())


def identities_in(path: Path) -> list[Any]:
    """The private keys in a file, as age-keygen writes it; raises ConfigError or AuditFault."""
    pyrage = _library()
    try:
        lines = path.read_text().split("\n")
        keys = [line.strip() for line in lines if line.strip() and not line.startswith("#")]
        if keys:
            return [pyrage.x25519.Identity.from_str(key) for key in keys]
    except OSError as error:
        raise AuditFault(f"cannot read {path}: {error.strerror}") from error
    except (pyrage.IdentityError, UnicodeDecodeError) as error:
        raise _no_identity(path) from error
    raise _no_identity(path)


def encrypt(source: IO[bytes], target: IO[bytes], recipients: Sequence[Any]) -> None:
    """Write what `source` holds to `target`, for these recipients; raises OSError."""
    _library().encrypt_io(source, target, recipients)


def decrypt(source: IO[bytes], target: IO[bytes], identities: Sequence[Any]) -> None:
    """Write what was encrypted in `source` to `target`; raises AuditFault for another key, or where
    a byte was changed."""
    pyrage = _library()
    try:
        pyrage.decrypt_io(source, target, identities)
    except (pyrage.DecryptError, OSError) as error:
        raise AuditFault(
            f"{Path(str(source.name)).name} cannot be decrypted: it was encrypted for another "
            "identity, or it was changed"
        ) from error


def _no_identity(path: Path) -> ConfigError:
    return ConfigError(f"{path} is no identity: expected a line `AGE-SECRET-KEY-1...`")


def _library() -> Any:
    try:
        import pyrage
    except ImportError as error:
        raise ConfigError(
            "encrypted segments need the extra: pip install 'stepguard[encryption]'"
        ) from error
    return pyrage
