"""Checking one log: every entry against its stored hash, every checkpoint against the tree.

(1) Re-hash each line and compare it with the stored leaf hash of its index. Where they differ, the
    next line that is known again says how far the damage goes.
(2) Grow the tree. After a difference there are two: one over the lines, one over the stored hashes.
(3) At each signed size the tree must have the signed root. The one that has it tells whether the
    entry or its stored hash was changed; with neither, one of them was, and the log was rewritten.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import Final

import msgspec

from .checkpoint import Checkpoint
from .files import Segment, lines_of, read_small, segments_of
from .merkle import HASH_BYTES, Tree
from .report import Damage

__all__ = ["Head", "LogCheck", "Mark"]

# How far to look for the next known entry after damage: about a megabyte.
RESYNC_ENTRIES_MAX: Final = 1_024
_NEWLINE: Final = 10
_ID: Final = re.compile(rb'"decision_id":"([\w.:-]{1,128})"')


class Head(msgspec.Struct):
    """The fields of an entry that a verification follows from entry to entry."""

    kind: str
    decision_id: str
    ref: str | None = None
    session_id: str | None = None
    session_seq: int = 0
    effect: str = ""


class Mark(msgspec.Struct, frozen=True):
    """A root the tree must have at a size, and who says so."""

    checkpoint: Checkpoint
    source: str
    is_trusted: bool = False  # kept outside the directory


class _Line(msgspec.Struct, frozen=True):
    start: int
    data: bytes
    leaf: bytes


class LogCheck:
    """One pass over one log."""

    def __init__(
        self,
        log: Path,
        marks: list[Mark],
        *,
        signed: int,
        report: Callable[[Damage], None],
        note: Callable[[str], None],
        follow: Callable[[Head], None],
    ) -> None:
        self.log = log
        self.segments = segments_of(log)
        self.size = 0
        self.tree: Tree | None = Tree()  # over the lines; None: a part is missing
        self._stored_tree: Tree | None = None  # over the stored hashes, once they differ
        self._marks = deque(sorted(marks, key=lambda mark: mark.checkpoint.size))
        self._next_mark = self._marks[0].checkpoint.size if self._marks else -1
        self._signed = signed
        self._report = report
        self._note = note
        self._follow = follow
        self._suspects: list[Damage] = []
        self._failed: set[bool] = set()  # one report for each kind of mark is enough
        self._decode = msgspec.json.Decoder(Head).decode

    def run(self) -> None:
        """Check everything; findings go to `report` and `note`."""
        self._at_mark()
        for position, segment in enumerate(self.segments):
            following = self.segments[position + 1 :]
            self._check_segment(segment, following[0].first if following else None)
        self._accuse("contradiction", "no later checkpoint says which of the two was changed")
        for is_trusted in (False, True):
            beyond = [mark for mark in self._marks if mark.is_trusted is is_trusted]
            if beyond and self.size < beyond[-1].checkpoint.size:
                self._damage(
                    "truncated",
                    f"{beyond[-1].source} signs {beyond[-1].checkpoint.size} entries and "
                    f"{self.size} are here: the end was cut off",
                    index=self.size,
                )
        if self.size > self._signed:
            self._note(
                f"{self.log.name}: the last {self.size - self._signed} entries are not covered by "
                "a checkpoint yet: nothing proves that they were not changed"
            )

    def _check_segment(self, segment: Segment, end: int | None) -> None:
        """`end` is the first index of the next segment; None for the last one."""
        if segment.first != self.size:
            self._damage(
                "segment_missing",
                f"expected entry {self.size} next and found {segment.records.name}: a file was "
                "removed or renamed, and later roots cannot be computed",
                index=self.size,
            )
            self.size = segment.first
            self.tree = self._stored_tree = None
        stored = self._stored_hashes(segment, end)
        if not segment.records.exists():
            self._damage("segment_missing", f"{segment.records.name} is missing", index=self.size)
            self._differ(segment, [], stored, known=len(stored) // HASH_BYTES + segment.first)
            return
        lines = self._lines(segment.records, is_last=end is None)
        for line in lines:
            position = (self.size - segment.first) * HASH_BYTES
            leaf = line.leaf
            while leaf != (expected := stored[position : position + HASH_BYTES]) and expected:
                found = self._resync(segment, line, lines, stored)
                if found is None:
                    break
                line = found
                leaf = line.leaf
                position = (self.size - segment.first) * HASH_BYTES
            else:
                if not expected and end is not None and self.size >= end:
                    self._damage("inserted", "an entry too many", segment=segment, lines=[line])
                    continue
                self._grow(leaf, expected or leaf)
                self._read_head(segment, line)
        known = segment.first + len(stored) // HASH_BYTES
        if self.size < known and (end is not None or self.size < self._signed):
            self._differ(segment, [], stored, known=known)
        elif known < min(self.size, self._signed):
            self._damage(
                "hash",
                f"{segment.hashes.name} lacks the hashes of entries {known} to {self.size - 1}",
                index=known,
            )

    def _lines(self, path: Path, *, is_last: bool) -> Iterator[_Line]:
        start = 0
        for data in lines_of(path):
            if data[-1] == _NEWLINE:
                yield _Line(start, data, sha256(b"\x00" + data[:-1]).digest())
            elif is_last and self.size >= self._signed:
                self._note(
                    f"{self.log.name}: {path.name} ends in {len(data)} bytes of an unfinished "
                    f"write at byte {start}; the next start moves them aside"
                )
                return  # a live writer may add the rest while we read: it is no line of its own
            else:
                # Not a leaf hash of anything: a line that lost its newline is a changed entry.
                yield _Line(start, data, sha256(b"\x02" + data).digest())
            start += len(data)

    def _stored_hashes(self, segment: Segment, end: int | None) -> bytes:
        path = segment.hashes
        entries_bytes = segment.records.stat().st_size if segment.records.exists() else 1 << 26
        stored = read_small(path, entries_bytes) if path.exists() else b""
        if len(stored) % HASH_BYTES:
            words = f"{path.name} ends in an unfinished hash"
            if end is None and segment.first + len(stored) // HASH_BYTES >= self._signed:
                self._note(f"{self.log.name}: {words}")
            else:
                self._damage("hash", words)
        return stored[: len(stored) // HASH_BYTES * HASH_BYTES]

    def _resync(
        self, segment: Segment, line: _Line, lines: Iterator[_Line], stored: bytes
    ) -> _Line | None:
        """Find the next line that is known, and account for what lies before it (1)."""
        offset = (self.size - segment.first) * HASH_BYTES
        known: dict[bytes, int] = {}
        for index in range(RESYNC_ENTRIES_MAX):
            leaf = stored[offset + index * HASH_BYTES : offset + (index + 1) * HASH_BYTES]
            known.setdefault(leaf, self.size + index)
        known.pop(b"", None)
        skipped = [line]
        for candidate in lines:
            if candidate.leaf in known:
                self._differ(segment, skipped, stored, known=known[candidate.leaf])
                return candidate
            skipped.append(candidate)
            if len(skipped) > RESYNC_ENTRIES_MAX:
                break
        rest = segment.first + len(stored) // HASH_BYTES
        self._differ(segment, skipped, stored, known=rest)
        for _ in lines:  # nothing in the rest of this file can be placed any more
            self.tree = None
        return None

    def _differ(self, segment: Segment, lines: list[_Line], stored: bytes, *, known: int) -> None:
        """Lines that stand where the entries from `size` up to `known` should be."""
        count = known - self.size
        if self._stored_tree is None and self.tree is not None:
            self._stored_tree = Tree(self.tree.state)  # (2)
        if count == len(lines):
            for number, line in enumerate(lines):
                self._suspect("record", "", segment, [line], index=self.size + number)
        else:
            last = f" to {known - 1}" if count > 1 else ""
            self._suspect(
                "missing" if count else "inserted",
                f"{len(lines)} lines stand where entry {self.size}{last} should be"
                if count else f"{len(lines)} lines were put before entry {self.size}",
                segment, lines, index=self.size,
            )  # fmt: skip
        for line in lines:
            with suppress(msgspec.MsgspecError, ValueError):  # the damage itself is reported above
                self._follow(self._decode(line.data))
        offset = (self.size - segment.first) * HASH_BYTES
        for number in range(max(count, len(lines))):
            if self.tree is not None and number < len(lines):
                self.tree.append(lines[number].leaf)
            if number < count:
                if self._stored_tree is not None:
                    at = offset + number * HASH_BYTES
                    self._stored_tree.append(stored[at : at + HASH_BYTES])
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
            if mark.checkpoint.size == self.size:
                self._settle(mark)
        self._next_mark = self._marks[0].checkpoint.size if self._marks else -1

    def _settle(self, mark: Mark) -> None:
        if self.tree is None and self._stored_tree is None:
            return
        root = mark.checkpoint.root
        if self.tree is not None and self._has(self.tree, root):
            self._accuse("hash", "the entry is as it was signed, and its stored hash was changed")
            self._stored_tree = None
        elif self._stored_tree is not None and self._has(self._stored_tree, root):
            self._accuse("record", "not as it was signed")
            self.tree, self._stored_tree = self._stored_tree, None
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

    def _has(self, tree: Tree, root: bytes) -> bool:
        return tree.size == self.size and tree.root() == root

    def _suspect(
        self, kind: str, detail: str, segment: Segment, lines: list[_Line], *, index: int
    ) -> None:
        self._suspects.append(self._located(kind, detail, segment, lines, index))

    def _accuse(self, kind: str, detail: str) -> None:
        """What was suspected since the last checkpoint is now known to be of this kind."""
        for suspect in self._suspects:
            keeps_kind = suspect.kind != "record" and kind != "hash"
            words = f"{suspect.detail}; {detail}" if suspect.detail else detail
            self._report(
                msgspec.structs.replace(
                    suspect, kind=suspect.kind if keeps_kind else kind, detail=words
                )
            )
        self._suspects.clear()

    def _read_head(self, segment: Segment, line: _Line) -> None:
        try:
            head = self._decode(line.data)
        except (msgspec.MsgspecError, ValueError):
            if self.size > self._signed:
                self._note(f"{self.log.name}: entry {self.size - 1} is unreadable and not signed")
                return
            self._report(
                self._located("unparsable", "not an entry", segment, [line], self.size - 1)
            )
            return
        self._follow(head)

    def _damage(
        self,
        kind: str,
        detail: str,
        *,
        index: int | None = None,
        segment: Segment | None = None,
        lines: list[_Line] | None = None,
    ) -> None:
        if segment is not None:
            self._report(self._located(kind, detail, segment, lines or [], self.size))
        else:
            self._report(Damage(log=self.log.name, kind=kind, detail=detail, index=index))

    def _located(
        self, kind: str, detail: str, segment: Segment, lines: list[_Line], index: int
    ) -> Damage:
        # The id is only a help to find the entry, and only a plain one is repeated.
        found = _ID.search(lines[0].data) if lines else None
        return Damage(
            log=self.log.name,
            kind=kind,
            detail=detail,
            segment=segment.records.name,
            start=lines[0].start if lines else None,
            end=lines[-1].start + len(lines[-1].data) if lines else None,
            index=index,
            decision_id=found[1].decode() if found else None,
        )
