"""Asking a log of 1,000,000 entries: making the index, each report, a proof; beside SQLite.

The log is made once for all rows; in the short form it has 20,000 entries.
"""

from __future__ import annotations

import sqlite3
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

from guard.audit.query import REPORTS, Filters, Index, query, run
from guard.testing import FakeClock

from . import work
from .audit_entries import END_NS, entries, write_log
from .measure import Row, row_of

__all__ = ["ROWS"]

ENTRIES = 1_000_000
ENTRIES_SHORT = 20_000
# Fewer samples than this are asked for when it only has to run.
_SAMPLES_SHORT_MAX = 100
_CLOCK = FakeClock(END_NS)
_REPEATS = 7
_SQLITE_ENTRIES = 100_000
_INDEXES = ("timestamp_ns", "decision_id", "ref", "session_id", "trace_id", "principal", "effect")


def queries(n: int) -> Iterator[Row]:
    """The index, the named reports over 7 days, a page of entries, a proof."""
    count = ENTRIES if n > _SAMPLES_SHORT_MAX else ENTRIES_SHORT
    with work.place() as name:
        log = Path(name) / "log"
        write_log(log, count)
        started = time.perf_counter_ns()
        index = Index(log, where=Path(name) / "index")
        elapsed_ns = time.perf_counter_ns() - started
        row = row_of("audit/index", [elapsed_ns // count], clock="wall")
        row.n, row.per_s = count, round(count * 1e9 / elapsed_ns, 1)
        size_bytes = sum(path.stat().st_size for path in index.where.glob("*.parquet"))
        row.figure = f"{size_bytes / count:.0f} bytes an entry"
        row.against, row.ratio = (
            "SQLite",
            round(row.per_s and row.per_s / _sqlite_rate(Path(name)), 1),
        )
        yield row
        medians = []
        for report, wanted in _asked(index).items():
            row = _timed(f"audit/report-{report}", lambda r=report, w=wanted: run(  # type: ignore[misc]
                index, r, w, since="7d", clock=_CLOCK))  # fmt: skip
            medians.append((row.p50_us, report))
            yield row
        slowest_us, slowest = max(medians)
        page = Filters(effect="deny", since="7d", limit=50)
        row = _timed("audit/query-1m", lambda: list(query(log, page, clock=_CLOCK, index=index)))
        row.figure = f"slowest report: {slowest}, {slowest_us / 1_000:.0f} ms"
        yield row
        rows = list(query(log, Filters(effect="deny", limit=200), index=index))
        samples = []
        for one in rows:
            started = time.perf_counter_ns()
            index.signed.proof(one.index, one.line)
            samples.append(time.perf_counter_ns() - started)
        yield row_of("audit/query-prove", samples, clock="wall")
        index.close()


def _asked(index: Index) -> dict[str, str]:
    """What each report is asked for: something that is there."""
    found = index.rows(
        "SELECT trace_id, decision_id, subjects[1] FROM entries "
        "WHERE effect = 'deny' AND len(subjects) > 0 ORDER BY index DESC LIMIT 1"
    )[0]
    wanted = dict(zip(("trace", "why", "subject"), found, strict=True))
    return {name: wanted.get(name, "") for name in REPORTS}


def _timed(name: str, call: Callable[[], object]) -> Row:
    """The first time, then the warm ones: their median is what the row says."""
    samples = []
    for _ in range(1 + _REPEATS):
        started = time.perf_counter_ns()
        call()
        samples.append(time.perf_counter_ns() - started)
    row = row_of(name, samples[1:], clock="wall")
    row.figure = (
        f"first {samples[0] / 1e6:.0f} ms, median {statistics.median(samples[1:]) / 1e6:.0f} ms"
    )
    return row


def _sqlite_rate(place: Path) -> float:
    """Entries a second into SQLite with the indexes that the reports would need."""
    made = [
        (entry.timestamp_ns, entry.decision_id, entry.ref, entry.session_id, entry.trace_id,
         entry.principal["id"], entry.effect, entry.tool, entry.model, entry.kind)
        for entry in entries(_SQLITE_ENTRIES)
    ]  # fmt: skip
    with closing(sqlite3.connect(place / "index.db")) as database:
        database.execute(f"CREATE TABLE entries ({', '.join(_INDEXES)}, tool, model, kind)")
        for column in _INDEXES:
            database.execute(f"CREATE INDEX by_{column} ON entries ({column})")
        started = time.perf_counter()
        database.executemany(f"INSERT INTO entries VALUES ({', '.join('?' * 10)})", made)
        database.commit()
        return len(made) / (time.perf_counter() - started)


ROWS: dict[Callable[[int], Iterator[Row]], tuple[str, ...]] = {
    queries: (
        "audit/index", *(f"audit/report-{name}" for name in REPORTS), "audit/query-1m",
        "audit/query-prove",
    ),
}  # fmt: skip
