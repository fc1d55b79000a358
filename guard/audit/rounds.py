"""Rounds of a sequencer in a process that also writes: on a thread behind it, and on demand."""

from __future__ import annotations

import threading
import weakref
from contextlib import suppress
from typing import Final, Protocol

from ..errors import AuditFault
from .spool import reentered

__all__ = ["TICK_MS", "Rounds"]

# A relaxed entry is synced within this and the time of a sync. A round costs the other threads more
# than its own time, for it asks for the interpreter again after each of its system calls.
TICK_MS: Final = 90


class _Sequencer(Protocol):
    def round(self, *, sign: bool = False) -> bool: ...
    def close(self) -> None: ...
    def abandon(self) -> None: ...


class Rounds:
    """One round at a time. Without a sequencer there are none: another process has it."""

    def __init__(self, sequencer: _Sequencer | None) -> None:
        self._sequencer = sequencer
        self._begin()

    def _begin(self) -> None:
        """State of this process; after a fork the child has its own."""
        self._lock = threading.Lock()
        self._thread = 0  # the one that was last inside
        self._wake = threading.Event()
        # Of a round behind an append that had succeeded: the next append meets it.
        self.fault: AuditFault | None = None

    def start(self) -> None:
        """A round every tick, on a thread, until `close` or until nobody holds this any more."""
        if self._sequencer is not None:
            threading.Thread(
                target=_run, args=(weakref.ref(self), self._wake), name="guard-audit", daemon=True
            ).start()

    def run(self, *, sign: bool = False) -> bool:
        """A round, if this process has the log or gets it; raises AuditFault.

        With `sign` all that is there is taken and signed.
        """
        if self._sequencer is None:
            return False
        self.refuse_reentry()
        with self._lock:
            self._thread = threading.get_ident()
            try:
                did = self._sequencer.round(sign=sign)
            except AuditFault as fault:
                self.fault = fault
                raise
            finally:
                self._thread = 0
            self.fault = None
            return did

    def refuse_reentry(self) -> None:
        """A signal handler inside a round must not wait for it; raises AuditFault."""
        if self._thread == threading.get_ident() and self._lock.locked():
            raise reentered()

    def stop(self) -> None:
        """Let the thread end after its round."""
        self._wake.set()

    def close(self) -> None:
        """Give up the log; another process may go on."""
        self.stop()
        if self._sequencer is not None:
            with self._lock:
                self._sequencer.close()

    def abandon(self) -> None:
        """After a fork, in the child: the log is the parent's."""
        self._begin()
        if self._sequencer is not None:
            self._sequencer.abandon()


def _run(reference: weakref.ref[Rounds], wake: threading.Event) -> None:
    while not wake.wait(TICK_MS / 1_000):
        rounds = reference()
        if rounds is None:
            return
        # A fault is kept: the next append meets it, and the next round tries again.
        with suppress(AuditFault):
            rounds.run()
        del rounds
