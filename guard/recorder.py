"""From a decision to its entry in the log, redacted, and the declared answer when the log fails."""

from __future__ import annotations

import hmac
from collections import deque
from functools import lru_cache
from typing import Any, Final, Literal, Protocol

import msgspec

from .audit.entry import Entry, timestamp_of
from .clock import Clock
from .decision import Effect, FaultNote
from .errors import AuditFault, EntryRefused
from .evidence import Evidence
from .pii.redact import mask_for_record, mask_text
from .pipeline import Decided
from .plain import Json
from .request import Request
from .session import Session

__all__ = ["OnAuditFailure", "RecordSink", "Recorder", "failed_to_record", "name_for_record"]

OnAuditFailure = Literal["deny", "buffer", "allow"]

# Entries kept while the log is away, with on_failure = "buffer"; then it is a deny.
BUFFERED_MAX: Final = 1_000
REASONS_MAX: Final = 64  # in a record, the most restrictive first
# Of a name in a record: no tool of anybody's has a longer one. Names seen are kept, as masked.
NAME_CHARS_MAX: Final = 128
NAMES_MAX: Final = 4_096


class RecordSink(Protocol):
    """Where entries go. `guard.audit.AuditLog`, or a fake from `guard.testing`."""

    def append(self, entry: Entry) -> int:
        """Index of the entry, once it is handed to the operating system; raises AuditFault."""
        ...

    def close(self) -> None:
        """Let go of what is open."""
        ...


class Recorder:
    """Writes entries; `write` answers None, or the fault that must turn the decision into DENY."""

    def __init__(
        self, sink: RecordSink, *, key: bytes, clock: Clock, on_failure: OnAuditFailure = "deny"
    ) -> None:
        self._sink = sink
        self._key = key
        self._clock = clock
        self.on_failure = on_failure
        self.lost = 0
        self._waiting: deque[Entry] = deque()

    def entry(
        self,
        request: Request,
        decided: Decided,
        number: int,
        *,
        kind: str,
        ref: str | None = None,
        happened: bool | None = None,
        error: str | None = None,
        review_id: str | None = None,
        approved_by: tuple[str, ...] = (),
        notes: tuple[str, ...] = (),
        metrics: dict[str, int] | None = None,
    ) -> Entry:
        """The entry of one decision, the session's `number`th; its payload is masked or absent."""
        decision, evidence = decided.decision, decided.evidence
        payload, masked = self.masked(request.target, evidence)
        now_ns = self._clock.now_ns()
        principal = request.principal
        return Entry(
            kind=kind,
            decision_id=decision.id,
            ref=ref,
            timestamp_ns=now_ns,
            timestamp=timestamp_of(now_ns),
            session_id=request.session_id,
            session_seq=number,
            run_id=request.run_id,
            call_id=name_for_record(request.call_id),
            trace_id=request.trace_id,
            span_id=decision.id[:16],
            point=request.point.value,
            principal={
                "id": principal.id,
                "roles": principal.roles,
                "on_behalf_of": principal.on_behalf_of,
                "delegation": principal.delegation,
            },
            tenant=request.context.tenant,
            purpose=request.context.purpose,
            tool=name_for_record(request.tool.name) if request.tool is not None else None,
            model=name_for_record(request.model.id) if request.model is not None else None,
            effect=decision.effect.value,
            reasons=decision.reasons[:REASONS_MAX],
            obligations=decision.obligations,
            faults=decision.faults,
            revision=decision.revision,
            input=payload,
            commitment=None if evidence.is_scanned else self._commitment(request.target),
            masked=list(masked),
            labels=evidence.labels,
            happened=happened,
            error=error if error is not None else evidence.error,
            review_id=review_id,
            approved_by=", ".join(approved_by) or None,
            notes=[*notes, *self._standing_notes()],
            metrics={"elapsed_ns": int(decision.elapsed_us * 1_000), **(metrics or {})},
        )

    def record(
        self, request: Request, decided: Decided, session: Session | None, **about: Any
    ) -> FaultNote | None:
        """Write the entry of a decision; the fault is what must turn it into a deny."""
        if session is None:
            return self.write(self.entry(request, decided, 0, **about))
        sequence = session.sequence
        with sequence.lock:
            lost = self.lost
            fault = self.write(self.entry(request, decided, sequence.next, **about))
            if self.lost == lost:
                sequence.next += 1
        return fault

    def write(self, entry: Entry) -> FaultNote | None:
        """Append; the fault is None where the configured answer lets the call go on."""
        try:
            while self._waiting:
                self._sink.append(self._waiting[0])
                self._waiting.popleft()
            self._sink.append(entry)
        except EntryRefused as fault:
            # It would never fit: waiting with it would only keep the others from the log.
            self.lost += 1
            return FaultNote("audit.refused", "audit", str(fault))
        except AuditFault as fault:
            if self.on_failure == "allow":
                self.lost += 1
                return None
            if self.on_failure == "buffer" and len(self._waiting) < BUFFERED_MAX:
                self._waiting.append(entry)
                return None
            self.lost += 1
            return FaultNote("audit.unavailable", "audit", str(fault))
        return None

    def close(self) -> None:
        """Write what still waits and close the log; raises AuditFault if that cannot be done."""
        while self._waiting:
            self._sink.append(self._waiting.popleft())
        self._sink.close()

    def masked(self, target: Json, evidence: Evidence) -> tuple[Json, tuple[str, ...]]:
        """The payload as it may be stored: nothing at all unless the scan was completed."""
        if not evidence.is_scanned:
            return None, ()
        spans = evidence.pii + evidence.secrets
        if not spans and not evidence.unscanned:
            return target, ()
        return mask_for_record(target, spans, key=self._key, unscanned=evidence.unscanned)

    def _commitment(self, target: Json) -> str | None:
        if target is None:
            return None
        return hmac.new(self._key, msgspec.json.encode(target), "sha256").hexdigest()

    def _standing_notes(self) -> tuple[str, ...]:
        # A weaker answer than deny stands in every record, and so does what it has cost.
        if self.on_failure == "deny":
            return ()
        return (f"audit.on_failure={self.on_failure}", f"audit.lost={self.lost}")


@lru_cache(maxsize=NAMES_MAX)
def name_for_record(name: str) -> str:
    """A name as it may be stored: a model invents tool names and call ids, and may hide data."""
    # Far more is looked at than is kept, so that the cut halves nothing that would be found.
    masked = mask_text(name[: 8 * NAME_CHARS_MAX])
    return masked if len(masked) <= NAME_CHARS_MAX else f"{masked[:NAME_CHARS_MAX]}..."


def failed_to_record(decided: Decided, fault: FaultNote) -> Decided:
    """DENY, because what cannot be recorded (or enforced, or remembered) may not happen."""
    decision: Any = msgspec.structs.replace(
        decided.decision, effect=Effect.DENY, obligations=(), faults=(fault,), recorded=False
    )
    return Decided(decision, decided.evidence, decided.verdicts)
