"""The files of a log: how they are named, listed, read line by line and replaced.

The layout is described in docs/audit-format.md.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Final

import msgspec

from ..errors import AuditFault, LogCorrupt
from .entry import ENTRY_BYTES_MAX
from .inflate import Broken, inflated_beside

__all__ = [
    "CHECKPOINT",
    "COSIGNED",
    "EXCERPT",
    "HISTORY",
    "LINE_BYTES_MAX",
    "MEMBER_LINES",
    "SEQUENCER_LOCK",
    "SPOOL",
    "STATE",
    "Segment",
    "TAKEN",
    "VKEY",
    "WRITER_LOCK",
    "encrypted_of",
    "lines_of",
    "make_directory",
    "read_small",
    "replace_file",
    "segments_of",
    "sync_directory",
    "write_whole",
]

CHECKPOINT: Final = "checkpoint"
HISTORY: Final = "checkpoints"
COSIGNED: Final = "cosigned"
VKEY: Final = "log.vkey"
STATE: Final = "state"
SEQUENCER_LOCK: Final = "sequencer.lock"
EXCERPT: Final = "excerpt"
SPOOL: Final = "spool"
WRITER_LOCK: Final = "lock"
TAKEN: Final = "taken"
LINE_BYTES_MAX: Final = ENTRY_BYTES_MAX + 1
# Lines in one gzip member of a sealed segment: one C2SP entry bundle.
MEMBER_LINES: Final = 256
_SEGMENT: Final = re.compile(r"records-([0-9]{20})\.jsonl(?:\.gz)?")
_ENCRYPTED: Final = re.compile(r"records-([0-9]{20})\.jsonl\.gz\.age")
_OLD_LOG: Final = re.compile(r"log-[0-9]{2}")
_READ_BYTES: Final = 1 << 18


class Segment(msgspec.Struct, frozen=True, order=True):
    """The entries from `first` on, live or sealed."""

    first: int
    directory: Path

    @property
    def live(self) -> Path:
        """Where they are while they are written."""
        return self.directory / f"records-{self.first:020}.jsonl"

    @property
    def sealed(self) -> Path:
        """Where they are once compressed."""
        return self.directory / f"records-{self.first:020}.jsonl.gz"

    @property
    def encrypted(self) -> Path:
        """Where they are once encrypted; who reads the log passes over them."""
        return self.directory / f"records-{self.first:020}.jsonl.gz.age"

    @property
    def about(self) -> Path:
        """Beside an encrypted one: what its entries say about the log itself, in clear."""
        return self.directory / f"records-{self.first:020}.about"

    @property
    def path(self) -> Path:
        """Where they are now. With both, a crash came between: the live one counts."""
        return self.live if self.live.exists() else self.sealed


def segments_of(log: Path) -> list[Segment]:
    """The segments of a log, in order; raises AuditFault when there is no such directory."""
    try:
        names = [path.name for path in log.iterdir()]
    except OSError as error:
        raise AuditFault(
            f"no audit log at {log} ({error.strerror}): name its directory with --dir"
        ) from error
    if any(_OLD_LOG.fullmatch(name) for name in names):
        raise AuditFault(
            f"{log} holds logs of an earlier version (log-00): keep it, and name a new directory"
        )
    matches = [_SEGMENT.fullmatch(name) for name in names]
    return [Segment(first, log) for first in sorted({int(m[1]) for m in matches if m})]


def encrypted_of(log: Path) -> list[Segment]:
    """The segments of a log that are there in encrypted form alone, in order."""
    matches = [_ENCRYPTED.fullmatch(path.name) for path in log.iterdir()]
    found = [Segment(int(match[1]), log) for match in matches if match]
    return sorted(segment for segment in found if not segment.path.exists())


def lines_of(path: Path) -> Iterator[bytes]:
    """The lines of a segment with their newline; what is longer than an entry comes in pieces.

    Raises LogCorrupt where a sealed segment cannot be decompressed.
    """
    chunks = _inflated(path) if path.suffix == ".gz" else _read(path)
    rest = b""
    for chunk in chunks:
        lines = BytesIO(rest + chunk).readlines()
        rest = b"" if lines[-1].endswith(b"\n") else lines.pop()
        yield from lines
        while len(rest) > LINE_BYTES_MAX:
            yield rest[:LINE_BYTES_MAX]
            rest = rest[LINE_BYTES_MAX:]
    if rest:
        yield rest


def _read(path: Path) -> Iterator[bytes]:
    with path.open("rb", buffering=0) as file:
        while chunk := file.read(_READ_BYTES):
            yield chunk


def _inflated(path: Path) -> Iterator[bytes]:
    try:
        yield from inflated_beside(path)
    except Broken as error:
        raise LogCorrupt(f"{path.name}: {error}") from error


def read_small(path: Path, bytes_max: int) -> bytes:
    """A whole file, cut one byte after `bytes_max`."""
    with path.open("rb") as file:
        return file.read(bytes_max + 1)


def write_whole(descriptor: int, data: bytes) -> None:
    """Write all of `data`; raises OSError, with an unknown part of it written."""
    written = os.write(descriptor, data)
    while written < len(data):
        data = data[written:]
        written = os.write(descriptor, data)


def replace_file(path: Path, data: bytes) -> None:
    """Put `data` in the place of a file so that a reader, or a crash, sees the old or the new."""
    # One name for all times: only the holder of the lock writes, and a crash leaves one at most.
    temporary = path.with_name(f".{path.name}.new")
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(temporary, flags, 0o600)
    try:
        try:
            write_whole(descriptor, data)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_directory(path.parent)


def make_directory(path: Path) -> None:
    """Make a private directory, and private ones above it where they lack; raises OSError."""
    try:
        path.mkdir(mode=0o700)
    except FileNotFoundError:
        make_directory(path.parent)
        path.mkdir(mode=0o700, exist_ok=True)
    except FileExistsError:
        if not path.is_dir():
            raise


def sync_directory(directory: Path) -> None:
    """Make the names in a directory durable."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
