"""One entry of the log, and its canonical bytes: one line of JSON, which is also the Merkle leaf.

Field names follow OPA's decision log where it has one. Payloads come in redacted. Every field is
described in docs/audit-format.md.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any, Final

import msgspec

from ..errors import EntryRefused
from ..plain import Json

__all__ = ["ENTRY_BYTES_MAX", "ENTRY_VERSION", "Entry", "encode", "timestamp_of"]

ENTRY_VERSION: Final = 1
# A C2SP entry has at most 65,535 bytes; the rest is room for what later versions add.
ENTRY_BYTES_MAX: Final = 60_000
_NS_PER_S: Final = 1_000_000_000


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """What is kept of one decision, its outcome, or a repair of the log itself.

    `kind` is intent, outcome, decision, item, release or
    recovery. `ref` of an outcome is the `decision_id` of
    its intent; `happened` says whether the effect took place. `input` is the redacted payload, or
    None with a keyed `commitment`.
    """

    v: int = ENTRY_VERSION
    kind: str
    decision_id: str
    ref: str | None = None
    timestamp_ns: int
    timestamp: str  # RFC 3339, UTC
    session_id: str | None = None
    session_seq: int = 0  # dense within a session: a missing number is a missing entry
    run_id: str | None = None
    call_id: str | None = None
    trace_id: str | None = None
    span_id: str | None = None
    point: str
    principal: dict[str, Any]  # id, roles, on_behalf_of, delegation
    tenant: str | None = None
    purpose: str | None = None
    tool: str | None = None
    model: str | None = None
    effect: str
    reasons: Sequence[Any] = []  # effect, code, message, stage, pointers
    obligations: Sequence[Any] = []
    faults: Sequence[Any] = []  # code, stage, message
    revision: str = ""
    input: Json = None
    commitment: str | None = None
    masked: list[str] = []  # JSON pointers into `input`
    labels: dict[str, str] = {}
    happened: bool | None = None
    error: str | None = None  # type name of the exception that came instead of a result
    review_id: str | None = None
    approved_by: str | None = None
    notes: list[str] = []
    metrics: dict[str, int] = {}


_encoder: Final = msgspec.json.Encoder()


def encode(entry: Entry, commit: Callable[[bytes], str]) -> bytes:
    """The canonical bytes, without newline, at most ENTRY_BYTES_MAX; raises AuditFault.

    A payload that does not fit is replaced by its commitment; everything else is kept.
    """
    data = _json(entry)
    if len(data) > ENTRY_BYTES_MAX and entry.input is not None:
        payload = _encoder.encode(entry.input)
        data = _json(
            msgspec.structs.replace(
                entry,
                input=None,
                commitment=commit(payload),
                masked=[],
                notes=[*entry.notes, f"input of {len(payload)} bytes replaced by its commitment"],
            )
        )
    if len(data) > ENTRY_BYTES_MAX:
        raise EntryRefused(
            f"an entry without its payload has {len(data)} bytes, more than {ENTRY_BYTES_MAX}: "
            "shorten names, reasons or notes"
        )
    if b"\n" in data:
        # Only a msgspec.Raw can bring one; it would forge a second entry.
        raise EntryRefused("an entry holds raw bytes with a newline: expected plain JSON values")
    return data


def timestamp_of(moment_ns: int) -> str:
    """RFC 3339 in UTC with microseconds."""
    global _second
    seconds, rest_ns = divmod(moment_ns, _NS_PER_S)
    known, text = _second
    if known != seconds:
        # One assignment of a pair: another thread sees the old second or the new one, never half.
        text = f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}"
        _second = (seconds, text)
    return f"{text}.{rest_ns // 1_000:06d}Z"


# The second that was written last; formatting it anew costs 2 us of the 15 of an entry.
_second: tuple[int, str] = (-1, "")


def _json(entry: Entry) -> bytes:
    try:
        return _encoder.encode(entry)
    except (TypeError, ValueError, OverflowError, RecursionError, msgspec.MsgspecError) as error:
        # The text of these errors can quote the value: only the type is named.
        raise EntryRefused(
            f"an entry cannot be written as JSON ({type(error).__name__}): freeze its payload first"
        ) from None
