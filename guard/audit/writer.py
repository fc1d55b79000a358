"""One log that this process owns: its lock, its files, its tree, and what to do when a write fails.

Not thread-safe: `AuditLog` holds the lock around everything but `store`.
"""

from __future__ import annotations

import errno
import fcntl
import os
from pathlib import Path
from typing import Final, NoReturn

import msgspec

from ..errors import AuditFault
from ..keys.signing import Signer
from . import checkpoint as notes
from .checkpoint import Checkpoint
from .files import (
    CHECKPOINT,
    HISTORY,
    LOCK,
    LOGS_MAX,
    Segment,
    log_name,
    replace_file,
    sync_directory,
    write_whole,
)
from .merkle import HASH_BYTES
from .recover import Recovered, Torn, recover

__all__ = ["Snapshot", "Writer", "open_writer"]

# Descriptors of records and hashes, index of the first entry, bytes of whole entries. One value, so
# that no signal can find half of it changed.
_Place = tuple[int, int, int, int]

_APPEND: Final = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC


class Snapshot(msgspec.Struct, frozen=True):
    """The tree at one moment, and descriptors of the files to make durable before it is signed.

    The descriptors are duplicates, so that a new segment does not close them under a checkpoint.
    """

    size: int
    root: bytes
    descriptors: tuple[int, ...]


def open_writer(
    directory: Path, *, signer: Signer, origin: str, is_sync: bool, segment_bytes_max: int
) -> Writer:
    """The first log below `directory` that no other process holds, checked and ready to append."""
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        for number in range(LOGS_MAX):
            log = directory / log_name(number)
            log.mkdir(mode=0o700, exist_ok=True)
            lock = _try_lock(log / LOCK)
            if lock is None:
                continue
            try:
                recovered = recover(log, signer, f"{origin}/{log.name}")
                return Writer(
                    log, recovered, lock=lock, signer=signer, origin=f"{origin}/{log.name}",
                    is_sync=is_sync, segment_bytes_max=segment_bytes_max,
                )  # fmt: skip
            except BaseException:
                os.close(lock)
                raise
    except OSError as error:
        raise AuditFault(
            f"cannot write an audit log in {directory}: {error.strerror}; "
            "name a directory of this user with room, as `directory` in [audit]"
        ) from error
    raise AuditFault(f"{LOGS_MAX} processes already write to {directory}: use another directory")


def _try_lock(path: Path) -> int | None:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


class Writer:
    """Appends whole lines and keeps tree, files and hashes in step, whatever interrupts it."""

    def __init__(
        self, log: Path, recovered: Recovered, *, lock: int, signer: Signer, origin: str,
        is_sync: bool, segment_bytes_max: int,
    ) -> None:  # fmt: skip
        self.log = log
        self.tree = recovered.tree
        self.checkpointed = recovered.checkpointed
        self.torn: tuple[Torn, ...] = recovered.torn
        self._lock = lock
        self._signer = signer
        self._origin = origin
        self._is_sync = is_sync
        self._segment_bytes_max = segment_bytes_max
        self._pending: list[bytes] = []  # leaf hashes not yet in their file
        self._undo: tuple[tuple[int, tuple[bytes, ...]], _Place, int] | None = None
        self._broken: str | None = None
        self._history = os.open(log / HISTORY, _APPEND, 0o600)
        try:
            self._history_bytes = os.fstat(self._history).st_size
            self._place = _open_segment(recovered.segment, recovered.segment_bytes)
        except BaseException:
            os.close(self._history)
            raise

    def append(self, line: bytes, leaf: bytes) -> int:
        """Index of the entry whose line was handed to the operating system; raises AuditFault.

        When it raises, the entry is not in the log.
        """
        self._settle()
        place = self._place
        if place[3] and place[3] + len(line) > self._segment_bytes_max:
            place = self._start_segment()
        records, hashes, first, size_bytes = place
        # INVARIANT: until the undo is dropped, whatever happens leads back to the state before.
        self._undo = (self.tree.state, place, len(self._pending))
        try:
            written = os.write(records, line)
            if written != len(line):
                write_whole(records, line[written:])
            self.tree.append(leaf)
            self._pending.append(leaf)
            self._place = (records, hashes, first, size_bytes + len(line))
            if self._is_sync:
                self._sync(records)
        except OSError as error:
            self._refuse(error)
        self._undo = None
        return self.tree.size - 1

    def snapshot(self) -> Snapshot:
        """What the next checkpoint signs; `store` takes it, and closes its descriptors."""
        self._settle()
        try:
            self._flush_hashes()
            records, hashes, _, _ = self._place
            first = os.dup(records)
            try:
                second = os.dup(hashes)
            except OSError:
                os.close(first)
                raise
        except OSError as error:
            raise self._fault(error) from error
        return Snapshot(self.tree.size, self.tree.root(), (first, second))

    def store(self, snapshot: Snapshot) -> bytes:
        """Make the entries durable, then sign and store a checkpoint over them: the signed note.

        May run beside `append`, but not beside itself.
        """
        try:
            # INVARIANT: a checkpoint on disk never covers an entry that is not on disk.
            for descriptor in snapshot.descriptors:
                self._sync(descriptor)
            note = notes.sign(Checkpoint(self._origin, snapshot.size, snapshot.root), self._signer)
            os.ftruncate(self._history, self._history_bytes)
            write_whole(self._history, note + b"\n")
            self._sync(self._history)
            self._history_bytes += len(note) + 1
            replace_file(self.log / CHECKPOINT, note)
        except OSError as error:
            raise self._fault(error) from error
        finally:
            for descriptor in snapshot.descriptors:
                os.close(descriptor)
        self.checkpointed = snapshot.size
        return note

    def close(self) -> None:
        """Close the files and give up the lock. Entries are not touched."""
        # A lock outlives its descriptor in a child that was forked just now: unlock, then close.
        fcntl.flock(self._lock, fcntl.LOCK_UN)
        self.abandon()

    def abandon(self) -> None:
        """Close what a fork has copied into this process. The parent keeps its lock."""
        for descriptor in (*self._place[:2], self._history, self._lock):
            os.close(descriptor)

    def _settle(self) -> None:
        """Go back to the last whole entry when something cut an append short."""
        if self._undo is not None and self._broken is None:
            try:
                self._restore()
            except OSError as error:
                self._broken = error.strerror
        if self._broken is not None:
            raise AuditFault(
                f"the audit log {self.log} failed earlier ({self._broken}) and takes no more "
                "entries: look at the disk, then start the process again"
            )

    def _restore(self) -> None:
        if self._undo is None:
            return
        state, place, pending = self._undo
        os.ftruncate(place[0], place[3])
        self.tree.state = state
        self._place = place
        del self._pending[pending:]
        self._undo = None

    def _refuse(self, error: OSError) -> NoReturn:
        fault = self._fault(error)
        try:
            self._restore()
        except OSError as second:
            self._broken = second.strerror
        raise fault from error

    def _fault(self, error: OSError) -> AuditFault:
        if error.errno == errno.EIO:
            # After an I/O error the kernel may call lost pages clean: nothing here can be trusted.
            self._broken = error.strerror
        return AuditFault(
            f"cannot write to the audit log {self.log}: {error.strerror}; "
            "make room or mend the disk: without a record nothing is allowed"
        )

    def _sync(self, descriptor: int) -> None:
        try:
            os.fdatasync(descriptor)
        except OSError as error:
            # Never retried: a second fsync can succeed although the data is gone.
            self._broken = f"fsync: {error.strerror}"
            raise

    def _flush_hashes(self) -> None:
        _, hashes, first, _ = self._place
        # By position, so that a flush that was cut short is done again and not twice.
        os.ftruncate(hashes, (self.tree.size - first - len(self._pending)) * HASH_BYTES)
        write_whole(hashes, b"".join(self._pending))
        self._pending.clear()

    def _start_segment(self) -> _Place:
        """The next segment, once this one is durable: a torn tail is only ever in the last."""
        try:
            self._flush_hashes()
            old = self._place[:2]
            for descriptor in old:
                self._sync(descriptor)
            place = _open_segment(Segment(self.tree.size, self.log), 0)
            sync_directory(self.log)
        except OSError as error:
            raise self._fault(error) from error
        self._place = place
        for descriptor in old:
            os.close(descriptor)
        return place


def _open_segment(segment: Segment, size_bytes: int) -> _Place:
    records = os.open(segment.records, _APPEND, 0o600)
    try:
        return records, os.open(segment.hashes, _APPEND, 0o600), segment.first, size_bytes
    except BaseException:
        os.close(records)
        raise
