"""What the interceptor hands out: leave to make one call, or to pass one point."""

from __future__ import annotations

import msgspec

from .decision import Decision, Effect
from .pipeline import Decided
from .plain import Json
from .request import Request
from .session import Session

__all__ = ["Checked", "Permit"]


class Permit(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """Leave to make one call, with exactly `target`. `model_id` is set where it was routed."""

    request: Request
    decided: Decided
    target: Json
    claim: str
    session: Session | None
    number: int | None = None  # of its intent among the entries of this process
    model_id: str | None = None

    @property
    def decision(self) -> Decision:
        """The decision that permits."""
        return self.decided.decision


class Checked(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """A one-sided point (input, output, startup) that was permitted, in the form it may go on."""

    decision: Decision
    target: Json


def claim_name(request: Request) -> str:
    """What a call counts under on the path: `tool:<name>`, `model:<id>`, or its point."""
    if request.tool is not None:
        return f"tool:{request.tool.name}"
    if request.model is not None:
        return f"model:{request.model.id}"
    return request.point.value


def is_violation(request: Request, decided: Decided) -> bool:
    """Whether a denial speaks against the principal: it misused a tool that it was given.

    A missing grant or declaration is as likely the developer's mistake, a fault is ours.
    """
    if decided.decision.effect is not Effect.DENY or decided.decision.faults:
        return False
    if request.tool is None:
        return True
    return request.tool.is_declared and decided.evidence.capability.granted
