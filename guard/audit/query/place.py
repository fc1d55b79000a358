"""Where the index of a log is, and the key by which its owner knows it again.

The key is the user's own, so that nobody who may write the log, but is not that user, can put an
index there that the user would believe.
"""

from __future__ import annotations

import os
import secrets
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import Final

from ...errors import AuditFault
from ..files import make_directory, read_small

__all__ = ["index_key", "index_place"]

KEY_BYTES: Final = 32


def index_place(log: Path, chosen: Path | None = None) -> Path:
    """`index` in a log of this user, or a directory of the user's cache; made where it lacks."""
    where = chosen or (
        log / "index" if _is_own(log)
        else _cache() / "index" / sha256(os.fsencode(log.resolve())).hexdigest()[:16]
    )  # fmt: skip
    try:
        make_directory(where)
    except OSError as error:
        raise AuditFault(
            f"cannot make an index in {where}: {error.strerror}; name a directory with --index"
        ) from error
    return where


def index_key() -> bytes:
    """The key of this user, made when it is first needed; raises AuditFault."""
    path = _cache() / "index.key"
    try:
        make_directory(path.parent)
        with suppress(FileExistsError):
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            descriptor = os.open(path, flags, 0o600)
            try:
                os.write(descriptor, secrets.token_bytes(KEY_BYTES))
            finally:
                os.close(descriptor)
        key = read_small(path, KEY_BYTES)
    except OSError as error:
        raise AuditFault(
            f"cannot keep the key of the index in {path}: {error.strerror}; "
            "set XDG_CACHE_HOME to a directory of yours, or ask with --no-index"
        ) from error
    if len(key) != KEY_BYTES:
        raise AuditFault(f"{path} is not a key of {KEY_BYTES} bytes: remove it, and ask again")
    return key


def _is_own(log: Path) -> bool:
    try:
        return log.stat().st_uid == os.getuid() and os.access(log, os.W_OK)
    except OSError as error:
        raise AuditFault(
            f"no audit log at {log} ({error.strerror}): name its directory with --dir"
        ) from error


def _cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "stepguard"
