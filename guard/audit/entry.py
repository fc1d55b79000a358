"""One entry of the log, and its canonical bytes: one line of JSON, which is also the Merkle leaf.

Field names follow OPA's decision log where it has one. Payloads come in redacted. Every field is
described in docs/audit-format.md.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any, Final

import msgspec

from ..errors import EntryRefused
from ..plain import Json

__all__ = [
    "ENTRY_BYTES_MAX",
    "ENTRY_VERSION",
    "Entry",
    "NOT_AN_ENTRY",
    "SEQUENCER",
    "encode",
    "entry_about_log",
    "stamp",
    "timestamp_of",
]

ENTRY_VERSION: Final = 2
# A C2SP entry has at most 65,535 bytes; the rest is room for what later versions add.
ENTRY_BYTES_MAX: Final = 60_000
# Room for `writer` and `writer_seq`, which are set last: they are known when it is handed over.
_STAMP_BYTES_MAX: Final = 64
# The writer of what the log says about itself.
SEQUENCER: Final = "sequencer"
# What decoding a line raises that is no entry.
NOT_AN_ENTRY: Final = (msgspec.MsgspecError, ValueError, RecursionError)
_NS_PER_S: Final = 1_000_000_000


class Entry(
    msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="v", tag=ENTRY_VERSION
):
    """What is kept of one decision, its outcome, or of something that befell the log itself.

    `ref` of an outcome is the `decision_id` of its intent; `happened` says whether the effect took
    place. `input` (what goes in) or `result` (what came back) is the redacted payload, or both are
    None with a keyed `commitment`.
    """

    kind: str
    decision_id: str
    timestamp_ns: int
    timestamp: str  # RFC 3339, UTC
    ref: str | None = None
    session_id: str | None = None
    session_seq: int = 0  # dense within a session: a missing number is a missing entry
    run_id: str | None = None
    call_id: str | None = None
    trace_id: str | None = None
    span_id: str | None = None
    point: str = ""
    principal: dict[str, Any] = {}  # id, roles, on_behalf_of, delegation
    tenant: str | None = None
    purpose: str | None = None
    tool: str | None = None
    model: str | None = None
    effect: str = "none"
    reasons: Sequence[Any] = []  # effect, code, message, stage, pointers
    obligations: Sequence[Any] = []
    faults: Sequence[Any] = []  # code, stage, message
    bundles: dict[str, dict[str, str]] = {}  # name: revision
    input: Json = None
    result: Json = None
    masked: list[str] = []  # JSON pointers into the entry
    sealed: list[str] = []  # JSON pointers into the entry
    commitment: str | None = None
    subjects: list[str] = []  # pseudonyms
    labels: dict[str, str] = {}
    cost_usd: float | None = None
    tokens: int | None = None
    happened: bool | None = None
    error: str | None = None  # type name of the exception that came instead of a result
    review_id: str | None = None
    approved_by: str | None = None
    retention: str | None = None
    notes: list[str] = []
    metrics: dict[str, int] = {}
    detail: dict[str, Any] = {}
    # Set by the log when the entry is handed over; whoever makes an entry leaves them alone.
    writer: str = ""
    writer_seq: int = 0

    @property
    def revision(self) -> str:
        """The policies that decided, or the empty text."""
        return self.bundles.get("guard", {}).get("revision", "")


_BARE_BYTES_MAX: Final = ENTRY_BYTES_MAX - _STAMP_BYTES_MAX
_encoder: Final = msgspec.json.Encoder()


def encode(entry: Entry, commit: Callable[[bytes], str]) -> bytes:
    """The bytes of an entry but for its stamp, without newline; raises EntryRefused.

    A payload that does not fit is replaced by its commitment; everything else is kept.
    """
    data = _json(entry)
    payload = entry.input if entry.input is not None else entry.result
    if len(data) > _BARE_BYTES_MAX and payload is not None:
        text = _encoder.encode(payload)
        data = _json(
            msgspec.structs.replace(
                entry,
                input=None,
                result=None,
                commitment=commit(text),
                masked=[],
                sealed=[],
                notes=[*entry.notes, f"payload of {len(text)} bytes replaced by its commitment"],
            )
        )
    if len(data) > _BARE_BYTES_MAX:
        raise EntryRefused(
            f"an entry without its payload has {len(data)} bytes, more than {_BARE_BYTES_MAX}: "
            "shorten names, reasons or notes"
        )
    if b"\n" in data:
        # Only a msgspec.Raw can bring one; it would forge a second entry.
        raise EntryRefused("an entry holds raw bytes with a newline: expected plain JSON values")
    return data


def stamp(data: bytes, writer: str, number: int) -> bytes:
    """The whole entry: `data` of `encode` with who hands it over and his count."""
    return b'%b,"writer":"%b","writer_seq":%d}' % (data[:-1], writer.encode(), number)


def entry_about_log(kind: str, note: str, detail: dict[str, Any], *, now_ns: int) -> bytes:
    """The bytes, as of `encode`, of an entry of the log about itself."""
    return _json(
        Entry(
            kind=kind,
            decision_id=os.urandom(16).hex(),
            timestamp_ns=now_ns,
            timestamp=timestamp_of(now_ns),
            point="audit",
            principal={"id": "guard"},
            notes=[note],
            detail=detail,
        )
    )


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
