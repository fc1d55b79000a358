"""An entry is one bounded line of JSON, and everything in it is under the hash."""

from __future__ import annotations

import json

import msgspec
import pytest
from support.entries import MAC, entry

from guard.audit.entry import ENTRY_BYTES_MAX, Entry, encode, stamp, timestamp_of
from guard.errors import AuditFault


def test_fields_stand_in_order_and_those_with_their_default_are_left_out() -> None:
    line = stamp(encode(entry(3), MAC.commit), "ab" * 8, 7)
    stored = json.loads(line)
    order = ["v", *Entry.__struct_fields__]
    assert list(stored) == [name for name in order if name in stored]
    assert list(stored)[:3] == ["v", "kind", "decision_id"]
    assert (stored["writer"], stored["writer_seq"]) == ("ab" * 8, 7)
    assert "faults" not in stored


def test_a_line_decodes_to_the_entry_it_came_from() -> None:
    one = entry(3, input={"to": "<EMAIL_1>"}, masked=["/input/to"], labels={"integrity": "trusted"})
    assert msgspec.json.decode(encode(one, MAC.commit), type=Entry) == one


def test_newlines_in_values_stay_inside_one_line() -> None:
    assert b"\n" not in encode(entry(input="a\nb\r\u2028c", tool="x\n{}"), MAC.commit)


def test_raw_bytes_cannot_forge_a_second_line() -> None:
    with pytest.raises(AuditFault, match="raw bytes with a newline"):
        encode(entry(input=msgspec.Raw(b'1}\n{"v":1')), MAC.commit)


def test_a_payload_that_is_too_large_becomes_a_keyed_commitment() -> None:
    payload = {"text": "x" * ENTRY_BYTES_MAX}
    stored = json.loads(encode(entry(input=payload, masked=["/input/text"]), MAC.commit))
    assert "input" not in stored
    assert "masked" not in stored
    assert stored["commitment"] == MAC.commit(msgspec.json.encode(payload))
    assert stored["notes"] == ["payload of 60011 bytes replaced by its commitment"]
    assert stored["tool"] == "search"


def test_an_entry_too_large_without_its_payload_is_refused() -> None:
    with pytest.raises(AuditFault, match="an entry without its payload has"):
        encode(entry(tool="x" * ENTRY_BYTES_MAX), MAC.commit)


@pytest.mark.parametrize("value", ["\ud800", object(), {1, object()}], ids=["utf8", "any", "set"])
def test_a_payload_that_is_not_json_is_refused_without_quoting_it(value: object) -> None:
    with pytest.raises(AuditFault, match="cannot be written as JSON") as caught:
        encode(entry(input=value), MAC.commit)
    assert caught.value.__cause__ is None


def test_a_cyclic_payload_is_refused() -> None:
    cyclic: list[object] = []
    cyclic.append(cyclic)
    with pytest.raises(AuditFault, match="cannot be written as JSON"):
        encode(entry(input=cyclic), MAC.commit)


def test_timestamps_are_rfc_3339_in_utc() -> None:
    assert timestamp_of(1_736_942_400_123_456_789) == "2025-01-15T12:00:00.123456Z"
