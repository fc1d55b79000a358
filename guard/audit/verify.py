"""Offline verification of a directory: nothing but its files, a key, and what was kept outside.

(1) the key: the one given; else the one in the directory, which is not independent of it;
(2) the checkpoints of each log: signatures, origin, order, and that the latest is in the history;
(3) the entries against stored hashes and checkpoints (check.py);
(4) a checkpoint kept outside: what it signs must still be a prefix;
(5) the story: numbers missing in a session, intents without outcome.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from ..errors import AuditFault, ConfigError, LogCorrupt
from ..keys.signing import Verifier
from . import checkpoint as notes
from .check import Head, LogCheck, Mark
from .checkpoint import NOTE_BYTES_MAX, Checkpoint
from .files import CHECKPOINT, HISTORY, VKEY, log_directories, read_small, segments_of
from .report import DAMAGES_MAX, ORPHANS_MAX, Damage, LogState, Report, SessionGap

__all__ = ["Damage", "LogState", "Report", "SessionGap", "verify"]

_EFFECTS_THAT_RUN: Final = frozenset(("allow", "redact", "route"))
_GAPS_MAX: Final = 1_000
# A live writer may be half way through a note, for microseconds; a torn note stays torn.
_READS_MAX: Final = 3


def verify(
    directory: Path | str, *, vkey: Verifier | None = None, checkpoint: str | None = None
) -> Report:
    """Check all logs below `directory`; raises AuditFault when there are none.

    `vkey` is the public key as it was kept elsewhere, `checkpoint` the text of an older checkpoint:
    with it, a log that was cut off or rewritten since is found even if the key was stolen.
    """
    directory = Path(directory)
    found = log_directories(directory)
    # A process that has just made its directory has signed nothing yet.
    logs = [log for log in found if (log / CHECKPOINT).exists() or segments_of(log)]
    if not logs:
        raise AuditFault(f"no audit log in {directory}: expected log-00 below it")
    verification = _Verification(vkey)
    for log in found:
        if log not in logs:
            verification.note(f"{log.name} is empty: no checkpoint and no entries")
    outside = _origin_of(checkpoint) if checkpoint is not None else None
    states = []
    try:
        for log in logs:
            is_meant = outside is not None and outside.rpartition("/")[2] == log.name
            states.append(verification.check(log, checkpoint if is_meant else None))
    except OSError as error:
        raise AuditFault(f"cannot read {error.filename}: {error.strerror}") from error
    if outside is not None and outside.rpartition("/")[2] not in {log.name for log in logs}:
        verification.damage(
            outside[:120], "log_missing", "the checkpoint kept outside is of a log that is not here"
        )
    return verification.report(states)


def _origin_of(text: str) -> str:
    origin = text.split("\n", 1)[0]
    if "\n\n— " not in text or not origin:
        raise AuditFault(
            "the checkpoint kept outside is not one: expected the text that `checkpoint` in a log "
            "holds, from its first line to its signature"
        )
    return origin


class _Verification:
    """Findings over all logs."""

    def __init__(self, vkey: Verifier | None) -> None:
        self._vkey = vkey
        self._damages: list[Damage] = []
        self._omitted = 0
        self._notes: list[str] = []
        self._sessions: dict[str, list[list[int]]] = {}
        self._waiting: dict[str, None] = {}  # intents; a dict keeps their order
        self._early: set[str] = set()  # outcomes that were read before their intent

    def check(self, log: Path, trusted: str | None) -> LogState:
        """One log."""
        verifier = self._key_of(log)  # (1)
        marks = self._checkpoints(log, verifier)  # (2)
        latest = max(marks, key=lambda mark: mark.checkpoint.size).checkpoint if marks else None
        if trusted is not None and verifier is not None:  # (4)
            marks += self._trusted(log, trusted, verifier, latest)
        check = LogCheck(  # (3)
            log,
            marks,
            signed=latest.size if latest is not None else 0,
            report=self._add,
            note=self._notes.append,
            follow=self._follow,
        )
        check.run()
        return LogState(
            log=log.name,
            origin=latest.origin if latest is not None else None,
            entries=check.size,
            root=check.tree.root().hex() if check.tree is not None else "",
            signed=latest.size if latest is not None else 0,
            signed_root=latest.root.hex() if latest is not None else None,
            checkpoints=len(marks),
            segments=len(check.segments),
            vkey=str(verifier) if verifier is not None else None,
        )

    def report(self, states: list[LogState]) -> Report:
        """Everything, once all logs were read."""
        gaps = self._gaps()  # (5)
        for gap in gaps:
            numbers = f"{gap.first_missing} to {gap.last_missing}"
            self.damage("", "session_gap", f"session {gap.session_id[:64]} lacks entries {numbers}")
        orphans = tuple(self._waiting)
        if self._vkey is None:
            self._notes.append(
                "the key came from the directory itself: it shows that the log is whole, not who "
                "wrote it; keep log.vkey elsewhere and pass it to be sure"
            )
        return Report(
            ok=not self._damages,
            is_key_independent=self._vkey is not None,
            entries=sum(state.entries for state in states),
            logs=tuple(states),
            damages=tuple(self._damages),
            damages_omitted=self._omitted,
            session_gaps=tuple(gaps),
            orphans=orphans[:ORPHANS_MAX],
            orphans_omitted=max(0, len(orphans) - ORPHANS_MAX),
            notes=tuple(self._notes),
        )

    def note(self, text: str) -> None:
        """Say something that is no damage."""
        self._notes.append(text)

    def damage(self, log: str, kind: str, detail: str) -> None:
        """Report something that has no place in a segment."""
        self._add(Damage(log=log, kind=kind, detail=detail))

    def _add(self, damage: Damage) -> None:
        if len(self._damages) < DAMAGES_MAX:
            self._damages.append(damage)
        else:
            self._omitted += 1

    def _key_of(self, log: Path) -> Verifier | None:
        found = None
        try:
            text = read_small(log / VKEY, NOTE_BYTES_MAX).decode()
            found = Verifier.from_text(text)
            if text != f"{found}\n":
                raise ConfigError("more than the line of one key")
        except FileNotFoundError:
            self.damage(log.name, "key", f"{VKEY} is missing")
        except (ConfigError, UnicodeDecodeError) as error:
            what = str(error) if isinstance(error, ConfigError) else "not text"
            self.damage(log.name, "key", f"{VKEY} is not a public key: {what}")
        if self._vkey is None:
            return found
        if found is not None and found != self._vkey:
            self.damage(log.name, "key", f"{VKEY} is another key than the one given")
        return self._vkey

    def _checkpoints(self, log: Path, verifier: Verifier | None) -> list[Mark]:
        if verifier is None:
            return []
        marks: list[Mark] = []
        # The latest first: a live log writes the history before it.
        newest = self._read(log, CHECKPOINT)
        for _ in range(_READS_MAX):
            history, rest = notes.split_notes(self._read(log, HISTORY))
            if not rest:
                break
        for number, note in enumerate(history):
            source = f"checkpoint {number} of {HISTORY}"
            marks += self._mark(log, note, verifier, source, kind="history")
        if rest:
            self.damage(
                log.name, "history", f"{HISTORY} ends in {len(rest)} bytes of no checkpoint"
            )
        sizes = [mark.checkpoint.size for mark in marks]
        if sizes != sorted(sizes):
            self.damage(log.name, "history", f"{HISTORY} is out of order")
        latest = self._mark(log, newest, verifier, f"`{CHECKPOINT}`", kind="checkpoint")
        if latest and newest not in history:
            self.damage(
                log.name,
                "history",
                f"the note in {CHECKPOINT} is not in {HISTORY}: one of the two was changed",
            )
        return marks + latest

    def _read(self, log: Path, name: str) -> bytes:
        try:
            return (log / name).read_bytes()
        except FileNotFoundError:
            self.damage(log.name, "history" if name == HISTORY else "checkpoint", "it is missing")
            return b""

    def _mark(
        self, log: Path, note: bytes, verifier: Verifier, source: str, *, kind: str
    ) -> list[Mark]:
        if not note:
            return []
        try:
            checkpoint = notes.parse(note, verifier)
        except LogCorrupt as error:
            self.damage(log.name, kind, f"{source} is not valid: {error}")
            return []
        if checkpoint.origin.rpartition("/")[2] != log.name:
            self.damage(log.name, kind, f"{source} is of the log {checkpoint.origin[:120]}")
            return []
        return [Mark(checkpoint, source)]

    def _trusted(
        self, log: Path, text: str, verifier: Verifier, latest: Checkpoint | None
    ) -> list[Mark]:
        source = "the checkpoint kept outside"
        try:
            checkpoint = notes.parse(text.encode(), verifier)
        except LogCorrupt as error:
            self.damage(log.name, "key", f"{source} is not signed by the key of this log: {error}")
            return []
        if latest is not None and latest.origin != checkpoint.origin:
            self.damage(log.name, "checkpoint", f"{source} has another origin than this log")
        return [Mark(checkpoint, source, is_trusted=True)]

    def _follow(self, head: Head) -> None:
        if head.kind == "intent":
            if head.decision_id in self._early:
                self._early.discard(head.decision_id)
            elif head.effect in _EFFECTS_THAT_RUN:
                self._waiting[head.decision_id] = None
        elif head.kind == "outcome" and head.ref is not None:
            if head.ref in self._waiting:
                del self._waiting[head.ref]
            else:
                self._early.add(head.ref)
        if head.session_id:
            self._number(head.session_id, head.session_seq)

    def _number(self, session_id: str, number: int) -> None:
        ranges = self._sessions.get(session_id)
        if ranges is None:
            self._sessions[session_id] = [[number, number]]
        elif ranges[-1][1] + 1 == number:
            ranges[-1][1] = number
        elif not ranges[-1][0] <= number <= ranges[-1][1]:
            ranges.append([number, number])

    def _gaps(self) -> list[SessionGap]:
        """Ranges are few: entries of one session come nearly in order."""
        gaps: list[SessionGap] = []
        for session_id, ranges in self._sessions.items():
            if len(ranges) == 1:
                continue
            ranges.sort()
            high = ranges[0][1]
            for first, last in ranges[1:]:
                if first > high + 1 and len(gaps) < _GAPS_MAX:
                    gaps.append(SessionGap(session_id, high + 1, first - 1))
                high = max(high, last)
        return gaps
