"""Erasing a data subject everywhere, its certificate, and opening what is still there."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from support.entries import SIGNER, open_log

from guard.audit.entry import Entry, timestamp_of
from guard.audit.verify import verify
from guard.decision import Review
from guard.errors import AuditFault, ConfigError, OnHold, PrivacyFault, ReviewFault
from guard.evidence import Evidence
from guard.keys.subjects import SubjectKeys
from guard.ops import erase, is_decidable, lift_hold, open_sealed, place_hold
from guard.privacy import Privacy
from guard.request import Context, Point, Request
from guard.review import Held, ReviewQueue
from guard.testing import NOON_NS, FakeClock, MemoryLog

JANE = "jane.roe@example.com"
WHY: Any = {"by": "dpo", "authority": "GDPR art. 17", "reason": "request of the person"}
ROLE: Any = {"by": "dpo", "role": "privacy", "reason": "ticket 4711", "allowed": ("privacy",)}


@pytest.fixture
def keys(tmp_path: Path) -> Iterator[SubjectKeys]:
    opened = SubjectKeys.open(tmp_path / "keys")
    yield opened
    opened.close()


def _entry(keys: SubjectKeys, *subjects: str, decision_id: str = "d1") -> Entry:
    request = Request(
        point=Point.PRE_TOOL_CALL,
        target={"email": "a@b.co", "n": 1},
        context=Context(subjects=subjects),
    )
    told = Privacy(keys, keep=["email"]).protect(
        request, Evidence(is_scanned=True), decision_id=decision_id, now_ns=NOON_NS
    )
    return Entry(
        kind="decision", decision_id=decision_id, timestamp_ns=NOON_NS,
        timestamp=timestamp_of(NOON_NS), input=told.payload, sealed=told.sealed,
        masked=told.masked, subjects=told.subjects,
    )  # fmt: skip


def _line(entry: Entry) -> bytes:
    return msgspec.json.encode(entry)


def _reviews(keys: SubjectKeys, *subjects: str) -> tuple[ReviewQueue, str]:
    queue = ReviewQueue()
    item = queue.open(
        "digest", Review(), codes=("x",), requester="agent", summary={"to": "x"}, review_id="r1",
        now_ns=0, subjects=tuple(keys.pseudonyms(subjects).values()),
    )  # fmt: skip
    queue.hold((item,), Held({"to": JANE}, None))
    return queue, item.id


def test_an_erasure_destroys_and_leaves_a_certificate_without_the_id(keys: SubjectKeys) -> None:
    log, clock = MemoryLog(), FakeClock()
    entry = _entry(keys, JANE)
    jane = keys.find(JANE)
    queue, _ = _reviews(keys, JANE, "john")
    done = erase(JANE, keys=keys, log=log, purge=[queue], clock=clock, **WHY)
    assert done.state == "erased"
    assert done.certificate == {
        "pseudonym": jane,
        "erased_at": timestamp_of(NOON_NS),
        "by": "dpo",
        "authority": "GDPR art. 17",
        "reason": "request of the person",
        "destroyed": {"keys": 1, "salts": 1, "ids": 1, "reviews": 1, "held_results": 1},
        "key_store_generation": 1,
        "remains": "entries with their hashes and the tree; sealed values, tokens and commitments "
        "that nobody can open or compare",
    }
    (written,) = log.entries
    assert (written.kind, written.subjects, written.detail) == ("erasure", [jane], done.certificate)
    assert JANE.encode() not in _line(written)
    assert not is_decidable(entry, keys)
    opened = open_sealed(_line(entry), keys=keys, log=log, **ROLE)
    assert (opened.values, opened.erased) == ({}, ("/input/email",))


def test_erasing_twice_says_so_and_writes_nothing(keys: SubjectKeys) -> None:
    log = MemoryLog()
    jane = keys.pseudonym(JANE)
    first = erase(JANE, keys=keys, log=log, **WHY)
    again = erase(jane, keys=keys, log=log, **WHY)
    assert (again.state, again.certificate) == ("already_erased", first.certificate)
    # No trace of an id is kept by which it could be told to have been erased.
    assert erase(JANE, keys=keys, log=log, **WHY).state == "unknown"
    assert len(log.entries) == 1


def test_others_are_untouched(keys: SubjectKeys) -> None:
    log = MemoryLog()
    mine, ours, other = _entry(keys, JANE), _entry(keys, JANE, "john"), _entry(keys, "john")
    queue, review_id = _reviews(keys, "john")
    erase(JANE, keys=keys, log=log, purge=[queue], **WHY)
    assert [is_decidable(entry, keys) for entry in (mine, ours, other)] == [False, False, True]
    opened = open_sealed(_line(other), keys=keys, log=log, **ROLE)
    assert opened.values == {"/input/email": "a@b.co"}
    queue.approve(review_id, by="boss", now_ns=0)
    assert queue.release(review_id, 0)[0].result == {"to": JANE}


def test_an_erasure_in_another_process_purges_the_queue_of_this_one(
    keys: SubjectKeys, tmp_path: Path
) -> None:
    queue, review_id = _reviews(keys, JANE)
    keys.on_erased(queue.purge)
    elsewhere = SubjectKeys.open(tmp_path / "keys")
    erase(JANE, keys=elsewhere, log=MemoryLog(), **WHY)
    elsewhere.close()
    keys.refresh()
    assert queue.pending(0) == ()
    with pytest.raises(ReviewFault, match="holds no result"):
        queue.release(review_id, 0)


def test_a_legal_hold_refuses_and_nothing_is_purged(keys: SubjectKeys) -> None:
    log = MemoryLog()
    queue, _ = _reviews(keys, JANE)
    place_hold("case-1", keys=keys, log=log, by="legal", authority="court", subject=JANE)
    with pytest.raises(OnHold, match="`case-1` forbids it"):
        erase(JANE, keys=keys, log=log, purge=[queue], **WHY)
    assert len(queue.pending(0)) == 1
    lift_hold("case-1", keys=keys, log=log, by="legal", authority="court")
    assert erase(JANE, keys=keys, log=log, purge=[queue], **WHY).state == "erased"
    assert [entry.kind for entry in log.entries] == ["retention", "retention", "erasure"]
    assert [entry.detail["what"] for entry in log.entries[:2]] == ["hold_placed", "hold_lifted"]
    assert JANE not in json.dumps([entry.detail for entry in log.entries])


def test_a_certificate_that_could_not_be_written_is_written_the_next_time(
    keys: SubjectKeys,
) -> None:
    log = MemoryLog()
    jane = keys.pseudonym(JANE)
    log.is_broken = True
    with pytest.raises(AuditFault):
        erase(JANE, keys=keys, log=log, **WHY)
    assert keys.is_erased(jane)
    log.is_broken = False
    assert erase(JANE, keys=keys, log=log, **WHY).state == "unknown"
    (written,) = log.entries
    assert written.detail["pseudonym"] == jane


@pytest.mark.parametrize("name", ["by", "authority", "reason"])
@pytest.mark.parametrize("text", ["", f"for {JANE}", "x" * 1_001])
def test_words_that_the_log_may_not_keep_are_refused(
    keys: SubjectKeys, name: str, text: str
) -> None:
    keys.pseudonym(JANE)
    with pytest.raises(ConfigError, match=f"`{name}`") as caught:
        erase(JANE, keys=keys, log=MemoryLog(), **{**WHY, name: text})
    assert JANE not in str(caught.value)
    assert keys.find(JANE) is not None


def test_every_proof_still_verifies_after_an_erasure(keys: SubjectKeys, tmp_path: Path) -> None:
    with open_log(tmp_path / "audit") as log:
        log.append(_entry(keys, JANE))
        erase(JANE, keys=keys, log=log, **WHY)
    report = verify(tmp_path / "audit", vkey=SIGNER.verifier)
    assert report.ok


# -- opening -----------------------------------------------------------------------------------


def test_opening_is_recorded_before_anything_is_shown(keys: SubjectKeys) -> None:
    log = MemoryLog()
    entry = _entry(keys, JANE)
    assert open_sealed(_line(entry), keys=keys, log=log, **ROLE).values == {
        "/input/email": "a@b.co"
    }
    (access,) = log.entries
    assert (access.kind, access.effect, access.principal) == ("access", "allow", {"id": "dpo"})
    assert access.subjects == entry.subjects
    assert access.detail == {
        "what": "sealed values", "decision_id": "d1", "pointers": ["/input/email"],
        "role": "privacy", "reason": "ticket 4711",
    }  # fmt: skip
    log.is_broken = True
    with pytest.raises(AuditFault):
        open_sealed(_line(entry), keys=keys, log=log, **ROLE)


def test_without_the_role_nothing_is_opened_and_the_attempt_is_recorded(keys: SubjectKeys) -> None:
    log = MemoryLog()
    with pytest.raises(PrivacyFault, match="`privacy` may not open sealed values"):
        open_sealed(_line(_entry(keys, JANE)), keys=keys, log=log, **{**ROLE, "allowed": ()})
    assert [entry.effect for entry in log.entries] == ["deny"]


def test_a_sealed_value_in_another_entry_does_not_open(keys: SubjectKeys) -> None:
    moved = msgspec.structs.replace(_entry(keys, JANE), decision_id="d2")
    with pytest.raises(PrivacyFault, match="moved here from another entry"):
        open_sealed(_line(moved), keys=keys, log=MemoryLog(), **ROLE)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b"", "one line of JSON"),
        (b"[]", "holds no sealed value"),
        (b'{"decision_id":"d"}', "holds no sealed value"),
        (b'{"decision_id":1,"sealed":["/a"],"subjects":[]}', "not as guard writes them"),
        (b'{"decision_id":"d","sealed":["/a"],"subjects":[]}', "not as guard writes them"),
        (b'{"decision_id":"d","sealed":["/a"],"subjects":[],"a":{"$sealed":"","subjects":[1]}}',
         "not as guard writes them"),
        (b'{"decision_id":"d","sealed":["/a"],"subjects":[],"a":{"$sealed":"","subjects":[]}}',
         "none is named"),
        (b'{"decision_id":"d","sealed":["/a/%s"],"subjects":[],"a":[1]}' % (b"9" * 5_000),
         "not as guard writes them"),
    ],
)  # fmt: skip
def test_a_line_that_was_tampered_with_is_refused(
    keys: SubjectKeys, line: bytes, message: str
) -> None:
    with pytest.raises(PrivacyFault, match=message):
        open_sealed(line, keys=keys, log=MemoryLog(), **ROLE)
