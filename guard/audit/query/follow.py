"""What comes to the log from now on, over the ends of segments, until the reader has enough."""

from __future__ import annotations

import gzip
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final, TypeAlias

from ...clock import SYSTEM_CLOCK, Clock
from ...errors import AuditFault
from ..files import LINE_BYTES_MAX, Segment, segments_of
from .filters import Filters, fitting, terms_of
from .rows import Row, decoded

__all__ = ["follow"]

_File: TypeAlias = Any  # a binary file, or gzip.GzipFile, which typeshed calls none
_READ_BYTES: Final = 1 << 20


def follow(
    directory: Path | str, filters: Filters, *, wait: Callable[[], bool],
    clock: Clock = SYSTEM_CLOCK,
) -> Iterator[Row]:  # fmt: skip
    """Entries that fit and come after this call, none of them signed yet.

    `wait` is called when there is nothing new; with False it ends.
    """
    log = Path(directory)
    fits = fitting(terms_of(filters, clock.now_ns()))
    segments = segments_of(log)
    segment = segments[-1] if segments else None
    file = _opened(segment) if segment is not None else None
    number = segment.first + _to_end(file) if segment is not None and file is not None else 0
    following: Segment | None = None
    try:
        while True:
            if file is not None and (line := _next_line(file)):
                entry = decoded(line, number)
                if entry is not None and fits(entry, line):
                    yield Row(number, entry, line, is_signed=False)
                number += 1
            elif following is not None:
                if file is not None:
                    file.close()
                segment, file, number = following, _opened(following), following.first
                following = None
            else:
                # INVARIANT: a segment is begun when the one before is at its end, and it is seen
                # here before that one is read once more: nothing between them is missed.
                following = _after(log, segment)
                if following is None and not wait():
                    return
    finally:
        if file is not None:
            file.close()


def _opened(segment: Segment) -> _File:
    try:
        return segment.live.open("rb")
    except FileNotFoundError:
        pass  # it was sealed
    try:
        return gzip.open(segment.sealed, "rb")
    except FileNotFoundError as error:
        raise AuditFault(f"{segment.sealed.name} has expired: follow again") from error


def _to_end(file: _File) -> int:
    """How many whole lines there are; the file stands behind them."""
    count = end = at = 0
    while chunk := file.read(_READ_BYTES):
        count += chunk.count(b"\n")
        if (last := chunk.rfind(b"\n")) >= 0:
            end = at + last + 1
        at += len(chunk)
    file.seek(end)
    return count


def _next_line(file: _File) -> bytes:
    """The next whole line without its newline; empty while there is none."""
    at = file.tell()
    line = file.readline(LINE_BYTES_MAX)
    if line.endswith(b"\n"):
        return line[:-1] or b" "
    file.seek(at)
    if not isinstance(file, gzip.GzipFile) and os.fstat(file.fileno()).st_size < at:
        raise AuditFault(
            "the log got shorter while it was followed: a failed write was taken back, or somebody "
            "cut it; run `guard audit verify`, then follow again"
        )
    if len(line) == LINE_BYTES_MAX:
        raise AuditFault("a line is longer than any entry: run `guard audit verify`")
    return b""


def _after(log: Path, segment: Segment | None) -> Segment | None:
    later = (one for one in segments_of(log) if segment is None or one.first > segment.first)
    return next(later, None)
