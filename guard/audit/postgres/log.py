"""The audit log on PostgreSQL: many hosts append to one log with one tree.

The same as `AuditLog`, with a server in the place of a directory. `append` returns when the server
has the entry, so a process that is killed loses nothing; `durability` says what a crash of the
server, or a power failure there, can take:

relaxed  what came last, and only when the process that handed it over is lost as well
group    nothing: durable before `append` returns, one commit for all who wait at that time
sync     nothing: the same; a commit of its own where the entry was handed over before
"""

from __future__ import annotations

import atexit
import os
import threading
import time
import weakref
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Final

from ...clock import SYSTEM_CLOCK, Clock
from ...errors import AuditFault
from ...keys.signing import Mac, Signer, is_key_name
from ..anchors import Anchor, Publisher
from ..durable import Commits
from ..entry import Entry, encode
from ..log import Commit, Durability
from ..rounds import TICK_MS, Rounds
from ..sequence import Rolling
from .handover import Handover
from .sequencer import Sequencer
from .store import Store

__all__ = ["PostgresLog"]

# How long `checkpoint` waits for a sequencer in another process.
WAIT_MS_MAX: Final = 5_000


class PostgresLog:
    """An append-only log in a database that many processes and hosts share. Open with `open`."""

    def __init__(
        self, store: Store, *, load_signer: Callable[[], Signer] | None, commit: Commit,
        origin: str | None, clock: Clock, durability: Durability, rolling: Rolling,
        anchors: Sequence[Anchor], directory: Path,
    ) -> None:  # fmt: skip
        self.directory = directory
        self._store = store
        self._commit = commit
        self._durability = durability
        self._is_closed = False
        is_publishing = bool(load_signer and anchors)
        self._publisher = (
            Publisher(anchors, on_cosigned=store.keep_cosigned, clock=clock)
            if is_publishing
            else None
        )
        sequencer = (
            Sequencer(
                store, load_signer=load_signer, origin=origin, clock=clock, rolling=rolling,
                on_checkpoint=self._publisher.submit if self._publisher else None,
            )
            if load_signer is not None
            else None
        )  # fmt: skip
        self._rounds = Rounds(sequencer)
        self._start_lock = threading.Lock()
        self._rounds.run(sign=True)
        self._handover: Handover | None = None
        self._start()
        _OPEN_LOGS.add(self)
        atexit.register(self.close)

    @classmethod
    def open(
        cls,
        dsn: str,
        *,
        signer: Signer | Callable[[], Signer] | None,
        mac: Mac,
        commit: Commit | None = None,
        origin: str | None = None,
        clock: Clock = SYSTEM_CLOCK,
        durability: Durability = "relaxed",
        rolling: Rolling | None = None,
        anchors: Sequence[Anchor] = (),
        directory: Path = Path(),
    ) -> PostgresLog:
        """Continue the log in the database of `dsn` (or `env:NAME`), or begin one.

        With `signer` (or what loads it) this process sequences while no other one does, in a
        thread; with None it only hands over, and its role needs no more than that. The rest is as
        in `AuditLog.open`; segments are made in `directory`, when it is pulled to there.
        Raises ConfigError for a DSN that cannot be read or a role that may not, LogCorrupt when
        what was signed is not there, AuditFault when the server cannot be reached.
        """
        if origin is not None and not is_key_name(origin):
            raise AuditFault("the origin of a log is a name without spaces, such as `guard/audit`")
        if durability not in ("relaxed", "group", "sync"):
            raise AuditFault(f"unknown durability `{durability}`: expected relaxed, group or sync")
        store = Store(dsn)
        with store.connect() as connection:
            store.prepare(connection)
        return cls(
            store,
            load_signer=(lambda: signer) if isinstance(signer, Signer) else signer,
            commit=commit or (lambda _, data: mac.commit(data)), origin=origin, clock=clock,
            durability=durability, rolling=rolling or Rolling(), anchors=anchors,
            directory=directory,
        )  # fmt: skip

    @property
    def writer(self) -> str:
        """Who this process is in the entries it hands over."""
        return self._started().writer

    def append(self, entry: Entry, *, durability: Durability | None = None) -> int:
        """Number of the entry among those of this process; raises AuditFault.

        When it raises, the entry may be in the log although nobody may act on it.
        """
        data, is_durable = self._encoded(entry, durability)
        return self._started().append(data, entry.timestamp_ns, is_durable=is_durable)

    async def append_async(self, entry: Entry, *, durability: Durability | None = None) -> int:
        """The same for a task: it waits without holding the loop, and shares the commit."""
        data, is_durable = self._encoded(entry, durability)
        handover = self._started()
        return await handover.append_async(data, entry.timestamp_ns, is_durable=is_durable)

    def wait(self, number: int, durability: Durability) -> None:
        """Return when entry `number` of this process is as durable as that; raises AuditFault."""
        if durability == "group":
            self._commits.wait(number)
        elif durability == "sync":
            self._started().sync()

    async def wait_async(self, number: int, durability: Durability) -> None:
        """The same for a task."""
        if durability != "relaxed":
            await self._commits.wait_async(number)

    def checkpoint(self) -> str:
        """Sign all that was handed over until now; the signed note, to be kept elsewhere.

        Raises AuditFault when neither this process nor another one does it in time.
        """
        handover = self._handover
        number = handover.next if handover is not None else 0
        deadline = time.monotonic() + WAIT_MS_MAX / 1_000
        while not self._rounds.run(sign=True) and handover and handover.taken() < number:
            if time.monotonic() > deadline:
                raise AuditFault(
                    f"no sequencer took the entries of {self._store.place} for {WAIT_MS_MAX} ms: "
                    "start one, or see why it waits"
                )
            time.sleep(TICK_MS / 1_000)
        with self._store.connect() as connection, self._store.faults("cannot read"):
            query = "SELECT note FROM guard_audit.checkpoint ORDER BY size DESC LIMIT 1"
            row = connection.execute(query).fetchone()
        if row is None:
            raise AuditFault(f"no sequencer has begun the log at {self._store.place}: start one")
        return bytes(row[0]).decode()

    def close(self) -> None:
        """Sign what was handed over, if this process may, and let go. Twice does nothing."""
        if self._is_closed:
            return
        self._rounds.refuse_reentry()
        self._is_closed = True
        atexit.unregister(self.close)
        _OPEN_LOGS.discard(self)
        self._rounds.stop()
        try:
            self._rounds.run(sign=True)
        finally:
            if self._handover is not None:
                self._handover.close()
            self._rounds.close()
            self._commits.close()
            if self._publisher is not None:
                self._publisher.close()

    def __enter__(self) -> PostgresLog:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def _encoded(self, entry: Entry, durability: Durability | None) -> tuple[bytes, bool]:
        data = encode(entry, partial(self._commit, entry))
        if self._rounds.fault is not None:
            # The sequencer failed behind an append that had succeeded: nothing goes on before it
            # has mended itself, or another process is the sequencer.
            self._rounds.run()
        return data, (durability or self._durability) != "relaxed"

    def _started(self) -> Handover:
        handover = self._handover
        if handover is not None:
            return handover
        with self._start_lock:
            return self._handover or self._start()

    def _start(self) -> Handover:
        if self._is_closed:
            raise AuditFault("the audit log is closed: open it again to append")
        handover = self._handover = Handover(self._store)
        self._commits = Commits(handover.sync)
        self._rounds.start()
        return handover

    def _after_fork(self) -> None:
        """In the child: the parent's connections are not ours; the next append opens another."""
        handover, self._handover = self._handover, None
        self._start_lock = threading.Lock()
        if handover is not None:
            handover.abandon()
        self._rounds.abandon()


_OPEN_LOGS: Final[weakref.WeakSet[PostgresLog]] = weakref.WeakSet()


def _after_fork_in_child() -> None:
    for log in list(_OPEN_LOGS):
        log._after_fork()


os.register_at_fork(after_in_child=_after_fork_in_child)
