"""Whom a request concerns, and what of its payload the log may keep."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import guard
from guard.errors import ConfigError, PrivacyFault, SubjectErased
from guard.evidence import Evidence
from guard.keys.subjects import SubjectKeys
from guard.pii import Scanner
from guard.plain import Json
from guard.privacy import Privacy, Protected, month_of
from guard.request import Context, Point, Request
from guard.subjects import MENTIONS_LOOKED_FOR_MAX, SUBJECTS_MAX, Subjects
from guard.testing import NOON_NS

KEYS = ("customer_id", "patient_id")


@pytest.fixture
def keys(tmp_path: Path) -> Iterator[SubjectKeys]:
    opened = SubjectKeys.open(tmp_path)
    yield opened
    opened.close()


def _request(
    target: Json, *, subjects: tuple[str, ...] = (), point: str = "pre_tool_call"
) -> Request:
    return Request(point=Point(point), target=target, context=Context(subjects=subjects))


def _scanned(target: Json) -> Evidence:
    scan = Scanner().scan(target)
    return Evidence(pii=scan.pii, secrets=scan.secrets, unscanned=scan.unscanned, is_scanned=True)


def _protected(
    privacy: Privacy, target: Json, *, evidence: Evidence | None = None, **about: Any
) -> Protected:
    return privacy.protect(
        _request(target, **about),
        evidence if evidence is not None else _scanned(target),
        decision_id="d1",
        now_ns=NOON_NS,
    )


# -- whom it concerns --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("target", "ids"),
    [
        ({"customer_id": "C-1"}, ("C-1",)),
        ({"customer_id": 17}, ("17",)),
        ({"customer_id": 17.0}, ("17",)),
        ({"customerId": "C-1", "CUSTOMER-ID": "C-2"}, ("C-1", "C-2")),
        ([{"a": {"customer_id": "C-1"}}, {"patient_id": "P-1"}], ("C-1", "P-1")),
        ({"customer_id": ["C-1", 2, None]}, ("2", "C-1")),
        ({"customer_id": {"type": "string", "patient_id": "P-1"}}, ("P-1",)),
        ({"customer_id": None, "patient_id": True}, ()),
        ({"customer_id": "", "other": "C-1"}, ()),
        ("customer_id", ()),
    ],
)
def test_ids_are_found_at_declared_keys(target: Json, ids: tuple[str, ...]) -> None:
    assert Subjects(keys=KEYS).of(_request(target)) == ids


def test_ids_come_from_keys_resolver_and_session_together() -> None:
    subjects = Subjects(keys=KEYS, resolver=lambda request: ["R-1", "C-1"])
    request = _request({"customer_id": "C-1"}, subjects=("S-1",))
    assert subjects.of(request) == ("C-1", "R-1", "S-1")


def test_a_resolver_that_raises_is_a_fault_without_its_text() -> None:
    def resolve(request: Request) -> Iterable[str]:
        raise ValueError("jane@example.com")

    with pytest.raises(PrivacyFault, match="failed with ValueError") as caught:
        Subjects(resolver=resolve).of(_request({}))
    assert "jane" not in str(caught.value)


@pytest.mark.parametrize("answer", ["jane", None, [17], ["x" * 257], [""]])
def test_a_resolver_that_gives_no_ids_is_a_fault(answer: Any) -> None:
    with pytest.raises(PrivacyFault):
        Subjects(resolver=lambda request: answer).of(_request({}))


def test_too_many_subjects_are_a_fault() -> None:
    many = [{"customer_id": number} for number in range(SUBJECTS_MAX + 1)]
    assert len(Subjects(keys=KEYS).of(_request(many[:-1]))) == SUBJECTS_MAX
    with pytest.raises(PrivacyFault, match=f"more than {SUBJECTS_MAX}"):
        Subjects(keys=KEYS).of(_request(many))


def test_sessions_unite_their_subjects() -> None:
    with (
        guard.session("agent", subjects=["jane"]),
        guard.session(subjects=["john", "jane"]) as inner,
    ):
        assert inner.context.subjects == ("jane", "john")
        with guard.session("other", purpose="x") as innermost:
            assert innermost.context.subjects == ("jane", "john")
    with pytest.raises(ConfigError, match="subjects are lists"):
        guard.session("agent", subjects="jane")


# -- what may be kept --------------------------------------------------------------------------


def test_ids_of_subjects_never_stand_in_the_payload(keys: SubjectKeys) -> None:
    privacy = Privacy(keys, subjects=Subjects(keys=KEYS))
    target = {
        "customer_id": "C-1017", "note": "refund C-1017, not C-10170", "C-1017": [1],
        "short": {"customer_id": 17}, "amount": "17",
    }  # fmt: skip
    told = _protected(privacy, target)
    one, two = keys.find("C-1017"), keys.find("17")
    assert told.payload == {
        "customer_id": f"<SUBJECT:{one}>", "note": f"refund <SUBJECT:{one}>, not C-10170",
        f"<SUBJECT:{one}>": [1], "short": {"customer_id": f"<SUBJECT:{two}>"}, "amount": "17",
    }  # fmt: skip
    assert told.subjects == sorted([str(one), str(two)])
    assert told.masked == sorted([
        "/input/customer_id", "/input/note", f"/input/<SUBJECT:{one}>", "/input/short/customer_id",
    ])  # fmt: skip
    assert told.without_ids("on behalf of C-1017") == f"on behalf of <SUBJECT:{one}>"


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=8)
        | st.sampled_from(["subject-0001", "to subject-0001.", "9876543210"]),
        lambda inner: st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(["customer_id", "subject-0001", "keep", "a/b~", "x"]), inner, max_size=4
        ),
        max_leaves=20,
    )
)  # fmt: skip
def test_no_payload_keeps_an_id_and_every_kept_value_opens(keys: SubjectKeys, target: Json) -> None:
    privacy = Privacy(keys, subjects=Subjects(keys=KEYS), keep=["keep"])
    before = json.dumps(target)
    told = _protected(privacy, target, subjects=("subject-0001",))
    assert json.dumps(target) == before
    text = json.dumps([told.payload, told.masked, told.sealed])
    assert told.fault is None
    assert "subject-0001" not in text
    for pointer in told.sealed:
        hole = _at({"input": told.payload}, pointer)
        keys.unseal(hole["$sealed"], tuple(hole["subjects"]), f"d1 {pointer}")


def _at(item: Any, pointer: str) -> Any:
    for token in pointer.split("/")[1:]:
        key = token.replace("~1", "/").replace("~0", "~")
        item = item[key] if isinstance(item, dict) else item[int(key)]
    return item


def test_fields_to_keep_are_sealed_for_all_subjects(keys: SubjectKeys) -> None:
    privacy = Privacy(keys, subjects=Subjects(keys=KEYS), keep=["diagnosis", "/list/*/email"])
    target = {
        "patient_id": "P-1", "customer_id": "C-1",
        "Diagnosis": {"code": "J45", "doctor": "a@b.co"},
        "list": [{"email": "jane@example.com", "phone": "x"}], "email": "jane@example.com",
    }  # fmt: skip
    told = _protected(privacy, target, point="post_tool_call")
    assert told.sealed == ["/result/Diagnosis", "/result/list/0/email"]
    hole = told.payload["list"][0]["email"]
    assert hole["subjects"] == told.subjects
    assert len(told.subjects) == 2
    assert (
        keys.unseal(hole["$sealed"], tuple(hole["subjects"]), "d1 /result/list/0/email")
        == b'"jane@example.com"'
    )
    assert told.payload["email"].startswith("<EMAIL_ADDRESS:")
    assert "a@b.co" not in json.dumps(told.payload)
    keys.erase((str(keys.find("P-1")),))
    with pytest.raises(SubjectErased):
        keys.unseal(hole["$sealed"], tuple(hole["subjects"]), "d1 /result/list/0/email")


def test_a_field_to_keep_of_no_known_subject_is_masked_as_usual(keys: SubjectKeys) -> None:
    told = _protected(Privacy(keys, keep=["email"]), {"email": "jane@example.com"})
    assert told.sealed == []
    assert told.payload["email"].startswith("<EMAIL_ADDRESS:")


def test_a_field_with_a_credential_is_never_kept(keys: SubjectKeys) -> None:
    privacy = Privacy(keys, keep=["note"])
    secret = "ghp_" + "a1B2c3D4e5F6g7H8i9J0k1L2m3N4o5P6q7R8"
    told = _protected(privacy, {"note": {"token": secret}}, subjects=("jane",))
    assert told.sealed == []
    assert secret not in json.dumps(told.payload)


def test_a_kept_field_below_a_key_that_is_masked_is_bound_to_its_new_name(
    keys: SubjectKeys,
) -> None:
    privacy = Privacy(keys, keep=["note"])
    told = _protected(privacy, {"jane@example.com": {"note": "x"}}, subjects=("jane",))
    (pointer,) = told.sealed
    hole = _at({"input": told.payload}, pointer)
    assert keys.unseal(hole["$sealed"], tuple(hole["subjects"]), f"d1 {pointer}") == b'"x"'
    assert "jane" not in pointer


def test_a_payload_that_imitates_a_sealed_value_is_no_sealed_one(keys: SubjectKeys) -> None:
    target = {"x": {"$sealed": "AAAA", "subjects": ["0123456789abcdef"]}}
    told = _protected(Privacy(keys, keep=["note"]), target, subjects=("jane",))
    assert told.payload == target
    assert told.sealed == []


def test_equal_values_have_equal_tokens_until_the_salt_is_destroyed(keys: SubjectKeys) -> None:
    privacy = Privacy(keys)
    target = {"to": "jane@example.com"}
    by_month = [_protected(privacy, target).payload["to"] for _ in range(2)]
    by_subject = [_protected(privacy, target, subjects=("jane",)).payload["to"] for _ in range(2)]
    assert by_month[0] == by_month[1] != by_subject[0] == by_subject[1]
    keys.erase((str(keys.find("jane")),))
    assert _protected(privacy, target, subjects=("jane",)).payload["to"] not in by_subject


def test_without_a_completed_scan_there_is_a_commitment_only(keys: SubjectKeys) -> None:
    privacy = Privacy(keys, keep=["to"])
    target = {"to": "jane@example.com"}
    told = _protected(privacy, target, evidence=Evidence(), subjects=("jane",))
    assert (told.payload, told.sealed, told.fault) == (None, [], None)
    data = msgspec.json.encode(target)
    assert told.commitment == privacy.commit(data, told.subjects, NOON_NS)
    assert told.commitment != privacy.commit(data, (), NOON_NS)
    assert told.subjects == [keys.find("jane")]


def test_a_resolver_that_fails_leaves_a_commitment_and_its_fault(keys: SubjectKeys) -> None:
    def resolve(request: Request) -> Iterable[str]:
        raise OSError

    told = _protected(Privacy(keys, subjects=Subjects(resolver=resolve)), {"to": "x"})
    assert told.payload is None
    assert told.commitment is not None
    assert told.fault is not None
    assert told.fault.code == "audit.privacy"


def test_a_payload_too_large_to_look_through_leaves_a_commitment(keys: SubjectKeys) -> None:
    leaves = [""] * (MENTIONS_LOOKED_FOR_MAX // 100 + 1)
    privacy = Privacy(keys)
    told = _protected(privacy, leaves, subjects=tuple(f"subject-{n}" for n in range(100)))
    assert told.payload is None
    assert told.commitment is not None


def test_where_not_even_a_commitment_can_be_made_it_raises(
    keys: SubjectKeys, tmp_path: Path
) -> None:
    privacy = Privacy(keys)
    keys.close()
    (tmp_path / "subjects.db").unlink()
    keys._fresh_until_ns = -1
    with pytest.raises(PrivacyFault, match="unable to open database file"):
        _protected(privacy, {"to": "x"}, subjects=("jane",))


def test_the_commitments_of_a_month_cannot_be_tested_once_its_salt_is_gone(
    keys: SubjectKeys,
) -> None:
    privacy = Privacy(keys)
    privacy.commit(b"guess", (), NOON_NS)
    keys.destroy_months([month_of(NOON_NS)])
    with pytest.raises(SubjectErased):
        privacy.commit(b"guess", (), NOON_NS)


@pytest.mark.parametrize("keep", [[""], ["/"], ["x"] * 257])
def test_what_to_keep_is_checked_when_it_is_configured(keys: SubjectKeys, keep: list[str]) -> None:
    with pytest.raises(ConfigError):
        Privacy(keys, keep=keep)
