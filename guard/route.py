"""Carrying ROUTE out: an approved model instead of the one that was asked for.

The chosen model is decided on like any other: the whole pipeline runs again with it in place, and
if policy would send that one away too, the call is denied.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Final

import msgspec

from .commit import denied_by
from .decision import Effect, Route
from .fleet import Fleet, choose
from .pipeline import Decided
from .request import ModelRef, Request

__all__ = ["Routed", "carry_out_route", "is_routed"]

# Without a provider's tokenizer, the low end for English: an estimate never overruns a window.
CHARS_PER_TOKEN: Final = 3

# Decides and commits a request anew; returns it with its snapshot, and who approved it.
DecideAgain = Callable[[Request], tuple[Request, Decided, tuple[str, ...]]]


class Routed(msgspec.Struct, frozen=True, gc=False):
    """The request with the model that will be called; `model_id` is None where it is a deny."""

    request: Request
    decided: Decided
    model_id: str | None = None
    approved_by: tuple[str, ...] = ()


def is_routed(decided: Decided) -> bool:
    """Whether the decision permits the call on condition that another model is called."""
    decision = decided.decision
    return decision.is_permitted and any(isinstance(d, Route) for d in decision.obligations)


def carry_out_route(
    request: Request,
    decided: Decided,
    *,
    fleet: Fleet,
    available: Collection[str],
    decide_again: DecideAgain,
) -> Routed:
    """Choose among the models that policy allows and the user handed over, and decide again."""
    (duty,) = [duty for duty in decided.decision.obligations if isinstance(duty, Route)]
    choice = choose(
        fleet,
        duty.models,
        tokens_needed=len(msgspec.json.encode(request.target)) // CHARS_PER_TOKEN,
        available=available,
    )
    if choice.model_id is None:
        return Routed(request, denied_by(decided, "route", choice.why))
    model = fleet.models[choice.model_id]
    ref = ModelRef(id=model.id, provider=model.provider, endpoint=model.endpoint)
    request, again, approved_by = decide_again(msgspec.structs.replace(request, model=ref))
    if any(
        isinstance(duty, Route) and model.id not in duty.models
        for duty in again.decision.obligations
    ):
        return Routed(request, denied_by(again, "route", "not_settled"))
    return Routed(request, _merged(decided, again, model.id), model.id, approved_by)


def _merged(decided: Decided, again: Decided, model_id: str) -> Decided:
    """One decision out of two: what sent the call away, and what was said of where it went."""
    first, second = decided.decision, again.decision
    kept = tuple(duty for duty in second.obligations if not isinstance(duty, Route))
    decision = msgspec.structs.replace(
        second,
        effect=max(first.effect, second.effect, key=lambda effect: effect.rank),
        reasons=(*first.reasons, *(r for r in second.reasons if r not in first.reasons)),
        obligations=(() if second.effect is Effect.DENY else (*kept, Route(models=(model_id,)))),
        elapsed_us=first.elapsed_us + second.elapsed_us,
    )
    return Decided(decision, again.evidence, again.verdicts)
