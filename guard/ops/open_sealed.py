"""Opening sealed values: by a role that may, for a reason, and recorded before anything is seen."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, Final

import msgspec

from ..clock import SYSTEM_CLOCK, Clock
from ..errors import PrivacyFault, SubjectErased
from ..keys.subjects import SubjectKeys
from ..plain import Json
from .records import Appends, record, words

__all__ = ["Opened", "open_sealed"]

_INDEX_CHARS_MAX: Final = 9  # of an entry's 60,000 bytes no list has more elements


class Opened(msgspec.Struct, frozen=True):
    """Values by their pointer into the entry; `erased` are those that nobody can open any more."""

    values: dict[str, Json] = {}
    erased: tuple[str, ...] = ()


def open_sealed(
    line: bytes,
    *,
    keys: SubjectKeys,
    log: Appends,
    by: str,
    role: str,
    reason: str,
    allowed: Collection[str],
    clock: Clock = SYSTEM_CLOCK,
) -> Opened:
    """What is sealed in one entry, given as its line in the log.

    An attempt without an `allowed` role is recorded too. Raises PrivacyFault for it, for an entry
    that seals nothing, and for a value that was changed; AuditFault when it cannot be recorded.
    """
    entry = _decoded(line)
    decision_id, pointers, subjects = entry["decision_id"], entry["sealed"], entry["subjects"]
    is_allowed = role in allowed
    record(
        log,
        "access",
        {
            "what": "sealed values",
            "decision_id": decision_id,
            "pointers": pointers,
            "role": words("role", role),
            "reason": words("reason", reason),
        },
        by=by, clock=clock, effect="allow" if is_allowed else "deny", subjects=subjects,
    )  # fmt: skip
    if not is_allowed:
        raise PrivacyFault(
            f"the role `{role[:60]}` may not open sealed values; this attempt is recorded; allowed "
            f"by `open` in [audit.readers]: {', '.join(sorted(allowed)) or 'nobody'}"
        )
    values: dict[str, Json] = {}
    erased: list[str] = []
    for pointer in pointers:
        sealed, pseudonyms = _sealed_at(entry, pointer)
        try:
            text = keys.unseal(sealed, pseudonyms, f"{decision_id} {pointer}")
        except SubjectErased:
            erased.append(pointer)
        else:
            values[pointer] = msgspec.json.decode(text)
    return Opened(values, tuple(erased))


def _decoded(line: bytes) -> dict[str, Any]:
    try:
        entry = msgspec.json.decode(line)
    except msgspec.DecodeError as error:
        raise PrivacyFault("an entry is one line of JSON: this is none") from error
    sealed = entry.get("sealed") if isinstance(entry, dict) else None
    if not sealed:
        raise PrivacyFault("this entry holds no sealed value")
    subjects = entry.get("subjects")
    for texts in (sealed, subjects, [entry.get("decision_id")]):
        if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
            raise _malformed()
    return entry  # type: ignore[no-any-return]


def _sealed_at(entry: dict[str, Any], pointer: str) -> tuple[str, tuple[str, ...]]:
    item: Any = entry
    for token in pointer.split("/")[1:]:
        if isinstance(item, dict):
            item = item.get(token.replace("~1", "/").replace("~0", "~"))
        elif (
            isinstance(item, list)
            and token.isdecimal()
            and len(token) <= _INDEX_CHARS_MAX
            and int(token) < len(item)
        ):
            item = item[int(token)]
        else:
            raise _malformed()
    sealed = item.get("$sealed") if isinstance(item, dict) else None
    pseudonyms = item.get("subjects") if isinstance(item, dict) else None
    if not isinstance(sealed, str) or not isinstance(pseudonyms, list):
        raise _malformed()
    if not all(isinstance(pseudonym, str) for pseudonym in pseudonyms):
        raise _malformed()
    return sealed, tuple(pseudonyms)


def _malformed() -> PrivacyFault:
    return PrivacyFault("the sealed values of this entry are not as guard writes them: verify it")
