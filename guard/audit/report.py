"""What a verification found."""

from __future__ import annotations

import msgspec

__all__ = ["DAMAGES_MAX", "Damage", "ORPHANS_MAX", "Report", "SessionGap"]

# Lists a person may still read; what is left out is counted.
DAMAGES_MAX = 1_000
ORPHANS_MAX = 1_000


class Damage(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that is not as it was written.

    `kind`: record (the entry was changed), tile (its stored hash was, or lacks), contradiction (one
    of the two, and no checkpoint says which), missing, inserted, unparsable, segment_missing,
    checkpoint, history, key, tree (not what a checkpoint signs), truncated, log_missing,
    sealed (the compressed file as such), session_gap, writer_gap, outcome (of an intent that was
    denied).
    `start` and `end` are bytes in `segment`, uncompressed; `index` is the entry.
    """

    kind: str
    detail: str
    segment: str | None = None
    start: int | None = None
    end: int | None = None
    index: int | None = None
    field: str | None = None
    decision_id: str | None = None


class SessionGap(msgspec.Struct, frozen=True):
    """Numbers of a session that no entry has: they were taken out, or never written."""

    session_id: str
    first_missing: int
    last_missing: int


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """`ok` when nothing is damaged. Orphans and notes are information."""

    ok: bool
    is_key_independent: bool  # False: the key came from the directory that was checked
    is_excerpt: bool  # an evidence pack: what was left out of it is not known
    origin: str | None
    vkeys: tuple[str, ...]
    entries: int
    root: str  # hex, over all entries as they are now; "" when a part is missing
    signed: int
    signed_root: str | None
    witnessed: int  # entries below a checkpoint that a witness signed too, or that was kept outside
    checkpoints: int
    segments: int
    spooled: int  # handed over by processes, not sequenced yet
    damages: tuple[Damage, ...]
    damages_omitted: int
    session_gaps: tuple[SessionGap, ...]
    orphans: tuple[str, ...]  # decision ids of intents that have no outcome
    orphans_omitted: int
    strays: tuple[str, ...]  # ids of intents that outcomes name and that are not here
    strays_omitted: int
    notes: tuple[str, ...]

    def to_json(self) -> str:
        """One JSON object."""
        return msgspec.json.encode(self).decode()
