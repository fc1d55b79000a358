"""JSON Schema of the policy input, generated from what builds it.

`python -m guard.policy.schema > policies/schema/input.json`; a test fails when the file drifts.
"""

from __future__ import annotations

import json
from typing import Any

import msgspec

from ..request import TARGET_KEY, Context, Point
from .input import FIELDS, STRUCTS

__all__ = ["input_schema"]


def input_schema() -> dict[str, Any]:
    """Draft 2020-12; every key is always there, except that one of the targets is."""
    found: dict[str, Any] = {
        "type": "object",
        "additionalProperties": {
            "type": "object",
            "properties": {
                "count": {"type": "integer"},
                "pointers": {"type": "array", "items": {"type": "string"}},
            },
        },
    }
    evidence: dict[str, Any] = {
        "pii": found,
        "secrets": found,
        "unscanned": {"type": "array", "items": {"type": "string"}},
        "provenance": {"type": "object"},
        "labels": {"type": "object"},
        "capability": _struct("capability"),
        "trust": _struct("trust"),
        "budget": {"type": "object"},
    }
    context = _inlined(Context)["properties"] | {"now_ns": {"type": "integer"}}
    del context["subjects"]  # whom it concerns is for the log's keys, and no business of policy
    properties: dict[str, Any] = {
        "point": {"enum": [point.value for point in Point]},
        "principal": _struct("principal"),
        "tool": {"anyOf": [_struct("tool"), {"type": "null"}]},
        "model": {"anyOf": [_struct("model"), {"type": "null"}]},
        **dict.fromkeys(sorted(set(TARGET_KEY.values())), True),
        "error": {"type": ["string", "null"]},
        "path": _struct("path"),
        "evidence": _closed(evidence),
        "context": _closed(context),
        "host": _struct("host"),
    }
    assert properties.keys() == FIELDS.keys(), "the schema and the builder differ"  # noqa: S101
    required = [key for key in properties if key not in TARGET_KEY.values()]
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Policy input of guard",
        **_closed(properties, required=required),
        "oneOf": [{"required": [key]} for key in sorted(set(TARGET_KEY.values()))],
    }


def _struct(name: str) -> dict[str, Any]:
    return _inlined(STRUCTS[name])


def _inlined(struct: type[msgspec.Struct]) -> dict[str, Any]:
    (schema,), definitions = msgspec.json.schema_components([struct])
    reference = schema["$ref"].rpartition("/")[2]
    properties: dict[str, Any] = definitions[reference]["properties"]
    for value in properties.values():
        value.pop("default", None)
    return _closed(properties)


def _closed(properties: dict[str, Any], *, required: list[str] | None = None) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": required if required is not None else list(properties),
        "additionalProperties": False,
    }


if __name__ == "__main__":
    print(json.dumps(input_schema(), indent=2))
