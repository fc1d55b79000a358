"""The signed entries of a log from an index on, each shown to be in the signed tree before it goes.

Whoever reads here goes on where he stopped, over the ends of segments, while the log is written.
"""

from __future__ import annotations

import gzip
import zlib
from pathlib import Path
from typing import Any, Final, TypeAlias

from ...errors import LogCorrupt
from ..files import LINE_BYTES_MAX, segments_of
from ..query import Signed
from ..tiles import TILE_HASHES

__all__ = ["BATCH_MAX", "Proven", "prove"]

# Entries that are taken at once: those of one tile, which one proof covers.
BATCH_MAX: Final = TILE_HASHES
_File: TypeAlias = Any  # a binary file, or gzip.GzipFile, which typeshed calls none
_ADVICE: Final = "run `guard audit verify`"


class Proven:
    """Reads entries in order, from `index` on. Not thread-safe."""

    def __init__(self, log: Path, index: int = 0) -> None:
        self.index = index
        self._log = log
        self._file: _File | None = None

    def take(self, signed: Signed) -> list[bytes]:
        """The next lines without newline, at most BATCH_MAX; none once all that is signed was read.

        Raises LogCorrupt where one is not here, or is not as it was signed.
        """
        first = self.index
        end = min(signed.size, (first // BATCH_MAX + 1) * BATCH_MAX)
        if first >= end:
            return []
        lines = [self._next() for _ in range(first, end)]
        prove(signed, lines, first)
        return [line[:-1] for line in lines]

    def close(self) -> None:
        """Let go of the file."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _next(self) -> bytes:
        """The next line, with newline."""
        line = self._line() if self._file is not None else b""
        if not line:  # the segment is at its end, or none is open
            self._open()
            line = self._line()
        if not line.endswith(b"\n"):
            raise LogCorrupt(f"entry {self.index} is signed and not whole: {_ADVICE}")
        self.index += 1
        return line

    def _line(self) -> bytes:
        assert self._file is not None  # noqa: S101 our own bug
        try:
            line: bytes = self._file.readline(LINE_BYTES_MAX)
        except (OSError, EOFError, zlib.error) as error:
            raise LogCorrupt(f"entry {self.index} cannot be read: {_ADVICE}") from error
        return line

    def _open(self) -> None:
        """Open the segment that holds the next entry, and pass over what is before it."""
        self.close()
        held = [segment for segment in segments_of(self._log) if segment.first <= self.index]
        if held:
            live, sealed = held[-1].live, held[-1].sealed
            self._file = _opened(live) or _opened(sealed)
        if self._file is None or not all(self._line() for _ in range(held[-1].first, self.index)):
            raise LogCorrupt(
                f"entry {self.index} is not here: it has expired, or was taken away; {_ADVICE}"
            )


def prove(signed: Signed, lines: list[bytes], first: int) -> None:
    """Raise LogCorrupt unless these lines (with newline), all of one tile, are in the signed tree.

    One proof is enough: its hashes are computed from the same tile to which all of the lines are
    compared, so that the signed root comes out only if all of the tile is true.
    """
    if signed.changed(lines, first):
        raise LogCorrupt(f"entries from {first} on are not as they were signed: {_ADVICE}")
    signed.proof(first, lines[0][:-1])


def _opened(path: Path) -> _File | None:
    """None where it is not there: a live segment may be sealed at any moment."""
    try:
        return gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb")
    except FileNotFoundError:
        return None
