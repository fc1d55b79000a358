"""How long entries are kept, what a legal hold keeps longer, and how the rest goes.

What is too old goes in two ways. Keys first: salts of months and keys of data subjects that are of
no use to anything younger; with them the personal part of old entries is gone, wherever a copy is.
Then whole sealed segments, whose hashes stay in the tiles, so that every proof still verifies. Each
step is recorded before it is taken, and a segment goes only when a checkpoint covers that record.

Keys expire by the longest of all classes: a month's salt and a subject's key serve entries of any.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Final, Protocol

import msgspec

from ..audit.entry import Entry
from ..clock import SYSTEM_CLOCK, Clock
from ..errors import ConfigError
from ..keys.holds import Hold
from ..keys.subjects import SubjectKeys
from .records import Appends, record, words

__all__ = [
    "Archive",
    "Expired",
    "Gap",
    "Retention",
    "Segment",
    "expire",
    "lift_hold",
    "place_hold",
]

# Regulation (EU) 2024/1689, articles 19 and 26(6): logs are kept for six months at least.
DAYS_MIN: Final = 183
DAYS_MAX: Final = 36_500
DAYS_DEFAULT: Final = 365
# Pseudonyms in one entry: 1,000 are 19 KB.
SUBJECTS_PER_ENTRY_MAX: Final = 1_000
HOLD_NAME_CHARS_MAX: Final = 128
_NS_PER_DAY: Final = 86_400 * 1_000_000_000


class Retention:
    """Days by retention class; an entry without a class is kept for `default_days`."""

    def __init__(
        self, *, default_days: int = DAYS_DEFAULT, classes: Mapping[str, int] | None = None
    ) -> None:
        self.default_days = default_days
        self.classes = dict(classes or {})
        for name, days in {"default_days": default_days, **self.classes}.items():
            if not DAYS_MIN <= days <= DAYS_MAX:
                raise ConfigError(
                    f"`{name[:60]}` in [audit.retention] is {days} days: expected {DAYS_MIN} "
                    f"(six months, as the EU AI Act asks) to {DAYS_MAX}"
                )

    @property
    def days_max(self) -> int:
        """Days of the class that is kept longest."""
        return max(self.default_days, *self.classes.values(), DAYS_MIN)

    def days_of(self, names: Sequence[str | None]) -> int | None:
        """Days of the longest of these classes; None for one that is not configured: for ever."""
        if any(name is not None and name not in self.classes for name in names):
            return None
        return max(
            (self.default_days if name is None else self.classes[name] for name in names),
            default=self.default_days,
        )


class Segment(msgspec.Struct, frozen=True, kw_only=True):
    """A sealed segment: its entries `first` to `last`, the newest of their times, their classes.

    `subjects` are pseudonyms; with None, where nobody has looked, a hold on any subject keeps it.
    """

    name: str
    first: int
    last: int
    newest_ns: int
    classes: tuple[str | None, ...] = (None,)
    subjects: frozenset[str] | None = None


class Gap(msgspec.Struct, frozen=True):
    """Entries that are missing in one piece; `root` is that of the first `last` + 1, in hex."""

    first: int
    last: int
    root: str


class Archive(Protocol):
    """The log as far as retention goes. `append` as `AuditLog` has it."""

    def append(self, entry: Entry) -> int:
        """Number of the entry, once it is handed over; raises AuditFault."""
        ...

    def sealed_segments(self) -> Sequence[Segment]:
        """Segments that are compressed, signed and still here, oldest first."""
        ...

    def gap_with(self, segment: Segment) -> Gap:
        """All that is missing in one piece once this segment has gone too."""
        ...

    def cover(self, number: int) -> None:
        """Return once a durable checkpoint covers that entry; raises AuditFault."""
        ...

    def delete(self, segment: Segment) -> None:
        """Remove its file, durably; its tiles stay. Nothing to remove is fine: a crash came
        before."""
        ...


class Expired(msgspec.Struct, frozen=True):
    """What has gone, or with `is_dry_run` would go; `kept` are old segments and why they stay."""

    months: tuple[str, ...] = ()
    subjects: tuple[str, ...] = ()
    segments: tuple[str, ...] = ()
    kept: dict[str, str] = {}


def expire(
    archive: Archive,
    *,
    keys: SubjectKeys,
    retention: Retention,
    by: str,
    authority: str,
    clock: Clock = SYSTEM_CLOCK,
    is_dry_run: bool = False,
) -> Expired:
    """Destroy keys, and then segments, that are older than their retention and under no hold.

    Raises AuditFault when it cannot be recorded; what is done by then is recorded.
    """
    now_ns = clock.now_ns()
    authority = words("authority", authority)
    holds = keys.holds.standing()
    old_ns = now_ns - retention.days_max * _NS_PER_DAY
    months: tuple[str, ...] = ()
    subjects: tuple[str, ...] = ()
    if not any(hold.pseudonym is None for hold in holds):
        held = {hold.pseudonym for hold in holds}
        # Values of a held subject may be under a month's salt too, from before it was known.
        months = () if held else tuple(one for one in keys.months() if _end_ns(one) <= old_ns)
        subjects = tuple(one for one in keys.not_seen_since(old_ns) if one not in held)
    gone, kept = _old_segments(archive.sealed_segments(), retention, holds, now_ns)
    expired = Expired(months, subjects, tuple(one.name for one in gone), kept)
    if is_dry_run:
        return expired
    for start in range(0, max(len(subjects), bool(months)), SUBJECTS_PER_ENTRY_MAX):
        some = subjects[start : start + SUBJECTS_PER_ENTRY_MAX]
        detail = {"what": "keys", "months": months if not start else (), "subjects": len(some)}
        record(
            archive, "retention", {**detail, "authority": authority}, by=by, clock=clock,
            subjects=some,
        )  # fmt: skip
    if months:
        keys.destroy_months(months)
    if subjects:
        keys.erase(subjects)
    for segment in gone:
        # The whole gap, not this segment alone: what said that its neighbours have gone may have
        # gone with them, or go one day.
        gap = archive.gap_with(segment)
        detail = {
            "what": "segment",
            "segment": segment.name,
            **msgspec.structs.asdict(gap),
            "authority": authority,
        }
        # INVARIANT: nothing is deleted before a checkpoint covers the entry that says so.
        archive.cover(record(archive, "retention", detail, by=by, clock=clock))
        archive.delete(segment)
    return expired


def place_hold(
    name: str,
    *,
    keys: SubjectKeys,
    log: Appends,
    by: str,
    authority: str,
    subject: str | None = None,
    retention: str | None = None,
    clock: Clock = SYSTEM_CLOCK,
) -> Hold:
    """Hold what concerns a data subject (its id or pseudonym), a class, or everything.

    Raises PrivacyFault when the name is taken or no key of the subject is here, AuditFault when it
    cannot be recorded: then it stands all the same.
    """
    if (
        not 0 < len(name) <= HOLD_NAME_CHARS_MAX
        or words("name", name, without=subject or "") != name
    ):
        raise ConfigError(
            f"the name of a hold is a text of 1 to {HOLD_NAME_CHARS_MAX} characters, such as a "
            "file number, without personal data"
        )
    # An id without key has nothing to hold; as pseudonym it is refused below.
    pseudonym = (keys.find(subject) or "") if subject is not None else None
    authority = words("authority", authority, without=subject or "")
    hold = Hold(name, pseudonym, retention, authority, clock.now_ns())
    keys.holds.place(hold)
    _record_hold("hold_placed", hold, log, by, authority, clock)
    return hold


def lift_hold(
    name: str,
    *,
    keys: SubjectKeys,
    log: Appends,
    by: str,
    authority: str,
    clock: Clock = SYSTEM_CLOCK,
) -> Hold:
    """Take a legal hold away; what it was.

    It is recorded first: a crash leaves a hold too many, never one too few.
    """
    authority = words("authority", authority)
    hold = keys.holds.named(name)
    _record_hold("hold_lifted", hold, log, by, authority, clock)
    keys.holds.lift(name)
    return hold


def _record_hold(
    what: str, hold: Hold, log: Appends, by: str, authority: str, clock: Clock
) -> None:
    detail = {
        "what": what,
        "hold": hold.name,
        "subject": hold.pseudonym,
        "class": hold.retention,
        "authority": authority,
    }
    subjects = (hold.pseudonym,) if hold.pseudonym else ()
    record(log, "retention", detail, by=by, clock=clock, subjects=subjects)


def _old_segments(
    segments: Sequence[Segment], retention: Retention, holds: Sequence[Hold], now_ns: int
) -> tuple[list[Segment], dict[str, str]]:
    """Those to delete, and the other old ones with what keeps them."""
    gone: list[Segment] = []
    kept: dict[str, str] = {}
    for segment in segments:
        days = retention.days_of(segment.classes)
        if days is None:
            kept[segment.name] = "it has a class that is not in [audit.retention]"
        elif segment.newest_ns < now_ns - days * _NS_PER_DAY:
            hold = next((hold for hold in holds if _covers(hold, segment)), None)
            if hold is None:
                gone.append(segment)
            else:
                kept[segment.name] = f"the legal hold `{hold.name}`"
    return gone, kept


def _covers(hold: Hold, segment: Segment) -> bool:
    if hold.pseudonym is not None:
        return segment.subjects is None or hold.pseudonym in segment.subjects
    return hold.retention is None or hold.retention in segment.classes


def _end_ns(month: str) -> int:
    """The moment when a month such as `2026_11` is over."""
    year, number = (int(part) for part in month.split("_"))
    following = datetime(year + number // 12, number % 12 + 1, 1, tzinfo=UTC)
    return int(following.timestamp()) * 1_000_000_000
