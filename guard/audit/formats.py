"""Entries in the words of others: OCSF, ECS, CloudEvents and OTLP, one JSON object each.

We store one compact schema and translate when it is asked for: these standards still move. What has
no place in one of them goes into its own field for that (`unmapped`, `guard.*`, `data`).
OCSF 1.8.0 API Activity (6003) with the profiles security_control and trace; ECS 9; CloudEvents 1.0;
OTLP/JSON as the file exporter writes it, one ExportLogsServiceRequest a line.

INVARIANT: whatever a line holds that is JSON and an entry, what comes out fits the standard: a
trace id that is none, or a role that is a number, stays in our own field.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Callable
from typing import Any, Final

import msgspec

from .entry import Entry
from .merkle import leaf_hash

__all__ = ["FORMATS", "Place"]

_CLASS_UID: Final = 6003
_NS_PER_MS: Final = 1_000_000
# effect: (action_id, disposition_id, severity_id)
_OCSF: Final = {
    "allow": (1, 1, 1),
    "redact": (4, 11, 2),
    "route": (4, 99, 2),
    "review": (99, 23, 3),
    "deny": (2, 2, 3),
    "none": (0, 0, 1),
}
_OCSF_FAULT: Final = (2, 27, 4)  # denied because something was broken
_OTHER: Final = 99  # in OCSF; the field without `_id` then says what it is
_TRACE_ID: Final = re.compile(r"(?!0+$)[0-9a-f]{32}")
_SPAN_ID: Final = re.compile(r"(?!0+$)[0-9a-f]{16}")
_ECS_TYPES: Final = {"deny": "denied", "allow": "allowed", "redact": "allowed", "route": "allowed"}
_SEVERITIES: Final = {"deny": (13, "WARN"), "review": (11, "INFO3"), "none": (9, "INFO")}
_ERROR: Final = (17, "ERROR")


class Place(msgspec.Struct, frozen=True):
    """Where an entry is in its log, and its exact bytes."""

    origin: str
    index: int
    line: bytes

    @property
    def leaf(self) -> str:
        """The leaf hash, standard base64."""
        return base64.b64encode(leaf_hash(self.line)).decode()


def ocsf(entry: Entry, place: Place) -> dict[str, Any]:
    """OCSF API Activity."""
    action_id, disposition_id, severity_id = (
        _OCSF_FAULT if entry.faults else _OCSF.get(entry.effect, (99, 99, 1))
    )
    trace_id, _ = _trace(entry)
    return _without_none(
        {
            "class_uid": _CLASS_UID,
            "category_uid": 6,
            "activity_id": _OTHER,
            "activity_name": entry.point or entry.kind,
            "type_uid": _CLASS_UID * 100 + _OTHER,
            "time": entry.timestamp_ns // _NS_PER_MS,
            "severity_id": severity_id,
            "status_id": {None: 0, True: 1, False: 2}[entry.happened],
            "action_id": action_id,
            "action": entry.effect if action_id == _OTHER else None,
            "disposition_id": disposition_id,
            "disposition": entry.effect if disposition_id == _OTHER else None,
            "message": _message(entry),
            "metadata": _without_none(
                {
                    "version": "1.8.0",
                    "uid": entry.decision_id,
                    "log_name": place.origin,
                    "sequence": place.index,
                    "original_time": entry.timestamp,
                    "profiles": ["security_control", "trace"],
                    "product": {"name": "stepguard", "vendor_name": "stepguard"},
                    "correlation_uid": entry.ref or entry.decision_id,
                    "tenant_uid": entry.tenant,
                }
            ),
            "actor": _without_none(
                {
                    "user": _without_none(
                        {
                            "uid": _id(entry),
                            "type": "Agent",
                            "type_id": _OTHER,
                            "groups": [{"name": role} for role in _roles(entry)],
                        }
                    ),
                    "session": {"uid": entry.session_id} if entry.session_id else None,
                }
            ),
            "api": {
                "operation": entry.tool or entry.model or entry.point or entry.kind,
                "service": {"name": "tool" if entry.tool else "model" if entry.model else "agent"},
                "request": {"uid": entry.call_id or entry.decision_id},
            },
            "src_endpoint": {"name": entry.writer},
            "policy": {"uid": entry.revision, "name": "guard"} if entry.revision else None,
            # A span would need its start and end: its id is in `unmapped`.
            "trace": {"uid": trace_id} if trace_id else None,
            "unmapped": {"guard": _rest(entry), "leaf_hash": place.leaf},
        }
    )


def ecs(entry: Entry, place: Place) -> dict[str, Any]:
    """Elastic Common Schema."""
    outcome = {None: "unknown", True: "success", False: "failure"}[entry.happened]
    trace_id, span_id = _trace(entry)
    return _without_none(
        {
            "@timestamp": entry.timestamp,
            "ecs": {"version": "9.0.0"},
            "message": _message(entry),
            "event": _without_none(
                {
                    "id": entry.decision_id,
                    "kind": "event",
                    "category": ["api"],
                    "type": [_ECS_TYPES.get(entry.effect, "info")],
                    "action": entry.point or entry.kind,
                    "dataset": f"stepguard.{entry.kind}",
                    "module": "stepguard",
                    "outcome": "failure" if entry.effect == "deny" else outcome,
                    "reason": _message(entry),
                    "sequence": place.index,
                    "hash": place.leaf,
                    "duration": entry.metrics.get("elapsed_ns"),
                }
            ),
            "rule": _without_none(
                {
                    "id": [str(reason.get("code")) for reason in _objects(entry.reasons)],
                    "version": entry.revision,
                }
            ),
            "user": _without_none({"id": _id(entry), "roles": _roles(entry)}),
            "organization": {"id": entry.tenant} if entry.tenant else None,
            "trace": {"id": trace_id} if trace_id else None,
            "span": {"id": span_id} if span_id else None,
            "gen_ai": _gen_ai(entry),
            "labels": entry.labels,
            "guard": {"log": place.origin, **_rest(entry)},
        }
    )


def cloudevents(entry: Entry, place: Place) -> dict[str, Any]:
    """CloudEvents, structured mode; `data` is the entry as it is stored."""
    trace_id, span_id = _trace(entry)
    return _without_none(
        {
            "specversion": "1.0",
            "id": f"{place.origin}/{place.index}",
            "source": f"urn:stepguard:{place.origin}",
            "type": f"stepguard.audit.{entry.kind}.v2",
            "subject": entry.decision_id or None,
            "time": entry.timestamp,
            "datacontenttype": "application/json",
            "sequence": f"{place.index:020}",
            "leafhash": place.leaf,
            # Whether it was sampled is not recorded: flags 00.
            "traceparent": f"00-{trace_id}-{span_id}-00" if trace_id and span_id else None,
            "data": msgspec.Raw(place.line),
        }
    )


def otlp(entry: Entry, place: Place) -> dict[str, Any]:
    """An OTLP/JSON export request with one log record."""
    number, text = _ERROR if entry.faults else _SEVERITIES.get(entry.effect, (9, "INFO"))
    trace_id, span_id = _trace(entry)
    attributes = {
        "guard.effect": entry.effect,
        "guard.point": entry.point,
        "guard.principal": _id(entry),
        "guard.tenant": entry.tenant,
        "guard.decision_id": entry.decision_id,
        "guard.ref": entry.ref,
        "guard.revision": entry.revision or None,
        "guard.happened": entry.happened,
        "guard.log": place.origin,
        "guard.index": place.index,
        "guard.leaf_hash": place.leaf,
        **{f"gen_ai.{name}": value for name, value in _gen_ai(entry, nested=False).items()},
    }
    record = {
        "timeUnixNano": str(entry.timestamp_ns),
        "observedTimeUnixNano": str(entry.timestamp_ns),
        "severityNumber": number,
        "severityText": text,
        "eventName": f"stepguard.audit.{entry.kind}",
        "body": {"stringValue": place.line.decode()},
        "attributes": _attributes(attributes),
        "traceId": trace_id,
        "spanId": span_id,
    }
    scope = {"scope": {"name": "stepguard.audit"}, "logRecords": [_without_none(record)]}
    resource = {"attributes": _attributes({"service.name": "stepguard"})}
    return {"resourceLogs": [{"resource": resource, "scopeLogs": [scope]}]}


# Fields that have their place in every one of them.
_PLACED: Final = {"v", "timestamp_ns", "timestamp", "tenant"}
FORMATS: Final[dict[str, Callable[[Entry, Place], dict[str, Any]]]] = {
    "ocsf": ocsf,
    "ecs": ecs,
    "cloudevents": cloudevents,
    "otlp": otlp,
}


def _message(entry: Entry) -> str:
    what = entry.tool or entry.model or entry.point or entry.kind
    reasons = [str(reason.get("message")) for reason in _objects(entry.reasons)]
    reasons += [str(fault.get("message")) for fault in _objects(entry.faults)]
    return f"{entry.effect} {what}: {'; '.join(reasons or entry.notes) or entry.kind}"


def _id(entry: Entry) -> str:
    return str(entry.principal.get("id", ""))


def _roles(entry: Entry) -> list[str]:
    roles = entry.principal.get("roles")
    return [role for role in roles if isinstance(role, str)] if isinstance(roles, list) else []


def _trace(entry: Entry) -> tuple[str | None, str | None]:
    """Trace and span id where they are what W3C Trace Context calls so."""
    trace_id, span_id = entry.trace_id or "", entry.span_id or ""
    return (
        trace_id if _TRACE_ID.fullmatch(trace_id) else None,
        span_id if _SPAN_ID.fullmatch(span_id) else None,
    )


def _rest(entry: Entry) -> dict[str, Any]:
    """What the standard has no word for: the entry, without what it has one for."""
    fields: dict[str, Any] = msgspec.to_builtins(entry)
    return {name: value for name, value in fields.items() if name not in _PLACED}


def _gen_ai(entry: Entry, *, nested: bool = True) -> dict[str, Any]:
    """Names of the OpenTelemetry conventions for generative AI, which still move."""
    flat = _without_none(
        {
            "agent.id": _id(entry) or None,
            # ECS has no such field yet.
            "conversation.id": None if nested else entry.session_id,
            "operation.name": "execute_tool" if entry.tool else "chat" if entry.model else None,
            "tool.name": entry.tool,
            "tool.call.id": entry.call_id or None,
            "request.model": entry.model,
        }
    )
    if not nested:
        return flat
    whole: dict[str, Any] = {}
    for name, value in flat.items():
        place = whole
        *outer, last = name.split(".")
        for part in outer:
            place = place.setdefault(part, {})
        place[last] = value
    return whole


def _attributes(values: dict[str, Any]) -> list[dict[str, Any]]:
    return [
        {"key": name, "value": _any_value(value)}
        for name, value in values.items()
        if value is not None and value != ""
    ]


def _any_value(value: Any) -> dict[str, Any]:
    if isinstance(value, bool):
        return {"boolValue": value}
    if isinstance(value, int):
        return {"intValue": str(value)}
    return {"stringValue": str(value)}


def _objects(items: Any) -> list[dict[str, Any]]:
    """A line that was tampered with may hold anything that is JSON where reasons should be."""
    return [item for item in items if isinstance(item, dict)]


def _without_none(fields: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value not in (None, {}, [])}
