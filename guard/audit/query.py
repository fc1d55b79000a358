"""Finding entries: all logs of a directory merged by time, filtered, oldest first."""

from __future__ import annotations

import heapq
import re
from collections import deque
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Final

import msgspec

from ..clock import SYSTEM_CLOCK, Clock
from ..errors import AuditFault
from .entry import Entry
from .files import lines_of, log_directories, segments_of

__all__ = ["Filters", "Row", "Rows", "moment_of", "query", "show"]

_UNITS_S: Final = {"s": 1, "m": 60, "h": 3_600, "d": 86_400, "w": 604_800}
_RELATIVE: Final = re.compile(r"([0-9]{1,6})([smhdw])")
_NS_PER_S: Final = 1_000_000_000
# Shorter prefixes of ids and revisions fit too much by accident.
PREFIX_CHARS_MIN: Final = 6


class Filters(msgspec.Struct, frozen=True, kw_only=True):
    """What an entry must be; None fits all. `*` in principal, tool and model stands for any text.

    `since` and `until` are RFC 3339 or back from now, such as `7d`, `2h`, `30m`. `policy` is the
    start of a reason's code, the name of its rule, or the start of a revision. `limit` keeps the
    newest.
    """

    since: str | None = None
    until: str | None = None
    principal: str | None = None
    tool: str | None = None
    model: str | None = None
    point: str | None = None
    effect: str | None = None
    policy: str | None = None
    session: str | None = None
    kind: str | None = None
    decision_id: str | None = None
    limit: int | None = None


class Row(msgspec.Struct, frozen=True):
    """An entry and where it is."""

    log: str
    index: int
    entry: Entry


class Rows:
    """Rows in the order of time. `skipped` lines could not be read: known once all were passed."""

    def __init__(
        self, directory: Path, fits: Callable[[Entry], bool], limit: int | None = None
    ) -> None:
        self.skipped = 0
        self._logs = log_directories(directory)
        self._fits = fits
        self._limit = limit

    def __iter__(self) -> Iterator[Row]:
        self.skipped = 0
        merged = heapq.merge(*map(self._rows, self._logs), key=lambda row: row.entry.timestamp_ns)
        return merged if self._limit is None else iter(deque(merged, maxlen=self._limit))

    def _rows(self, log: Path) -> Iterator[Row]:
        decode = msgspec.json.Decoder(Entry).decode
        fits = self._fits
        for segment in segments_of(log):
            if not segment.records.exists():
                continue
            for index, line in enumerate(lines_of(segment.records), segment.first):
                try:
                    entry = decode(line)
                except (msgspec.MsgspecError, ValueError):
                    self.skipped += 1
                    continue
                if fits(entry):
                    yield Row(log.name, index, entry)


def query(directory: Path | str, filters: Filters, *, clock: Clock = SYSTEM_CLOCK) -> Rows:
    """Entries that fit, oldest first; raises AuditFault for a time that is none."""
    now_ns = clock.now_ns()
    since_ns = moment_of(filters.since, now_ns) if filters.since else None
    until_ns = moment_of(filters.until, now_ns) if filters.until else None
    return Rows(Path(directory), _fitting(filters, since_ns, until_ns), filters.limit)


def show(directory: Path | str, decision_id: str) -> list[Row]:
    """The entries of one decision: its intent and its outcomes. The start of an id is enough.

    Raises AuditFault when none or more than one decision begins with it.
    """
    if len(decision_id) < PREFIX_CHARS_MIN:
        raise AuditFault(f"expected at least {PREFIX_CHARS_MIN} characters of a decision id")
    found = list(Rows(Path(directory), lambda entry: entry.decision_id.startswith(decision_id)))
    ids = {row.entry.decision_id for row in found}
    if decision_id in ids:
        ids = {decision_id}
    if len(ids) != 1:
        what = f"{len(ids)} decisions begin" if ids else "no decision begins"
        raise AuditFault(f"{what} with `{decision_id[:64]}`: look for it with `guard audit query`")
    # An outcome stands for its intent, and with it come all its outcomes.
    whole = ids | {row.entry.ref for row in found if row.entry.decision_id in ids and row.entry.ref}
    return list(
        Rows(Path(directory), lambda entry: entry.decision_id in whole or entry.ref in whole)
    )


def moment_of(text: str, now_ns: int) -> int:
    """Nanoseconds since 1970 of `2026-11-21T09:30:00Z`, `2026-11-21`, or `7d` before `now_ns`."""
    if relative := _RELATIVE.fullmatch(text):
        return now_ns - int(relative[1]) * _UNITS_S[relative[2]] * _NS_PER_S
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise AuditFault(
            f"unknown time `{text[:40]}`: expected RFC 3339 such as 2026-11-21T09:30:00Z, "
            "a date, or a span back from now such as 7d, 2h or 30m"
        ) from error
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    delta = moment - datetime(1970, 1, 1, tzinfo=UTC)
    return (delta.days * 86_400 + delta.seconds) * _NS_PER_S + delta.microseconds * 1_000


def _fitting(
    filters: Filters, since_ns: int | None, until_ns: int | None
) -> Callable[[Entry], bool]:
    """One test for all filters; only those that are set cost anything."""
    tests: list[Callable[[Entry], bool]] = []
    if since_ns is not None:
        tests.append(lambda entry: entry.timestamp_ns >= since_ns)
    if until_ns is not None:
        tests.append(lambda entry: entry.timestamp_ns <= until_ns)
    for name in ("point", "effect", "kind"):
        wanted = getattr(filters, name)
        if wanted is not None:
            tests.append(_equals(name, wanted))
    for name in ("tool", "model"):
        pattern = getattr(filters, name)
        if pattern is not None:
            tests.append(_matches(name, pattern))
    if (principal := filters.principal) is not None:
        tests.append(lambda entry: fnmatchcase(str(entry.principal.get("id", "")), principal))
    if (session := filters.session) is not None:
        tests.append(lambda entry: (entry.session_id or "").startswith(session))
    if (decision_id := filters.decision_id) is not None:
        tests.append(lambda entry: decision_id in (entry.decision_id, entry.ref))
    if (policy := filters.policy) is not None:
        tests.append(lambda entry: _names_policy(entry, policy))
    return lambda entry: all(test(entry) for test in tests)


def _equals(name: str, wanted: str) -> Callable[[Entry], bool]:
    return lambda entry: getattr(entry, name) == wanted


def _matches(name: str, pattern: str) -> Callable[[Entry], bool]:
    return lambda entry: fnmatchcase(getattr(entry, name) or "", pattern)


def _names_policy(entry: Entry, policy: str) -> bool:
    # A line that was tampered with may hold anything that is JSON here.
    for reason in (reason for reason in entry.reasons if isinstance(reason, dict)):
        code = str(reason.get("code", ""))
        if code.startswith(policy) or policy in code.split(".")[:-1]:
            return True
    return len(policy) >= PREFIX_CHARS_MIN and entry.revision.removeprefix("sha256:").startswith(
        policy.removeprefix("sha256:")
    )
