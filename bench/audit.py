"""The audit log alone: what an append costs, what durability costs, verifying, proving, size.

Beside it in the same run: a plain write and fdatasync of the same bytes on the same disk, SQLite in
WAL mode, and the peer's log, which is in memory.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from itertools import cycle
from pathlib import Path

from guard.audit import AuditLog, Durability, Entry
from guard.audit.checkpoint import parse
from guard.audit.daemon import sequence_until, use_real_time_class
from guard.audit.entry import encode, timestamp_of
from guard.audit.files import lines_of, segments_of
from guard.audit.merkle import is_included
from guard.audit.sequence import Rolling
from guard.audit.tiles import Tiles
from guard.audit.verify import verify
from guard.clock import SYSTEM_CLOCK
from guard.keys import Mac, Signer

from . import peer, work
from .audit_entries import SIGNER, write_log
from .measure import Row, measure, row_of

__all__ = ["ROWS", "sequencer"]

_SIGNER = Signer("guard/audit", bytes(32))
_MAC = Mac(bytes(32))
PROCESSES = 4
TASKS = 64
# Room for all that is handed over while nobody sequences.
_ROOM_BYTES = 128 * 1024 * 1024
# A caller that does nothing but wait for the log is none that there is: this is its other work.
PACE_S = 0.005


def appends(n: int) -> Iterator[Row]:
    """CPU time of the thread that appends, relaxed: the hot path."""
    with work.place() as name, _log(name) as log:
        row = measure("audit/append", lambda: log.append(_entry()), n=n, clock="thread")
        rival = peer.audit_log()
        if rival is not None:
            other = measure(row.name, lambda: rival(_entry()), n=n, clock="thread")
            row.against, row.ratio = peer.AUDIT_NAME, round(other.p50_us / row.p50_us, 1)
        yield row


def disk(n: int) -> Iterator[Row]:
    """What the disk itself takes, and what SQLite makes of it."""
    data = encode(_entry(), _MAC.commit)
    with work.place() as name:
        descriptor = os.open(name / "plain", os.O_WRONLY | os.O_CREAT | os.O_APPEND)

        def write() -> None:
            os.write(descriptor, data)
            os.fdatasync(descriptor)

        yield measure("disk/fdatasync", write, n=n, clock="wall")
        os.close(descriptor)
        with closing(sqlite3.connect(name / "wal.db", isolation_level=None)) as database:
            database.execute("PRAGMA journal_mode=WAL")
            database.execute("PRAGMA synchronous=FULL")
            database.execute("CREATE TABLE log (line BLOB)")
            insert = "INSERT INTO log VALUES (?)"
            yield measure(
                "disk/sqlite-wal", lambda: database.execute(insert, (data,)), n=n, clock="wall"
            )


def durable(n: int) -> Iterator[Row]:
    """Wall time until one entry is on the disk, with 1 and 16 threads that wait at once."""
    with work.place() as name, _sequenced(name) as log:
        append = _append(log, "group")
        yield measure("audit/durable-1", append, n=n, clock="wall")
        yield _threads("audit/durable-16", append, callers=16, n=n, pace_s=PACE_S)
        yield _threads("audit/durable-16-flat-out", append, callers=16, n=n, pace_s=0)


def tasks(n: int) -> Iterator[Row]:
    """Wall time and rate of 64 tasks of one loop, each waiting until its entry is on the disk.

    With a sequencer on the other core, and alone: the entries are then sequenced later.
    """
    with work.place() as name, _sequenced(name) as log:
        yield _tasks(f"audit/durable-async-{TASKS}", log, n)
    with (
        work.place() as name,
        AuditLog.open(name, signer=None, mac=_MAC, spool_bytes=_ROOM_BYTES) as log,
    ):
        yield _tasks(f"audit/durable-async-{TASKS}-alone", log, n)


def _tasks(name: str, log: AuditLog, n: int) -> Row:
    samples: list[int] = []
    made = cycle([_entry() for _ in range(1_000)])

    async def caller() -> None:
        for _ in range(max(2, 20 * n // TASKS)):
            started = time.perf_counter_ns()
            await log.append_async(next(made), durability="group")
            samples.append(time.perf_counter_ns() - started)

    async def all_callers() -> int:
        started = time.perf_counter_ns()
        await asyncio.gather(*(caller() for _ in range(TASKS)))
        return time.perf_counter_ns() - started

    elapsed_ns = asyncio.run(all_callers())
    return row_of(name, samples, clock="wall", elapsed_ns=elapsed_ns)


@contextmanager
def _sequenced(directory: Path) -> Iterator[AuditLog]:
    """A log whose sequencer is another process."""
    process = sequencer(directory)
    try:
        with AuditLog.open(directory, signer=None, mac=_MAC) as log:
            yield log
    finally:
        process.communicate()


_WORKER = """
import sys, time
from pathlib import Path
from bench.audit import worker
worker(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3])
"""


def processes(n: int) -> Iterator[Row]:
    """Wall time of an append in 4 processes on one log, and a sequencer in one of its own."""
    for durability in ("relaxed", "group"):
        with work.place() as name:
            command = [sys.executable, "-c", _WORKER, str(name), str(max(20, n // PROCESSES))]
            process = sequencer(name)
            workers = [
                subprocess.Popen([*command, durability], stdout=subprocess.PIPE)
                for _ in range(PROCESSES)
            ]
            started = time.perf_counter_ns()
            samples = [int(line) for one in workers for line in one.communicate()[0].split()]
            elapsed_ns = time.perf_counter_ns() - started
            process.communicate()
            row = f"audit/processes-{PROCESSES}-{durability}"
            yield row_of(row, samples, clock="wall", elapsed_ns=elapsed_ns)


def _set_at_the_end(stop: threading.Event) -> None:
    sys.stdin.read()
    stop.set()


def sequencer(directory: Path) -> subprocess.Popen[bytes]:
    """The sequencer of a log in a process of its own, begun; it ends when its input does."""
    directory.mkdir(exist_ok=True)
    command = [sys.executable, "-c", _WORKER, str(directory), "0", "sequence"]
    process = subprocess.Popen(command, stdin=subprocess.PIPE)
    while not (directory / "checkpoint").exists():
        time.sleep(0.01)
    return process


def worker(directory: Path, n: int, durability: Durability | str) -> None:
    """One of the processes; prints its samples in nanoseconds."""
    if durability == "sequence":
        use_real_time_class()
        stop = threading.Event()
        threading.Thread(target=_set_at_the_end, args=(stop,), daemon=True).start()
        sequence_until(
            stop, directory, load_signer=lambda: _SIGNER, origin=None, clock=SYSTEM_CLOCK,
            rolling=Rolling(), anchors=(),
        )  # fmt: skip
        return
    samples = []
    with AuditLog.open(directory, signer=None, mac=_MAC) as log:
        append = _append(log, durability)  # type: ignore[arg-type]
        for number in range(n + 20):
            started = time.perf_counter_ns()
            append()
            if number >= 20:
                samples.append(time.perf_counter_ns() - started)
    print("\n".join(map(str, samples)))


def checking(n: int) -> Iterator[Row]:
    """Verifying a log, an inclusion proof in it, and what an entry takes on disk once sealed."""
    count = 200 * n
    with work.place() as name:
        write_log(name, count)
        key = SIGNER.verifier
        samples = []
        for _ in range(3):
            started = time.perf_counter_ns()
            report = verify(name, vkey=key)
            samples.append((time.perf_counter_ns() - started) // report.entries)
        assert report.ok, report.damages
        row = row_of("audit/verify", samples, clock="wall")
        row.per_s = round(1e9 / sorted(samples)[1], 1)
        row.figure = f"{report.entries:,} entries"
        yield row
        tiles = Tiles(name)
        checkpoint = parse((name / "checkpoint").read_bytes(), key)
        asked = cycle(range(0, checkpoint.size, max(1, checkpoint.size // (2 * n))))

        def prove() -> None:
            index = next(asked)
            proof = tiles.inclusion(index, checkpoint.size)
            leaf = tiles.leaf(index)
            assert is_included(leaf, index, checkpoint.size, proof=proof, root=checkpoint.root)

        row = measure("audit/prove", prove, n=n, clock="wall")
        row.figure = f"in {checkpoint.size:,} entries"
        yield row
        yield _size(name)


def _size(log: Path) -> Row:
    """Bytes on disk of the entries that are sealed, with tiles and checkpoints."""
    segments = segments_of(log)
    sealed = [segment for segment in segments if segment.path == segment.sealed]
    live = next(segment.first for segment in segments if segment.path == segment.live)
    entries_bytes = sum(segment.sealed.stat().st_size for segment in sealed)
    beside = [*(log / "tile").rglob("*"), log / "checkpoints"]
    beside_bytes = sum(path.stat().st_size for path in beside if path.is_file())
    json_bytes = sum(len(line) for segment in sealed for line in lines_of(segment.path))
    each = entries_bytes / max(live, 1)
    others = beside_bytes / max(live, 1)
    figure = (
        f"{each:.0f} bytes and {others:.0f} of tiles for {json_bytes / max(live, 1):.0f} of JSON"
    )
    return Row(
        name="audit/size-per-entry", n=live, clock="cpu", p50_us=0, p99_us=0, per_s=0,
        figure=figure,
    )  # fmt: skip


def _log(directory: Path) -> AuditLog:
    return AuditLog.open(directory, signer=_SIGNER, mac=_MAC)


def _append(log: AuditLog, durability: Durability) -> Callable[[], object]:
    return lambda: log.append(_entry(), durability=durability)


def _threads(
    name: str, append: Callable[[], object], *, callers: int, n: int, pace_s: float
) -> Row:
    samples: list[int] = []

    def caller() -> None:
        for _ in range(max(5, n // callers)):
            started = time.perf_counter_ns()
            append()
            samples.append(time.perf_counter_ns() - started)
            time.sleep(pace_s)

    threads = [threading.Thread(target=caller) for _ in range(callers)]
    started = time.perf_counter_ns()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return row_of(name, samples, clock="wall", elapsed_ns=time.perf_counter_ns() - started)


def _entry() -> Entry:
    """About 1 KB of JSON, as a call of a tool leaves it."""
    now_ns = time.time_ns()
    return Entry(
        kind="intent",
        decision_id=os.urandom(16).hex(),
        timestamp_ns=now_ns,
        timestamp=timestamp_of(now_ns),
        session_id="5f1d3c6a9b2e48d7a0c1f2e3d4b5a697",
        run_id="run-2026-11-21-000481",
        call_id="call_8f31c2d7",
        trace_id="4bf92f3577b34da6a3ce929d0e0e4736",
        span_id="00f067aa0ba902b7",
        point="pre_tool_call",
        principal={"id": "did:web:agents.example:clerk", "roles": ["clerk", "payments"],
                   "on_behalf_of": "user:4711", "delegation": ["did:web:agents.example:planner"]},
        tenant="acme-retail",
        purpose="refund",
        tool="transfer",
        effect="redact",
        reasons=[{"effect": "allow", "code": "payments.within_limit", "stage": "policy",
                  "message": "the amount is within the limit of the role", "pointers": ["/amount"]},
                 {"effect": "redact", "code": "pii.mask_in_tools", "stage": "policy",
                  "message": "personal data does not go into this tool", "pointers": ["/note"]}],
        obligations=[{"type": "redact", "entities": ["EMAIL_ADDRESS"], "operator": "replace"}],
        bundles={"guard": {"revision": "9f2c" * 16}},
        input={"amount": 129.5, "currency": "EUR", "to": "<IBAN_CODE>", "reference": "INV-20931",
               "note": "refund for order 48213, write to <EMAIL_ADDRESS> when it is done"},
        masked=["/input/to", "/input/note"],
        labels={"integrity": "trusted", "confidentiality": "internal"},
        metrics={"elapsed_ns": 63_120},
    )  # fmt: skip


ROWS: dict[Callable[[int], Iterator[Row]], tuple[str, ...]] = {
    appends: ("audit/append",),
    disk: ("disk/fdatasync", "disk/sqlite-wal"),
    durable: ("audit/durable-1", "audit/durable-16", "audit/durable-16-flat-out"),
    tasks: (f"audit/durable-async-{TASKS}", f"audit/durable-async-{TASKS}-alone"),
    processes: tuple(f"audit/processes-{PROCESSES}-{kind}" for kind in ("relaxed", "group")),
    checking: ("audit/verify", "audit/prove", "audit/size-per-entry"),
}
