"""The writer's side: frames in a file of zeros that this process owns.

A frame is handed to the operating system before `append` returns, so a killed process loses
nothing; the space is there already, so a full disk cannot refuse it. The sequencer takes frames
from here (sequencer.py), and a file whose frames are all signed is used again. The layout of a
frame is described in docs/audit-format.md.
"""

from __future__ import annotations

import errno
import fcntl
import os
import secrets
import threading
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Final

from ..errors import AuditFault
from .entry import stamp
from .files import SPOOL, TAKEN, WRITER_LOCK, make_directory, sync_directory, write_whole
from .frames import HEADER_BYTES, first_of, frame_bytes, spool_files, spool_name, taken_of

__all__ = ["CLOSED", "FILES_MAX", "FILE_BYTES", "Spool", "reentered", "remove_spool"]

# One file holds some 3,000 entries: half a second of a process that does nothing else.
FILE_BYTES: Final = 4 * 1024 * 1024
# What may wait for the sequencer; then the writer waits, and then it is a fault: back-pressure.
FILES_MAX: Final = 16
WAIT_MS_MAX: Final = 1_000
_WAIT_STEP_S: Final = 0.002
# A writer that has said goodbye leaves this behind; without it the process was killed.
CLOSED: Final = "closed"


class Spool:
    """Where one process hands over its entries. Threads share it; a child after a fork does not."""

    def __init__(
        self, directory: Path, *, file_bytes: int = FILE_BYTES, files_max: int = FILES_MAX,
        wait_ms_max: int = WAIT_MS_MAX, relieve: Callable[[], None] = lambda: None,
    ) -> None:  # fmt: skip
        self.writer = secrets.token_hex(8)
        self.path = directory / SPOOL / self.writer
        self.next = 0
        self._file_bytes = file_bytes
        self._files_max = files_max
        self._wait_ms_max = wait_ms_max
        self._relieve = relieve  # makes the sequencer go, if it is ours
        self._lock = threading.Lock()
        self._holder = 0
        self._broken: str | None = None
        self._unfinished: bytes | None = None
        try:
            # Under a name with a dot until the lock is held: a spool without lock is of the dead.
            final, self.path = self.path, self.path.with_name(f".{self.writer}")
            make_directory(self.path)
            self._writer_lock = _locked(self.path / WRITER_LOCK)
            self._taken = os.open(self.path / TAKEN, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            self._descriptor = self._made(0)
            os.rename(self.path, final)
            self.path = final
            sync_directory(final.parent)
        except OSError as error:
            raise AuditFault(
                f"cannot write an audit log in {directory}: {error.strerror}; "
                "name a directory of this user with room, as `directory` in [audit]"
            ) from error
        self._offset = 0

    def append(self, bare: bytes, timestamp_ns: int) -> int:
        """Number of the entry, handed over; raises AuditFault, and then it was not.

        `bare` is what `encode` gave; the stamp is put on here.
        """
        thread = threading.get_ident()
        if self._holder == thread and self._lock.locked():
            raise reentered()
        # INVARIANT: locks are taken by `with` on the lock itself. An exception that a signal raises
        # between any other acquire and its `try` would leave the lock held for ever.
        with self._lock:
            self._holder = thread
            try:
                return self._append(bare, timestamp_ns)
            except OSError as error:
                raise self._fault(error) from error
            finally:
                self._holder = 0

    def sync(self) -> int:
        """Make everything handed over so far durable; how many entries that are."""
        with self._lock:
            if self._broken is not None:
                raise self._closed()
            number, descriptor = self.next, os.dup(self._descriptor)
        try:
            os.fdatasync(descriptor)
        except OSError as error:
            # Never retried: a second fsync can succeed although the data is gone.
            self._broken = f"fsync: {error.strerror}"
            raise self._fault(error) from error
        finally:
            os.close(descriptor)
        return number

    def taken(self) -> int:
        """How many entries a checkpoint covers."""
        return taken_of(self._taken)

    def close(self, *, is_empty: bool) -> None:
        """Say goodbye; the directory of a spool that is empty goes with it."""
        with self._lock:
            if self._broken == CLOSED:
                return
            self._broken = CLOSED
            try:
                os.close(
                    os.open(self.path / CLOSED, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
                )
            except OSError as error:
                if error.errno not in (errno.ENOSPC, errno.EROFS, errno.ENOENT, errno.EDQUOT):
                    raise self._fault(error) from error
            finally:
                fcntl.flock(self._writer_lock, fcntl.LOCK_UN)
                self.abandon()
        if is_empty:
            remove_spool(self.path)

    def abandon(self) -> None:
        """Close what a fork has copied into this process. The parent keeps its lock."""
        for descriptor in (self._descriptor, self._taken, self._writer_lock):
            os.close(descriptor)

    def _append(self, bare: bytes, timestamp_ns: int) -> int:
        if self._broken is not None:
            raise self._closed()
        if self._unfinished is not None:
            self._finish(self._unfinished)
        number = self.next
        data = stamp(bare, self.writer, number)
        if self._offset + HEADER_BYTES + len(data) > self._file_bytes:
            self._turn_over()
        self._unfinished = frame_bytes(number, timestamp_ns, data)
        try:
            self._finish(self._unfinished)
        except OSError:
            self._unfinished = None  # a part of a frame is none, and is written over
            raise
        return number

    def _finish(self, frame: bytes) -> None:
        """Write the frame with number `next`.

        INVARIANT: once a whole frame is there its number is spent, for it may have been taken. So a
        frame that a signal cut off from its count is written again, byte for byte.
        """
        written = os.pwrite(self._descriptor, frame, self._offset)
        while written < len(frame):
            written += os.pwrite(self._descriptor, frame[written:], self._offset + written)
        self._offset, self.next, self._unfinished = self._offset + len(frame), self.next + 1, None

    def _turn_over(self) -> None:
        """Go on in a file whose frames are all signed, or in a new one; wait for one."""
        # What was handed over durably stays so when its file is no longer the current one.
        os.fdatasync(self._descriptor)
        waited_until = time.monotonic() + self._wait_ms_max / 1_000
        while True:
            files = spool_files(self.path)
            taken = self.taken()
            current = first_of(files[-1])
            free = [path for path, after in pairwise(files)
                    if first_of(after) <= taken and first_of(path) < current]  # fmt: skip
            if free or len(files) < self._files_max:
                break
            self._relieve()
            if time.monotonic() > waited_until:
                raise AuditFault(
                    f"{len(files)} spool files wait for the sequencer of the audit log: expected "
                    "it to take them; see that `guard audit sequence` runs and has room"
                )
            time.sleep(_WAIT_STEP_S)
        descriptor = self._reused(free[0]) if free else self._made(self.next)
        os.close(self._descriptor)
        self._descriptor, self._offset = descriptor, 0

    def _made(self, first: int) -> int:
        """A file of zeros: its blocks are ours before a frame needs them."""
        path = self.path / spool_name(first)
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        temporary = path.with_suffix(".new")
        temporary.unlink(missing_ok=True)
        descriptor = os.open(temporary, flags, 0o600)
        try:
            write_whole(descriptor, bytes(self._file_bytes))
            os.fdatasync(descriptor)
            os.replace(temporary, path)
            sync_directory(self.path)
        except BaseException:
            os.close(descriptor)
            temporary.unlink(missing_ok=True)
            raise
        return descriptor

    def _reused(self, path: Path) -> int:
        # The frames in it stay until they are written over: their counts are too low to be taken.
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        try:
            os.replace(path, self.path / spool_name(self.next))
            sync_directory(self.path)
        except BaseException:
            os.close(descriptor)
            raise
        return descriptor

    def _closed(self) -> AuditFault:
        if self._broken == CLOSED:
            return AuditFault("the audit log is closed: open it again to append")
        return AuditFault(
            f"the spool {self.path} failed earlier ({self._broken}) and takes no more entries: "
            "look at the disk, then start the process again"
        )

    def _fault(self, error: OSError) -> AuditFault:
        if error.errno in (errno.EIO, errno.EBADF):
            # After an I/O error the kernel may call lost pages clean: nothing here can be trusted.
            self._broken = self._broken or error.strerror or "input or output error"
        return AuditFault(
            f"cannot write to the audit log {self.path}: {error.strerror}; "
            "make room or mend the disk: without a record nothing is allowed"
        )


def remove_spool(path: Path) -> None:
    """Remove a spool that is empty and has no writer; raises OSError."""
    for file in path.iterdir():
        file.unlink(missing_ok=True)
    path.rmdir()


def reentered() -> AuditFault:
    """The fault of a call in a signal handler."""
    return AuditFault(
        "the audit log was asked for an entry while it writes one: expected no governed call in a "
        "signal handler; set a flag there and act on it outside"
    )


def _locked(path: Path) -> int:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor
