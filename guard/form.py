"""What a decision does to the path and to the target, before anything is recorded or handed on."""

from __future__ import annotations

from .decision import Effect, Redact
from .enforce import enforce
from .errors import Fault
from .pipeline import Decided, fault_note
from .plain import Json
from .recorder import failed_to_record
from .request import Request
from .session import Session

__all__ = ["formed", "learned"]


def learned(now: Session | None, decided: Decided) -> Decided:
    """Put what has become true on the path; a fact that cannot be kept is a deny."""
    if now is None or not decided.decision.facts:
        return decided
    try:
        now.path.add_facts(decided.decision.facts)
    except Fault as error:
        return failed_to_record(decided, fault_note("path", error))
    return decided


def formed(request: Request, decided: Decided, *, key: bytes) -> tuple[Decided, Json]:
    """The target as the obligations want it; what cannot be carried out is a deny."""
    decision = decided.decision
    duties = tuple(duty for duty in decision.obligations if isinstance(duty, Redact))
    if not duties or decision.effect is Effect.DENY:
        return decided, request.target
    try:
        return decided, enforce(request.target, decided.evidence, duties, key=key)
    except Exception as error:  # noqa: BLE001 a redaction that failed half-way lets nothing out
        return failed_to_record(decided, fault_note("enforce", error)), None
