"""Redaction: nothing original is left, nothing else is touched, and twice is once."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from guard.decision import Redact
from guard.pii import OPERATORS, Scan, Scanner, mask_for_record, rewrite
from guard.plain import freeze

KEY = b"k" * 32
SCANNER = Scanner()

VALUES = (
    "jane.doe@corp.com 4111111111111111 4111-1111-1111-1111 536-90-4399 10.20.30.40 fe80::1 "
    "+442079460958 212-555-0187 GB82WEST12345698765432 sk-ant-api03-abcdefghij0123456789 "
    "AKIAIOSFODNN7EXAMPLE password=hunter2hunter2 postgres://app:s3cr3tpw@db ghp_" + "a1" * 18
).split()
# Pieces of values beside whole ones: what is rewritten must not join into something new.
PIECES = st.one_of(
    st.sampled_from(VALUES),
    st.sampled_from(
        [
            *("41111111", "11111111", "@", "corp.com", "jane", "password:", "token=", " ", ", "),
            *("-", "::", "1.2", ".3.4", "+44", "(212)", "GB82", "é", "\u200b", "sk-", "://"),
            *('"', "<", ">", "phone", "ssn ", "536904399", "<PHONE_NUMBER>", "\\"),
        ]
    ),
    st.text(max_size=6),
)
TEXTS = st.lists(PIECES, max_size=8).map("".join)
LEAVES = st.one_of(
    st.none(),
    st.booleans(),
    st.floats(allow_nan=False, allow_infinity=False),
    st.integers(min_value=-(2**63), max_value=2**63 - 1),
    st.sampled_from([4111111111111111, 4111111111111111.0]),
    TEXTS,
)
KEYS = st.one_of(st.sampled_from(["a", "password", "phone", "ssn", "a/b~c"]), TEXTS)
TARGETS = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.lists(inner, max_size=3).map(tuple),
        st.dictionaries(KEYS, inner, max_size=4),
    ),
    max_leaves=12,
)


def _frozen(value: Any) -> Any:
    try:
        return freeze(value)
    except Exception:
        return None  # lone surrogates never come this far


def _spans(scan: Scan) -> tuple[Any, ...]:
    return scan.pii + scan.secrets


def _at(target: Any, pointer: str) -> Any:
    for token in pointer.split("/")[1:]:
        plain = token.replace("~1", "/").replace("~0", "~")
        target = target[int(plain)] if isinstance(target, (list, tuple)) else target[plain]
    return target


def _shape(value: Any) -> Any:
    if isinstance(value, dict):
        return "dict", [_shape(item) for item in value.values()]
    if isinstance(value, (list, tuple)):
        return type(value).__name__, [_shape(item) for item in value]
    return "leaf"


@given(TARGETS)
def test_a_rewritten_target_scanned_again_has_nothing_left_to_replace(target: Any) -> None:
    target = _frozen(target)
    once = rewrite(target, _spans(SCANNER.scan(target)), [Redact()], key=KEY)
    twice = rewrite(once, _spans(SCANNER.scan(once)), [Redact()], key=KEY)
    assert twice == once


@given(TARGETS)
def test_a_target_with_spans_removed_has_nothing_left_to_remove(target: Any) -> None:
    duty = Redact(operator="remove")
    target = _frozen(target)
    once = rewrite(target, _spans(SCANNER.scan(target)), [duty], key=KEY)
    twice = rewrite(once, _spans(SCANNER.scan(once)), [duty], key=KEY)
    assert twice == once


@given(TARGETS, st.sampled_from(OPERATORS))
def test_structure_survives_every_operator(target: Any, operator: str) -> None:
    target = _frozen(target)
    spans = _spans(SCANNER.scan(target))
    written = rewrite(target, spans, [Redact(operator=operator)], key=KEY)
    assert _shape(written) == _shape(target)


@given(TARGETS, st.sampled_from(OPERATORS))
def test_the_target_itself_is_never_changed(target: Any, operator: str) -> None:
    target = _frozen(target)
    before = freeze(target)
    rewrite(target, _spans(SCANNER.scan(target)), [Redact(operator=operator)], key=KEY)
    assert target == before


@given(TEXTS)
def test_every_character_outside_of_the_spans_stays_and_none_inside(text: str) -> None:
    text = _frozen(text) or ""
    spans = _spans(SCANNER.scan(text))
    covered = {index for span in spans for index in range(span.start, span.end)}
    kept = "".join(char for index, char in enumerate(text) if index not in covered)
    assert rewrite(text, spans, [Redact(operator="remove")], key=KEY) == kept


@given(TARGETS)
def test_all_that_was_found_is_masked_in_the_record(target: Any) -> None:
    target = _frozen(target)
    spans = _spans(SCANNER.scan(target))
    copy, pointers = mask_for_record(target, spans, key=KEY)
    again = SCANNER.scan(copy)
    assert _spans(again) == ()
    assert (copy is target) == (not spans)
    assert list(pointers) == sorted(set(pointers))
    for pointer in pointers:
        _at(copy, pointer)


@given(TARGETS, TEXTS, st.sampled_from(VALUES))
def test_a_value_among_spaces_is_found_wherever_it_stands(
    target: Any, text: str, value: str
) -> None:
    assert _spans(SCANNER.scan([_frozen(target), f"{_frozen(text) or ''} {value} "]))
