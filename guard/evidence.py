"""What was found out about a request. Policy reads it and never writes it."""

from __future__ import annotations

from collections.abc import Iterable
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
    "public_pointer",
]


class Span(msgspec.Struct, frozen=True, gc=False):
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


def public_pointer(pointer: str, spans: Iterable[Span]) -> str:
    """`pointer` with every key that is itself sensitive named `<ENTITY>`, as in the log."""
    for span in spans:
        if span.in_key and (pointer == span.pointer or pointer.startswith(f"{span.pointer}/")):
            parent = span.pointer.rpartition("/")[0]
            pointer = f"{parent}/<{span.entity}>{pointer[len(span.pointer) :]}"
    return pointer


class CapabilityView(msgspec.Struct, frozen=True, gc=False):
    """Whether a grant of the session covers this call, and if not, why (a stable word)."""

    granted: bool = False
    why: str = "no_grant"


class TrustView(msgspec.Struct, frozen=True, gc=False):
    """Behaviour score of the principal, 0.0 to 1.0; policies read the lower bound."""

    score: float = 0.5
    lower: float = 0.0
    observations: int = 0


class PathView(msgspec.Struct, frozen=True, gc=False):
    """The run so far, at constant size: see guard.path."""

    length: int = 0
    facts: dict[str, bool] = {}
    pending: dict[str, int] = {}
    counts: dict[str, int] = {}
    recent: tuple[str, ...] = ()


class Evidence(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """Everything the stages found. `is_scanned` is False until the whole target was scanned."""

    pii: tuple[Span, ...] = ()
    secrets: tuple[Span, ...] = ()
    unscanned: tuple[str, ...] = ()  # JSON pointers of what no scanner could read
    is_scanned: bool = False
    provenance: dict[str, tuple[str, ...]] = {}
    labels: dict[str, str] = {}
    capability: CapabilityView = CapabilityView()
    trust: TrustView = TrustView()
    observed: tuple[int, int] = (0, 0)  # good and bad outcomes of the principal so far
    budget: dict[str, int] = {}
    path: PathView = PathView()
    error: str | None = None  # at a post point: the type of the exception that came instead


class Finding(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """What one stage says: fields of Evidence it found, its verdicts, its faults."""

    found: dict[str, Any] = {}
    verdicts: tuple[Verdict, ...] = ()
    faults: tuple[FaultNote, ...] = ()
    facts: tuple[str, ...] = ()
