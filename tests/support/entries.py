"""Audit logs for tests: keys, entries and logs of a few entries, with real files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from guard.audit import AuditLog, Entry
from guard.audit.entry import timestamp_of
from guard.audit.files import lines_of, segments_of
from guard.audit.sequence import Rolling
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
    """The log of a test, under a fixed key. Its spool is small: a file of zeros costs time."""
    return AuditLog.open(
        directory,
        **{"signer": SIGNER, "mac": MAC, "origin": "guard/audit", "spool_bytes": 1 << 18} | options,
    )


def entries_of(directory: Path) -> list[Entry]:
    """What is in a log, in its order."""
    return [
        msgspec.json.decode(line, type=Entry)
        for segment in segments_of(directory)
        for line in lines_of(segment.path)
    ]


def written(directory: Path, count: int, *, signed_every: int = 0, **rolling: int) -> Path:
    """A closed log of `count` entries with a checkpoint every so many; its directory."""
    with open_log(directory, rolling=Rolling(**rolling)) as log:
        for number in range(count):
            log.append(entry(number))
            if signed_every and (number + 1) % signed_every == 0:
                log.checkpoint()
    return directory
