"""Entries that fit, each read from the log and compared with the tree before it is shown."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import msgspec

from ...clock import SYSTEM_CLOCK, Clock
from ...errors import AuditFault, LogCorrupt
from ..entry import ENTRY_VERSION, NOT_AN_ENTRY, Entry
from ..files import segments_of
from .blocks import block_at, blocks_from
from .filters import PREFIX_CHARS_MIN, Filters, Term, fitting, terms_of
from .index import Index
from .signed import Signed

__all__ = ["Row", "Rows", "decoded", "query", "show"]

_FETCHED_ROWS: Final = 10_000
_CACHED_BLOCKS: Final = 8
_decode: Final = msgspec.json.Decoder(Entry).decode


class Row(msgspec.Struct, frozen=True):
    """An entry, its number, its bytes, and whether a checkpoint covers it."""

    index: int
    entry: Entry
    line: bytes
    is_signed: bool


class Rows:
    """Rows in the order of the log. Raises LogCorrupt where one is not as it was signed.

    `skipped` lines could not be read: known once all were passed.
    """

    def __init__(
        self, log: Path, terms: list[Term], limit: int | None, index: Index | None
    ) -> None:
        self.skipped = 0
        segments_of(log)  # is there a log that can be read?
        self.signed = index.signed if index is not None else Signed(log)
        self._log = log
        self._terms = terms
        self._fits = fitting(terms)
        self._limit = limit
        self._index = index

    def __iter__(self) -> Iterator[Row]:
        self.skipped = 0
        if self._index is not None:
            self.skipped = self._index.unreadable
            found = self._indexed(self._index)
        else:
            found = self._scanned()
        for number, entry, line in found:
            yield Row(number, entry, line, self.signed.check(number, line))

    def _scanned(self) -> Iterator[tuple[int, Entry, bytes]]:
        found = self._all()
        return found if self._limit is None else iter(deque(found, maxlen=self._limit))

    def _all(self) -> Iterator[tuple[int, Entry, bytes]]:
        for segment in segments_of(self._log):
            lines = (line for block in blocks_from(segment.path, 0) for line in block.lines)
            for number, with_newline in enumerate(lines, segment.first):
                line = with_newline.removesuffix(b"\n")
                entry = decoded(line, number)
                if entry is None:
                    self.skipped += 1
                elif self._fits(entry, line):
                    yield number, entry, line

    def _indexed(self, index: Index) -> Iterator[tuple[int, Entry, bytes]]:
        """The index says where; with a limit from the newest on, to stop early."""
        sql = [term for term in self._terms if term.sql is not None]
        where = " AND ".join(f"({term.sql})" for term in sql) or "true"
        values = [value for term in sql for value in term.values]
        order = "ASC" if self._limit is None else "DESC"
        is_exact = len(sql) == len(self._terms)
        most = f" LIMIT {int(self._limit)}" if self._limit is not None and is_exact else ""
        answer = index.connection.cursor().execute(
            f"SELECT index, block, line FROM entries WHERE {where} ORDER BY index {order}{most}",
            values,
        )
        cache: OrderedDict[tuple[Path, int], list[bytes]] = OrderedDict()
        found = self._read(index, iter(lambda: answer.fetchmany(_FETCHED_ROWS), []), cache)
        if self._limit is None:
            return found
        newest = [row for row, _ in zip(found, range(self._limit), strict=False)]
        return reversed(newest)

    def _read(
        self, index: Index, answers: Iterator[list[tuple[int, int, int]]],
        cache: OrderedDict[tuple[Path, int], list[bytes]],
    ) -> Iterator[tuple[int, Entry, bytes]]:  # fmt: skip
        sql_fits = fitting([term for term in self._terms if term.sql is not None])
        for places in answers:
            for number, block, at in places:
                line = _line_at(index.segment_of(number), block, at, cache)
                entry = decoded(line, number) if line is not None else None
                if line is None or entry is None or not sql_fits(entry, line):
                    raise LogCorrupt(
                        f"the index is wrong about entry {number}: ask again with --rebuild"
                    )
                if self._fits(entry, line):
                    yield number, entry, line


def query(
    directory: Path | str, filters: Filters, *, clock: Clock = SYSTEM_CLOCK,
    index: Index | None = None,
) -> Rows:  # fmt: skip
    """Entries that fit, oldest first: by the index, or without one by reading the whole log.

    Raises AuditFault for a filter that does not parse.
    """
    terms = terms_of(filters, clock.now_ns())
    return Rows(Path(directory), terms, filters.limit, index)


def show(directory: Path | str, decision_id: str, *, index: Index | None = None) -> list[Row]:
    """The entries of one decision: its intent, review and outcomes. The start of an id is enough.

    Raises AuditFault when none or more than one decision begins with it.
    """
    if len(decision_id) < PREFIX_CHARS_MIN:
        raise AuditFault(f"expected at least {PREFIX_CHARS_MIN} characters of a decision id")
    found = list(query(directory, Filters(decision_id=decision_id), index=index))
    mine = [row.entry for row in found if row.entry.decision_id.startswith(decision_id)]
    # An outcome stands for its intent, and with it come all its outcomes.
    ids = {entry.decision_id: entry.ref or entry.decision_id for entry in mine}
    if decision_id in ids:
        ids = {decision_id: ids[decision_id]}
    if len(ids) != 1:
        what = f"{len(ids)} decisions begin" if ids else "no decision begins"
        raise AuditFault(f"{what} with `{decision_id[:64]}`: look for it with `guard audit query`")
    ((own, intent),) = ids.items()
    if own != intent:
        found = list(query(directory, Filters(decision_id=intent), index=index))
    return [row for row in found if intent in (row.entry.decision_id, row.entry.ref)]


def decoded(line: bytes, number: int) -> Entry | None:
    """The entry of a line, or None; raises AuditFault for one of a newer version."""
    try:
        return _decode(line)
    except NOT_AN_ENTRY:
        version = _version(line)
    if version is not None and version > ENTRY_VERSION:
        raise AuditFault(
            f"entry {number} is of version {version}, and this guard reads {ENTRY_VERSION}: "
            "use a newer one"
        )
    return None


class _Head(msgspec.Struct):
    v: int | None = None


def _version(line: bytes) -> int | None:
    try:
        return msgspec.json.decode(line, type=_Head).v
    except NOT_AN_ENTRY:
        return None


def _line_at(
    segment: Path, block: int, at: int, cache: OrderedDict[tuple[Path, int], list[bytes]]
) -> bytes | None:
    lines = cache.get((segment, block))
    if lines is None:
        lines = cache[segment, block] = block_at(segment, block)
        if len(cache) > _CACHED_BLOCKS:
            cache.popitem(last=False)
    return lines[at] if at < len(lines) else None
