"""How long entries are kept, what a legal hold keeps longer, and how the rest goes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.entries import SIGNER, open_log

from guard.audit.entry import Entry, timestamp_of
from guard.audit.sequence import Rolling
from guard.audit.verify import verify
from guard.errors import AuditFault, ConfigError, OnHold, PrivacyFault
from guard.keys.subjects import SubjectKeys
from guard.ops import Gap, Retention, Segment, erase, expire, lift_hold, place_hold
from guard.ops.archive import LogArchive
from guard.privacy import month_of
from guard.testing import NOON_NS, FakeClock, MemoryLog

DAY_S = 86_400
DAY_NS = DAY_S * 10**9
WHO: Any = {"by": "dpo", "authority": "retention plan 3"}


class Archive(MemoryLog):
    """Segments in a list; what was done stands in `story`."""

    def __init__(self, *segments: Segment) -> None:
        super().__init__()
        self.segments = list(segments)
        self.story: list[str] = []

    def append(self, entry: Entry) -> int:
        """Note it, and append."""
        self.story.append(str(entry.detail["what"]))
        return super().append(entry)

    def sealed_segments(self) -> list[Segment]:
        """Those that are here."""
        return list(self.segments)

    def gap_with(self, segment: Segment) -> Gap:
        """What it was with the one before."""
        return Gap(0, segment.last, "ab")

    def cover(self, number: int) -> None:
        """A checkpoint."""
        self.story.append(f"covered {number}")

    def delete(self, segment: Segment) -> None:
        """Gone."""
        self.segments.remove(segment)
        self.story.append(f"deleted {segment.name}")


def _segment(name: str = "a", *, days: float = 366, **about: Any) -> Segment:
    newest_ns = NOON_NS - int(days * DAY_NS)
    return Segment(name=name, first=0, last=9, newest_ns=newest_ns, **about)


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def keys(tmp_path: Path, clock: FakeClock) -> Iterator[SubjectKeys]:
    opened = SubjectKeys.open(tmp_path / "keys", clock=clock)
    yield opened
    opened.close()


@pytest.mark.parametrize("days", [182, 0, -1, 36_501])
def test_less_than_six_months_is_refused(days: int) -> None:
    with pytest.raises(ConfigError, match=r"`default_days` in .* expected 183"):
        Retention(default_days=days)
    with pytest.raises(ConfigError, match="`hipaa`"):
        Retention(classes={"hipaa": days})


def test_a_segment_goes_after_its_entry_is_covered(keys: SubjectKeys, clock: FakeClock) -> None:
    archive = Archive(_segment("a"), _segment("b", days=364))
    done = expire(archive, keys=keys, retention=Retention(), clock=clock, **WHO)
    assert done.segments == ("a",)
    assert archive.story == ["segment", "covered 0", "deleted a"]
    assert archive.entries[0].detail == {
        "what": "segment", "segment": "a", "first": 0, "last": 9, "root": "ab",
        "authority": "retention plan 3",
    }  # fmt: skip


def test_a_segment_is_kept_for_its_longest_class(keys: SubjectKeys, clock: FakeClock) -> None:
    archive = Archive(
        _segment("a", days=2_000, classes=(None, "hipaa")),
        _segment("b", days=2_191, classes=(None, "hipaa")),
        _segment("c", days=9_000, classes=("unheard of",)),
        _segment("d", days=184, classes=("short",)),
    )
    retention = Retention(classes={"hipaa": 2_190, "short": 183})
    done = expire(archive, keys=keys, retention=retention, clock=clock, **WHO)
    assert done.segments == ("b", "d")
    assert done.kept == {"c": "it has a class that is not in [audit.retention]"}


@pytest.mark.parametrize(
    ("hold", "kept"),
    [
        ({}, {"a", "b", "c"}),
        ({"retention": "x"}, {"b"}),
        ({"subject": "jane"}, {"b", "c"}),
    ],
)
def test_a_hold_keeps_what_it_covers_until_it_is_lifted(
    keys: SubjectKeys, clock: FakeClock, hold: dict[str, str], kept: set[str]
) -> None:
    jane = keys.pseudonym("jane")
    archive = Archive(
        _segment("a", subjects=frozenset()),
        _segment("b", subjects=frozenset((jane,)), classes=("x",)),
        _segment("c"),
    )
    about: Any = {"keys": keys, "clock": clock, **WHO}
    place_hold("case-1", log=archive, **hold, **about)
    retention = Retention(classes={"x": 365})
    done = expire(archive, retention=retention, **about)
    assert {segment.name for segment in archive.segments} == kept == set(done.kept)
    assert set(done.kept.values()) == {"the legal hold `case-1`"}
    lift_hold("case-1", log=archive, **about)
    expire(archive, retention=retention, **about)
    assert archive.segments == []


def test_keys_expire_when_nothing_younger_can_need_them(
    keys: SubjectKeys, clock: FakeClock
) -> None:
    jane, old = keys.pseudonym("jane"), month_of(NOON_NS)
    keys.month_salt(old)
    clock.advance_s(300 * DAY_S)
    john, young = keys.pseudonym("john"), month_of(clock.now_ns())
    keys.month_salt(young)
    archive = Archive()
    about: Any = {"keys": keys, "retention": Retention(), "clock": clock, **WHO}
    assert expire(archive, **about).subjects == ()
    clock.advance_s(100 * DAY_S)
    done = expire(archive, **about)
    assert (done.months, done.subjects) == ((old,), (jane,))
    assert (keys.months(), keys.find("jane"), keys.find("john")) == ([young], None, john)
    (entry,) = archive.entries
    assert entry.subjects == [jane]
    assert entry.detail == {
        "what": "keys", "months": (old,), "subjects": 1, "authority": "retention plan 3",
    }  # fmt: skip
    assert erase(jane, log=archive, keys=keys, by="dpo", authority="x", reason="y") .state == (
        "already_erased"
    )  # fmt: skip


def test_a_hold_keeps_the_keys_of_its_subject_and_the_salts(
    keys: SubjectKeys, clock: FakeClock
) -> None:
    jane, john = keys.pseudonym("jane"), keys.pseudonym("john")
    keys.month_salt(month_of(NOON_NS))
    archive = Archive()
    about: Any = {"keys": keys, "clock": clock, **WHO}
    place_hold("case-1", log=archive, subject="jane", **about)
    clock.advance_s(500 * DAY_S)
    done = expire(archive, retention=Retention(), **about)
    assert (done.months, done.subjects) == ((), (john,))
    assert keys.find("jane") == jane


def test_a_dry_run_changes_nothing(keys: SubjectKeys, clock: FakeClock) -> None:
    keys.pseudonym("jane")
    clock.advance_s(500 * DAY_S)
    archive = Archive(_segment("a"))
    done = expire(archive, keys=keys, retention=Retention(), clock=clock, is_dry_run=True, **WHO)
    assert (len(done.subjects), done.segments) == (1, ("a",))
    assert (archive.story, keys.find("jane")) == ([], done.subjects[0])


def test_what_cannot_be_recorded_does_not_go(keys: SubjectKeys, clock: FakeClock) -> None:
    keys.pseudonym("jane")
    archive = Archive(_segment("a"))
    archive.is_broken = True
    clock.advance_s(500 * DAY_S)
    with pytest.raises(AuditFault):
        expire(archive, keys=keys, retention=Retention(), clock=clock, **WHO)
    assert (len(archive.segments), keys.find("jane") is not None) == (1, True)


def test_a_hold_on_everything_forbids_every_erasure(keys: SubjectKeys) -> None:
    log = MemoryLog()
    keys.pseudonym("jane")
    place_hold("case-1", keys=keys, log=log, **WHO)
    with pytest.raises(OnHold):
        erase("jane", keys=keys, log=log, by="dpo", authority="x", reason="y")


def test_holds_are_refused_where_they_would_mean_nothing(keys: SubjectKeys) -> None:
    log = MemoryLog()
    about: Any = {"keys": keys, "log": log, **WHO}
    with pytest.raises(PrivacyFault, match="nothing to hold"):
        place_hold("case-1", subject="nobody", **about)
    with pytest.raises(ConfigError, match="without personal data"):
        place_hold("jane@example.com", **about)
    with pytest.raises(PrivacyFault, match="there is no hold `case-1`"):
        lift_hold("case-1", **about)
    place_hold("case-1", **about)
    with pytest.raises(PrivacyFault, match="a hold `case-1` already"):
        place_hold("case-1", **about)


def test_a_real_segment_expires_and_the_log_still_verifies(
    keys: SubjectKeys, tmp_path: Path, clock: FakeClock
) -> None:
    directory = tmp_path / "audit"
    with open_log(directory, clock=clock, rolling=Rolling(segment_bytes_max=20_000)) as log:
        for number in range(600):
            log.append(
                Entry(
                    kind="decision", decision_id=f"{number:032}", timestamp_ns=NOON_NS,
                    timestamp=timestamp_of(NOON_NS), input="x" * 50,
                )
            )  # fmt: skip
            if number % 100 == 99:
                log.checkpoint()
        for _ in range(20):
            log.checkpoint()  # each is a step of sealing
        archive = LogArchive(log)
        before = archive.sealed_segments()
        assert before
        assert before[0].first == 0
        clock.advance_s(400 * DAY_S)
        done = expire(archive, keys=keys, retention=Retention(), clock=clock, **WHO)
        assert done.segments == tuple(segment.name for segment in before)
        assert len(before) > 1
        assert not (directory / before[0].name).exists()
    report = verify(directory, vkey=SIGNER.verifier)
    assert report.ok, (report.damages, report.notes)
    assert any("expired" in note for note in report.notes)
