"""What was found out about a request. Policy reads it and never writes it."""

from __future__ import annotations

from typing import Any

import msgspec

from .decision import FaultNote, Verdict

__all__ = [
    "CapabilityView",
    "Evidence",
    "Finding",
    "PathView",
    "Span",
    "TrustView",
]


class Span(msgspec.Struct, frozen=True):
    """One sensitive place: `target[pointer][start:end]`, in characters of that string leaf.

    With `in_key`, the place is the last key of the pointer instead of its value. A number is
    scanned as its decimal text, and a span in it means the whole number. `score`: 0.0 to 1.0.
    """

    entity: str
    pointer: str
    start: int
    end: int
    score: float = 1.0
    in_key: bool = False


class CapabilityView(msgspec.Struct, frozen=True):
    """Whether a grant of the session covers this call, and if not, why (a stable word)."""

    granted: bool = False
    why: str = "no_grant"


class TrustView(msgspec.Struct, frozen=True):
    """Behaviour score of the principal, 0.0 to 1.0; policies read the lower bound."""

    score: float = 0.5
    lower: float = 0.0
    observations: int = 0


class PathView(msgspec.Struct, frozen=True):
    """The run so far, at constant size: see guard.path."""

    length: int = 0
    facts: dict[str, bool] = {}
    pending: dict[str, int] = {}
    counts: dict[str, int] = {}
    recent: tuple[str, ...] = ()


class Evidence(msgspec.Struct, frozen=True, kw_only=True):
    """Everything the stages found. `is_scanned` is False until the whole target was scanned."""

    pii: tuple[Span, ...] = ()
    secrets: tuple[Span, ...] = ()
    unscanned: tuple[str, ...] = ()  # JSON pointers of what no scanner could read
    is_scanned: bool = False
    provenance: dict[str, tuple[str, ...]] = {}
    labels: dict[str, str] = {}
    capability: CapabilityView = CapabilityView()
    trust: TrustView = TrustView()
    budget: dict[str, int] = {}
    path: PathView = PathView()
    error: str | None = None  # at a post point: the type of the exception that came instead

    def adding(self, found: dict[str, Any]) -> Evidence:
        """A copy with the given fields set."""
        return msgspec.structs.replace(self, **found)


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """What one stage says: fields of Evidence it found, its verdicts, its faults."""

    found: dict[str, Any] = {}
    verdicts: tuple[Verdict, ...] = ()
    faults: tuple[FaultNote, ...] = ()
    facts: tuple[str, ...] = ()
    revision: str = ""
