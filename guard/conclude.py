"""Concluding a decision: reviews opened, the entry written, and what comes of it."""

from __future__ import annotations

from typing import Any

from .commit import open_reviews
from .decision import Effect, FaultNote
from .errors import Denied, Outcome, PrivacyFault, ReviewPending
from .pipeline import Decided
from .plain import Json
from .recorder import Recorder, failed_to_record
from .request import Request
from .review import ReviewItem, ReviewQueue
from .session import Session

__all__ = ["conclude"]


def conclude(
    queue: ReviewQueue,
    recorder: Recorder,
    request: Request,
    decided: Decided,
    now: Session | None,
    result: Json,
    **record: Any,
) -> tuple[Decided, Outcome | None, int | None]:
    """Record the decision. The outcome is None when the request may go on; the number is that of
    the entry in the log."""
    reviews: tuple[ReviewItem, ...] = ()
    try:
        subjects = recorder.subjects_of(request)
    except PrivacyFault as error:
        note = FaultNote("audit.privacy", "audit", str(error))
        decided, subjects = failed_to_record(decided, note), ()
    if decided.decision.effect is Effect.REVIEW:
        summary, _ = recorder.masked(request.target, decided.evidence)
        decided, reviews = open_reviews(
            queue, request, decided, summary=summary, result=result, subjects=subjects
        )
    review_id = reviews[0].id if reviews else None
    fault, number = recorder.record(request, decided, now, review_id=review_id, **record)
    if fault is not None:
        decided = failed_to_record(decided, fault)
    if decided.decision.is_permitted:
        return decided, None, number
    if decided.decision.effect is Effect.REVIEW and review_id is not None:
        return decided, ReviewPending(decided.decision, tuple(r.id for r in reviews)), number
    return decided, Denied(decided.decision), number
