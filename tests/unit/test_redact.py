"""What stands in the place of what was found."""

from __future__ import annotations

import hashlib
import hmac

import pytest

from guard.decision import Redact
from guard.errors import Fault, PolicyFault
from guard.evidence import Span
from guard.pii import OPERATORS, Scanner, mask_for_record, mask_text, rewrite
from guard.plain import Json

KEY = b"k" * 32
SCANNER = Scanner()


def _rewritten(target: Json, *duties: Redact) -> Json:
    scan = SCANNER.scan(target)
    return rewrite(target, scan.pii + scan.secrets, duties, key=KEY)


def _hash(entity: str, value: str) -> str:
    return f"<{entity}:{hmac.digest(KEY, value.encode(), hashlib.sha256).hex()[:16]}>"


@pytest.mark.parametrize(
    ("operator", "text"),
    [
        ("remove", "to  now"),
        ("replace", "to <EMAIL_ADDRESS> now"),
        ("hash", f"to {_hash('EMAIL_ADDRESS', 'jane@corp.com')} now"),
        ("mask", "to *********.com now"),
    ],
)
def test_each_operator_has_its_form(operator: str, text: str) -> None:
    assert _rewritten("to jane@corp.com now", Redact(operator=operator)) == text


def test_a_short_value_is_masked_to_its_end() -> None:
    assert _rewritten("to a@corp.com", Redact(operator="mask")) == "to **********"


@pytest.mark.parametrize("weaker", range(1, 4))
def test_on_one_span_the_stronger_operator_wins_whatever_the_order(weaker: int) -> None:
    one, two = Redact(operator=OPERATORS[weaker - 1]), Redact(operator=OPERATORS[weaker])
    assert (
        _rewritten("to jane@corp.com", one, two)
        == _rewritten("to jane@corp.com", two, one)
        == _rewritten("to jane@corp.com", one)
    )


def test_a_duty_rewrites_its_entities_and_no_others() -> None:
    text = "jane@corp.com 4111111111111111"
    assert _rewritten(text, Redact(entities=("CREDIT_CARD",))) == "jane@corp.com <CREDIT_CARD>"


def test_a_duty_rewrites_at_and_below_its_pointers_only() -> None:
    target = {"a": ["a@corp.com", {"b": "b@corp.com"}], "ab": "c@corp.com", "d": "d@corp.com"}
    assert _rewritten(target, Redact(pointers=("/a", "/d"))) == {
        "a": ["<EMAIL_ADDRESS>", {"b": "<EMAIL_ADDRESS>"}],
        "ab": "c@corp.com",
        "d": "<EMAIL_ADDRESS>",
    }


def test_the_empty_pointer_is_the_whole_target() -> None:
    assert _rewritten(["a@corp.com"], Redact(pointers=("",))) == ["<EMAIL_ADDRESS>"]


def test_overlapping_spans_leave_no_tail_of_either() -> None:
    spans = [Span("A", "", 2, 6, 0.5), Span("B", "", 4, 9, 0.9), Span("C", "", 8, 10, 0.1)]
    for order in (spans, spans[::-1]):
        assert rewrite("0123456789ab", order, [Redact()], key=KEY) == "01<B>ab"


def test_of_overlapping_spans_the_strongest_operator_covers_all() -> None:
    spans = [Span("A", "", 0, 4), Span("B", "", 2, 6)]
    duties = [Redact(entities=("A",), operator="mask"), Redact(entities=("B",), operator="remove")]
    assert rewrite("01234567", spans, duties, key=KEY) == "67"


def test_spans_that_touch_stay_two() -> None:
    spans = [Span("A", "", 0, 2), Span("B", "", 2, 4)]
    assert rewrite("0123", spans, [Redact()], key=KEY) == "<A><B>"


def test_a_number_becomes_the_text_that_replaces_it() -> None:
    target = {"card": 4111111111111111, "float": 4111111111111111.0, "count": 3}
    assert _rewritten(target, Redact()) == {
        "card": "<CREDIT_CARD>",
        "float": "<CREDIT_CARD>",
        "count": 3,
    }
    assert _rewritten(-4111111111111111, Redact(operator="mask")) == "*" * 13 + "1111"


def test_keys_are_rewritten_in_place_and_stay_distinct() -> None:
    target = {"a@corp.com": 1, "b@corp.com": "c@corp.com", "<EMAIL_ADDRESS>": 3, "z": 4}
    written = _rewritten(target, Redact())
    assert list(written.items()) == [
        ("<EMAIL_ADDRESS>_2", 1),
        ("<EMAIL_ADDRESS>_3", "<EMAIL_ADDRESS>"),
        ("<EMAIL_ADDRESS>", 3),
        ("z", 4),
    ]


def test_containers_without_a_change_are_the_same_objects_and_tuples_stay_tuples() -> None:
    target = {"clean": {"x": [1]}, "pair": ("a@corp.com", [2])}
    written = _rewritten(target, Redact())
    assert written == {"clean": {"x": [1]}, "pair": ("<EMAIL_ADDRESS>", [2])}
    assert written["clean"] is target["clean"]
    assert written["pair"][1] is target["pair"][1]
    assert _rewritten(target) is target
    assert _rewritten(target, Redact(entities=("US_SSN",))) is target


def test_an_unknown_span_is_covered_by_every_duty() -> None:
    spans = [Span("UNKNOWN", "/0", 0, 5)]
    assert rewrite(["abcde"], spans, [Redact(entities=("US_SSN",))], key=KEY) == ["<UNKNOWN>"]


def test_an_unknown_operator_is_a_fault_with_a_suggestion() -> None:
    with pytest.raises(PolicyFault, match=r"unknown redact operator `masc`.*did you mean `mask`"):
        _rewritten("jane@corp.com", Redact(operator="masc"))


def test_a_hash_without_a_key_is_a_fault() -> None:
    with pytest.raises(Fault, match="needs a key"):
        rewrite("abc", [Span("A", "", 0, 3)], [Redact(operator="hash")], key=b"")


@pytest.mark.parametrize(
    "span",
    [
        Span("A", "/b", 0, 1),
        Span("A", "/a/0", 0, 1),
        Span("A", "/list/2", 0, 1),
        Span("A", "/list/x", 0, 1),
        Span("A", "/list/0", 0, 1, 1.0, True),
        Span("A", "/flag", 0, 1),
        Span("A", "/list", 0, 1),
        Span("A", "/a", 0, 4),
        Span("A", "/a", 2, 2),
        Span("A", "/a", -1, 2),
        Span("A", "", 0, 1, 1.0, True),
    ],
)
def test_a_span_that_cannot_be_rewritten_is_a_fault_and_never_skipped(span: Span) -> None:
    target = {"a": "abc", "list": ["a", "b"], "flag": True}
    with pytest.raises(Fault):
        rewrite(target, [span], [Redact()], key=KEY)


def test_a_record_is_masked_and_says_where() -> None:
    target = {"to": "jane@corp.com", "by jane@corp.com": {"password": "hunter2!"}, "n": [1, "x"]}
    scan = SCANNER.scan(target)
    assert mask_for_record(target, scan.pii + scan.secrets, key=KEY) == (
        {
            "to": "<EMAIL_ADDRESS>",
            "by <EMAIL_ADDRESS>": {"password": "<SECRET_FIELD>"},
            "n": [1, "x"],
        },
        ("/by <EMAIL_ADDRESS>", "/by <EMAIL_ADDRESS>/password", "/to"),
    )


def test_a_clean_record_is_the_same_object() -> None:
    target = {"a": ["b"]}
    copy, pointers = mask_for_record(target, (), key=KEY)
    assert copy is target
    assert pointers == ()


def test_a_record_keeps_nothing_that_was_too_long_to_be_scanned() -> None:
    target = [{"type": "image", "source": {"data": "QUJD" * 2_000}, "alt": "a cat"}, "x"]
    scan = SCANNER.scan(target)
    assert mask_for_record(target, (), key=KEY, unscanned=scan.unscanned) == (
        [{"type": "image", "source": {"data": "<UNSCANNED>"}, "alt": "a cat"}, "x"],
        ("/0/source/data",),
    )


def test_the_text_of_an_exception_is_masked() -> None:
    assert mask_text("no user jane@corp.com: password=hunter2!") == (
        "no user <EMAIL_ADDRESS>: password=<SECRET_ASSIGNMENT>"
    )
    assert mask_text("file not found") == "file not found"
