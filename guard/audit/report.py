"""What a verification found."""

from __future__ import annotations

import msgspec

__all__ = ["DAMAGES_MAX", "Damage", "LogState", "ORPHANS_MAX", "Report", "SessionGap"]

# Lists a person may still read; what is left out is counted.
DAMAGES_MAX = 1_000
ORPHANS_MAX = 1_000


class Damage(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that is not as it was written.

    `kind`: record (the entry was changed), hash (its stored hash was), contradiction (one of the
    two, and no checkpoint says which), missing, inserted, unparsable, segment_missing, checkpoint,
    history, key, tree (not what a checkpoint signs), truncated, log_missing, session_gap.
    `start` and `end` are bytes in `segment`; `index` is the entry.
    """

    log: str
    kind: str
    detail: str
    segment: str | None = None
    start: int | None = None
    end: int | None = None
    index: int | None = None
    decision_id: str | None = None


class LogState(msgspec.Struct, frozen=True, kw_only=True):
    """One writer's log: how many entries, how many of them are signed, and the roots of both."""

    log: str
    origin: str | None
    entries: int
    root: str  # hex, over all entries as they are now
    signed: int
    signed_root: str | None
    checkpoints: int
    segments: int
    vkey: str | None


class SessionGap(msgspec.Struct, frozen=True):
    """Numbers of a session that no entry has: they were taken out, or never written."""

    session_id: str
    first_missing: int
    last_missing: int


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """`ok` when nothing is damaged. Orphans and notes are information."""

    ok: bool
    is_key_independent: bool  # False: the key came from the directory that was checked
    entries: int
    logs: tuple[LogState, ...]
    damages: tuple[Damage, ...]
    damages_omitted: int
    session_gaps: tuple[SessionGap, ...]
    orphans: tuple[str, ...]  # decision ids of intents that have no outcome
    orphans_omitted: int
    notes: tuple[str, ...]

    def to_json(self) -> str:
        """One JSON object."""
        return msgspec.json.encode(self).decode()
