"""The files of a log: how they are named, listed, read line by line and replaced.

<directory>/log-NN/
    records-<20 digits>.jsonl   entries from that index on, one line each
    hashes-<20 digits>.bin      their leaf hashes, 32 bytes each
    checkpoint, checkpoints     the latest signed checkpoint; all of them
    log.vkey, lock
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import msgspec

from ..errors import AuditFault
from .entry import ENTRY_BYTES_MAX

__all__ = [
    "CHECKPOINT",
    "HISTORY",
    "LINE_BYTES_MAX",
    "LOCK",
    "LOGS_MAX",
    "Segment",
    "VKEY",
    "lines_of",
    "log_directories",
    "log_name",
    "read_small",
    "replace_file",
    "segments_of",
    "sync_directory",
    "write_whole",
]

CHECKPOINT: Final = "checkpoint"
HISTORY: Final = "checkpoints"
VKEY: Final = "log.vkey"
LOCK: Final = "lock"
# Writers at one time in one directory: more processes than a machine of this use has cores.
LOGS_MAX: Final = 64
LINE_BYTES_MAX: Final = ENTRY_BYTES_MAX + 1
_SEGMENT: Final = re.compile(r"(?:records-([0-9]{20})\.jsonl|hashes-([0-9]{20})\.bin)")
_LOG: Final = re.compile(r"log-[0-9]{2}")
_READ_BYTES: Final = 1 << 18


class Segment(msgspec.Struct, frozen=True, order=True):
    """A pair of files that starts with entry `first`."""

    first: int
    directory: Path

    @property
    def records(self) -> Path:
        """The entries."""
        return self.directory / f"records-{self.first:020}.jsonl"

    @property
    def hashes(self) -> Path:
        """Their leaf hashes."""
        return self.directory / f"hashes-{self.first:020}.bin"


def log_name(number: int) -> str:
    """Directory name of log `number`."""
    return f"log-{number:02}"


def log_directories(directory: Path) -> list[Path]:
    """The logs of all writers, in order; raises AuditFault when there is no such directory."""
    try:
        found = [path for path in directory.iterdir() if _LOG.fullmatch(path.name)]
    except OSError as error:
        raise AuditFault(
            f"no audit log at {directory} ({error.strerror}): name its directory with --dir"
        ) from error
    return sorted(path for path in found if path.is_dir())


def segments_of(log: Path) -> list[Segment]:
    """The segments that a log has files of, in order."""
    matches = [_SEGMENT.fullmatch(path.name) for path in log.iterdir()]
    return sorted(Segment(first, log) for first in {int(m[1] or m[2]) for m in matches if m})


def lines_of(path: Path) -> Iterator[bytes]:
    """The lines of a file with their newline; a longer one than an entry can be comes in pieces."""
    with path.open("rb", buffering=_READ_BYTES) as file:
        readline = file.readline
        while line := readline(LINE_BYTES_MAX):
            yield line


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


def sync_directory(directory: Path) -> None:
    """Make the names in a directory durable."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
