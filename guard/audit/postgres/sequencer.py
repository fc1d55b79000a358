"""Taking what was handed over into the one sequence, in a transaction for each checkpoint.

At one time one process does it: the one whose connection holds an advisory lock. Every process may
try, and when the holder ends, or its connection breaks, another one goes on. A round, all of it in
one transaction, so that a checkpoint never covers an entry that is not there:

(1) take the oldest rows that were handed over, in the order of arrival;
(2) drop those that were taken before: their writer lost an answer and sent them again;
(3) give each its index, and store entry and tiles;
(4) sign what is there now, and store the checkpoint;
(5) delete the rows, and remember the next number of each writer.
"""

from __future__ import annotations

from collections.abc import Callable
from hashlib import sha256
from typing import Final

from ...clock import Clock
from ...errors import AuditFault, LogCorrupt
from ...keys.signing import Signer, is_key_name
from .. import checkpoint as notes
from ..checkpoint import Checkpoint
from ..frames import Frame
from ..merkle import EMPTY_ROOT, HASH_BYTES
from ..sequence import Rolling
from ..sequencer import entry_of
from ..tiles import TILE_HASHES, Edge, tile_path
from .handover import writer_of
from .store import Connection, Store, tile_of

__all__ = ["Sequencer"]

_SEQUENCER_LOCK: Final = 0x6775617264 << 8 | 2
_NS_PER_S: Final = 1_000_000_000
# A process that does not sequence asks this often whether it may.
_TRY_NS: Final = _NS_PER_S
# The holder of the lock asks for work twenty times a second.
PAUSE_MS_MAX: Final = 10_000
_BITS: Final = 8
_ADVICE: Final = "run `guard audit pull` and `guard audit verify`, and keep the database as it is"


class Sequencer:
    """Not thread-safe: `PostgresLog` holds a lock around every call."""

    def __init__(
        self, store: Store, *, load_signer: Callable[[], Signer], origin: str | None,
        clock: Clock, rolling: Rolling,
        on_checkpoint: Callable[[bytes, Checkpoint], None] | None = None,
    ) -> None:  # fmt: skip
        self._store = store
        self._load_signer = load_signer
        self._origin = origin
        self._clock = clock
        self._rolling = rolling
        self._on_checkpoint = on_checkpoint or (lambda note, checkpoint: None)
        self._connection: Connection | None = None
        self._signer: Signer | None = None
        self._name = ""
        self._edge: Edge | None = None  # of the stored tree, while this process sequences
        self._full: list[tuple[int, int, bytes]] = []
        self._next_try_ns = self._checkpoint_ns = clock.monotonic_ns()

    def round(self, *, sign: bool = False) -> bool:
        """Take what is due; whether this process may. With `sign`, all that is there.

        Raises AuditFault; LogCorrupt when what was signed is not there.
        """
        now_ns = self._clock.monotonic_ns()
        if self._edge is None and not sign and now_ns < self._next_try_ns:
            return False
        try:
            with self._store.faults("cannot sequence"):
                if self._edge is None and not self._hold():
                    self._next_try_ns = now_ns + _TRY_NS
                    return False
                while (sign or self._is_due()) and self._take():
                    pass
        except BaseException:
            # What was not committed did not happen: the next round reads anew what is stored.
            self.close()
            raise
        return True

    def close(self) -> None:
        """Give up the lock, with the connection; another process may go on."""
        connection, self._connection, self._edge = self._connection, None, None
        if connection is not None:
            self._store.give_up(connection)

    def abandon(self) -> None:
        """After a fork: the connection, and the lock with it, are the parent's."""
        if self._connection is not None:
            self._store.abandon(self._connection)
        self._connection = self._edge = None

    def _hold(self) -> bool:
        if self._connection is None:
            self._connection = self._store.connect()
            # A holder that is paused loses the lock, with its session, to one that is awake.
            self._connection.execute(f"SET idle_session_timeout = {PAUSE_MS_MAX}")
        connection = self._connection
        row = connection.execute("SELECT pg_try_advisory_lock(%s)", [_SEQUENCER_LOCK]).fetchone()
        if row is None or not row[0]:
            return False
        signer = self._signer = self._load_signer()
        _check_key(connection, signer)
        signed = _latest(connection, signer)
        if signed is None:
            self._name = self._origin or f"{signer.name}/{signer.verifier.key_id.hex()}"
            self._begin(connection, signer)
        else:
            self._name = signed.origin
            if self._origin not in (None, self._name) or not is_key_name(self._name):
                raise LogCorrupt(f"the log in the database is `{self._name}`, not `{self._origin}`")
        self._edge = self._stored(connection, signed or Checkpoint(self._name, 0, EMPTY_ROOT))
        return True

    def _begin(self, connection: Connection, signer: Signer) -> None:
        """An empty log: its key and a checkpoint of size 0, before the first entry."""
        with connection.transaction():
            connection.execute("INSERT INTO guard_audit.key (vkey) VALUES (%s)", [signer.vkey])
            self._sign(connection, Edge())

    def _stored(self, connection: Connection, signed: Checkpoint) -> Edge:
        """The right edge of the stored tree, with the signed root; raises LogCorrupt."""
        row = connection.execute("SELECT coalesce(max(index) + 1, 0) FROM guard_audit.entry")
        count = (row.fetchone() or (0,))[0]
        partials, rest, level = [], signed.size, 0
        while rest:
            rest, width = divmod(rest, TILE_HASHES)
            found = tile_of(connection, tile_path(level, rest, width)) if width else b""
            partials.append(found or b"")
            level += 1
        edge = Edge(signed.size, partials, lambda *tile: self._full.append(tile))
        widths = [signed.size >> (_BITS * level) & (TILE_HASHES - 1) for level in range(level)]
        is_whole = widths == [len(hashes) / HASH_BYTES for hashes in partials]
        if count != signed.size or not is_whole or edge.root() != signed.root:
            raise LogCorrupt(
                f"the log at {self._store.place} holds {count} entries and signs {signed.size}, or "
                f"its tiles are not what was signed: {_ADVICE}"
            )
        return edge

    def _is_due(self) -> bool:
        """Whether enough waits, or anything for long enough."""
        now_ns = self._clock.monotonic_ns()
        is_late = now_ns - self._checkpoint_ns >= self._rolling.checkpoint_interval_ns
        least = 1 if is_late else self._rolling.checkpoint_records
        assert self._connection is not None  # noqa: S101 it holds the lock
        query = "SELECT count(*) FROM (SELECT FROM guard_audit.handed LIMIT %s) AS waiting"
        row = self._connection.execute(query, [least]).fetchone()
        return row is not None and row[0] >= least

    def _take(self) -> bool:
        """One transaction; whether there may be more to take at once."""
        connection, edge = self._connection, self._edge
        assert connection is not None and edge is not None  # noqa: S101, PT018 it holds the lock
        records = self._rolling.checkpoint_records
        self._full.clear()
        with connection.transaction():
            # The sequencer's role may have chosen otherwise: what is signed is always durable.
            connection.execute("SET LOCAL synchronous_commit = on")
            rows = connection.execute(  # (1)
                "SELECT id, token, number, timestamp_ns, line FROM guard_audit.handed "
                "ORDER BY id LIMIT %s", [records],
            ).fetchall()  # fmt: skip
            if not rows:
                return False
            frames = [Frame(row[3], writer_of(row[1]), row[2], row[4]) for row in rows]
            lines = _new(connection, frames)
            signed = self._append(connection, edge, lines) if lines else None
            connection.execute(  # (5)
                "DELETE FROM guard_audit.handed WHERE id = ANY(%s)", [[row[0] for row in rows]]
            )
        self._checkpoint_ns = self._clock.monotonic_ns()
        if signed is not None:
            self._on_checkpoint(*signed)
        return len(rows) == records

    def _append(
        self, connection: Connection, edge: Edge, lines: list[bytes]
    ) -> tuple[bytes, Checkpoint]:
        """Steps (3) and (4).

        INVARIANT: the index is the primary key of `entry`: of two that hold themselves for the
        sequencer, one paused for long, only one can commit, and the other one begins anew.
        """
        old = {tile_path(*at, len(data) // HASH_BYTES) for at, data in edge.partials().items()}
        with connection.cursor().copy("COPY guard_audit.entry (index, line) FROM STDIN") as copy:
            for index, line in enumerate(lines, edge.size):
                copy.write_row((index, line))
        edge.append(b"".join([sha256(b"\x00" + line).digest() for line in lines]))
        new = {tile_path(level, number): hashes for level, number, hashes in self._full}
        new |= {tile_path(*at, len(data) // HASH_BYTES): data
                for at, data in edge.partials().items()}  # fmt: skip
        connection.execute(
            "DELETE FROM guard_audit.tile WHERE name = ANY(%s)", [list(old - new.keys())]
        )
        connection.execute(
            "INSERT INTO guard_audit.tile (name, hashes) SELECT * FROM unnest(%s::text[], "
            "%s::bytea[]) ON CONFLICT DO NOTHING", [list(new), list(new.values())],
        )  # fmt: skip
        return self._sign(connection, edge)

    def _sign(self, connection: Connection, edge: Edge) -> tuple[bytes, Checkpoint]:
        assert self._signer is not None  # noqa: S101 it was loaded with the lock
        checkpoint = Checkpoint(self._name, edge.size, edge.root())
        note = notes.sign(checkpoint, self._signer)
        connection.execute(
            "INSERT INTO guard_audit.checkpoint (size, note) VALUES (%s, %s)", [edge.size, note]
        )
        return note, checkpoint


def _new(connection: Connection, frames: list[Frame]) -> list[bytes]:
    """The entries of what was not taken before (2), and the numbers of their writers (5)."""
    writers = list({frame.writer for frame in frames})
    known: dict[str, int] = dict(
        connection.execute(
            "SELECT writer, next FROM guard_audit.writer WHERE writer = ANY(%s)", [writers]
        ).fetchall()
    )
    lines = []
    for frame in frames:
        # A number that is too high is taken: rows were removed, and a verifier will say so.
        if frame.number >= known.get(frame.writer, 0):
            known[frame.writer] = frame.number + 1
            lines.append(entry_of(frame))
    connection.execute(
        "INSERT INTO guard_audit.writer (writer, next) SELECT * FROM unnest(%s::text[], "
        "%s::bigint[]) ON CONFLICT (writer) DO UPDATE SET next = excluded.next",
        [list(known), list(known.values())],
    )
    return lines


def _check_key(connection: Connection, signer: Signer) -> None:
    query = "SELECT vkey FROM guard_audit.key ORDER BY id DESC LIMIT 1"
    row = connection.execute(query).fetchone()
    if row is not None and row[0] != signer.vkey:
        raise AuditFault(
            f"the log in the database is signed by `{row[0]}` and the key at hand is "
            f"`{signer.vkey}`: use that key"
        )


def _latest(connection: Connection, signer: Signer) -> Checkpoint | None:
    query = "SELECT note FROM guard_audit.checkpoint ORDER BY size DESC LIMIT 1"
    row = connection.execute(query).fetchone()
    if row is not None:
        return notes.parse(row[0], signer.verifier)
    if connection.execute("SELECT FROM guard_audit.entry LIMIT 1").fetchone() is not None:
        raise LogCorrupt(f"the log in the database has entries and no checkpoint: {_ADVICE}")
    return None
