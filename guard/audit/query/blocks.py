"""Lines of a segment in blocks of 256, each with the byte where it begins.

A block of a sealed segment is one gzip member: a line is read back at the cost of one.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from io import BytesIO
from itertools import islice
from pathlib import Path
from typing import IO, Final

import msgspec

from ...errors import AuditFault, LogCorrupt
from ..files import LINE_BYTES_MAX, MEMBER_LINES

__all__ = ["Block", "block_at", "blocks_from"]

_GZIP: Final = 31  # window bits that tell zlib to expect a gzip header
_READ_BYTES: Final = 1 << 18
# What inflates to more is no member of ours.
_MEMBER_BYTES_MAX: Final = MEMBER_LINES * LINE_BYTES_MAX


class Block(msgspec.Struct, frozen=True):
    """Lines with their newline, and the bytes of the segment between which they stand."""

    begin: int
    end: int
    lines: list[bytes]


def blocks_from(segment: Path, begin: int) -> Iterator[Block]:
    """Blocks from that byte on. A last line without newline is left out.

    Raises LogCorrupt where a sealed segment cannot be decompressed.
    """
    with segment.open("rb") as file:
        file.seek(begin)
        yield from (_members if segment.suffix == ".gz" else _plain)(file, begin)


def block_at(segment: Path, begin: int) -> list[bytes]:
    """The lines, without newline, of the block that begins there; raises AuditFault."""
    try:
        block = next(blocks_from(segment, begin), None)
    except FileNotFoundError as error:
        raise AuditFault(
            f"{segment.name} was sealed or expired while it was read: ask again"
        ) from error
    return [line.removesuffix(b"\n") for line in block.lines] if block is not None else []


def _plain(file: IO[bytes], begin: int) -> Iterator[Block]:
    while lines := list(islice(file, MEMBER_LINES)):
        if not lines[-1].endswith(b"\n"):
            lines.pop()
        if lines:
            end = begin + sum(map(len, lines))
            yield Block(begin, end, lines)
            begin = end


def _members(file: IO[bytes], begin: int) -> Iterator[Block]:
    rest = file.read(_READ_BYTES)
    while rest:
        member = zlib.decompressobj(_GZIP)
        pieces: list[bytes] = []
        room = _MEMBER_BYTES_MAX
        try:
            while rest and room > 0 and not member.eof:
                pieces.append(member.decompress(rest, room))
                room -= len(pieces[-1])
                rest = (member.unused_data if member.eof else member.unconsumed_tail) or file.read(
                    _READ_BYTES
                )
        except zlib.error as error:
            raise _damaged(file, begin) from error
        if not member.eof:
            raise _damaged(file, begin)
        end = file.tell() - len(rest)
        yield Block(begin, end, BytesIO(b"".join(pieces)).readlines())
        begin = end


def _damaged(file: IO[bytes], at: int) -> LogCorrupt:
    return LogCorrupt(
        f"{Path(file.name).name} cannot be decompressed at byte {at}: run `guard audit verify`"
    )
