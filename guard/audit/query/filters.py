"""What may be asked of entries: each filter once, as a test of an entry and as a condition in SQL.

INVARIANT: what a person asks for never becomes part of the SQL; it is a bound value.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import msgspec

from ...errors import AuditFault
from ..entry import Entry

__all__ = ["Filters", "PREFIX_CHARS_MIN", "Term", "codes_of", "fitting", "moment_of", "terms_of"]

_UNITS_S: Final = {"s": 1, "m": 60, "h": 3_600, "d": 86_400, "w": 604_800}
_RELATIVE: Final = re.compile(r"([0-9]{1,6})([smhdw])")
_DATE: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_NS_PER_S: Final = 1_000_000_000
_NS_PER_US: Final = 1_000
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
# Shorter prefixes of ids and revisions fit too much by accident.
PREFIX_CHARS_MIN: Final = 6
_ID_CHARS: Final = 32  # of a whole decision, session or trace id
_VALUE_CHARS_MAX: Final = 4_096


class Filters(msgspec.Struct, frozen=True, kw_only=True):
    """What an entry must be; None and () fit all. `*` in a name stands for any text.

    `since` and `until` are RFC 3339, a date (the whole day), `today`, `yesterday`, or back from now
    such as `7d`. `reason` is the start of a reason's code, `rules` are names of rules of which one
    must have fired, `subjects` pseudonyms of which one must be concerned, `labels` pairs that must
    all be there. `session`, `trace`, `revision` and `decision_id` may be the start of one. `text`
    stands anywhere in the entry, in capitals or not. `limit` keeps the newest.
    """

    since: str | None = None
    until: str | None = None
    tenant: str | None = None
    principal: str | None = None
    on_behalf_of: str | None = None
    tool: str | None = None
    model: str | None = None
    point: str | None = None
    effect: str | None = None
    reason: str | None = None
    rules: tuple[str, ...] | None = None
    revision: str | None = None
    labels: tuple[tuple[str, str], ...] = ()
    subjects: tuple[str, ...] | None = None
    session: str | None = None
    trace: str | None = None
    kind: str | None = None
    decision_id: str | None = None
    cost_min_usd: float | None = None
    cost_max_usd: float | None = None
    latency_min_us: float | None = None
    latency_max_us: float | None = None
    text: str | None = None
    limit: int | None = None


class Term(msgspec.Struct, frozen=True):
    """One condition. Without `sql` the index cannot answer it, and the entry itself is read.

    `test` takes an entry and its line; `values` stand for the `?` in `sql`.
    """

    sql: str | None
    values: tuple[Any, ...]
    test: Callable[[Entry, bytes], bool]


def terms_of(filters: Filters, now_ns: int) -> list[Term]:
    """One term for each filter that is set; raises AuditFault for one that does not parse."""
    for name in filters.__struct_fields__:
        value = getattr(filters, name)
        if isinstance(value, str) and len(value) > _VALUE_CHARS_MAX:
            raise AuditFault(
                f"the filter {name} has {len(value)} characters: expected {_VALUE_CHARS_MAX}"
            )
    return [*_times(filters, now_ns), *_names(filters), *_lists(filters), *_numbers(filters),
            *_texts(filters)]  # fmt: skip


def fitting(terms: list[Term]) -> Callable[[Entry, bytes], bool]:
    """One test for all terms."""
    tests = [term.test for term in terms]
    return lambda entry, line: all(test(entry, line) for test in tests)


def codes_of(items: Any) -> list[str]:
    """The codes of reasons or faults. A line that was tampered with may hold anything there."""
    codes = (item.get("code") for item in items if isinstance(item, dict))
    return [code for code in codes if isinstance(code, str)]


def moment_of(text: str, now_ns: int, *, is_end: bool = False) -> int:
    """Nanoseconds since 1970 of `2026-11-21T09:30:00Z`, `2026-11-21`, `today`, or `7d` before now.

    With `is_end` a day means its last nanosecond.
    """
    if relative := _RELATIVE.fullmatch(text):
        return now_ns - int(relative[1]) * _UNITS_S[relative[2]] * _NS_PER_S
    midnight = _EPOCH + timedelta(days=now_ns // _NS_PER_S // _UNITS_S["d"])
    days = {"today": midnight, "yesterday": midnight - timedelta(days=1)}
    try:
        moment = days.get(text) or datetime.fromisoformat(text)
    except ValueError as error:
        raise AuditFault(
            f"unknown time `{text[:40]}`: expected RFC 3339 such as 2026-11-21T09:30:00Z, a date, "
            "`today`, `yesterday`, or a span back from now such as 7d, 2h or 30m"
        ) from error
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    since = moment - _EPOCH
    moment_ns = (since.days * 86_400 + since.seconds) * _NS_PER_S + since.microseconds * 1_000
    if is_end and (text in days or _DATE.fullmatch(text)):
        moment_ns += _UNITS_S["d"] * _NS_PER_S - 1
    return moment_ns


def _times(filters: Filters, now_ns: int) -> Iterator[Term]:
    if filters.since is not None:
        since = moment_of(filters.since, now_ns)
        yield Term("timestamp_ns >= ?", (since,), lambda entry, _: entry.timestamp_ns >= since)
    if filters.until is not None:
        until = moment_of(filters.until, now_ns, is_end=True)
        yield Term("timestamp_ns <= ?", (until,), lambda entry, _: entry.timestamp_ns <= until)


_Field = Callable[[Entry], Any]
_EXACT: Final[dict[str, _Field]] = {
    "point": lambda entry: entry.point,
    "effect": lambda entry: entry.effect,
    "kind": lambda entry: entry.kind,
}
_PATTERNS: Final[dict[str, _Field]] = {
    "tenant": lambda entry: entry.tenant,
    "tool": lambda entry: entry.tool,
    "model": lambda entry: entry.model,
    "principal": lambda entry: entry.principal.get("id"),
    "on_behalf_of": lambda entry: entry.principal.get("on_behalf_of"),
}


def _names(filters: Filters) -> Iterator[Term]:
    for name, field in _EXACT.items():
        if (wanted := getattr(filters, name)) is not None:
            yield _equal(name, field, wanted)
    for name, field in _PATTERNS.items():
        if (wanted := getattr(filters, name)) is not None:
            yield _pattern(name, field, wanted) if "*" in wanted else _equal(name, field, wanted)
    if (session := filters.session) is not None:
        yield _start("session_id", lambda entry: entry.session_id, session)
    if (trace := filters.trace) is not None:
        yield _start("trace_id", lambda entry: entry.trace_id, trace)
    if (decision := filters.decision_id) is not None:
        yield _decision(decision)
    if (revision := filters.revision) is not None:
        wanted = f"sha256:{revision.removeprefix('sha256:')}"
        if len(revision.removeprefix("sha256:")) < PREFIX_CHARS_MIN:
            raise AuditFault(f"expected at least {PREFIX_CHARS_MIN} characters of a revision")
        yield Term(
            "starts_with('sha256:' || replace(revision, 'sha256:', ''), ?)", (wanted,),
            lambda entry, _: f"sha256:{entry.revision.removeprefix('sha256:')}".startswith(wanted),
        )  # fmt: skip


def _decision(wanted: str) -> Term:
    """Its own entry, and those that refer to it."""

    def test(entry: Entry, _: bytes) -> bool:
        return entry.decision_id.startswith(wanted) or (entry.ref or "").startswith(wanted)

    if len(wanted) < _ID_CHARS:
        return Term("(starts_with(decision_id, ?) OR starts_with(ref, ?))", (wanted, wanted), test)
    return Term(
        "index IN (SELECT index FROM entries WHERE decision_hash = hash(?) OR ref_hash = hash(?)) "
        "AND (decision_id = ? OR ref = ?)",
        (wanted, wanted, wanted, wanted), test,
    )  # fmt: skip


def _equal(column: str, field: _Field, wanted: str) -> Term:
    return Term(f"{column} = ?", (wanted,), lambda entry, _: field(entry) == wanted)


def _start(column: str, field: _Field, wanted: str) -> Term:
    if len(wanted) >= _ID_CHARS:
        return _equal(column, field, wanted)
    return Term(
        f"starts_with({column}, ?)", (wanted,),
        lambda entry, _: (field(entry) or "").startswith(wanted),
    )  # fmt: skip


def _pattern(column: str, field: _Field, wanted: str) -> Term:
    parts = wanted.split("*")
    matches = re.compile(".*".join(map(re.escape, parts)), re.DOTALL).fullmatch
    like = "%".join(re.sub(r"([\\%_])", r"\\\1", part) for part in parts)
    return Term(
        rf"{column} LIKE ? ESCAPE '\'", (like,),
        lambda entry, _: matches(str(field(entry) or "")) is not None,
    )  # fmt: skip


def _lists(filters: Filters) -> Iterator[Term]:
    if (reason := filters.reason) is not None:
        yield Term(
            "len(list_filter(codes, lambda code: starts_with(code, ?))) > 0", (reason,),
            lambda entry, _: any(code.startswith(reason) for code in codes_of(entry.reasons)),
        )  # fmt: skip
    if (rules := filters.rules) is not None:
        parts = [f".{rule}." for rule in rules]
        is_one = " OR ".join("contains('.' || code || '.', ?)" for _ in parts) or "false"
        yield Term(
            f"len(list_filter(codes, lambda code: {is_one})) > 0", tuple(parts),
            lambda entry, _: any(part in f".{code}." for code in codes_of(entry.reasons)
                                 for part in parts),
        )  # fmt: skip
    if (subjects := filters.subjects) is not None:
        yield Term(
            "list_has_any(subjects, ?)", (list(subjects),),
            lambda entry, _: not set(subjects).isdisjoint(entry.subjects),
        )  # fmt: skip
    for label in filters.labels:
        yield _label(*label)


def _label(key: str, wanted: str) -> Term:
    return Term("labels[?] = ?", (key, wanted), lambda entry, _: entry.labels.get(key) == wanted)


def _numbers(filters: Filters) -> Iterator[Term]:
    for column, least, most, factor in (
        ("cost_usd", filters.cost_min_usd, filters.cost_max_usd, 1),
        ("elapsed_ns", filters.latency_min_us, filters.latency_max_us, _NS_PER_US),
    ):
        if least is not None:
            yield _bound(column, ">=", float(least) * factor)
        if most is not None:
            yield _bound(column, "<=", float(most) * factor)


def _bound(column: str, sign: str, bound: float) -> Term:
    if bound != bound:
        raise AuditFault("a bound of cost or latency is not a number: expected one such as 0.05")

    def test(entry: Entry, _: bytes) -> bool:
        value = entry.cost_usd if column == "cost_usd" else entry.metrics.get(column)
        return value is not None and (value >= bound if sign == ">=" else value <= bound)

    return Term(f"{column} {sign} ?", (bound,), test)


def _texts(filters: Filters) -> Iterator[Term]:
    if (text := filters.text) is not None:
        # As it stands in the line: JSON writes quotes and control characters otherwise.
        needle = msgspec.json.encode(text)[1:-1].decode().casefold()
        yield Term(None, (), lambda _, line: needle in line.decode(errors="replace").casefold())
