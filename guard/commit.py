"""Commit: making a decision's claims real. It can turn an answer into a deny, never loosen one.

An approval is bound to a digest of exactly what was asked. It lifts the REVIEW verdicts it was
given for and nothing else; every other verdict of this run, over the path as it is now, stands.
"""

from __future__ import annotations

import hashlib

import msgspec

from .decision import Effect, Reason, Review
from .errors import ReviewFault
from .pipeline import Decided, fault_note, recombine
from .plain import Json
from .request import Request
from .review import Held, ReviewItem, ReviewQueue

__all__ = ["denied_by", "lift_reviews", "open_reviews", "review_digest"]


def review_digest(request: Request) -> str:
    """sha256 over session, call, point, tool, model, principal and the exact target."""
    asked = (
        request.session_id,
        request.call_id,
        request.point,
        request.tool.name if request.tool is not None else None,
        request.model,
        request.principal,
        request.target,
    )
    return hashlib.sha256(msgspec.json.encode(asked, order="deterministic")).hexdigest()


def lift_reviews(
    reviews: ReviewQueue, request: Request, decided: Decided
) -> tuple[Decided, tuple[str, ...]]:
    """Consume the approvals of this request; returns who gave them."""
    duties = [duty for duty in decided.decision.obligations if isinstance(duty, Review)]
    queues = tuple(sorted({duty.queue for duty in duties}))
    answer = reviews.consume(review_digest(request), queues, request.now_ns)
    if answer.rejected:
        return denied_by(decided, "review", "rejected"), ()
    if not answer.lifted:
        return decided, ()
    return recombine(request, decided, lifted=answer.lifted), answer.approved_by


def open_reviews(
    reviews: ReviewQueue,
    request: Request,
    decided: Decided,
    *,
    summary: Json,
    result: Json,
    subjects: tuple[str, ...] = (),
) -> tuple[Decided, tuple[ReviewItem, ...]]:
    """One pending review for each queue that policy named; too many open is a deny.

    At a post point the call has happened and is never made again: `result`, in the form it may go
    on in, waits for the people. `subjects` are pseudonyms of those whom it concerns.
    """
    digest = review_digest(request)
    codes = tuple(r.code for r in decided.decision.reasons if r.effect is Effect.REVIEW)
    opened: list[ReviewItem] = []
    try:
        for duty in decided.decision.obligations:
            if isinstance(duty, Review):
                item = reviews.open(
                    digest,
                    duty,
                    codes=codes,
                    requester=request.principal.id,
                    summary=summary,
                    review_id=f"{decided.decision.id[:16]}-{len(opened)}",
                    now_ns=request.now_ns,
                    subjects=subjects,
                )
                opened.append(item)
        if opened and request.point.is_post:
            about = (msgspec.structs.replace(request, target=summary), decided)
            reviews.hold(tuple(opened), Held(result, about))
    except ReviewFault as error:
        decision = msgspec.structs.replace(
            decided.decision,
            effect=Effect.DENY,
            obligations=(),
            faults=(fault_note("review", error),),
        )
        return Decided(decision, decided.evidence, decided.verdicts), ()
    return decided, tuple(opened)


_WHY = {
    ("review", "rejected"): "a reviewer rejected exactly this call",
    ("route", "not_settled"): "the model it was routed to is not acceptable to policy either",
    ("route", "none_available"): "no approved model that policy allows is at hand",
}


def denied_by(decided: Decided, stage: str, why: str) -> Decided:
    """The decision turned into a deny by a later step, with its static reason."""
    message = _WHY.get((stage, why), "no approved model that policy allows fits this call")
    reason = Reason(Effect.DENY, f"{stage}.{why}", message, stage)
    decision = msgspec.structs.replace(
        decided.decision,
        effect=Effect.DENY,
        reasons=(reason, *decided.decision.reasons),
        obligations=(),
    )
    return Decided(decision, decided.evidence, decided.verdicts)
