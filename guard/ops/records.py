"""The entries that an operation leaves in the log: what a person did, by which authority."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import Any, Final, Protocol

from ..audit.entry import Entry, timestamp_of
from ..clock import Clock
from ..errors import ConfigError
from ..pii.redact import mask_text

__all__ = ["WORDS_CHARS_MAX", "Appends", "record", "words"]

# Of an authority or a reason: a sentence with a file number.
WORDS_CHARS_MAX: Final = 1_000


class Appends(Protocol):
    """A log to append to: `guard.audit.AuditLog`, or `guard.testing.MemoryLog`."""

    def append(self, entry: Entry) -> int:
        """Number of the entry, once it is handed over; raises AuditFault."""
        ...


def record(
    log: Appends,
    kind: str,
    detail: Mapping[str, Any],
    *,
    by: str,
    clock: Clock,
    effect: str = "none",
    subjects: Iterable[str] = (),
) -> int:
    """Append what `by` did; its number. Raises AuditFault."""
    now_ns = clock.now_ns()
    return log.append(
        Entry(
            kind=kind,
            decision_id=os.urandom(16).hex(),
            timestamp_ns=now_ns,
            timestamp=timestamp_of(now_ns),
            point="audit",
            principal={"id": words("by", by)},
            effect=effect,
            subjects=list(subjects),
            detail=dict(detail),
        )
    )


def words(name: str, text: str, *, without: str = "") -> str:
    """A person's words as the log may keep them: masked, bounded, there, and without an id.

    Raises ConfigError.
    """
    if not text.strip() or len(text) > WORDS_CHARS_MAX:
        raise ConfigError(f"`{name}` is a text of 1 to {WORDS_CHARS_MAX} characters")
    if without and without in text:
        raise ConfigError(
            f"`{name}` holds the id of the data subject, and the log keeps it: leave it out"
        )
    return mask_text(text)
