"""The hot path: stages in order, one combination, one decision.

Everything below `decide` is pure: no I/O, no logging, no await, no lock held while evaluating,
nothing that grows with history. `decide` never raises, except to let a person or an event loop
stop the process: then nothing was permitted.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from typing import Final

import msgspec

from .decision import Combined, Decision, Effect, FaultNote, Verdict, combine
from .enforce import honour
from .errors import GuardError, SnapshotFault
from .evidence import Evidence, Finding
from .request import Request

__all__ = ["Decided", "Stage", "decide", "fault_note", "faulted", "passes_through", "recombine"]

_set: Final = msgspec.structs.force_setattr

Stage = Callable[[Request, Evidence], Finding]


class Decided(msgspec.Struct, frozen=True, gc=False):
    """A decision with what it rests on, for commit, enforcement and the record."""

    decision: Decision
    evidence: Evidence
    verdicts: tuple[Verdict, ...]


def decide(
    request: Request,
    evidence: Evidence,
    stages: Sequence[tuple[str, Stage]],
    *,
    decision_id: str,
    revision: str,
) -> Decided:
    """Run the stages; the first deny or fault ends the chain. `revision` is of the policies in
    force: it stands in the decision also where the chain ended before they were asked."""
    started_ns = time.perf_counter_ns()
    # INVARIANT: this copy is ours until the decision is made, so filling it in place changes
    # nothing that anybody else holds; a new copy for each stage cost a tenth of the decision.
    evidence = msgspec.structs.replace(evidence)
    verdicts: list[Verdict] = []
    faults: list[FaultNote] = []
    facts: tuple[str, ...] = ()
    for name, stage in stages:
        try:
            finding = stage(request, evidence)
        except BaseException as error:
            if passes_through(error):
                raise
            faults.append(fault_note(name, error))
            break
        for field, value in finding.found.items():
            _set(evidence, field, value)
        facts += finding.facts
        if finding.faults:
            faults += finding.faults
            break
        if finding.verdicts:
            verdicts += finding.verdicts
            if any(verdict.effect is Effect.DENY for verdict in finding.verdicts):
                break
    combined = honour(request, combine(verdicts, faults))
    decision = Decision(
        id=decision_id,
        effect=combined.effect,
        reasons=combined.reasons,
        obligations=combined.obligations,
        faults=combined.faults,
        revision=revision,
        elapsed_us=(time.perf_counter_ns() - started_ns) / 1_000,
        facts=facts,
        on_deny=_on_deny(verdicts),
    )
    return Decided(decision, evidence, tuple(verdicts))


def recombine(request: Request, decided: Decided, *, lifted: frozenset[str]) -> Decided:
    """The same decision with the REVIEW verdicts of these codes lifted by an approval."""
    kept = tuple(
        v for v in decided.verdicts if not (v.effect is Effect.REVIEW and v.code in lifted)
    )
    combined: Combined = honour(request, combine(kept, decided.decision.faults))
    return Decided(
        msgspec.structs.replace(
            decided.decision,
            effect=combined.effect,
            reasons=combined.reasons,
            obligations=combined.obligations,
            faults=combined.faults,
        ),
        decided.evidence,
        kept,
    )


def fault_note(stage: str, error: BaseException) -> FaultNote:
    """What broke, without foreign text: another library's message may quote the payload."""
    if isinstance(error, SnapshotFault):
        return FaultNote(error.reason, stage, str(error))
    if isinstance(error, GuardError):
        return FaultNote(f"{stage}.{error.code}", stage, str(error))
    return FaultNote(f"{stage}.exception", stage, f"the stage raised {type(error).__name__}")


def faulted(decision_id: str, fault: FaultNote, *, revision: str) -> Decided:
    """DENY for a request of which there is not even a snapshot."""
    decision = Decision(id=decision_id, effect=Effect.DENY, faults=(fault,), revision=revision)
    return Decided(decision, Evidence(), ())


def passes_through(error: BaseException) -> bool:
    """True for what stops a process, a task or a generator: never ours to swallow."""
    if isinstance(error, (KeyboardInterrupt, SystemExit, GeneratorExit)):
        return True
    # A program that never imported asyncio has no task to cancel; importing it costs 30 ms.
    asyncio = sys.modules.get("asyncio")
    return asyncio is not None and isinstance(error, asyncio.CancelledError)


def _on_deny(verdicts: Sequence[Verdict]) -> str | None:
    # Raising is the stricter of two wishes: a returned denial can be mistaken for a result.
    wishes = {verdict.on_deny for verdict in verdicts}
    return "raise" if "raise" in wishes else "return" if "return" in wishes else None
