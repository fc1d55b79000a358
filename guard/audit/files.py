"""The files of a log: how they are named, listed, read line by line and replaced.

The layout is described in docs/audit-format.md.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import msgspec

from ..errors import AuditFault, LogCorrupt
from .entry import ENTRY_BYTES_MAX
from .inflate import HASH_BYTES, Broken, hashed_beside, lines_in

__all__ = [
    "CHECKPOINT",
    "COSIGNED",
    "EXCERPT",
    "HISTORY",
    "HashedLines",
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
    found = [Segment(first, log) for first in sorted({int(m[1]) for m in matches if m})]
    # A pipe in the place of a segment would hold up its reader for ever.
    return [segment for segment in found if not segment.path.is_fifo()]


def encrypted_of(log: Path) -> list[Segment]:
    """The segments of a log that are there in encrypted form alone, in order."""
    matches = [_ENCRYPTED.fullmatch(path.name) for path in log.iterdir()]
    found = [Segment(int(match[1]), log) for match in matches if match]
    return sorted(segment for segment in found if not segment.path.exists())


def lines_of(path: Path) -> Iterator[bytes]:
    """The lines of a segment with their newline; what is longer than an entry comes in pieces.

    Raises LogCorrupt where a sealed segment cannot be decompressed.
    """
    try:
        for lines in lines_in(path, LINE_BYTES_MAX):
            yield from lines
    except Broken as error:
        raise LogCorrupt(f"{path.name}: {error}") from error


class HashedLines:
    """The lines of a segment with their leaf hashes, made by another process where that pays.

    A line without newline has no hash: what stands for it is none. An error comes once all that was
    read before it has been taken.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._blocks = hashed_beside(path, LINE_BYTES_MAX)
        self._lines: list[bytes] = []
        self._hashes = b""
        self._at = 0
        self._fault: Broken | None = None

    def take(self, count: int) -> tuple[list[bytes], bytes]:
        """The next lines, fewer at the end, and their hashes, joined; raises LogCorrupt."""
        while len(self._lines) - self._at < count and self._read():
            continue
        if self._fault is not None and self._at == len(self._lines):
            raise LogCorrupt(f"{self._path.name}: {self._fault}") from self._fault
        begin, self._at = self._at, min(self._at + count, len(self._lines))
        hashes = self._hashes[begin * HASH_BYTES : self._at * HASH_BYTES]
        return self._lines[begin : self._at], hashes

    def __iter__(self) -> Iterator[bytes]:
        """The rest of the lines, one by one."""
        while (part := self.take(1))[0]:
            yield part[0][0]

    def close(self) -> None:
        """Read no more."""
        self._blocks.close()

    def _read(self) -> bool:
        try:
            block = next(self._blocks, None)
        except Broken as error:
            self._fault, block = error, None
        if block is None:
            return False
        self._lines = self._lines[self._at :] + block[0]
        self._hashes = self._hashes[self._at * HASH_BYTES :] + block[1]
        self._at = 0
        return True


def read_small(path: Path, bytes_max: int) -> bytes:
    """A whole file, cut one byte after `bytes_max`; of a pipe, nothing, and without waiting."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as file:
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
