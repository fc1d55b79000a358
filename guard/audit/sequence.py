"""The one sequence of entries: segments, tree and checkpoints, by whoever holds the sequencer lock.

Not thread-safe: the sequencer (sequencer.py) holds a lock around everything.
"""

from __future__ import annotations

import errno
import os
from hashlib import sha256
from pathlib import Path
from typing import Final

import msgspec

from ..clock import Clock
from ..errors import AuditFault
from ..keys.signing import Signer, is_key_name
from . import checkpoint as notes
from .checkpoint import Checkpoint
from .entry import SEQUENCER, entry_about_log, stamp
from .files import (
    CHECKPOINT,
    HISTORY,
    STATE,
    VKEY,
    Segment,
    read_small,
    replace_file,
    sync_directory,
    write_whole,
)
from .recover import Recovered, State, recover

__all__ = ["CHECKPOINT_INTERVAL_MS", "CHECKPOINT_RECORDS", "Rolling", "Sequence"]

# What a thief of the disk can cut off unseen is what came after the last checkpoint.
CHECKPOINT_RECORDS: Final = 1_000
# With the tick and the signing itself, less than a second.
CHECKPOINT_INTERVAL_MS: Final = 800
# A segment is read whole by nobody; 64 MiB is about 50,000 entries and a second of verification.
SEGMENT_BYTES_MAX: Final = 64 * 1024 * 1024
SEGMENT_AGE_MS_MAX: Final = 3_600_000
_NS_PER_MS: Final = 1_000_000
_APPEND: Final = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC


class Rolling(msgspec.Struct, frozen=True, kw_only=True):
    """When a checkpoint is due, when the next segment, and for whom a full one is encrypted."""

    checkpoint_records: int = CHECKPOINT_RECORDS
    checkpoint_interval_ms: int = CHECKPOINT_INTERVAL_MS
    segment_bytes_max: int = SEGMENT_BYTES_MAX
    segment_age_ms_max: int = SEGMENT_AGE_MS_MAX
    encrypt_to: tuple[str, ...] = ()  # age recipients; nobody: full segments stay in clear

    @property
    def checkpoint_interval_ns(self) -> int:
        """The interval in nanoseconds."""
        return self.checkpoint_interval_ms * _NS_PER_MS

    @property
    def segment_age_ns_max(self) -> int:
        """The age in nanoseconds."""
        return self.segment_age_ms_max * _NS_PER_MS


class Sequence:
    """Gives entries their index. What was taken from a spool stays there until `checkpoint`."""

    def __init__(
        self, log: Path, *, signer: Signer, origin: str | None, clock: Clock, rolling: Rolling
    ) -> None:
        self.log = log
        self.signer = signer
        self.origin = origin or _origin_of(log, signer)
        self._clock = clock
        self._rolling = rolling
        self.writers: dict[str, int] = {}  # the number that is next of each spool
        self.is_interrupted = False
        self._broken: str | None = None
        recovered: Recovered = recover(log, signer.verifier, self.origin, begin=self._begin)
        self.edge = recovered.edge
        self.checkpointed = recovered.checkpointed
        self.writers.update(recovered.writers)
        self.segment = recovered.segment
        self._size_bytes = recovered.segment_bytes
        self._opened_ns = self._checkpoint_ns = clock.monotonic_ns()
        self._records = os.open(self.segment.live, _APPEND, 0o600)
        try:
            self._history = os.open(log / HISTORY, _APPEND, 0o600)
            self._history_bytes = os.fstat(self._history).st_size
        except BaseException:
            os.close(self._records)
            raise
        for torn in recovered.torn:
            self.say(
                "recovery",
                f"{torn.size_bytes} bytes of an unfinished write at byte {torn.offset} were moved "
                f"to {torn.moved_to}",
                {"torn_bytes": torn.size_bytes},
            )

    @property
    def size(self) -> int:
        """How many entries there are."""
        return self.edge.size

    def append(self, lines: list[bytes]) -> None:
        """Add entries (without newline), all or, when AuditFault is raised, none of them."""
        if self._broken is not None:
            raise AuditFault(
                f"the audit log {self.log} failed earlier ({self._broken}) and takes no more "
                "entries: look at the disk, then start the process again"
            )
        data = b"\n".join(lines) + b"\n"
        # INVARIANT: file and tree change together. Whoever finds this set opens the log anew.
        self.is_interrupted = True
        try:
            write_whole(self._records, data)
        except OSError as error:
            self._cut_back()
            self.is_interrupted = False
            raise self._fault(error) from error
        self._size_bytes += len(data)
        self.edge.append(b"".join([sha256(b"\x00" + line).digest() for line in lines]))
        self.is_interrupted = False

    def say(self, kind: str, note: str, detail: dict[str, object]) -> None:
        """Append an entry of the log about itself; raises AuditFault."""
        about = entry_about_log(kind, note, detail, now_ns=self._clock.now_ns())
        # The sequencer is a writer too, whose numbers are the indexes: it has no spool.
        self.append([stamp(about, SEQUENCER, self.size)])

    def sync(self) -> None:
        """Make what was appended durable; raises AuditFault."""
        self._sync(self._records)

    def is_due(self) -> bool:
        """Whether a checkpoint is to be made now."""
        waiting = self.size - self.checkpointed
        if waiting == 0:
            return False
        age_ns = self._clock.monotonic_ns() - self._checkpoint_ns
        return (
            waiting >= self._rolling.checkpoint_records
            or age_ns >= self._rolling.checkpoint_interval_ns
        )

    def checkpoint(self) -> tuple[bytes, Checkpoint]:
        """Make everything durable, then sign it: the signed note, and what it says.

        Raises AuditFault.

        INVARIANT: a checkpoint on disk never covers an entry that is not on disk.
        """
        self._sync(self._records)
        checkpoint = Checkpoint(self.origin, self.size, self.edge.root())
        note = notes.sign(checkpoint, self.signer)
        state = State(
            size=self.size,
            segment=self.segment.first,
            segment_bytes=self._size_bytes,
            writers=self.writers,
        )
        try:
            self.edge.store(self.log)
            os.ftruncate(self._history, self._history_bytes)
            write_whole(self._history, note + b"\n")
            self._sync(self._history)
            self._history_bytes += len(note) + 1
            replace_file(self.log / CHECKPOINT, note)
            replace_file(self.log / STATE, msgspec.json.encode(state))
            self.checkpointed = self.size
            self._checkpoint_ns = self._clock.monotonic_ns()
            self._roll_when_due()
        except OSError as error:
            raise self._fault(error) from error
        return note, checkpoint

    def change_key(self, signer: Signer) -> None:
        """Let `signer` sign from here on. The old key vouches for it."""
        self.say("key_change", f"the key {signer.vkey} signs from here on", {"vkey": signer.vkey})
        self.checkpoint()
        self._begin_key(signer)
        self.signer = signer
        self.checkpoint()

    def close(self) -> None:
        """Close the files. Entries are not touched."""
        for descriptor in (self._records, self._history):
            os.close(descriptor)

    def _begin(self) -> None:
        """Lay out an empty log: its key and a checkpoint of size 0, before the first entry."""
        self._begin_key(self.signer)
        note = notes.sign(Checkpoint(self.origin, 0, sha256(b"").digest()), self.signer)
        replace_file(self.log / HISTORY, note + b"\n")
        replace_file(self.log / CHECKPOINT, note)

    def _begin_key(self, signer: Signer) -> None:
        path = self.log / VKEY
        known = path.read_bytes() if path.exists() else b""
        replace_file(path, known + f"{signer.vkey}\n".encode())

    def _roll_when_due(self) -> None:
        """Begin a segment at a checkpoint: the one before is whole, durable and signed."""
        age_ns = self._clock.monotonic_ns() - self._opened_ns
        if self._size_bytes < self._rolling.segment_bytes_max and (
            age_ns < self._rolling.segment_age_ns_max or self._size_bytes == 0
        ):
            return
        segment = Segment(self.size, self.log)
        records = os.open(segment.live, _APPEND, 0o600)
        try:
            sync_directory(self.log)
        except BaseException:
            # INVARIANT: there is no segment behind the one that is written.
            os.close(records)
            segment.live.unlink()
            raise
        os.close(self._records)
        self._records, self.segment, self._size_bytes = records, segment, 0
        self._opened_ns = self._clock.monotonic_ns()

    def _cut_back(self) -> None:
        try:
            os.ftruncate(self._records, self._size_bytes)
        except OSError as error:
            self._broken = error.strerror

    def _sync(self, descriptor: int) -> None:
        try:
            os.fdatasync(descriptor)
        except OSError as error:
            # Never retried: a second fsync can succeed although the data is gone.
            self._broken = f"fsync: {error.strerror}"
            raise self._fault(error) from error

    def _fault(self, error: OSError) -> AuditFault:
        if error.errno == errno.EIO:
            # After an I/O error the kernel may call lost pages clean: nothing here can be trusted.
            self._broken = error.strerror
        return AuditFault(
            f"cannot write to the audit log {self.log}: {error.strerror}; "
            "make room or mend the disk: without a record nothing is allowed"
        )


def _origin_of(log: Path, signer: Signer) -> str:
    """The name that the log has; of a new one it is made of its first key, and so is like no other.

    Witnesses know a log by its origin alone.
    """
    try:
        first = read_small(log / CHECKPOINT, notes.NOTE_BYTES_MAX).split(b"\n", 1)[0].decode()
    except (FileNotFoundError, UnicodeDecodeError):
        first = ""
    return first if is_key_name(first) else f"{signer.name}/{signer.verifier.key_id.hex()}"
