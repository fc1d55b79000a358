"""The key that signs checkpoints, its public half as text, and the key of commitments.

Private keys are files of one line, mode 0600. A signing key is written as Go's note package does,
`PRIVATE+KEY+<name>+<key id>+<base64(0x01 || seed)>`; a public key is a C2SP vkey,
`<name>+<key id>+<base64(0x01 || public key)>`. https://c2sp.org/signed-note
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import os
import re
import secrets
import stat
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar, Final, Self

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import (
    Ed25519PrivateKey,
    Ed25519PublicKey,
)

from ..errors import ConfigError

__all__ = ["KEY_ID_BYTES", "Mac", "Signer", "Verifier", "is_key_name"]

KEY_BYTES: Final = 32
KEY_ID_BYTES: Final = 4
ED25519: Final = b"\x01"  # the C2SP algorithm byte
# A key file is one line; whatever is longer is another file that was named by mistake.
KEY_FILE_BYTES_MAX: Final = 4_096
_PRIVATE_PREFIX: Final = "PRIVATE+KEY+"
_MAC_PREFIX: Final = "MAC+KEY+"
_NAME: Final = re.compile(r"[^\s+\x00-\x1f\x7f-\x9f]{1,200}")


class Verifier:
    """A named Ed25519 public key."""

    __slots__ = ("_public", "key_id", "name", "public_bytes")
    algorithm: ClassVar[bytes] = ED25519

    def __init__(self, name: str, public_bytes: bytes) -> None:
        self.name = name
        self.public_bytes = public_bytes
        named = name.encode() + b"\n" + self.algorithm + public_bytes
        self.key_id = hashlib.sha256(named).digest()[:KEY_ID_BYTES]
        self._public = Ed25519PublicKey.from_public_bytes(public_bytes)

    @classmethod
    def from_text(cls, text: str) -> Self:
        """The key of one vkey line; raises ConfigError."""
        try:
            name, key_id, encoded = text.strip("\r\n").split("+", 2)
            verifier = cls(name, _decode(encoded, cls.algorithm))
        except ValueError as error:
            raise ConfigError(
                "malformed public key: expected `<name>+<key id>+<base64>` as in log.vkey"
            ) from error
        if not is_key_name(name) or key_id != verifier.key_id.hex():
            raise ConfigError(
                "the key id of a public key does not belong to it: copy the whole line of log.vkey"
            )
        return verifier

    def __str__(self) -> str:
        encoded = base64.b64encode(self.algorithm + self.public_bytes).decode()
        return f"{self.name}+{self.key_id.hex()}+{encoded}"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Verifier) and str(self) == str(other)

    def __hash__(self) -> int:
        return hash(str(self))

    def is_signed(self, message: bytes, signature: bytes) -> bool:
        """Whether this key signed `message`."""
        try:
            self._public.verify(signature, message)
        except InvalidSignature:
            return False
        return True


class Signer:
    """Signs with Ed25519 under a name; `vkey` is what verifiers need."""

    __slots__ = ("_private", "name", "verifier")
    verifier_type: ClassVar[type[Verifier]] = Verifier

    def __init__(self, name: str, seed: bytes) -> None:
        if not is_key_name(name):
            raise ConfigError(
                "a key name is 1 to 200 characters without spaces and plus signs, such as `guard`"
            )
        self.name = name
        self._private = Ed25519PrivateKey.from_private_bytes(seed)
        self.verifier = self.verifier_type(name, self._private.public_key().public_bytes_raw())

    @classmethod
    def load_or_create(cls, path: Path | str, *, name: str = "guard/audit") -> Self:
        """The key of `path`, created with this name when there is none; raises ConfigError."""
        path = Path(path)
        line = _load_or_create(path, lambda: cls._new_line(name))
        try:
            found_name, key_id, encoded = line.removeprefix(_PRIVATE_PREFIX).split("+", 2)
            signer = cls(found_name, _decode(encoded, cls.verifier_type.algorithm))
        except ValueError as error:
            raise _malformed(path, "a private key as guard writes it") from error
        if not line.startswith(_PRIVATE_PREFIX) or key_id != signer.verifier.key_id.hex():
            raise _malformed(path, "a private key as guard writes it")
        return signer

    @property
    def vkey(self) -> str:
        """The public key as one line of text."""
        return str(self.verifier)

    def sign(self, message: bytes) -> bytes:
        """64 bytes."""
        return self._private.sign(message)

    @classmethod
    def _new_line(cls, name: str) -> str:
        seed = secrets.token_bytes(KEY_BYTES)
        verifier = cls(name, seed).verifier
        encoded = base64.b64encode(verifier.algorithm + seed).decode()
        return f"{_PRIVATE_PREFIX}{name}+{verifier.key_id.hex()}+{encoded}"


class Mac:
    """A secret for commitments: whoever lacks `key` cannot test a guess against one."""

    __slots__ = ("key",)

    def __init__(self, key: bytes) -> None:
        if len(key) != KEY_BYTES:
            raise ConfigError(f"a commitment key has {KEY_BYTES} bytes, this one {len(key)}")
        self.key = key

    @classmethod
    def load_or_create(cls, path: Path | str) -> Mac:
        """The key of `path`, created when there is none; raises ConfigError."""
        path = Path(path)
        line = _load_or_create(
            path, lambda: _MAC_PREFIX + base64.b64encode(secrets.token_bytes(KEY_BYTES)).decode()
        )
        try:
            key = base64.b64decode(line.removeprefix(_MAC_PREFIX), validate=True)
        except binascii.Error as error:
            raise _malformed(path, "a commitment key as guard writes it") from error
        if not line.startswith(_MAC_PREFIX) or len(key) != KEY_BYTES:
            raise _malformed(path, "a commitment key as guard writes it")
        return cls(key)

    def commit(self, data: bytes) -> str:
        """HMAC-SHA256 of `data` in hex."""
        return hmac.digest(self.key, data, "sha256").hex()


def is_key_name(text: str) -> bool:
    """Whether a signed note can carry this as the name of a key."""
    return _NAME.fullmatch(text) is not None


def _decode(encoded: str, algorithm: bytes) -> bytes:
    raw = base64.b64decode(encoded, validate=True)
    # Base64 has spare bits: only the canonical text of a key is that key.
    is_canonical = base64.b64encode(raw) == encoded.encode()
    if len(raw) != KEY_BYTES + 1 or raw[:1] != algorithm or not is_canonical:
        raise ValueError("not an Ed25519 key of this algorithm")
    return raw[1:]


def _malformed(path: Path, expected: str) -> ConfigError:
    return ConfigError(f"{path} is not {expected}: restore it, or move it away to create a new one")


def _load_or_create(path: Path, make: Callable[[], str]) -> str:
    """The one line of a private file; several processes may ask first at the same time."""
    try:
        line = _read_private(path)
        if line is None:
            _create_private(path, make())
            line = _read_private(path)
    except OSError as error:
        raise ConfigError(f"cannot read or create the key file {path}: {error.strerror}") from error
    if line is None:
        raise ConfigError(f"the key file {path} vanished while it was created")
    return line


def _read_private(path: Path) -> str | None:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError:
        return None
    try:
        state = os.fstat(descriptor)
        if not stat.S_ISREG(state.st_mode):
            raise ConfigError(f"the key file {path} is not a regular file")
        if state.st_mode & 0o077:
            raise ConfigError(
                f"the key file {path} has mode {state.st_mode & 0o777:04o}, so others can reach it:"
                f" expected 0600; run `chmod 600 {path}`, and replace the key if it was read"
            )
        content = os.read(descriptor, KEY_FILE_BYTES_MAX + 1)
    finally:
        os.close(descriptor)
    try:
        text = content.decode()
    except UnicodeDecodeError as error:
        raise _malformed(path, "a key file") from error
    return text.rstrip("\r\n")


def _create_private(path: Path, line: str) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        try:
            os.write(descriptor, line.encode() + b"\n")
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        try:
            # INVARIANT: a link never replaces: of two creators one wins, and both use its key.
            os.link(temporary, path)
        except FileExistsError:
            return
    finally:
        os.unlink(temporary)
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
