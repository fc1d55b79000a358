"""Entries in the words of others fit what those others publish: schemas, or their documents."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import jsonschema
import msgspec
import pytest
from support.entries import NOON_NS, NS_PER_S, entry, written

from guard.audit.entry import Entry
from guard.audit.formats import FORMATS, Place
from guard.audit.merkle import leaf_hash
from guard.errors import ConfigError
from guard.ops.siem import lines

VECTORS = Path(__file__).parent.parent / "vectors"
TRACE = {"trace_id": "4bf92f3577b34da6a3ce929d0e0e4736", "span_id": "00f067aa0ba902b7"}
DENIED = {
    "effect": "deny",
    "reasons": [{"effect": "deny", "code": "tools.pay", "message": "no", "stage": "policy"}],
    "bundles": {"guard": {"revision": "ab" * 32}},
}
HOSTILE = {
    "decision_id": "", "trace_id": "not hex", "span_id": "0" * 16, "effect": "\u202eallow",
    "principal": {"id": 7, "roles": [1, None, "x"], "on_behalf_of": {"a": 1}},
    "reasons": [3, {"code": None}], "faults": ["x"], "point": "", "kind": "",
}  # fmt: skip
ENTRIES = {
    "allowed": entry(),
    "outcome": entry(1, happened=True, metrics={"elapsed_ns": 5}, **TRACE),
    "denied": entry(2, **DENIED),
    "broken": entry(2, **DENIED | {"faults": [{"code": "x", "message": "y", "stage": "z"}]}),
    "routed": entry(2, effect="route", tool=None, model="m-1", tenant="acme"),
    "redacted": entry(2, effect="redact", input={"to": None, "empty": []}, masked=["/input/to"]),
    "to review": entry(2, effect="review", review_id="r-1"),
    "of the log": entry(2, kind="seal", effect="none", tool=None, detail={"first": 0}),
    "hostile": entry(2, **HOSTILE),
}


def _line(one: Entry) -> bytes:
    return msgspec.json.encode(one)


def _as(name: str, one: Entry) -> dict[str, Any]:
    """What a reader of the line gets: through JSON and back."""
    translated = FORMATS[name](one, Place("guard/audit", 41, _line(one)))
    found: dict[str, Any] = json.loads(msgspec.json.encode(translated))
    return found


def _nulls(value: Any, place: str = "") -> list[str]:
    if isinstance(value, dict):
        return [found for key, one in value.items() for found in _nulls(one, f"{place}/{key}")]
    return [place] if value is None else []


@pytest.mark.parametrize("name", ENTRIES)
def test_ocsf_lines_fit_the_schema_of_api_activity(name: str) -> None:
    schema = json.loads((VECTORS / "ocsf-1.8.0-api-activity.json").read_text())
    found = _as("ocsf", ENTRIES[name])
    jsonschema.Draft202012Validator(schema).validate(found)
    assert found["type_uid"] == found["class_uid"] * 100 + found["activity_id"]
    # 99 says "see the text beside it".
    for field in ("action", "disposition"):
        assert (field in found) is (found[f"{field}_id"] == 99)


@pytest.mark.parametrize("name", ENTRIES)
def test_cloudevents_fit_their_schema_and_naming_rules(name: str) -> None:
    schema = json.loads((VECTORS / "cloudevents-1.0.json").read_text())
    found = _as("cloudevents", ENTRIES[name])
    jsonschema.Draft7Validator(schema).validate(found)
    assert [key for key in found if not re.fullmatch(r"[a-z0-9]{1,20}", key)] == []
    assert found["data"] == json.loads(_line(ENTRIES[name]))


@pytest.mark.parametrize("name", ENTRIES)
def test_ecs_documents_have_the_fields_and_values_that_ecs_allows(name: str) -> None:
    found = _as("ecs", ENTRIES[name])
    assert {"@timestamp", "ecs", "message", "event"} <= set(found)
    assert found["event"]["kind"] == "event"
    assert found["event"]["category"] == ["api"]
    assert set(found["event"]["type"]) <= {"allowed", "denied", "info"}  # expected for api
    assert found["event"]["outcome"] in ("success", "failure", "unknown")
    own = {key: value for key, value in found.items() if key != "guard"}
    assert _nulls(own) == []


@pytest.mark.parametrize("name", ENTRIES)
def test_otlp_requests_are_proto3_json_as_otlp_writes_it(name: str) -> None:
    (resource,) = _as("otlp", ENTRIES[name])["resourceLogs"]
    (scope,) = resource["scopeLogs"]
    (record,) = scope["logRecords"]
    allowed = {"timeUnixNano", "observedTimeUnixNano", "severityNumber", "severityText", "body",
               "attributes", "traceId", "spanId", "eventName"}  # fmt: skip
    assert set(record) <= allowed
    assert record["timeUnixNano"] == str(ENTRIES[name].timestamp_ns)  # 64 bits are text
    assert 1 <= record["severityNumber"] <= 24
    for one in record["attributes"]:
        ((kind, value),) = one["value"].items()
        assert kind in ("stringValue", "intValue", "boolValue")
        assert isinstance(value, bool if kind == "boolValue" else str)
    assert record["body"] == {"stringValue": _line(ENTRIES[name]).decode()}


def test_a_trace_is_carried_in_the_form_of_each_standard() -> None:
    outcome = ENTRIES["outcome"]
    assert _as("ocsf", outcome)["trace"] == {"uid": TRACE["trace_id"]}
    assert _as("ocsf", outcome)["unmapped"]["guard"]["span_id"] == TRACE["span_id"]
    assert _as("ecs", outcome)["trace"] == {"id": TRACE["trace_id"]}
    assert _as("cloudevents", outcome)["traceparent"] == (
        f"00-{TRACE['trace_id']}-{TRACE['span_id']}-00"
    )
    record = _as("otlp", outcome)["resourceLogs"][0]["scopeLogs"][0]["logRecords"][0]
    assert (record["traceId"], record["spanId"]) == (TRACE["trace_id"], TRACE["span_id"])


def test_each_effect_has_its_action_and_disposition_in_ocsf() -> None:
    found = {name: _as("ocsf", one) for name, one in ENTRIES.items()}
    assert {
        name: (one["action_id"], one["disposition_id"], one.get("action"), one.get("disposition"))
        for name, one in found.items()
        if name not in ("outcome", "hostile")
    } == {
        "allowed": (1, 1, None, None),
        "denied": (2, 2, None, None),
        "broken": (2, 27, None, None),
        "routed": (4, 99, None, "route"),
        "redacted": (4, 11, None, None),
        "to review": (99, 23, "review", None),
        "of the log": (0, 0, None, None),
    }


@pytest.mark.parametrize("name", FORMATS)
def test_every_line_names_its_place_and_leaf_so_that_it_can_be_proven(name: str) -> None:
    one = ENTRIES["denied"]
    leaf = Place("guard/audit", 41, _line(one)).leaf
    text = json.dumps(_as(name, one))
    assert leaf in text
    assert "41" in text
    assert "guard/audit" in text
    assert len(leaf_hash(_line(one))) == 32


def test_a_payload_keeps_its_nulls_and_empty_lists() -> None:
    found = _as("ocsf", ENTRIES["redacted"])
    assert found["unmapped"]["guard"]["input"] == {"to": None, "empty": []}


def test_lines_pass_over_what_cannot_be_read_and_name_it(tmp_path: Path) -> None:
    log = written(tmp_path, 5)
    records = log / f"records-{0:020}.jsonl"
    whole = records.read_bytes().splitlines(keepends=True)
    records.write_bytes(b"".join([whole[0], b"{broken\n", *whole[2:4], whole[4][:20]]))
    unreadable: list[int] = []
    found = [
        json.loads(line)["metadata"]["sequence"]
        for line in lines(
            log, "ocsf", since_ns=NOON_NS, until_ns=NOON_NS + 2 * NS_PER_S,
            on_unreadable=unreadable.append,
        )
    ]  # fmt: skip
    assert (found, unreadable) == ([0, 2], [1])


def test_lines_of_an_unknown_format_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="unknown format `cef`: expected ocsf, ecs"):
        list(lines(tmp_path, "cef", since_ns=0, until_ns=1, on_unreadable=print))
