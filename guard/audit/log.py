"""The audit log: hand over an entry, get its number; a second later at most it is signed.

`append` hands the whole entry to the operating system before it returns, so a killed process loses
nothing. What a power failure can take is chosen with `durability`, for the log and for one entry:

relaxed  what came in the last tenth of a second: a sync follows behind
group    nothing: durable before `append` returns, one sync for all who wait at that time
sync     nothing: durable before `append` returns, a sync of its own
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
from typing import TYPE_CHECKING, Final, Literal

from ..clock import SYSTEM_CLOCK, Clock
from ..errors import AuditFault
from ..keys.signing import Mac, Signer, is_key_name
from .checkpoint import NOTE_BYTES_MAX
from .cosigned import publisher_of
from .durable import Commits
from .entry import Entry, encode
from .files import CHECKPOINT, make_directory, read_small
from .rounds import TICK_MS, Rounds
from .sequence import Rolling
from .sequencer import Sequencer
from .spool import FILE_BYTES, Spool

if TYPE_CHECKING:
    from .anchors import Anchor

__all__ = ["AuditLog", "Commit", "Durability"]

Durability = Literal["relaxed", "group", "sync"]
Commit = Callable[[Entry, bytes], str]

# How long `checkpoint` waits for a sequencer in another process.
WAIT_MS_MAX: Final = 5_000


class AuditLog:
    """An append-only log in a directory that many processes share. Open with `open`."""

    def __init__(
        self, directory: Path, *, load_signer: Callable[[], Signer] | None, commit: Commit,
        origin: str | None, clock: Clock, durability: Durability, rolling: Rolling,
        spool_bytes: int, anchors: Sequence[Anchor],
    ) -> None:  # fmt: skip
        self.directory = directory
        self._commit = commit
        self._clock = clock
        self._durability = durability
        self._spool_bytes = spool_bytes
        self._is_closed = False
        self._publisher = publisher_of(directory, anchors, clock) if load_signer else None
        sequencer = (
            Sequencer(
                directory, load_signer=load_signer, origin=origin, clock=clock, rolling=rolling,
                on_checkpoint=self._publisher.submit if self._publisher else None,
                pause=_let_others_run,
            )
            if load_signer is not None
            else None
        )  # fmt: skip
        if sequencer is not None:
            sequencer.hold()
        self._rounds = Rounds(sequencer)
        self._start_lock = threading.Lock()
        self._spool: Spool | None = None
        self._start()
        _OPEN_LOGS.add(self)
        atexit.register(self.close)

    @classmethod
    def open(
        cls,
        directory: Path | str,
        *,
        signer: Signer | Callable[[], Signer] | None,
        mac: Mac,
        commit: Commit | None = None,
        origin: str | None = None,
        clock: Clock = SYSTEM_CLOCK,
        durability: Durability = "relaxed",
        rolling: Rolling | None = None,
        spool_bytes: int = FILE_BYTES,
        anchors: Sequence[Anchor] = (),
    ) -> AuditLog:
        """Continue the log in `directory`, or begin one.

        With `signer` (or what loads it) this process sequences while no other one does, in a
        thread; with None another process does: `guard audit sequence`. `origin` names the log in
        its checkpoints, for all times; by default it is made of the first key. The checkpoints that
        this process signs go to `anchors`. `commit` makes the commitment to a payload that does not
        fit into its entry; by default it is an HMAC under `mac`.
        Raises LogCorrupt when what was signed is not there, AuditFault when nothing can be written.
        """
        if origin is not None and not is_key_name(origin):
            raise AuditFault("the origin of a log is a name without spaces, such as `guard/audit`")
        if durability not in ("relaxed", "group", "sync"):
            raise AuditFault(f"unknown durability `{durability}`: expected relaxed, group or sync")
        directory = Path(directory)
        try:
            make_directory(directory)
        except OSError as error:
            raise AuditFault(
                f"cannot write an audit log in {directory}: {error.strerror}; "
                "name a directory of this user with room, as `directory` in [audit]"
            ) from error
        return cls(
            directory,
            load_signer=(lambda: signer) if isinstance(signer, Signer) else signer,
            commit=commit or (lambda _, data: mac.commit(data)), origin=origin, clock=clock,
            durability=durability, rolling=rolling or Rolling(), spool_bytes=spool_bytes,
            anchors=anchors,
        )  # fmt: skip

    @property
    def writer(self) -> str:
        """Who this process is in the entries it hands over."""
        return self._started().writer

    def append(self, entry: Entry, *, durability: Durability | None = None) -> int:
        """Number of the entry among those of this process; raises AuditFault.

        When it raises, the entry may be in the log although nobody may act on it.
        """
        number = self._handed_over(entry)
        self.wait(number, durability or self._durability)
        return number

    def wait(self, number: int, durability: Durability) -> None:
        """Return when entry `number` of this process is as durable as that; raises AuditFault."""
        if durability == "group":
            self._commits.wait(number)
        elif durability == "sync":
            self._started().sync()

    async def append_async(self, entry: Entry, *, durability: Durability | None = None) -> int:
        """The same for a task: it waits without holding the loop, and shares the sync."""
        number = self._handed_over(entry)
        await self.wait_async(number, durability or self._durability)
        return number

    async def wait_async(self, number: int, durability: Durability) -> None:
        """The same for a task."""
        if durability != "relaxed":
            await self._commits.wait_async(number)

    def checkpoint(self) -> str:
        """Sign all that was handed over until now; the signed note, to be kept elsewhere.

        Raises AuditFault when neither this process nor another one does it in time.
        """
        self._rounds.refuse_reentry()
        number = self._spool.next if self._spool is not None else 0
        deadline = time.monotonic() + WAIT_MS_MAX / 1_000
        while not self._round(sign=True) and self._taken() < number:
            if time.monotonic() > deadline:
                raise AuditFault(
                    f"no sequencer took the entries of {self.directory} for {WAIT_MS_MAX} ms: "
                    "start `guard audit sequence`, or see why it waits"
                )
            time.sleep(TICK_MS / 1_000)
        return read_small(self.directory / CHECKPOINT, NOTE_BYTES_MAX).decode()

    def close(self) -> None:
        """Sign what was handed over, if this process may, and let go. Twice does nothing."""
        if self._is_closed:
            return
        self._rounds.refuse_reentry()
        self._is_closed = True
        atexit.unregister(self.close)
        _OPEN_LOGS.discard(self)
        self._rounds.stop()
        spool, self._spool = self._spool, None
        try:
            self._round(sign=True)
        finally:
            if spool is not None:
                spool.close(is_empty=spool.taken() >= spool.next)
            self._rounds.close()
            self._commits.close()
            if self._publisher is not None:
                self._publisher.close()

    def __enter__(self) -> AuditLog:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def _handed_over(self, entry: Entry) -> int:
        data = encode(entry, partial(self._commit, entry))
        if self._rounds.fault is not None:
            # The sequencer failed behind an append that had succeeded: nothing goes on before it
            # has mended itself.
            self._round()
        spool = self._spool or self._started()
        return spool.append(data, entry.timestamp_ns)

    def _started(self) -> Spool:
        with self._start_lock:
            return self._spool or self._start()

    def _start(self) -> Spool:
        if self._is_closed:
            raise AuditFault("the audit log is closed: open it again to append")
        spool = Spool(self.directory, file_bytes=self._spool_bytes, relieve=self._relieve)
        self._commits = Commits(spool.sync)
        self._spool = spool
        self._rounds.start()
        return spool

    def _taken(self) -> int:
        return self._spool.taken() if self._spool is not None else 0

    def _relieve(self) -> None:
        self._round(sign=True)

    def _round(self, *, sign: bool = False) -> bool:
        return self._rounds.run(sign=sign)

    def _after_fork(self) -> None:
        """In the child: the parent's spool is not ours; the next append opens another one."""
        spool, self._spool = self._spool, None
        self._start_lock = threading.Lock()
        if spool is not None:
            spool.abandon()
        self._rounds.abandon()


def _let_others_run() -> None:
    time.sleep(0)


_OPEN_LOGS: Final[weakref.WeakSet[AuditLog]] = weakref.WeakSet()


def _after_fork_in_child() -> None:
    for log in list(_OPEN_LOGS):
        log._after_fork()


os.register_at_fork(after_in_child=_after_fork_in_child)
