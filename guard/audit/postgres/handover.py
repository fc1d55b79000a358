"""The writer's side: entries go to the server in one insert for all who wait at that time.

There is no thread: who comes first sends what is there, in one transaction, and the others find
theirs sent. One batch is on its way at a time, so the numbers of a writer reach the server in order
and without a gap. What a server that crashes may lose (relaxed entries) is kept here until it is
durable, and sent again over the next connection: the sequencer takes a number once.
"""

from __future__ import annotations

import asyncio
import secrets
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from hashlib import sha256
from typing import Final

import msgspec

from ...errors import AuditFault
from ..entry import stamp
from ..spool import reentered
from .store import Connection, Store

__all__ = ["Handover", "writer_of"]

TOKEN_BYTES: Final = 32
# Entries in one insert, and entries that wait for one: then it is a fault.
BATCH_MAX: Final = 256
WAITING_MAX: Final = 4_096
# Entries that are kept to be sent again; then one insert is made durable, which makes all so.
UNSYNCED_MAX: Final = 256
# Entries of one writer that no sequencer took yet: a minute of a busy process; then it is a fault.
UNTAKEN_MAX: Final = 50_000
# A server that was away is not asked again before this: meanwhile a call learns so at once.
RETRY_MS: Final = 500
# One turn is at most two connections and three statements, each bounded in store.py.
TURN_S_MAX: Final = 60
# The setting ends with the transaction, which is this statement.
_INSERT: Final = """
INSERT INTO guard_audit.handed (token, number, timestamp_ns, line)
SELECT %b, number, timestamp_ns, line
FROM unnest(%b::bigint[], %b::bigint[], %b::bytea[]) AS t (number, timestamp_ns, line),
     set_config('synchronous_commit', %s, true)
ON CONFLICT DO NOTHING"""
# A commit is durable with all commits before it, but only when it has written something.
_SYNC: Final = """
SELECT pg_logical_emit_message(true, 'guard', ''), set_config('synchronous_commit', 'on', true)"""


class _Handed(msgspec.Struct, frozen=True):
    number: int
    timestamp_ns: int
    line: bytes


class _Item(msgspec.Struct):
    """An entry that waits to be sent; `done` gives its number, or why it has none."""

    bare: bytes
    timestamp_ns: int
    is_durable: bool
    done: Future[int]


class _Lost(AuditFault):
    """The connection broke before the answer came."""


class Handover:
    """Where one process hands over its entries. Threads share it; a child after a fork does not."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._token = secrets.token_bytes(TOKEN_BYTES)
        self.writer = writer_of(self._token)
        self.next = 0
        self._durable = 0
        self._taken = 0
        self._waiting: deque[_Item] = deque()
        self._unsynced: list[_Handed] = []
        self._connection: Connection | None = None
        self._away_until = 0.0
        self._away = ""
        self._is_closed = False
        self._changed = threading.Condition(threading.Lock())
        self._holder = 0  # the thread whose turn it is
        self._executor: ThreadPoolExecutor | None = None

    def append(self, bare: bytes, timestamp_ns: int, *, is_durable: bool) -> int:
        """Number of the entry, once the server has it; raises AuditFault.

        When it raises because an answer was lost, the entry may be in the log.
        """
        item = self._queued(bare, timestamp_ns, is_durable=is_durable)
        self._send_until(item)
        return item.done.result()

    async def append_async(self, bare: bytes, timestamp_ns: int, *, is_durable: bool) -> int:
        """The same for a task: a thread beside the loop sends, for all tasks that wait."""
        item = self._queued(bare, timestamp_ns, is_durable=is_durable)
        self._beside().submit(self._send_until, item)
        return await asyncio.wrap_future(item.done)

    def sync(self) -> int:
        """Make everything sent so far durable; how many entries that are. Raises AuditFault."""
        with self._alone():
            if self._durable < self.next:
                self._exchange([], is_durable=True)
            return self._durable

    def taken(self) -> int:
        """How many entries the log has; raises AuditFault."""
        with self._alone():
            return self._read_taken()

    def close(self) -> None:
        """Let go. What was sent is with the server."""
        with self._alone():
            self._is_closed = True
            self._drop()
        if self._executor is not None:
            self._executor.shutdown(wait=False)

    def abandon(self) -> None:
        """After a fork: the connection is the parent's."""
        if self._connection is not None:
            self._store.abandon(self._connection)

    def _beside(self) -> ThreadPoolExecutor:
        if self._executor is None:
            self._executor = ThreadPoolExecutor(1, thread_name_prefix="guard-audit-send")
        return self._executor

    def _queued(self, bare: bytes, timestamp_ns: int, *, is_durable: bool) -> _Item:
        self._refuse_reentry()
        if len(self._waiting) >= WAITING_MAX:
            raise AuditFault(
                f"{WAITING_MAX} entries wait to be sent to the audit log at "
                f"{self._store.place}: the server is too slow for so many callers"
            )
        item = _Item(bare, timestamp_ns, is_durable, Future())
        item.done.set_running_or_notify_cancel()  # a task that is cancelled takes nothing back
        self._waiting.append(item)
        return item

    def _send_until(self, item: _Item) -> None:
        """Send what waits, or wait for who is sending, until `item` is done."""
        while not item.done.done():
            with self._alone(unless=item.done.done) as is_ours:
                if is_ours:
                    size = min(len(self._waiting), BATCH_MAX)
                    self._send([self._waiting.popleft() for _ in range(size)])

    @contextmanager
    def _alone(self, unless: Callable[[], bool] = lambda: False) -> Iterator[bool]:
        """Use the connection while nobody else does; False once there is no need to.

        Who waits is woken by every end of a turn: with a lock in its place, the thread that just
        sent would take it again at once, for one entry, before those it has served are awake.
        """
        self._refuse_reentry()
        thread = threading.get_ident()
        try:
            # INVARIANT: the turn is taken inside the `try`, so a signal cannot leave it taken.
            with self._changed:
                while self._holder and not unless():
                    if not self._changed.wait(TURN_S_MAX):
                        raise AuditFault(
                            f"the audit log at {self._store.place} took more than {TURN_S_MAX} s "
                            "for one insert: look at the server"
                        )
                if not unless():
                    self._holder = thread
            yield self._holder == thread
        finally:
            if self._holder == thread:
                with self._changed:
                    self._holder = 0
                    self._changed.notify_all()

    def _send(self, batch: list[_Item]) -> None:
        try:
            self._refuse_backlog()
            handed = [
                _Handed(number, item.timestamp_ns, stamp(item.bare, self.writer, number))
                for number, item in enumerate(batch, self.next)
            ]
            self._exchange(handed, is_durable=any(item.is_durable for item in batch))
        except AuditFault as fault:
            for item in batch:
                item.done.set_exception(fault)
        except BaseException:
            # A signal: what came of the batch is not known to those who wait.
            for item in batch:
                item.done.set_exception(AuditFault("the audit log was interrupted: ask again"))
            raise
        else:
            for entry, item in zip(handed, batch, strict=True):
                item.done.set_result(entry.number)

    def _exchange(self, handed: list[_Handed], *, is_durable: bool) -> None:
        """Hand `handed` to the server; raises AuditFault.

        INVARIANT: a number whose fate is not known is spent, and stays in `_unsynced` until a
        durable commit: over the next connection it is sent again, byte for byte, before any other.
        """
        is_durable = is_durable or len(self._unsynced) >= UNSYNCED_MAX
        is_unknown = False
        try:
            try:
                self._execute(self._connected(), handed, is_durable=is_durable)
            except _Lost:
                is_unknown = True
                # The server may have been started anew since the last entry: once more.
                self._execute(self._connected(), handed, is_durable=is_durable)
        except BaseException as error:
            if not isinstance(error, AuditFault):  # a signal
                self._drop()
                is_unknown = True
            if is_unknown:
                self._keep(handed)
            raise
        self._keep(handed)
        if is_durable:
            self._all_durable()

    def _execute(self, connection: Connection, rows: list[_Handed], *, is_durable: bool) -> None:
        """One transaction; raises _Lost when it is not known whether it was committed."""
        try:
            with self._store.faults("cannot write to"):
                if not rows:
                    connection.execute(_SYNC)
                    return
                columns = [
                    [row.number for row in rows],
                    [row.timestamp_ns for row in rows],
                    [row.line for row in rows],
                ]
                durably = "on" if is_durable else "off"
                connection.execute(_INSERT, [self._token, *columns, durably])
        except AuditFault as fault:
            if (
                connection.pgconn.transaction_status
                != self._store.psycopg.pq.TransactionStatus.IDLE
            ):
                self._drop()
                raise _Lost(str(fault)) from None
            raise

    def _keep(self, handed: list[_Handed]) -> None:
        self._unsynced += handed
        self.next += len(handed)

    def _all_durable(self) -> None:
        self._unsynced.clear()
        self._durable = self.next

    def _refuse_backlog(self) -> None:
        if self.next - self._taken < UNTAKEN_MAX:
            return
        self._taken = self._read_taken()
        if self.next - self._taken >= UNTAKEN_MAX:
            raise AuditFault(
                f"{UNTAKEN_MAX} entries wait for the sequencer of the audit log at "
                f"{self._store.place}: see that one runs, and that its role may write"
            )

    def _read_taken(self) -> int:
        query = "SELECT next FROM guard_audit.writer WHERE writer = %s"
        connection = self._connected()
        try:
            with self._store.faults("cannot read"):
                row = connection.execute(query, [self.writer]).fetchone()
        except AuditFault:
            self._drop()  # a read takes nothing along: the next call begins anew
            raise
        return int(row[0]) if row is not None else 0

    def _connected(self) -> Connection:
        """The connection, if need be a new one, over which all that was sent is sent again."""
        if self._is_closed:
            raise AuditFault("the audit log is closed: open it again to append")
        if self._connection is not None:
            return self._connection
        if time.monotonic() < self._away_until:
            raise AuditFault(self._away)
        try:
            connection = self._connection = self._store.connect()
            if self._unsynced:
                self._execute(connection, self._unsynced, is_durable=True)
                self._all_durable()
        except AuditFault as fault:
            self._drop()
            self._away_until, self._away = time.monotonic() + RETRY_MS / 1_000, str(fault)
            # What was to be sent next was not: its fate is known.
            raise AuditFault(str(fault)) from None
        return connection

    def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            self._store.give_up(connection)

    def _refuse_reentry(self) -> None:
        """A signal handler inside a send must not wait for it."""
        if self._holder == threading.get_ident():
            raise reentered()


def writer_of(token: bytes) -> str:
    """The name of the writer that has this secret."""
    return sha256(token).hexdigest()[:16]
