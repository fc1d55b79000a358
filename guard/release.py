"""Letting a held result go on: when everyone who was asked has approved, and on the record."""

from __future__ import annotations

import msgspec

from .decision import Effect, Reason
from .errors import Denied
from .evidence import Evidence
from .pipeline import Decided
from .plain import Json
from .recorder import Recorder, failed_to_record
from .review import ReviewQueue
from .session import current_session, new_id

__all__ = ["release"]

_APPROVED = Reason(Effect.ALLOW, "review.approved", "the result was approved", "review")


def release(reviews: ReviewQueue, recorder: Recorder, review_id: str, now_ns: int) -> Json:
    """The result, in the form the decision gave it; raises ReviewFault, or Denied where the
    release cannot be recorded."""
    held, approved_by = reviews.release(review_id, now_ns)
    request, decided = held.about
    decision = msgspec.structs.replace(
        decided.decision,
        id=new_id(),
        effect=Effect.ALLOW,
        reasons=(_APPROVED,),
        obligations=(),
    )
    # What is recorded beside it is the masked summary: nothing in it is left to find.
    released = Decided(decision, Evidence(is_scanned=True), ())
    fault, _ = recorder.record(
        request,
        released,
        current_session(),
        kind="release",
        ref=decided.decision.id,
        review_id=review_id,
        approved_by=approved_by,
        happened=True,
    )
    if fault is not None:
        raise Denied(failed_to_record(released, fault).decision)
    return held.result
