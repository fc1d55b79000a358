"""Strict reading of what a policy answered. What is not exactly an answer is a fault."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

import msgspec

from ..decision import Effect, Obligation, Redact, Review, Route, Verdict
from ..errors import PolicyFault

__all__ = ["POINTER_CHARS_MAX", "VERDICTS_MAX", "read_facts", "read_verdicts"]

VERDICTS_MAX: Final = 1_000  # one rule gives one or two; more is a rule that walks the payload
POINTER_CHARS_MAX: Final = 2_048
FACTS_MAX: Final = 256
POINTERS_MAX: Final = 16  # kept of one reason; an argument with thousands needs no more to show

_Text = Annotated[str, msgspec.Meta(min_length=1, max_length=300)]
_Name = Annotated[str, msgspec.Meta(min_length=1, max_length=128)]
_Pointer = Annotated[str, msgspec.Meta(max_length=POINTER_CHARS_MAX, pattern="^/")]


class _Redaction(msgspec.Struct, forbid_unknown_fields=True):
    entities: Annotated[tuple[_Name, ...], msgspec.Meta(max_length=64)] = ("*",)
    operator: Literal["remove", "replace", "hash", "mask"] = "replace"
    pointers: Annotated[tuple[_Pointer, ...], msgspec.Meta(max_length=256)] = ()


class _Routing(msgspec.Struct, forbid_unknown_fields=True):
    models: Annotated[tuple[_Name, ...], msgspec.Meta(max_length=1_000)]


class _Reviewing(msgspec.Struct, forbid_unknown_fields=True):
    queue: _Name = "default"
    ttl_s: Annotated[int, msgspec.Meta(gt=0, le=30 * 86_400)] = 3_600


class _Said(msgspec.Struct, forbid_unknown_fields=True, tag_field="effect"):
    code: _Name
    message: _Text
    pointers: tuple[_Pointer, ...] = ()


class _Allow(_Said, tag="allow"):
    pass


class _Redact(_Said, tag="redact"):
    redact: _Redaction = msgspec.field(default_factory=_Redaction)


class _Route(_Said, tag="route", kw_only=True):
    route: _Routing


class _Review(_Said, tag="review"):
    review: _Reviewing = msgspec.field(default_factory=_Reviewing)


class _Deny(_Said, tag="deny"):
    on_deny: Literal["raise", "return"] | None = None


_AnyVerdict = _Allow | _Redact | _Route | _Review | _Deny
_VERDICTS: Final = msgspec.json.Decoder(list[_AnyVerdict])
_FACTS: Final = msgspec.json.Decoder(list[_Name])


def read_verdicts(answer: bytes | str, target_key: str) -> tuple[Verdict, ...]:
    """Verdicts of a JSON array; raises PolicyFault when anything in it is not a verdict."""
    try:
        said = _VERDICTS.decode(answer)
    except (msgspec.ValidationError, msgspec.DecodeError) as error:
        raise PolicyFault(f"the policies gave a malformed verdict: {_safe(error)}") from None
    if len(said) > VERDICTS_MAX:
        raise PolicyFault(f"the policies gave more than {VERDICTS_MAX} verdicts")
    return tuple([_verdict(item, target_key) for item in said])


def read_facts(answer: bytes | str) -> tuple[str, ...]:
    """Facts of a JSON array of names."""
    try:
        facts = _FACTS.decode(answer)
    except (msgspec.ValidationError, msgspec.DecodeError) as error:
        raise PolicyFault(f"the policies gave malformed facts: {_safe(error)}") from None
    if len(facts) > FACTS_MAX:
        raise PolicyFault(f"the policies gave more than {FACTS_MAX} facts at once")
    return tuple(facts)


def _verdict(item: _AnyVerdict, target_key: str) -> Verdict:
    obligation: Obligation | None = None
    on_deny: str | None = None
    effect = Effect.ALLOW
    if isinstance(item, _Redact):
        effect = Effect.REDACT
        obligation = Redact(
            entities=item.redact.entities,
            operator=item.redact.operator,
            pointers=tuple([_below(pointer, target_key) for pointer in item.redact.pointers]),
        )
    elif isinstance(item, _Route):
        effect, obligation = Effect.ROUTE, Route(models=item.route.models)
    elif isinstance(item, _Review):
        effect = Effect.REVIEW
        obligation = Review(queue=item.review.queue, ttl_s=item.review.ttl_s)
    elif isinstance(item, _Deny):
        effect, on_deny = Effect.DENY, item.on_deny
    return Verdict(
        effect=effect,
        code=item.code,
        message=item.message,
        pointers=item.pointers[:POINTERS_MAX],
        obligation=obligation,
        on_deny=on_deny,
    )


def _below(pointer: str, target_key: str) -> str:
    prefix = f"/{target_key}"
    if pointer != prefix and not pointer.startswith(f"{prefix}/"):
        # Only the target may be rewritten; a redaction elsewhere could not be carried out.
        raise PolicyFault(
            f"a redact obligation points outside `{prefix}`, the only part to rewrite"
        )
    return pointer[len(prefix) :]


def _safe(error: Exception) -> str:
    # msgspec quotes a bad tag or key in its message, and that may be payload: keep what stands
    # before the first backtick or quote, and the path, which holds field names only.
    text: Any = str(error)
    what = text.split(" - at ")[0].split("'")[0].split('"')[0].strip()
    return f"{what[:120]}"
