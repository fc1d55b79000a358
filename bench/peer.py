"""The nearest peer, on the same work in the same run: agent-governance-toolkit's `govern()`."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from guard.audit import Entry

from . import work

__all__ = ["AUDIT_NAME", "NAME", "audit_log", "govern", "version"]

NAME = "agent-governance-toolkit-core govern()"
AUDIT_NAME = "agent-governance-toolkit-core AuditLog, in memory"


def version() -> str | None:
    """Its version, or None where the extra `[bench]` is not installed."""
    import importlib.metadata

    try:
        return importlib.metadata.version("agent-governance-toolkit-core")
    except importlib.metadata.PackageNotFoundError:
        return None


def govern(others: int) -> Callable[[], Any] | None:
    """A call through `govern()` with its audit log in memory, or None where it is not installed."""
    if version() is None:
        return None
    from agentmesh.governance.govern import govern as peer_govern

    logging.getLogger("agentmesh").setLevel(logging.ERROR)

    def transfer(**arguments: Any) -> str:
        return "transferred"

    governed = peer_govern(transfer, policy=work.peer_policy(others), agent_id="clerk")
    return lambda: governed(action=work.TOOL.name, **work.ARGUMENTS)


def audit_log() -> Callable[[Entry], Any] | None:
    """An append to its audit log, which is in memory, or None where it is not installed."""
    if version() is None:
        return None
    from agentmesh.governance.audit import AuditLog

    log = AuditLog()
    return lambda entry: log.log(
        event_type=entry.kind,
        agent_did=entry.principal["id"],
        action=entry.point,
        resource=entry.tool,
        data={"input": entry.input, "reasons": entry.reasons, "labels": entry.labels},
        policy_decision=entry.effect,
        trace_id=entry.trace_id,
        policy_version=entry.revision,
    )
