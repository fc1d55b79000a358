"""Frames: how entries lie in a spool, and reading them in their order.

The layout is described in docs/audit-format.md.
"""

from __future__ import annotations

import os
import struct
from pathlib import Path
from typing import Final
from zlib import crc32

import msgspec

from .entry import ENTRY_BYTES_MAX

__all__ = [
    "Frame",
    "HEADER_BYTES",
    "SpoolReader",
    "count_spooled",
    "first_of",
    "frame_bytes",
    "frames_of",
    "spool_files",
    "spool_name",
    "taken_of",
]

_HEADER: Final = struct.Struct("<IIQQ")  # bytes of the entry, CRC-32, counter, nanoseconds
_COUNTED: Final = struct.Struct("<QQ")
_LENGTH_CRC: Final = struct.Struct("<II")
HEADER_BYTES: Final = _HEADER.size
# What is read of a spool at a time.
READ_BYTES: Final = 1 << 20


class Frame(msgspec.Struct, frozen=True, order=True):
    """An entry as it was handed over. Ordered by time, then by writer and counter."""

    timestamp_ns: int
    writer: str
    number: int
    data: bytes


def frame_bytes(number: int, timestamp_ns: int, data: bytes) -> bytes:
    """The frame of an entry."""
    counted = _COUNTED.pack(number, timestamp_ns)
    crc = crc32(data, crc32(counted))
    return b"%b%b%b" % (_LENGTH_CRC.pack(len(data), crc), counted, data)


def frames_of(chunk: bytes, number: int, writer: str) -> tuple[list[Frame], int]:
    """The frames that count up from `number` at the start of `chunk`, and the bytes they take."""
    frames: list[Frame] = []
    at = 0
    while at + HEADER_BYTES <= len(chunk):
        size, crc, found, timestamp_ns = _HEADER.unpack_from(chunk, at)
        end = at + HEADER_BYTES + size
        if found != number or not 0 < size <= ENTRY_BYTES_MAX or end > len(chunk):
            break
        if crc32(chunk[at + 8 : end]) != crc:
            break
        frames.append(Frame(timestamp_ns, writer, number, chunk[at + HEADER_BYTES : end]))
        number += 1
        at = end
    return frames, at


def spool_name(first: int) -> str:
    """Name of the file whose first frame has this number."""
    return f"{first:020}.spool"


def first_of(path: Path) -> int:
    """Number of the first frame of a spool file."""
    return int(path.stem)


def spool_files(directory: Path) -> list[Path]:
    """The files of a spool, in order; whatever else lies there is none."""
    return sorted(path for path in directory.glob("*.spool") if path.stem.isdecimal())


def taken_of(descriptor: int) -> int:
    """How many frames are signed, from the descriptor of `taken`."""
    return int.from_bytes(os.pread(descriptor, 8, 0), "little")


class SpoolReader:
    """Reads the spool of one writer from entry `number` on, while it is written or after."""

    def __init__(self, path: Path, number: int) -> None:
        self.path = path
        self.writer = path.name
        self.next = number
        self._file: tuple[int, int] | None = None  # descriptor, number of its first frame
        self._offset = 0

    def read(self, bytes_max: int) -> list[Frame]:
        """The next frames, at most so many bytes of them."""
        frames: list[Frame] = []
        while bytes_max > 0 and (file := self._file or self._open()) is not None:
            descriptor, first = file
            found, size = frames_of(
                os.pread(descriptor, bytes_max, self._offset), self.next, self.writer
            )
            frames += found
            self.next += len(found)
            self._offset += size
            bytes_max -= size
            if found:
                continue
            if first == self.next or not (self.path / spool_name(self.next)).exists():
                break
            SpoolReader.close(self)  # the writer went on in another file
        return frames

    def rest(self) -> tuple[int, bytes]:
        """Where the frames end, and what a write that was cut short left there."""
        if self._file is None:
            return 0, b""
        chunk = os.pread(self._file[0], READ_BYTES, self._offset)
        counted = int.from_bytes(chunk[8:16], "little")
        # A frame of an earlier use of the file has a lower number, and zeros are nothing.
        is_torn = counted == self.next and any(chunk[:HEADER_BYTES])
        return self._offset, chunk.rstrip(b"\0") if is_torn else b""

    def close(self) -> None:
        """Close what is open."""
        if self._file is not None:
            os.close(self._file[0])
            self._file = None

    def _open(self) -> tuple[int, int] | None:
        """The file that holds entry `next`, read up to it."""
        for path in spool_files(self.path)[::-1]:
            first = first_of(path)
            if first > self.next:
                continue
            try:
                descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            except FileNotFoundError:  # it was renamed just now
                return None
            self._file = (descriptor, first)
            self._offset = _offset_of(descriptor, first, self.next, self.writer)
            return self._file
        return None


def _offset_of(descriptor: int, first: int, number: int, writer: str) -> int:
    """Where the frame of entry `number` begins in the file that begins with `first`."""
    offset = 0
    while first < number:
        frames, _ = frames_of(os.pread(descriptor, READ_BYTES, offset), first, writer)
        if not frames:
            break
        frames = frames[: number - first]
        first += len(frames)
        offset += sum(HEADER_BYTES + len(frame.data) for frame in frames)
    return offset


def count_spooled(path: Path, number: int) -> tuple[int, bool]:
    """How many entries from `number` on wait in a spool, and whether a write there is torn."""
    reader = SpoolReader(path, number)
    try:
        count = 0
        while frames := reader.read(READ_BYTES):
            count += len(frames)
        return count, bool(reader.rest()[1])
    finally:
        reader.close()
