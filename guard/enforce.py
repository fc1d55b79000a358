"""Carrying a decision out. What the host cannot honour becomes DENY, never ALLOW."""

from __future__ import annotations

from typing import Final

from .decision import Combined, Effect, Reason, Redact, Review, Route
from .evidence import Evidence
from .pii.redact import rewrite
from .plain import Json
from .request import Point, Request

__all__ = ["enforce", "honour"]

# The one point where a request can still be sent elsewhere.
_ROUTABLE: Final = Point.PRE_MODEL_CALL


def honour(request: Request, combined: Combined) -> Combined:
    """`combined`, or DENY with a reason when this host at this point cannot carry it out."""
    if not combined.obligations:
        return combined
    host = request.host
    for duty in combined.obligations:
        missing: Reason | None = None
        if isinstance(duty, Redact) and not host.can_rewrite:
            missing = _cannot("redact", "the host cannot rewrite here what policy wants redacted")
        elif isinstance(duty, Route) and request.point is not _ROUTABLE:
            missing = _cannot("route", "policy wants another model, and this is no model call")
        elif isinstance(duty, Route) and not host.can_route:
            missing = _cannot(
                "route",
                "policy wants another model, and none was handed over with guard.init(models=...)",
            )
        elif isinstance(duty, Review) and not host.can_pause:
            missing = _cannot("review", "policy wants a review, and the host cannot wait for one")
        if missing is not None:
            return Combined(Effect.DENY, (missing, *combined.reasons), (), combined.faults)
    return combined


def enforce(target: Json, evidence: Evidence, duties: tuple[Redact, ...], *, key: bytes) -> Json:
    """The target in the form the decision gave it: same structure and types, spans rewritten."""
    if not duties:
        return target
    return rewrite(target, evidence.pii + evidence.secrets, duties, key=key)


def _cannot(what: str, message: str) -> Reason:
    return Reason(Effect.DENY, f"host.cannot_{what}", message, "enforce")
