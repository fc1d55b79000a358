"""From a decision to its entry in the log, redacted, and the declared answer when the log fails."""

from __future__ import annotations

import hmac
from collections import deque
from functools import lru_cache
from typing import Any, Final, Literal, Protocol

import msgspec

from .audit.entry import Entry, timestamp_of
from .audit.log import Durability
from .clock import Clock
from .decision import Effect, FaultNote, Reason
from .errors import AuditFault, EntryRefused, PrivacyFault
from .evidence import Evidence
from .pii.redact import mask_for_record, mask_text
from .pipeline import Decided
from .plain import Json
from .privacy import Privacy, Protected
from .request import Request
from .review import ReviewItem
from .session import Session, new_id

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
        """Number of the entry, once it is handed to the operating system; raises AuditFault."""
        ...

    def wait(self, number: int, durability: Durability) -> None:
        """Return when the entry is as durable as that; raises AuditFault."""
        ...

    async def wait_async(self, number: int, durability: Durability) -> None:
        """The same for a task."""
        ...

    def checkpoint(self) -> str:
        """Sign what was handed over until now: the signed note; raises AuditFault."""
        ...

    def close(self) -> None:
        """Let go of what is open."""
        ...


class Recorder:
    """Writes entries, and says which fault must turn a decision into DENY."""

    def __init__(
        self, sink: RecordSink, *, key: bytes, clock: Clock, on_failure: OnAuditFailure = "deny",
        privacy: Privacy | None = None,
    ) -> None:  # fmt: skip
        self.privacy = privacy
        self._sink = sink
        self._key = key
        self._clock = clock
        self.on_failure = on_failure
        self.lost = 0
        self._waiting: deque[Entry] = deque()

    def settle(self, number: int | None, durability: Durability) -> FaultNote | None:
        """Wait until an entry is durable; the fault is what must turn the decision into a deny."""
        if number is None or durability == "relaxed":
            return None
        try:
            self._sink.wait(number, durability)
        except AuditFault as fault:
            return self._not_durable(fault)
        return None

    async def settle_async(self, number: int | None, durability: Durability) -> FaultNote | None:
        """The same for a task: the loop goes on meanwhile."""
        if number is None or durability == "relaxed":
            return None
        try:
            await self._sink.wait_async(number, durability)
        except AuditFault as fault:
            return self._not_durable(fault)
        return None

    def _not_durable(self, fault: AuditFault) -> FaultNote | None:
        if self.on_failure != "deny":
            self.lost += 1  # handed over, and it may not outlive a power failure
            return None
        return FaultNote("audit.not_durable", "audit", str(fault))

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
        now_ns = self._clock.now_ns()
        told = self._protected(request, evidence, decision_id=decision.id, now_ns=now_ns)
        is_result = request.point.is_post
        principal, reasons, faults = request.principal, decision.reasons, decision.faults
        on_behalf_of = principal.on_behalf_of
        if told.names:
            on_behalf_of = told.without_ids(on_behalf_of) if on_behalf_of else None
            reasons = tuple(_without_ids(reason, told) for reason in reasons)
        if told.fault is not None:
            faults = (*faults, told.fault)
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
                "on_behalf_of": on_behalf_of,
                "delegation": principal.delegation,
            },
            tenant=request.context.tenant,
            purpose=request.context.purpose,
            tool=name_for_record(request.tool.name) if request.tool is not None else None,
            model=name_for_record(request.model.id) if request.model is not None else None,
            effect=decision.effect.value,
            reasons=reasons[:REASONS_MAX],
            obligations=decision.obligations,
            faults=faults,
            bundles={"guard": {"revision": decision.revision}} if decision.revision else {},
            input=None if is_result else told.payload,
            result=told.payload if is_result else None,
            commitment=told.commitment,
            masked=told.masked,
            sealed=told.sealed,
            subjects=told.subjects,
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
    ) -> tuple[FaultNote | None, int | None]:
        """Write the entry of a decision: the fault that must turn it into a deny, and its number in
        the log where it has one."""
        try:
            if session is None:
                return self.write(self.entry(request, decided, 0, **about))
            sequence = session.sequence
            with sequence.lock:
                lost = self.lost
                written = self.write(self.entry(request, decided, sequence.next, **about))
                if self.lost == lost:
                    sequence.next += 1
            return written
        except PrivacyFault as fault:
            # Nothing may be stored that could not be protected, whatever `on_failure` says.
            self.lost += 1
            return FaultNote("audit.privacy", "audit", str(fault)), None

    def reviewed(self, item: ReviewItem) -> None:
        """Write that a person has answered; raises AuditFault, and then it is no answer."""
        now_ns = self._clock.now_ns()
        self._sink.append(
            Entry(
                kind="review",
                decision_id=new_id(),
                timestamp_ns=now_ns,
                timestamp=timestamp_of(now_ns),
                point="review",
                principal={"id": name_for_record(item.requester)},
                subjects=list(item.subjects),
                review_id=item.id,
                approved_by=name_for_record(str(item.decided_by)),
                notes=list(self._standing_notes()),
                detail={"answer": item.state.value, "queue": item.queue},
            )
        )

    def subjects_of(self, request: Request) -> tuple[str, ...]:
        """Pseudonyms of the data subjects of a request; raises PrivacyFault."""
        privacy = self.privacy
        if privacy is None or not (privacy.is_configured or request.context.subjects):
            return ()
        return tuple(privacy.pseudonyms(request).values())

    def refresh(self) -> None:
        """Learn which data subjects were erased meanwhile, also by other processes."""
        if self.privacy is not None:
            self.privacy.keys.refresh()

    def write(self, entry: Entry) -> tuple[FaultNote | None, int | None]:
        """Append; the fault is None where the configured answer lets the call go on."""
        try:
            while self._waiting:
                self._sink.append(self._waiting[0])
                self._waiting.popleft()
            return None, self._sink.append(entry)
        except EntryRefused as fault:
            # It would never fit: waiting with it would only keep the others from the log.
            self.lost += 1
            return FaultNote("audit.refused", "audit", str(fault)), None
        except AuditFault as fault:
            if self.on_failure == "allow":
                self.lost += 1
                return None, None
            if self.on_failure == "buffer" and len(self._waiting) < BUFFERED_MAX:
                self._waiting.append(entry)
                return None, None
            self.lost += 1
            return FaultNote("audit.unavailable", "audit", str(fault)), None

    def checkpoint(self) -> str:
        """Sign what was recorded until now: the note, to be kept elsewhere; raises AuditFault."""
        return self._sink.checkpoint()

    def close(self) -> None:
        """Write what still waits and close the log; raises AuditFault if that cannot be done."""
        try:
            while self._waiting:
                self._sink.append(self._waiting[0])
                self._waiting.popleft()
        finally:
            self._sink.close()
            if self.privacy is not None:
                self.privacy.keys.close()

    def masked(self, target: Json, evidence: Evidence) -> tuple[Json, tuple[str, ...]]:
        """The payload as it may be stored: nothing at all unless the scan was completed."""
        if not evidence.is_scanned:
            return None, ()
        spans = evidence.pii + evidence.secrets
        if not spans and not evidence.unscanned:
            return target, ()
        return mask_for_record(target, spans, key=self._key, unscanned=evidence.unscanned)

    def _protected(
        self, request: Request, evidence: Evidence, *, decision_id: str, now_ns: int
    ) -> Protected:
        """The payload as the log may keep it; raises PrivacyFault."""
        privacy = self.privacy
        if privacy is not None and (privacy.is_configured or request.context.subjects):
            return privacy.protect(request, evidence, decision_id=decision_id, now_ns=now_ns)
        if not evidence.is_scanned:
            return Protected(commitment=self._commitment(request.target, now_ns))
        payload, masked = self.masked(request.target, evidence)
        prefix = "/result" if request.point.is_post else "/input"
        return Protected(payload=payload, masked=[f"{prefix}{pointer}" for pointer in masked])

    def _commitment(self, target: Json, now_ns: int) -> str | None:
        if target is None:
            return None
        data = msgspec.json.encode(target)
        if self.privacy is not None:
            return self.privacy.commit(data, (), now_ns)  # under a salt that can be destroyed
        return hmac.new(self._key, data, "sha256").hexdigest()

    def _standing_notes(self) -> tuple[str, ...]:
        # A weaker answer than deny stands in every record, and so does what it has cost.
        if self.on_failure == "deny":
            return ()
        return (f"audit.on_failure={self.on_failure}", f"audit.lost={self.lost}")


def _without_ids(reason: Reason, told: Protected) -> Reason:
    pointers = tuple(told.without_ids(pointer) for pointer in reason.pointers)
    return msgspec.structs.replace(reason, pointers=pointers)


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
