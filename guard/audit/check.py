"""Checking the entries against their stored hashes, and the tree against the checkpoints.

(1) Hash each line and compare it with the hash in the tile of its index, a tile at a time. Where
    they differ, go line by line: the next line that is known again says how far the damage goes.
(2) Grow the tree. After a difference there are two: one over the lines, one over the stored hashes.
(3) At each signed size the tree must have the signed root. The one that has it tells whether the
    entry or its stored hash was changed; with neither, one of them was, and the log was rewritten.
(4) Tiles of higher levels must be what comes out of those below.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from hashlib import sha256
from itertools import chain, zip_longest
from pathlib import Path
from typing import Final

import msgspec

from ..errors import AuditFault, LogCorrupt
from .checkpoint import Checkpoint
from .entry import ENTRY_VERSION, NOT_AN_ENTRY
from .files import HashedLines, Segment, segments_of
from .line import Line, located
from .report import Damage
from .story import Head
from .tiles import TILE_HASHES, Edge, StoredHashes

__all__ = ["LogCheck", "Mark"]

# How far to look for the next known entry after damage: about a megabyte.
RESYNC_ENTRIES_MAX: Final = 1_024
_NEWLINE: Final = 10


class Mark(msgspec.Struct, frozen=True):
    """A root the tree must have at a size, and who says so."""

    checkpoint: Checkpoint
    source: str
    is_trusted: bool = False  # kept outside the directory


class LogCheck:
    """One pass over a log."""

    def __init__(
        self, log: Path, marks: list[Mark], *, signed: int, report: Callable[[Damage], None],
        note: Callable[[str], None], follow: Callable[[Head, int | None], None],
        on_missing: Callable[[], None],
    ) -> None:  # fmt: skip
        self.log = log
        self.segments = segments_of(log)
        self.size = self.witnessed = 0
        # First and last entry of what is not here, and the file behind it; None at the end.
        self.gone: list[tuple[int, int, str | None]] = []
        # Over the lines. None: a part is missing.
        self.tree: Edge | None = Edge(on_full=self._compare_tile)
        self._stored_tree: Edge | None = None  # over the stored hashes, once they differ
        self._stored = StoredHashes(log, signed, report=self._tile_damage)
        self._marks = deque(sorted(marks, key=lambda mark: mark.checkpoint.size))
        self._next_mark = self._marks[0].checkpoint.size if self._marks else -1
        self._signed = signed
        self._report = report
        self._note = note
        self._follow = follow
        self._on_missing = on_missing
        self._suspects: list[Damage] = []
        self._failed: set[bool] = set()  # one report for each kind of mark is enough
        self._decode = msgspec.json.Decoder(Head).decode

    def run(self) -> None:
        """Check everything; findings go to `report` and `note`."""
        self._at_mark()
        ahead: HashedLines | None = None  # begins while the segment before is checked
        try:
            for segment, following in zip_longest(self.segments, self.segments[1:]):
                reader = ahead or HashedLines(segment.path)
                ahead = HashedLines(following.path) if following else None
                end = following.first if following else None
                with closing(reader):
                    self._check_segment(segment, end, reader)
        finally:
            if ahead is not None:
                ahead.close()
        if self.size < self._signed:
            self._miss(self._signed, None)
        self._accuse("contradiction", "no later checkpoint says which of the two was changed")
        self._at_mark()
        self._marks_beyond()
        if self.size > self._signed:
            self._note(
                f"the last {self.size - self._signed} entries are not signed yet: nothing proves "
                "that they were not changed"
            )

    def _marks_beyond(self) -> None:
        for is_trusted in (False, True):
            beyond = [mark for mark in self._marks if mark.is_trusted is is_trusted]
            if beyond and self.size < beyond[-1].checkpoint.size:
                self._damage(
                    "truncated",
                    f"{beyond[-1].source} signs {beyond[-1].checkpoint.size} entries and "
                    f"{self.size} are here: the end was cut off",
                    index=self.size,
                )

    def _check_segment(self, segment: Segment, end: int | None, reader: HashedLines) -> None:
        """`end` is the first index of the next segment; None for the last one."""
        if segment.first > self.size:
            self._miss(segment.first, segment.path.name)
        elif segment.first < self.size:
            self._damage("inserted", f"{segment.path.name} begins before it may", index=self.size)
            return
        try:
            offset, rest = self._fast(reader, end)
            if rest:
                self._slow(segment, self._lines(segment, chain(rest, reader), offset, end), end)
            if end is not None and self.size < end:
                self._miss(end, "the next file")
        except (LogCorrupt, OSError) as error:
            self._damage("unparsable", f"it cannot be read: {error}", segment=segment)
            if end is not None:
                self._miss(end, segment.path.name)

    def _fast(self, reader: HashedLines, end: int | None) -> tuple[int, list[bytes]]:
        """Take what is as it should be, a tile at a time; the offset of the first line that is not,
        and the lines read from there on (1)."""
        offset = 0
        while self.tree is not None and self._stored_tree is None:
            count = TILE_HASHES - self.size % TILE_HASHES
            if self._next_mark > self.size:
                count = min(count, self._next_mark - self.size)
            if end is not None:
                count = min(count, end - self.size)
            lines, leaves = reader.take(count or 1)
            if not lines:
                return offset, []
            stored = self._stored.window(self.size, len(lines))
            if count == 0 or lines[-1][-1] != _NEWLINE or leaves[: len(stored)] != stored:
                return offset, lines
            heads = self._heads(lines)
            if heads is None:
                return offset, lines
            self.tree.append(leaves)
            for head in heads:
                self._follow(head, self.size)
                self.size += 1
            offset += sum(map(len, lines))
            if self.size == self._next_mark:
                self._at_mark()
        return offset, reader.take(1)[0]

    def _heads(self, lines: list[bytes]) -> list[Head] | None:
        try:
            b"".join(lines).decode()  # the decoder passes over the text of other fields
            heads = list(map(self._decode, lines))
        except NOT_AN_ENTRY:
            return None
        return heads if all(head.v == ENTRY_VERSION for head in heads) else None

    def _head(self, line: bytes) -> Head:
        """What is followed of an entry; raises one of NOT_AN_ENTRY."""
        line.decode()  # the decoder passes over the text of other fields
        return self._decode(line)

    def proven_head(self, index: int, line: bytes) -> Head | None:
        """The head of an entry that stands elsewhere, if it is the one that the tree has there."""
        is_proven = sha256(b"\x00" + line).digest() == self._stored.at(index)
        with suppress(*NOT_AN_ENTRY):
            return self._head(line) if is_proven else None
        return None

    def _slow(self, segment: Segment, lines: Iterator[Line], end: int | None) -> None:
        for line in lines:
            expected = self._stored.at(self.size)
            while expected and line.leaf != expected:
                found = self._resync(segment, line, lines, end)
                if found is None:
                    return
                line = found
                expected = self._stored.at(self.size)
            if end is not None and self.size >= end:
                self._damage("inserted", "an entry too many", segment=segment, lines=[line])
                continue
            self._grow(line.leaf, expected or line.leaf)
            self._read_head(segment, line)

    def _lines(
        self, segment: Segment, lines: Iterator[bytes], start: int, end: int | None
    ) -> Iterator[Line]:
        for data in lines:
            if data[-1] == _NEWLINE:
                yield Line(start, data, sha256(b"\x00" + data[:-1]).digest())
            elif end is None and self.size >= self._signed:
                self._note(
                    f"{segment.path.name} ends in {len(data)} bytes of an unfinished write at byte "
                    f"{start}; the next start moves them aside"
                )
                return  # a live writer may add the rest while we read: it is no line of its own
            else:
                # Not a leaf hash of anything: a line that lost its newline is a changed entry.
                yield Line(start, data, sha256(b"\x02" + data).digest())
            start += len(data)

    def _resync(
        self, segment: Segment, line: Line, lines: Iterator[Line], end: int | None
    ) -> Line | None:
        """Find the next line that is known, and account for what lies before it (1)."""
        known: dict[bytes, int] = {}
        last = min(self._signed, end if end is not None else self._signed)
        for index in range(self.size, min(last, self.size + RESYNC_ENTRIES_MAX)):
            known.setdefault(self._stored.at(index), index)
        known.pop(b"", None)
        skipped: list[Line] = []
        for candidate in chain([line], lines):
            if candidate.leaf in known:
                self._differ(segment, skipped, known=known[candidate.leaf], before=candidate)
                return candidate
            skipped.append(candidate)
            if len(skipped) > RESYNC_ENTRIES_MAX:
                break
        self._differ(segment, skipped, known=max(last, self.size))
        for _ in lines:  # nothing in the rest of this file can be placed any more
            self.tree = None
        return None

    def _differ(
        self, segment: Segment, lines: list[Line], *, known: int, before: Line | None = None
    ) -> None:
        """Lines that stand where the entries from `size` up to `known` should be."""
        count = known - self.size
        if self._stored_tree is None and self.tree is not None:
            self._stored_tree = self.tree.copy()  # (2)
        if count == len(lines):
            for number, line in enumerate(lines):
                self._suspect("record", "", segment, [line], index=self.size + number)
        else:
            last = f" to {known - 1}" if count > 1 else ""
            self._suspect(
                "missing" if count else "inserted",
                f"{len(lines)} lines stand where entry {self.size}{last} should be"
                if count else f"{len(lines)} lines were put before entry {self.size}",
                segment, lines or ([before] if before is not None else []), index=self.size,
            )  # fmt: skip
        self._on_missing()
        for line in lines:
            with suppress(*NOT_AN_ENTRY):  # the damage itself is reported above
                self._follow(self._head(line.data), None)
        for number in range(max(count, len(lines))):
            if self.tree is not None and number < len(lines):
                self.tree.append(lines[number].leaf)
            if number < count:
                stored = self._stored.at(self.size)
                if self._stored_tree is not None and stored:
                    self._stored_tree.append(stored)
                self.size += 1
                self._at_mark()

    def _miss(self, end: int, name: str | None) -> None:
        """Entries up to `end` are not here; their hashes may be, and whether they were pruned the
        log itself tells at its end."""
        self.gone.append((self.size, end - 1, name))
        self._on_missing()
        while self.size < end:
            stored = self._stored.at(self.size)
            for tree in (self.tree, self._stored_tree):
                if tree is not None and stored:
                    tree.append(stored)
            if not stored:
                self.tree = self._stored_tree = None
                self.size = end
                break
            self.size += 1
            self._at_mark()

    def _grow(self, leaf: bytes, expected: bytes) -> None:
        if self.tree is not None:
            self.tree.append(leaf)
        if self._stored_tree is not None:
            self._stored_tree.append(expected)
        self.size += 1
        if self.size == self._next_mark:
            self._at_mark()

    def _at_mark(self) -> None:
        """Compare the tree with the checkpoints of this size (3)."""
        while self._marks and self._marks[0].checkpoint.size <= self.size:
            mark = self._marks.popleft()
            if mark.checkpoint.size == self.size and (self.tree or self._stored_tree) is not None:
                self._settle(mark)
            else:
                self._unproven(mark)
        self._next_mark = self._marks[0].checkpoint.size if self._marks else -1

    def _unproven(self, mark: Mark) -> None:
        """INVARIANT: no checkpoint is passed over: what cannot be held against it is damage."""
        if mark.is_trusted not in self._failed:
            self._failed.add(mark.is_trusted)
            self._damage(
                "tree",
                f"hashes lack below entry {mark.checkpoint.size}: nothing shows that the entries "
                f"are those that {mark.source} signs",
            )

    def _settle(self, mark: Mark) -> None:
        root = mark.checkpoint.root
        if self.tree is not None and self._has(self.tree, root):
            self._accuse("tile", "the entry is as it was signed, and its stored hash was changed")
            self._stored_tree = None
            self._hold(mark)
        elif self._stored_tree is not None and self._has(self._stored_tree, root):
            self._accuse("record", "not as it was signed")
            self.tree, self._stored_tree = self._stored_tree, None
            self._hold(mark)
        elif mark.is_trusted not in self._failed:
            self._failed.add(mark.is_trusted)
            self._accuse("contradiction", "neither it nor its stored hash is what was signed")
            what = "the log was rewritten since" if mark.is_trusted else "one was rewritten"
            self._damage(
                "tree",
                f"the first {self.size} entries do not have the root that {mark.source} signs: "
                f"{what}",
                index=self.size,
            )
        if self.size == self._signed and self.tree is not None and self._stored_tree is None:
            for (level, number), hashes in self.tree.partials().items():
                self._compare_tile(level, number, hashes)

    def _hold(self, mark: Mark) -> None:
        if mark.is_trusted:
            self.witnessed = max(self.witnessed, mark.checkpoint.size)

    def _compare_tile(self, level: int, number: int, hashes: bytes) -> None:
        """A tile above the lowest level, full or of the latest checkpoint (4)."""
        if level and self._stored_tree is None:
            self._stored.compare(level, number, hashes)

    def _has(self, tree: Edge, root: bytes) -> bool:
        return tree.size == self.size and tree.root() == root

    def _suspect(
        self, kind: str, detail: str, segment: Segment, lines: list[Line], *, index: int
    ) -> None:
        self._suspects.append(located(kind, detail, segment, lines, index))

    def _accuse(self, kind: str, detail: str) -> None:
        """What was suspected since the last checkpoint is now known to be of this kind."""
        for suspect in self._suspects:
            keeps_kind = suspect.kind != "record" and kind != "tile"
            words = f"{suspect.detail}; {detail}" if suspect.detail else detail
            self._report(
                msgspec.structs.replace(
                    suspect, kind=suspect.kind if keeps_kind else kind, detail=words
                )
            )
        self._suspects.clear()

    def _read_head(self, segment: Segment, line: Line) -> None:
        index = self.size - 1
        try:
            head = self._head(line.data)
        except NOT_AN_ENTRY as error:
            if index >= self._signed:
                self._note(f"entry {index} is unreadable and not signed")
                return
            damage = located("unparsable", "not an entry", segment, [line], index)
            # The text of the error names a path in the entry and a type, never a value.
            _, _, field = str(error).partition("`$.")
            self._report(msgspec.structs.replace(damage, field=field.rstrip("`") or None))
            return
        if head.v > ENTRY_VERSION and index < self._signed:
            raise AuditFault(
                f"entry {index} has version {head.v}, and this guard knows {ENTRY_VERSION}: "
                "verify it with a newer guard"
            )
        self._follow(head, index)

    def _tile_damage(self, detail: str, index: int | None) -> None:
        self._report(Damage(kind="tile", detail=detail, index=index))

    def _damage(
        self, kind: str, detail: str, *, index: int | None = None, segment: Segment | None = None,
        lines: list[Line] | None = None,
    ) -> None:  # fmt: skip
        if segment is not None:
            self._report(located(kind, detail, segment, lines or [], self.size))
        else:
            self._report(Damage(kind=kind, detail=detail, index=index))
