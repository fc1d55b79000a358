"""The answer: effects, verdicts, obligations, and how many verdicts become one decision."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import Final

import msgspec

__all__ = [
    "Combined",
    "Decision",
    "Effect",
    "FaultNote",
    "Obligation",
    "Reason",
    "Redact",
    "Review",
    "Route",
    "Verdict",
    "combine",
]


class Effect(StrEnum):
    """What may happen, from least to most restrictive: ALLOW < REDACT < ROUTE < REVIEW < DENY."""

    ALLOW = "allow"
    REDACT = "redact"
    ROUTE = "route"
    REVIEW = "review"
    DENY = "deny"

    @property
    def rank(self) -> int:
        """0 (ALLOW) to 4 (DENY)."""
        return _RANKS[self]


_RANKS: Final = {effect: rank for rank, effect in enumerate(Effect)}


class Redact(msgspec.Struct, frozen=True, gc=False, kw_only=True, tag="redact"):
    """Rewrite every span of these entities, everywhere or below the given JSON pointers."""

    entities: tuple[str, ...] = ("*",)
    operator: str = "replace"  # one of guard.pii.redact.OPERATORS
    pointers: tuple[str, ...] = ()  # empty: the whole target


class Route(msgspec.Struct, frozen=True, gc=False, kw_only=True, tag="route"):
    """Call one of these approved models instead; two of them intersect."""

    models: tuple[str, ...]


class Review(msgspec.Struct, frozen=True, gc=False, kw_only=True, tag="review"):
    """A person of `queue` must approve within `ttl_s` seconds; after that it is a deny."""

    queue: str = "default"
    ttl_s: int = 3_600


Obligation = Redact | Route | Review


class Verdict(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """What one stage or rule says. Static words and pointers; never payload text."""

    effect: Effect
    code: str  # stable, `<rule or stage>.<reason>`
    message: str
    stage: str = "policy"
    pointers: tuple[str, ...] = ()  # RFC 6901, into the policy input
    obligation: Obligation | None = None
    on_deny: str | None = None  # "raise" or "return"; a call's own choice comes first


class Reason(msgspec.Struct, frozen=True, gc=False):
    """Why: the part of a verdict that is kept in the decision and the log."""

    effect: Effect
    code: str
    message: str
    stage: str
    pointers: tuple[str, ...] = ()


class FaultNote(msgspec.Struct, frozen=True, gc=False):
    """What broke, in which stage; any fault makes the decision DENY."""

    code: str
    stage: str
    message: str


class Combined(msgspec.Struct, frozen=True, gc=False):
    """What `combine` says of a set of verdicts and faults."""

    effect: Effect
    reasons: tuple[Reason, ...]
    obligations: tuple[Obligation, ...]
    faults: tuple[FaultNote, ...]


class Decision(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """The answer to one request. `revision` names the policies that gave it (sha256)."""

    id: str
    effect: Effect
    reasons: tuple[Reason, ...] = ()
    obligations: tuple[Obligation, ...] = ()
    faults: tuple[FaultNote, ...] = ()
    revision: str = ""
    elapsed_us: float = 0.0
    facts: tuple[str, ...] = ()  # what the rules say has become true; kept on the path
    on_deny: str | None = None
    recorded: bool = True  # False for `Interceptor.decide`, which answers and records nothing

    @property
    def is_permitted(self) -> bool:
        """The call may be made now, in the form the obligations give it."""
        return self.effect.rank < Effect.REVIEW.rank

    def summary(self) -> str:
        """One line for people: the effect and why."""
        deciding = [r for r in self.reasons if r.effect is self.effect] or list(self.reasons)
        words = [f"{reason.code}: {reason.message}" for reason in deciding]
        words += [f"{fault.code}: {fault.message}" for fault in self.faults]
        return f"{self.effect.value} ({'; '.join(words) or 'no reason given'})"


NOT_PERMITTED: Final = Reason(
    Effect.DENY, "default.not_permitted", "no policy permits this", "combine"
)
NO_COMMON_MODEL: Final = Reason(
    Effect.DENY,
    "route.no_common_model",
    "the routes that policy asks for share no model",
    "combine",
)


def combine(verdicts: Sequence[Verdict], faults: Sequence[FaultNote] = ()) -> Combined:
    """One answer from all verdicts, whatever their order.

    (1) A fault is a DENY.
    (2) DENY unless the policy stage permits; no other stage can permit.
    (3) The most restrictive verdict wins, and obligations are united: adding one never loosens.
    (4) Routes intersect their models; an empty intersection is a DENY.
    """
    if len(verdicts) == 1 and not faults:
        # By far the usual case: one permit and nothing against it.
        (only,) = verdicts
        if only.effect is Effect.ALLOW and only.stage == "policy" and only.obligation is None:
            return Combined(Effect.ALLOW, (_reason(only),), (), ())
    fault_notes = tuple(sorted(set(faults), key=_fault_order))
    reasons = tuple(sorted({_reason(verdict) for verdict in verdicts}, key=_reason_order))
    if fault_notes:  # (1)
        return Combined(Effect.DENY, reasons, (), fault_notes)
    effect = Effect.ALLOW
    is_permitted = False
    obligations: set[Obligation] = set()
    for verdict in verdicts:
        if verdict.effect is Effect.ALLOW:
            is_permitted = is_permitted or verdict.stage == "policy"
        elif verdict.effect.rank > effect.rank:  # (3)
            effect = verdict.effect
        if verdict.obligation is not None:
            obligations.add(verdict.obligation)
    if not is_permitted:  # (2)
        effect = Effect.DENY
        reasons = (NOT_PERMITTED, *reasons)
    routes = [duty for duty in obligations if isinstance(duty, Route)]
    if routes:
        models = set.intersection(*(set(route.models) for route in routes))
        obligations.difference_update(routes)
        if models:
            obligations.add(Route(models=tuple(sorted(models))))
        else:  # (4)
            effect = Effect.DENY
            reasons = (NO_COMMON_MODEL, *reasons)
    if effect is Effect.DENY or not obligations:
        return Combined(effect, reasons, (), ())
    return Combined(effect, reasons, tuple(sorted(obligations, key=repr)), ())


def _reason(verdict: Verdict) -> Reason:
    return Reason(verdict.effect, verdict.code, verdict.message, verdict.stage, verdict.pointers)


def _reason_order(reason: Reason) -> tuple[int, str, str, tuple[str, ...], str]:
    # The most restrictive first: it is what a reader asks for.
    return (-reason.effect.rank, reason.code, reason.stage, reason.pointers, reason.message)


def _fault_order(fault: FaultNote) -> tuple[str, str, str]:
    return (fault.stage, fault.code, fault.message)
