"""The sealed segments of a log, as retention sees them: what is in each, and how one is removed."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from ..audit.entry import Entry
from ..audit.files import Segment as FileSegment
from ..audit.files import encrypted_of, lines_of, segments_of, sync_directory
from ..audit.log import AuditLog
from ..audit.tiles import Tiles
from ..errors import AuditFault, LogCorrupt
from .retention import Gap, Segment

if TYPE_CHECKING:
    from ..audit.postgres import PostgresLog

__all__ = ["LogArchive"]


class _Head(msgspec.Struct):
    timestamp_ns: int = 0
    retention: str | None = None
    subjects: list[str] = []


class LogArchive:
    """A log; one in a database has no sealed segments. `sealed_segments` reads each entry once."""

    def __init__(self, log: AuditLog | PostgresLog) -> None:
        self._log = log
        self._ends: dict[int, int] = {}  # of the sealed segments: their first entry, and the end

    def append(self, entry: Entry) -> int:
        """Number of the entry, durable; raises AuditFault."""
        return self._log.append(entry, durability="group")

    def cover(self, number: int) -> None:
        """Sign all that was handed over until now, that entry with it; raises AuditFault."""
        self._log.checkpoint()

    def sealed_segments(self) -> Sequence[Segment]:
        """Those that are compressed and have no live file any more: the log has signed them."""
        directory = self._log.directory
        found = _segments(directory)
        looked_at = [
            _looked_at(segment.sealed, segment.first, following.first)
            for segment, following in pairwise(found)
            if not segment.live.exists() and segment.sealed.exists()
        ]
        self._ends = {segment.first: segment.last + 1 for segment in looked_at}
        return looked_at

    def gap_with(self, segment: Segment) -> Gap:
        """All that is missing in one piece once this segment has gone too."""
        directory = self._log.directory
        others = [one.first for one in _segments(directory) if one.first != segment.first]
        before = [first for first in others if first < segment.first]
        first = self._ends.get(before[-1], segment.first) if before else 0
        last = min(first for first in others if first > segment.first) - 1
        return Gap(first, last, Tiles(directory).root(last + 1).hex())

    def delete(self, segment: Segment) -> None:
        """Remove the file, durably; its tiles stay."""
        directory = self._log.directory
        try:
            (directory / segment.name).unlink(missing_ok=True)
            sync_directory(directory)
        except OSError as error:
            raise AuditFault(
                f"{segment.name} has expired and cannot be removed: {error.strerror}"
            ) from error


def _segments(directory: Path) -> list[FileSegment]:
    """All of them, those too that are encrypted: nobody here can say when these expire."""
    return sorted([*segments_of(directory), *encrypted_of(directory)])


def _looked_at(path: Path, first: int, end: int) -> Segment:
    decoder = msgspec.json.Decoder(_Head)
    newest_ns = count = 0
    classes: set[str | None] = set()
    subjects: set[str] = set()
    for line in lines_of(path):
        try:
            head = decoder.decode(line)
        except msgspec.MsgspecError as error:
            raise LogCorrupt(
                f"entry {first + count} in {path.name} is damaged: run `guard audit verify` first"
            ) from error
        newest_ns = max(newest_ns, head.timestamp_ns)
        classes.add(head.retention)
        subjects.update(head.subjects)
        count += 1
    # The segment behind it may have expired earlier: what is between is not of this one.
    if not 0 < count <= end - first:
        raise LogCorrupt(f"{path.name} holds {count} entries: run `guard audit verify` first")
    return Segment(
        name=path.name,
        first=first,
        last=first + count - 1,
        newest_ns=newest_ns,
        classes=tuple(classes),
        subjects=frozenset(subjects),
    )
