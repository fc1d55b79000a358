"""What entries say about one another: numbers without gap, and an outcome for each intent."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Final

import msgspec

from .entry import SEQUENCER
from .report import Damage, SessionGap

__all__ = ["Head", "Seal", "Story"]

_EFFECTS_THAT_RUN: Final = frozenset(("allow", "redact", "route"))
_GAPS_MAX: Final = 1_000
# Denied intents that are remembered, to find an outcome that should not be: the last ones, for an
# outcome comes soon or never.
_DENIED_MAX: Final = 100_000


class Head(msgspec.Struct, gc=False):
    """The fields of an entry that a verification follows from entry to entry."""

    kind: str
    decision_id: str
    writer: str
    writer_seq: int
    v: int = 0
    ref: str | None = None
    session_id: str | None = None
    session_seq: int = 0
    effect: str = "none"
    happened: bool | None = None
    detail: dict[str, object] | None = None


class Seal(msgspec.Struct, frozen=True):
    """What a `seal` entry says of a segment, as far as it says it."""

    digest: object = None
    encrypted_digest: object = None
    last: object = None


class Story:
    """Follow entries in their order with `follow`; what is wrong at once goes to `report`."""

    def __init__(self, report: Callable[[Damage], None]) -> None:
        self._report = report
        self.signed = 0  # entries from here on prove nothing, and what is odd there is no damage
        self.is_whole = True
        self.key_changes: list[tuple[int, str]] = []  # index, vkey
        self.seals: dict[int, Seal] = {}  # by the first entry of the segment
        # First and last entry that are gone, and the root over all up to the last.
        self.pruned: list[tuple[int, int, object]] = []
        self._sessions: dict[str, list[list[int]]] = {}
        self._writers: dict[str, int] = {}
        self._waiting: dict[str, None] = {}  # intents; a dict keeps their order
        self._early: dict[str, None] = {}  # intents that outcomes named before they came
        self._denied: OrderedDict[str, None] = OrderedDict()

    @property
    def orphans(self) -> list[str]:
        """Intents that have no outcome."""
        return list(self._waiting)

    @property
    def strays(self) -> list[str]:
        """Intents that an outcome names and that are not there."""
        return list(self._early)

    def follow(self, head: Head, index: int | None) -> None:
        """The next entry; without an index one that is damaged, and whose numbers prove nothing."""
        if index is None:
            index = -1
        elif index < self.signed:
            self._number(head, index)
        else:
            number = max(head.writer_seq + 1, self._writers.get(head.writer, 0))
            self._writers[head.writer] = number
        if head.session_id and index < self.signed:
            self._session(head.session_id, head.session_seq)
        if head.kind == "intent":
            self._intent(head)
        elif head.kind == "outcome":
            if head.ref is not None:
                self._outcome(head, head.ref, index)
        else:
            self.follow_about(head, index)

    def next_of(self, writer: str) -> int:
        """The number of the next entry of a writer."""
        return self._writers.get(writer, 0)

    def skip(self) -> None:
        """A part is missing: what it held is not known, and is reported by itself."""
        self._writers.clear()
        self.is_whole = False

    def gaps(self) -> list[SessionGap]:
        """Numbers that sessions lack. Ranges are few: entries of a session come nearly in order."""
        gaps: list[SessionGap] = []
        for session_id, ranges in self._sessions.items():
            if len(ranges) == 1 and ranges[0][0] == 0:
                continue
            ranges.sort()
            high = -1
            for first, last in ranges:
                if first > high + 1 and len(gaps) < _GAPS_MAX:
                    gaps.append(SessionGap(session_id, high + 1, first - 1))
                high = max(high, last)
        return gaps

    def follow_about(self, head: Head, index: int) -> None:
        """What an entry says about the log itself, without its place in the story."""
        kind, detail = head.kind, head.detail
        if detail is None or index >= self.signed:
            return
        first, last = detail.get("first"), detail.get("last")
        if kind == "key_change":
            self.key_changes.append((index, str(detail.get("vkey"))))
        elif kind == "seal" and isinstance(first, int):
            self.seals[first] = Seal(detail.get("sha256"), detail.get("age_sha256"), last)
        elif kind == "retention" and isinstance(first, int) and isinstance(last, int):
            self.pruned.append((first, last, detail.get("root")))

    def _number(self, head: Head, index: int) -> None:
        writer = head.writer
        first = 0 if self.is_whole else None
        expected = index if writer == SEQUENCER else self._writers.get(writer, first)
        if expected is not None and head.writer_seq != expected:
            self._report(
                Damage(
                    kind="writer_gap",
                    detail=f"expected entry {expected} of the writer {writer[:32]} and found "
                    f"{head.writer_seq}",
                    index=index,
                    field="writer_seq",
                )
            )
        self._writers[writer] = head.writer_seq + 1

    def _session(self, session_id: str, number: int) -> None:
        ranges = self._sessions.get(session_id)
        if ranges is None:
            self._sessions[session_id] = [[number, number]]
        elif ranges[-1][1] + 1 == number:
            ranges[-1][1] = number
        elif not ranges[-1][0] <= number <= ranges[-1][1]:
            ranges.append([number, number])

    def _intent(self, head: Head) -> None:
        if head.effect not in _EFFECTS_THAT_RUN:
            self._denied[head.decision_id] = None
            if len(self._denied) > _DENIED_MAX:
                self._denied.popitem(last=False)
        elif head.decision_id in self._early:
            del self._early[head.decision_id]
        else:
            self._waiting[head.decision_id] = None

    def _outcome(self, head: Head, intent: str, index: int) -> None:
        if intent in self._waiting:
            del self._waiting[intent]
        elif intent not in self._denied:
            self._early[intent] = None
        elif head.happened and index < self.signed:
            self._report(
                Damage(
                    kind="outcome",
                    detail="it says that an effect happened whose intent was not let go",
                    index=index,
                    field="happened",
                    decision_id=head.decision_id[:64],
                )
            )
