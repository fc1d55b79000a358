"""The ONLY builder of policy input: one shape at every point.

The target stands under `args`, `messages` or `result` (see `request.TARGET_KEY`). Nothing that a
model or a tool wrote can stand anywhere else, so untrusted text can never become a principal, a
tool's declaration or a context. `policies/schema/input.json` is generated from this file.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from ..evidence import CapabilityView, Evidence, PathView, Span, TrustView, public_pointer
from ..plain import Json
from ..request import (
    TARGET_KEY,
    Context,
    Host,
    ModelRef,
    Point,
    Principal,
    Request,
    ToolDeclaration,
)

__all__ = ["FIELDS", "build_input", "encode_input", "fields_at"]

# Pointers listed per entity: enough to act on, bounded so that the input stays flat.
POINTERS_MAX: Final = 16

_ENCODER: Final = msgspec.json.Encoder()


def build_input(request: Request, evidence: Evidence, target: Json) -> dict[str, Any]:
    """Policy input for a request; `target` is the snapshot with secrets masked."""
    key = TARGET_KEY[request.point]
    context = request.context
    keys = [span for span in evidence.pii + evidence.secrets if span.in_key]
    return {
        "point": request.point,
        "principal": request.principal,
        "tool": request.tool,
        "model": request.model,
        key: target,
        "error": evidence.error,
        "path": evidence.path,
        "evidence": {
            "pii": _by_entity(evidence.pii, keys, key) if evidence.pii else {},
            "secrets": _by_entity(evidence.secrets, keys, key) if evidence.secrets else {},
            "unscanned": [f"/{key}{public_pointer(p, keys)}" for p in evidence.unscanned],
            "provenance": evidence.provenance,
            "labels": evidence.labels,
            "capability": evidence.capability,
            "trust": evidence.trust,
            "budget": evidence.budget,
        },
        "context": {
            "tenant": context.tenant,
            "tags": context.tags,
            "purpose": context.purpose,
            "jurisdiction": context.jurisdiction,
            "constraints": context.constraints,
            "now_ns": request.now_ns,
        },
        "host": request.host,
    }


def encode_input(value: Mapping[str, Any]) -> str:
    """The input as JSON text, which is how it crosses into native code."""
    return _ENCODER.encode(value).decode()


def _by_entity(
    spans: tuple[Span, ...], keys: list[Span], target_key: str
) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    for span in spans:
        entry = found.setdefault(span.entity, {"count": 0, "pointers": []})
        entry["count"] += 1
        pointer = f"/{target_key}{public_pointer(span.pointer, keys)}"
        if len(entry["pointers"]) < POINTERS_MAX and pointer not in entry["pointers"]:
            entry["pointers"].append(pointer)
    return found


def _names(struct: type[msgspec.Struct]) -> frozenset[str]:
    return frozenset(struct.__struct_fields__)


# Top keys, and below them the known names, or None where the content is open.
FIELDS: Final[dict[str, frozenset[str] | None]] = {
    "point": frozenset(),
    "principal": _names(Principal),
    "tool": _names(ToolDeclaration),
    "model": _names(ModelRef),
    "args": None,
    "messages": None,
    "result": None,
    "error": frozenset(),
    "path": _names(PathView),
    "evidence": frozenset(
        ("pii", "secrets", "unscanned", "provenance", "labels", "capability", "trust", "budget")
    ),
    "context": _names(Context) - {"subjects"} | {"now_ns"},
    "host": _names(Host),
}
_TARGET_KEYS: Final = frozenset(TARGET_KEY.values())
STRUCTS: Final[dict[str, type[msgspec.Struct]]] = {
    "principal": Principal,
    "tool": ToolDeclaration,
    "model": ModelRef,
    "path": PathView,
    "host": Host,
    "capability": CapabilityView,
    "trust": TrustView,
}


def fields_at(point: str) -> frozenset[str]:
    """Top keys of the input that carry something at `point`."""
    present = (FIELDS.keys() - _TARGET_KEYS) | {TARGET_KEY[Point(point)]}
    return frozenset(present)
