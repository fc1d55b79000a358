"""Taking entries from the spools of all writers into the one sequence.

At one time one process does it: the one that holds `sequencer.lock`. Every process may try, and
when the holder ends or is killed the next one goes on from what is on disk. A round:

(1) take the lock, and with it recover the log (recover.py);
(2) read what is new in each spool, oldest first, check it and append it to the sequence;
(3) make it durable: a relaxed entry is safe from a power failure after one round;
(4) when due, sign a checkpoint, and only then let the writers use their space again;
(5) of a writer that died, keep what a torn write left, say so in the log, and clear its spool;
(6) compress what a segment before the live one still has uncompressed, a little at a time.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterator
from hashlib import sha256
from heapq import merge
from itertools import islice
from pathlib import Path
from typing import Final

import msgspec

from ..clock import Clock
from ..errors import AuditFault
from ..keys.age import recipients_from
from ..keys.signing import Signer
from .checkpoint import Checkpoint
from .entry import NOT_AN_ENTRY, entry_about_log, stamp
from .files import SEQUENCER_LOCK, SPOOL, TAKEN, WRITER_LOCK, write_whole
from .frames import Frame, SpoolReader
from .seal import Sealer
from .sequence import Rolling, Sequence
from .spool import CLOSED, remove_spool

__all__ = ["Sequencer"]

# Writers at one time in one directory: more processes than a machine of this use has cores.
WRITERS_MAX: Final = 256
# Of one spool in one round: a busy writer does not keep the others waiting.
ROUND_BYTES_MAX: Final = 1 << 20
# How often what is taken is made durable. Who waits for that syncs its spool, and the disk does one
# thing at a time: oftener than this, those syncs would wait for ours.
_SYNC_NS: Final = 45_000_000
# How often it is asked which writers have ended: three system calls for each of them.
_LOOK_NS: Final = 1_000_000_000
# Lines hashed without a pause: in a thread of a busy process, others wait that long for the
# interpreter lock, about 500 us. Smaller ones cost more: each pause is two changes of threads.
_SLICE: Final = 64


class _Head(msgspec.Struct):
    """What an entry must have so that it may stand in the log."""

    kind: str
    decision_id: str
    writer: str
    writer_seq: int


_decoder: Final = msgspec.json.Decoder(_Head)


class _Source(SpoolReader):
    """The spool of one writer, and how much of it is signed."""

    def __init__(self, path: Path, number: int) -> None:
        super().__init__(path, number)
        self._taken = os.open(path / TAKEN, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def release(self, taken: int) -> None:
        """Tell the writer how many of its entries are signed."""
        os.pwrite(self._taken, taken.to_bytes(8, "little"), 0)

    def close(self) -> None:
        """Close everything."""
        super().close()
        os.close(self._taken)


class Sequencer:
    """Not thread-safe: `AuditLog` holds a lock around every call."""

    def __init__(
        self, log: Path, *, load_signer: Callable[[], Signer], origin: str | None, clock: Clock,
        rolling: Rolling, on_checkpoint: Callable[[bytes, Checkpoint], None] | None = None,
        pause: Callable[[], None] = lambda: None,
    ) -> None:  # fmt: skip
        self.log = log
        self.sequence: Sequence | None = None
        self._load_signer = load_signer
        self._origin = origin
        self._clock = clock
        self._rolling = rolling
        self._on_checkpoint = on_checkpoint
        self._pause = pause
        self._lock = -1
        self._is_synced = True
        self._synced_ns = -_SYNC_NS
        self._looked_ns = -_LOOK_NS  # when it was last asked which writers have ended
        self._sources: dict[str, _Source] = {}
        self._sealer = Sealer(log, recipients_from(rolling.encrypt_to))

    def hold(self) -> Sequence | None:
        """The sequence, if this process has or gets the lock (1); raises AuditFault."""
        if self.sequence is not None and not self.sequence.is_interrupted:
            return self.sequence
        if self.sequence is not None:
            self._forget()
        if self._lock < 0:
            lock = _try_lock(self.log / SEQUENCER_LOCK)
            if lock is None:
                return None
            self._lock = lock
        try:
            self.sequence = Sequence(
                self.log, signer=self._load_signer(), origin=self._origin, clock=self._clock,
                rolling=self._rolling,
            )  # fmt: skip
        except BaseException:
            self._unlock()
            raise
        return self.sequence

    def round(self, *, sign: bool = False) -> bool:
        """Take what is there; whether this process may. With `sign`, all of it, and sign it."""
        try:
            sequence = self.hold()
            if sequence is None:
                return False
            while self._one(sequence, sign=sign) and sign:
                pass
            self._sealer.step(sequence)
        except OSError as error:
            self._drop_sources()
            raise AuditFault(
                f"the sequencer of {self.log} failed at {error.filename or 'its files'}: "
                f"{error.strerror}; look at the disk"
            ) from error
        except BaseException:
            # What was read and not appended is read again.
            self._drop_sources()
            raise
        return True

    def _one(self, sequence: Sequence, *, sign: bool) -> bool:
        """One round over at most so many spools; whether there may be more to do."""
        took = self._take(sequence)
        now_ns = self._clock.monotonic_ns()
        self._is_synced = self._is_synced and not took
        if not self._is_synced and now_ns - self._synced_ns >= _SYNC_NS:
            sequence.sync()
            self._is_synced, self._synced_ns = True, now_ns
        is_early = now_ns - self._looked_ns < _LOOK_NS and not sign
        ended = [] if is_early or (took and sign) else self._end_dead(sequence)
        if not is_early:
            self._looked_ns = now_ns
        if sequence.is_due() or ((sign or ended) and sequence.size > sequence.checkpointed):
            self._sign(sequence)
        for source in ended:
            self._clear(sequence, source)
        return took or bool(ended)

    def close(self) -> None:
        """Give up the lock; another process may go on."""
        if self.sequence is not None:
            self._forget()
        self._unlock()

    def _take(self, sequence: Sequence) -> bool:
        """One round over the spools (2), (3)."""
        spools = [source.read(ROUND_BYTES_MAX) for source in self._listed(sequence)]
        if not any(spools):
            return False
        # A merge, and no sort: within a spool the count is the order, also when the clock steps.
        self._append(sequence, merge(*spools, key=_timestamp) if spools[1:] else iter(spools[0]))
        return True

    def _append(self, sequence: Sequence, frames: Iterator[Frame]) -> None:
        while part := list(islice(frames, _SLICE)):
            sequence.append([entry_of(frame) for frame in part])
            for frame in part:
                sequence.writers[frame.writer] = frame.number + 1
            self._pause()

    def _sign(self, sequence: Sequence) -> None:
        note, checkpoint = sequence.checkpoint()  # (4)
        for source in self._sources.values():
            source.release(sequence.writers.get(source.writer, 0))
        if self._on_checkpoint is not None:
            self._on_checkpoint(note, checkpoint)

    def _listed(self, sequence: Sequence) -> list[_Source]:
        try:
            # A name with a dot is of a writer that has no lock yet.
            names = [name for name in os.listdir(self.log / SPOOL) if name[0] != "."]
        except FileNotFoundError:
            return []
        for name in names[:WRITERS_MAX]:
            if name not in self._sources:
                number = sequence.writers.get(name, 0)
                self._sources[name] = _Source(self.log / SPOOL / name, number)
        for name in self._sources.keys() - set(names):
            self._sources.pop(name).close()
            sequence.writers.pop(name, None)
        return list(self._sources.values())

    def _end_dead(self, sequence: Sequence) -> list[_Source]:
        """Spools whose writer has ended and whose last entry is in the log (5)."""
        ended = []
        for source in self._sources.values():
            lock = _try_lock(source.path / WRITER_LOCK)
            if lock is None:
                continue
            os.close(lock)
            # It may have written between our reading and its end.
            if frames := source.read(ROUND_BYTES_MAX):
                self._append(sequence, iter(frames))
                continue
            self._report(sequence, source)
            ended.append(source)
        return ended

    def _report(self, sequence: Sequence, source: _Source) -> None:
        offset, torn = source.rest()
        detail: dict[str, object] = {"writer": source.writer, "entries": source.next}
        if torn:
            name = f"spool-{source.writer}.torn-{offset}"
            _keep(self.log / name, torn)
            detail |= {"torn_bytes": len(torn), "moved_to": name}
        if torn or not (source.path / CLOSED).exists():
            sequence.say("recovery", f"the writer {source.writer} ended without closing", detail)

    def _clear(self, sequence: Sequence, source: _Source) -> None:
        del self._sources[source.writer]
        source.close()
        remove_spool(source.path)
        sequence.writers.pop(source.writer, None)

    def _drop_sources(self) -> None:
        for source in self._sources.values():
            source.close()
        self._sources.clear()

    def _forget(self) -> None:
        self._drop_sources()
        self._sealer.close()
        if self.sequence is not None:
            self.sequence.close()
            self.sequence = None

    def _unlock(self) -> None:
        if self._lock >= 0:
            # A lock outlives its descriptor in a child that was forked just now: unlock first.
            fcntl.flock(self._lock, fcntl.LOCK_UN)
            os.close(self._lock)
            self._lock = -1

    def abandon(self) -> None:
        """Close what a fork has copied into this process. The parent keeps its lock."""
        self._forget()
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1


def entry_of(frame: Frame) -> bytes:
    """The entry of a frame; of what is none, an entry that says so: one writer stops no other."""
    try:
        head = _decoder.decode(frame.data)
        if (head.writer, head.writer_seq) == (frame.writer, frame.number) and (
            b"\n" not in frame.data
        ):
            return frame.data
        why = "it names another writer or number"
    except NOT_AN_ENTRY as error:
        why = f"it is not JSON of one ({type(error).__name__})"
    digest = sha256(frame.data).hexdigest()
    about = entry_about_log(
        "failure",
        f"frame {frame.number} of the spool {frame.writer} is no entry: {why}",
        {"bytes": len(frame.data), "sha256": digest},
        now_ns=frame.timestamp_ns,
    )
    return stamp(about, frame.writer, frame.number)


def _timestamp(frame: Frame) -> int:
    return frame.timestamp_ns


def _keep(path: Path, data: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        write_whole(descriptor, data)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


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
