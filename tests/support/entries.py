"""Audit logs for tests: keys, entries and logs of a few entries, with real files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from guard.audit import AuditLog, Entry
from guard.audit.entry import timestamp_of
from guard.keys import Mac, Signer

NOON_NS = 1_736_942_400_000_000_000
NS_PER_S = 1_000_000_000
SIGNER = Signer("guard/audit", bytes(range(32)))
MAC = Mac(bytes(range(32, 64)))


def entry(number: int = 0, **fields: Any) -> Entry:
    """A small entry; even numbers are intents and the next odd number is the outcome."""
    moment_ns = NOON_NS + number * NS_PER_S
    plain: dict[str, Any] = {
        "kind": "outcome" if number % 2 else "intent",
        "decision_id": f"{number:08x}",
        "ref": f"{number - 1:08x}" if number % 2 else None,
        "timestamp_ns": moment_ns,
        "timestamp": timestamp_of(moment_ns),
        "session_id": "session-1",
        "session_seq": number,
        "point": "post_tool_call" if number % 2 else "pre_tool_call",
        "principal": {"id": "did:web:acme:support", "roles": ["support"]},
        "tool": "search",
        "effect": "allow",
    }
    return Entry(**plain | fields)


def open_log(directory: Path, **options: Any) -> AuditLog:
    """The log of a test, under a fixed key."""
    return AuditLog.open(directory, signer=SIGNER, mac=MAC, **options)


def written(directory: Path, count: int, **options: Any) -> Path:
    """A closed log of `count` entries; its `log-00`."""
    with open_log(directory, **options) as log:
        for number in range(count):
            log.append(entry(number))
    return directory / "log-00"
