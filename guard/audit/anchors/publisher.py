"""Publishes the newest checkpoint to every anchor, on a thread of its own: nobody waits for it.

There is one place for a checkpoint and not a queue: each covers all that came before, so a newer
one that replaces it loses nothing. An anchor that fails is tried again after 0.5 s, then after
twice the time, up to a minute; the others go on meanwhile.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable, Sequence
from typing import Final

import msgspec

from ...clock import SYSTEM_CLOCK, Clock
from ...errors import ConfigError, GuardError, LogCorrupt
from ..checkpoint import Checkpoint
from .anchor import Anchor
from .cosignature import with_signatures

__all__ = ["ANCHORS_MAX", "AnchorStatus", "Publisher"]

# They take turns on one thread, and each may take its timeout.
ANCHORS_MAX: Final = 8
BACKOFF_S_MIN: Final = 0.5
BACKOFF_S_MAX: Final = 60.0
CLOSE_S: Final = 10.0
_S: Final = 1_000_000_000


class AnchorStatus(msgspec.Struct, frozen=True):
    """How one anchor stands. `behind_s` is the age of the oldest checkpoint that it lacks."""

    name: str
    size: int | None = None
    where: str | None = None
    published_at_ns: int | None = None
    behind_s: float = 0.0
    failures: int = 0
    failing_since_ns: int | None = None
    error: str | None = None
    # The anchor contradicts this log: forked, rewritten or cut back. Not a matter of trying again.
    is_alarm: bool = False


class _Offer(msgspec.Struct, frozen=True):
    note: bytes
    checkpoint: Checkpoint


class _Place:
    """An anchor and where it stands.

    `lacks_since_ns` (monotonic) is when it fell behind, None when it has the newest;
    `lacks_next_ns`, when the first checkpoint came that the attempt under way does not cover.
    """

    def __init__(self, anchor: Anchor) -> None:
        self.anchor = anchor
        self.has: _Offer | None = None
        self.due_ns = 0
        self.lacks_since_ns: int | None = None
        self.lacks_next_ns: int | None = None
        self.status = AnchorStatus(anchor.name)


class Publisher:
    """One for each log, in the process that signs its checkpoints. Forked children have none.

    `on_cosigned` gets the note with all cosignatures there are so far, on the publisher's thread
    and before the witness counts as done; what it raises makes the witness be asked again.
    """

    def __init__(
        self,
        anchors: Sequence[Anchor],
        *,
        on_cosigned: Callable[[bytes], None],
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        names = [anchor.name for anchor in anchors]
        if len(names) > ANCHORS_MAX or len(set(names)) < len(names):
            raise ConfigError(
                f"anchors have names of their own and are at most {ANCHORS_MAX},"
                f" not {', '.join(names)}"
            )
        self._on_cosigned = on_cosigned
        self._clock = clock
        self._places = [_Place(anchor) for anchor in anchors]
        self._newest: _Offer | None = None
        self._cosigned: tuple[_Offer | None, list[str]] = (None, [])
        self._is_closing = False
        self._thread: threading.Thread | None = None
        self._start_afresh()
        _PUBLISHERS.add(self)

    def submit(self, note: bytes, checkpoint: Checkpoint) -> None:
        """Hand over the newest checkpoint: takes microseconds, and never waits for an anchor."""
        with self._changed:
            if self._is_closing or not self._places:
                return
            self._newest = _Offer(note, checkpoint)
            now_ns = self._clock.monotonic_ns()
            for place in self._places:
                if place.lacks_since_ns is None:
                    place.lacks_since_ns = now_ns
                elif place.lacks_next_ns is None:
                    place.lacks_next_ns = now_ns
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="guard-anchors", daemon=True)
                self._thread.start()
            self._changed.notify_all()

    def publish_now(self) -> list[AnchorStatus]:
        """Try every anchor that lacks the newest checkpoint, here and now, whatever its turn."""
        self._publish(self._places)
        return self.status()

    def status(self) -> list[AnchorStatus]:
        """One for each anchor, in their order."""
        with self._changed:
            now_ns = self._clock.monotonic_ns()
            return [
                place.status
                if place.lacks_since_ns is None
                else msgspec.structs.replace(
                    place.status, behind_s=(now_ns - place.lacks_since_ns) / _S
                )
                for place in self._places
            ]

    def close(self, *, timeout_s: float = CLOSE_S) -> list[AnchorStatus]:
        """One last try for what lacks the newest checkpoint, then the end, within `timeout_s`."""
        with self._changed:
            self._is_closing = True
            thread = self._thread
            self._changed.notify_all()
        if thread is not None:
            thread.join(timeout_s)
        return self.status()

    def _run(self) -> None:
        while True:
            with self._changed:
                while not self._is_closing and not self._due():
                    self._changed.wait(self._until_next_s())
                is_last = self._is_closing
                places = self._places if is_last else self._due()
            self._publish(places)
            if is_last:
                return

    def _due(self) -> list[_Place]:
        now_ns = self._clock.monotonic_ns()
        return [place for place in self._lacking() if place.due_ns <= now_ns]

    def _lacking(self) -> list[_Place]:
        return [place for place in self._places if place.has is not self._newest]

    def _until_next_s(self) -> float | None:
        lacking = self._lacking()
        if not lacking:
            return None
        next_ns = min(place.due_ns for place in lacking)
        return max(0.0, (next_ns - self._clock.monotonic_ns()) / _S)

    def _publish(self, places: Sequence[_Place]) -> None:
        with self._publishing:
            for place in places:
                with self._changed:
                    offer = self._newest
                    place.lacks_next_ns = None
                if offer is not None and place.has is not offer:
                    self._publish_to(place, offer)

    def _publish_to(self, place: _Place, offer: _Offer) -> None:
        try:
            receipt = place.anchor.publish(offer.note, offer.checkpoint)
            if receipt.cosignatures:
                self._keep(offer, receipt.cosignatures)
        except Exception as error:  # noqa: BLE001 an anchor that breaks must not stop the others
            with self._changed:
                self._note_failure(place, error)
            return
        with self._changed:
            place.has = offer
            place.lacks_since_ns, place.lacks_next_ns = place.lacks_next_ns, None
            place.due_ns = self._clock.monotonic_ns() + int(place.anchor.interval_s * _S)
            place.status = AnchorStatus(
                place.anchor.name,
                size=offer.checkpoint.size,
                where=receipt.where,
                published_at_ns=self._clock.now_ns(),
            )

    def _note_failure(self, place: _Place, error: Exception) -> None:
        status = place.status
        failures = status.failures + 1
        # The exponent is bounded too: 2.0 ** 1024 is an OverflowError.
        backoff_s = min(BACKOFF_S_MAX, BACKOFF_S_MIN * 2.0 ** min(failures - 1, 16))
        place.due_ns = self._clock.monotonic_ns() + int(backoff_s * _S)
        since_ns = status.failing_since_ns
        is_alarm = isinstance(error, LogCorrupt)
        # What guard says holds no payload and no secret; of others' errors only the type.
        shown = f"{error.code}: {error}" if isinstance(error, GuardError) else type(error).__name__
        place.status = msgspec.structs.replace(
            status,
            failures=failures,
            failing_since_ns=self._clock.now_ns() if since_ns is None else since_ns,
            # An alarm stays, with its words, until the anchor takes a checkpoint again: whoever
            # forged the log must not be able to silence it by cutting the line.
            error=status.error if status.is_alarm and not is_alarm else shown,
            is_alarm=status.is_alarm or is_alarm,
        )

    def _keep(self, offer: _Offer, lines: Sequence[str]) -> None:
        cosigned, so_far = self._cosigned
        lines = [*(so_far if cosigned is offer else ()), *lines]
        self._on_cosigned(with_signatures(offer.note, lines))
        self._cosigned = (offer, lines)

    def _start_afresh(self) -> None:
        """Locks that nobody holds, no thread and nothing to publish: at first, and after a fork."""
        self._changed = threading.Condition()
        self._publishing = threading.Lock()
        self._thread = None
        self._newest = None
        for place in self._places:
            place.has = place.lacks_since_ns = place.lacks_next_ns = None


_PUBLISHERS: Final[weakref.WeakSet[Publisher]] = weakref.WeakSet()


def _after_fork_in_child() -> None:
    for publisher in list(_PUBLISHERS):
        publisher._start_afresh()


os.register_at_fork(after_in_child=_after_fork_in_child)
