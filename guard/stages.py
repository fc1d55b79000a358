"""The stages of a decision, in their order. Each is `(Request, Evidence) -> Finding` and pure.

scan ▸ identity ▸ capability ▸ trust ▸ policy. Scan comes first, so that every record, also of an
early deny, can be redacted. Only policy permits.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import msgspec

from .capability import check
from .decision import Redact, Verdict
from .errors import CapabilityFault, SnapshotFault
from .evidence import Evidence, Finding, public_pointer
from .pii import Scanner
from .pii.redact import rewrite
from .pipeline import Stage
from .policy import Engine, build_input
from .request import TARGET_KEY, Request
from .trust import score

__all__ = ["build_stages"]

ID_CHARS_MAX: Final = 512  # a DID with a path; names are looked up and logged, never parsed
_MASK_ALL: Final = (Redact(),)


def build_stages(
    scanner: Scanner, engine: Callable[[], Engine], *, key: bytes
) -> tuple[tuple[str, Stage], ...]:
    """The tuple of callables that the pipeline walks. `engine` is read on each call: a reload
    of the policies is one assignment."""

    def scan(request: Request, evidence: Evidence) -> Finding:
        seen = scanner.scan(request.target)
        if any(span.entity == "UNKNOWN" for span in seen.secrets):
            # Policy would look at a mask where the call has the original.
            raise SnapshotFault(
                "scan.too_many_findings", "more was found than can be told apart: send it in parts"
            )
        found = {
            "pii": seen.pii,
            "secrets": seen.secrets,
            "unscanned": (*evidence.unscanned, *seen.unscanned),
            "is_scanned": True,
        }
        return Finding(found=found)

    def policy(request: Request, evidence: Evidence) -> Finding:
        target = request.target
        if evidence.secrets:
            # No policy, trace or replay needs the secret itself.
            target = rewrite(target, evidence.secrets, _MASK_ALL, key=key)
        document = build_input(request, evidence, target)
        tool = request.tool.name if request.tool is not None else None
        answer = engine().evaluate(request.point, tool, document)
        verdicts = _without_keys(answer.verdicts, request, evidence)
        return Finding(verdicts=verdicts, facts=answer.facts)

    return (
        ("scan", scan),
        ("identity", identify),
        ("capability", capability),
        ("trust", trust),
        ("policy", policy),
    )


def _without_keys(
    verdicts: tuple[Verdict, ...], request: Request, evidence: Evidence
) -> tuple[Verdict, ...]:
    """Pointers go into reasons, records and screens: a key that is an address stays out of them."""
    prefix = f"/{TARGET_KEY[request.point]}"
    keys = [
        msgspec.structs.replace(span, pointer=f"{prefix}{span.pointer}")
        for span in evidence.pii + evidence.secrets
        if span.in_key
    ]
    if not keys:
        return verdicts
    return tuple(
        msgspec.structs.replace(
            verdict, pointers=tuple(public_pointer(pointer, keys) for pointer in verdict.pointers)
        )
        for verdict in verdicts
    )


def identify(request: Request, evidence: Evidence) -> Finding:
    """Names that a log can hold: bounded and printable. Signed identities take this place later."""
    tool, model = request.tool, request.model
    names = (
        request.principal.id,
        *request.principal.roles,
        request.session_id,
        request.run_id,
        request.call_id,
        tool.name if tool is not None else "",
        *((model.id, model.provider or "", model.endpoint or "") if model is not None else ()),
    )
    # One look at all of them: only what is wrong is worth a second one.
    if len(max(names, key=len)) > ID_CHARS_MAX or not "".join(names).isprintable():
        raise CapabilityFault(
            "a name of the principal, its session, the tool or the model is over "
            f"{ID_CHARS_MAX} characters or not printable"
        )
    return _NOTHING


def capability(request: Request, evidence: Evidence) -> Finding:
    """Whether a grant of the session covers the call. It permits nothing by itself."""
    return Finding(found={"capability": check(request)}) if request.tool is not None else _NOTHING


def trust(request: Request, evidence: Evidence) -> Finding:
    """The principal's score from the outcomes that prepare read."""
    return Finding(found={"trust": score(*evidence.observed)})


_NOTHING: Final = Finding()
