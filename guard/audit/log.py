"""The audit log: append an entry, get its index; every second or thousand entries are signed.

`append` hands the whole line to the operating system before it returns, so a killed process loses
nothing. With durability "sync" it is on the disk as well; with "relaxed" a power failure can take
what came after the last checkpoint. There is no thread and no queue: a flusher thread in a busy
Python process waits for the interpreter lock far longer than a write takes.
"""

from __future__ import annotations

import atexit
import os
import secrets
import threading
import weakref
from hashlib import sha256
from pathlib import Path
from threading import get_ident
from typing import Final, Literal

from ..clock import SYSTEM_CLOCK, Clock
from ..errors import AuditFault
from ..keys.signing import Mac, Signer, is_key_name
from .entry import Entry, encode, timestamp_of
from .recover import Torn
from .writer import Writer, open_writer

__all__ = ["AuditLog", "Durability"]

Durability = Literal["relaxed", "sync"]

# A segment is read whole by nobody; 64 MiB is about 50,000 entries and a second of verification.
SEGMENT_BYTES_MAX: Final = 64 * 1024 * 1024
# What a thief of the disk can cut off unseen is what came after the last checkpoint.
CHECKPOINT_RECORDS: Final = 1_000
CHECKPOINT_INTERVAL_MS: Final = 1_000
_NS_PER_MS: Final = 1_000_000


class AuditLog:
    """An append-only log below a directory that several processes may share. Open with `open`."""

    _holder: int  # the thread inside the append lock, 0 for none
    _signer_thread: int  # the thread that was last inside the checkpoint lock
    _checkpoint_ns: int
    _is_overdue: bool

    def __init__(
        self, directory: Path, *, signer: Signer, mac: Mac, origin: str, clock: Clock,
        durability: Durability, segment_bytes_max: int, checkpoint_records: int,
        checkpoint_interval_ms: int,
    ) -> None:  # fmt: skip
        self.directory = directory
        self._signer = signer
        self._commit = mac.commit
        self._origin = origin
        self._clock = clock
        self._is_sync = durability == "sync"
        self._segment_bytes_max = segment_bytes_max
        self._checkpoint_records = checkpoint_records
        self._checkpoint_interval_ns = checkpoint_interval_ms * _NS_PER_MS
        self._is_closed = False
        self._writer: Writer | None = None
        self._begin()
        self._start()
        _OPEN_LOGS.add(self)
        atexit.register(self.close)

    @classmethod
    def open(
        cls,
        directory: Path | str,
        *,
        signer: Signer,
        mac: Mac,
        origin: str = "guard/audit",
        clock: Clock = SYSTEM_CLOCK,
        durability: Durability = "relaxed",
        segment_bytes_max: int = SEGMENT_BYTES_MAX,
        checkpoint_records: int = CHECKPOINT_RECORDS,
        checkpoint_interval_ms: int = CHECKPOINT_INTERVAL_MS,
    ) -> AuditLog:
        """Continue the first log of `directory` that no process holds, or begin one.

        Raises LogCorrupt when what was signed is not there, AuditFault when nothing can be written.
        """
        if not is_key_name(origin):
            raise AuditFault("the origin of a log is a name without spaces, such as `guard/audit`")
        if durability not in ("relaxed", "sync"):
            raise AuditFault(f"unknown durability `{durability}`: expected relaxed or sync")
        return cls(
            Path(directory), signer=signer, mac=mac, origin=origin, clock=clock,
            durability=durability, segment_bytes_max=segment_bytes_max,
            checkpoint_records=checkpoint_records, checkpoint_interval_ms=checkpoint_interval_ms,
        )  # fmt: skip

    @property
    def path(self) -> Path:
        """The directory of the log that this process writes, `<directory>/log-NN`."""
        with self._lock:
            return (self._writer or self._opened()).log

    def append(self, entry: Entry) -> int:
        """Index of the entry in this process's log; raises AuditFault, and then it is not in it."""
        data = encode(entry, self._commit)
        leaf = sha256(b"\x00" + data).digest()
        if self._is_overdue:
            # The checkpoint failed after an append that had succeeded: nothing goes on before it.
            self.checkpoint()
        thread = get_ident()
        if self._holder == thread and self._lock.locked():
            raise _reentered()
        # INVARIANT: locks are taken by `with` on the lock itself. An exception that a signal raises
        # between any other acquire and its `try` would leave the lock held for ever.
        with self._lock:
            self._holder = thread
            try:
                writer = self._writer or self._opened()
                index = writer.append(data + b"\n", leaf)
            finally:
                self._holder = 0
        if (
            index + 1 - writer.checkpointed >= self._checkpoint_records
            or self._clock.monotonic_ns() - self._checkpoint_ns >= self._checkpoint_interval_ns
        ):
            self._checkpoint_when_free()
        return index

    def checkpoint(self) -> str:
        """Sign what is in the log now; the signed note, to be kept elsewhere. Raises AuditFault."""
        thread = self._refuse_reentry()
        with self._checkpoint_lock:
            self._signer_thread = thread
            return self._checkpoint().decode()

    def close(self) -> None:
        """Sign what is in the log and release it. A second close does nothing."""
        if self._is_closed:
            return
        thread = self._refuse_reentry()
        self._is_closed = True
        atexit.unregister(self.close)
        _OPEN_LOGS.discard(self)
        with self._checkpoint_lock:
            self._signer_thread = thread
            writer = self._writer
            if writer is None:  # a forked child that never appended
                return
            try:
                if writer.checkpointed != writer.tree.size:
                    self._checkpoint()
            finally:
                with self._lock:
                    self._writer = None
                    writer.close()

    def __enter__(self) -> AuditLog:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def _begin(self) -> None:
        """State of this process; after a fork the child has its own."""
        self._lock = threading.Lock()
        # Lock order: checkpoint, then append. A checkpoint syncs and signs beside appends.
        self._checkpoint_lock = threading.Lock()
        self._holder = self._signer_thread = 0
        self._checkpoint_ns = self._clock.monotonic_ns()
        self._is_overdue = False

    def _refuse_reentry(self) -> int:
        """This thread; a signal handler inside an append or a checkpoint must not wait for it."""
        thread = get_ident()
        if (self._holder == thread and self._lock.locked()) or (
            self._signer_thread == thread and self._checkpoint_lock.locked()
        ):
            raise _reentered()
        return thread

    def _start(self) -> Writer:
        writer = open_writer(
            self.directory, signer=self._signer, origin=self._origin, is_sync=self._is_sync,
            segment_bytes_max=self._segment_bytes_max,
        )  # fmt: skip
        self._writer = writer
        if writer.torn:
            data = encode(_recovery(writer.torn, self._clock.now_ns()), self._commit)
            writer.append(data + b"\n", sha256(b"\x00" + data).digest())
        return writer

    def _opened(self) -> Writer:
        if self._is_closed:
            raise AuditFault("the audit log is closed: open it again to append")
        return self._writer or self._start()

    def _checkpoint_when_free(self) -> None:
        if self._checkpoint_lock.locked():
            return  # another thread is at it
        thread = get_ident()
        with self._checkpoint_lock:
            self._signer_thread = thread
            try:
                self._checkpoint()
            except AuditFault:
                # The entry just appended is in the log; the next append meets the fault.
                self._is_overdue = True

    def _checkpoint(self) -> bytes:
        thread = get_ident()
        with self._lock:
            self._holder = thread
            try:
                writer = self._writer or self._opened()
                snapshot = writer.snapshot()
            finally:
                self._holder = 0
        note = writer.store(snapshot)
        self._checkpoint_ns = self._clock.monotonic_ns()
        self._is_overdue = False
        return note

    def _after_fork(self) -> None:
        """In the child: the parent's log is not ours; the next append opens another one."""
        writer, self._writer = self._writer, None
        self._begin()
        if writer is not None:
            writer.abandon()


def _recovery(torn: tuple[Torn, ...], now_ns: int) -> Entry:
    """The entry that says what a crash left behind."""
    return Entry(
        kind="recovery",
        decision_id=secrets.token_hex(16),
        timestamp_ns=now_ns,
        timestamp=timestamp_of(now_ns),
        point="audit",
        principal={"id": "guard"},
        effect="none",
        notes=[
            f"{piece.size_bytes} bytes of an unfinished write at byte {piece.offset} "
            f"were moved to {piece.moved_to}"
            for piece in torn
        ],
        metrics={"torn_bytes": sum(piece.size_bytes for piece in torn)},
    )


def _reentered() -> AuditFault:
    return AuditFault(
        "the audit log was asked for an entry while it writes one: expected no governed call in a "
        "signal handler; set a flag there and act on it outside"
    )


_OPEN_LOGS: Final[weakref.WeakSet[AuditLog]] = weakref.WeakSet()


def _after_fork_in_child() -> None:
    for log in list(_OPEN_LOGS):
        log._after_fork()


os.register_at_fork(after_in_child=_after_fork_in_child)
