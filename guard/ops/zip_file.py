"""One ZIP archive, written once: it is there whole under its name, or not at all."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from hashlib import file_digest, sha256
from pathlib import Path
from types import TracebackType
from typing import Final
from zipfile import ZIP_DEFLATED, ZipFile, ZipInfo

from ..audit.files import sync_directory
from ..errors import AuditFault

__all__ = ["ZipWriter", "digest_of"]

# The same entries make the same archive: no time, and no owner, of the machine gets in.
_TIME: Final = (1980, 1, 1, 0, 0, 0)
_MODE: Final = 0o100600 << 16  # a file, for its owner only


class ZipWriter:
    """Files in the order in which they come, with their digests; use as a context."""

    def __init__(self, target: Path) -> None:
        self.digests: dict[str, str] = {}
        self._target = target
        self._unfinished = target.with_name(f".{target.name}.{os.getpid()}.part")

    def __enter__(self) -> ZipWriter:
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        if self._target.exists() or self._target.is_symlink():
            raise AuditFault(f"{self._target} is there already: name another file, or remove it")
        try:
            self._file = os.fdopen(os.open(self._unfinished, flags, 0o600), "w+b")
        except OSError as error:
            raise AuditFault(f"cannot write {self._target}: {error.strerror}") from error
        self._zip = ZipFile(self._file, "w", ZIP_DEFLATED, allowZip64=True)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:  # fmt: skip
        try:
            if isinstance(error, OSError):
                raise error
            if error is None:
                self._zip.close()
                self._file.flush()
                os.fsync(self._file.fileno())
                # `link` refuses what came there meanwhile, and `rename` would replace it.
                os.link(self._unfinished, self._target)
                sync_directory(self._target.parent)
        except OSError as fault:
            raise AuditFault(f"cannot write {self._target}: {fault.strerror}") from fault
        finally:
            for unfinished in (self._zip, self._file):
                with suppress(OSError, ValueError):  # it failed before, and is not kept
                    unfinished.close()
            self._unfinished.unlink(missing_ok=True)

    def add(self, name: str, data: bytes) -> None:
        """A file."""
        with self.open(name) as write:
            write(data)

    @contextmanager
    def open(self, name: str) -> Iterator[Callable[[bytes], None]]:
        """A file that is written piece by piece."""
        info = ZipInfo(name, _TIME)
        info.compress_type = ZIP_DEFLATED
        info.create_system = 3  # Unix, wherever it is written
        info.external_attr = _MODE
        digest = sha256()

        with self._zip.open(info, "w", force_zip64=True) as member:

            def write(data: bytes) -> None:
                digest.update(data)
                member.write(data)

            yield write
        self.digests[name] = digest.hexdigest()


def digest_of(path: Path) -> str:
    """SHA-256 of a file, in hex."""
    with path.open("rb") as file:
        return file_digest(file, "sha256").hexdigest()
