"""Queries over all logs: each filter alone, merged by time, torn lines counted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from support.entries import NOON_NS, NS_PER_S, entry, open_log, written

from guard.audit.query import Filters, moment_of, query, show
from guard.errors import AuditFault
from guard.testing import FakeClock

REASON = {"effect": "deny", "code": "email.external", "message": "m", "stage": "policy"}
ENTRIES = [
    entry(0, principal={"id": "did:web:acme:billing"}, tool="pay"),
    entry(1, kind="decision", effect="deny", reasons=[REASON], revision="abcdef0123"),
    entry(2, point="pre_model_call", tool=None, model="gpt-x", session_id="other"),
    entry(3, ref="00000002"),
]


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    with open_log(tmp_path) as first, open_log(tmp_path) as second:
        for number, one in enumerate(ENTRIES):
            (second if number % 2 else first).append(one)
    return tmp_path


def _found(directory: Path, **filters: Any) -> list[int]:
    rows = query(directory, Filters(**filters), clock=FakeClock(NOON_NS + 10 * NS_PER_S))
    return [row.entry.session_seq for row in rows]


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        ({}, [0, 1, 2, 3]),
        ({"since": "2025-01-15T12:00:02Z"}, [2, 3]),
        ({"since": "8s"}, [2, 3]),
        ({"until": "2025-01-15T13:00:01+01:00"}, [0, 1]),
        ({"since": "9s", "until": "8s"}, [1, 2]),
        ({"principal": "did:web:acme:billing"}, [0]),
        ({"principal": "did:web:*"}, [0, 1, 2, 3]),
        ({"tool": "pay"}, [0]),
        ({"tool": "p*"}, [0]),
        ({"model": "gpt-*"}, [2]),
        ({"point": "pre_model_call"}, [2]),
        ({"effect": "deny"}, [1]),
        ({"kind": "intent"}, [0, 2]),
        ({"session": "oth"}, [2]),
        ({"policy": "email"}, [1]),
        ({"policy": "email.ext"}, [1]),
        ({"policy": "external"}, []),
        ({"policy": "abcdef"}, [1]),
        ({"policy": "sha256:abcdef"}, [1]),
        ({"policy": "abc"}, []),
        ({"decision_id": "00000002"}, [2, 3]),
        ({"limit": 2}, [2, 3]),
        ({"kind": "intent", "effect": "deny"}, []),
    ],
    ids=str,
)
def test_a_filter_finds_what_fits(
    filters: dict[str, Any], expected: list[int], directory: Path
) -> None:
    assert _found(directory, **filters) == expected


def test_a_row_says_where_the_entry_is(directory: Path) -> None:
    rows = list(query(directory, Filters()))
    assert [(row.log, row.index) for row in rows] == [
        ("log-00", 0), ("log-01", 0), ("log-00", 1), ("log-01", 1),
    ]  # fmt: skip
    assert [row.entry for row in rows] == ENTRIES


def test_lines_that_cannot_be_read_are_counted(tmp_path: Path) -> None:
    log = written(tmp_path, 2)
    with next(log.glob("records-*")).open("ab") as file:
        file.write(b'noise\n{"v":1}\n\xff\n{"v":1,"kin')
    rows = query(tmp_path, Filters())
    assert [row.entry for row in rows] == [entry(0), entry(1)]
    assert rows.skipped == 4


def test_a_limit_continues_over_segments(tmp_path: Path) -> None:
    written(tmp_path, 12, segment_bytes_max=1_600)
    assert _found(tmp_path, limit=5) == [7, 8, 9, 10, 11]


@pytest.mark.parametrize("wanted", ["00000002", "00000003"])
def test_show_gives_the_intent_and_its_outcome_from_either_id(wanted: str, directory: Path) -> None:
    assert [row.entry.decision_id for row in show(directory, wanted)] == ["00000002", "00000003"]


def test_show_takes_the_start_of_an_id(tmp_path: Path) -> None:
    with open_log(tmp_path) as log:
        log.append(entry(0, decision_id="aabbccdd00"))
        log.append(entry(2, decision_id="aabbccee00"))
    assert [row.entry.session_seq for row in show(tmp_path, "aabbccd")] == [0]
    with pytest.raises(AuditFault, match="2 decisions begin with `aabbcc`"):
        show(tmp_path, "aabbcc")
    with pytest.raises(AuditFault, match="no decision begins with `ffffff`"):
        show(tmp_path, "ffffff")
    with pytest.raises(AuditFault, match="at least 6 characters"):
        show(tmp_path, "aabb")


@pytest.mark.parametrize(
    ("text", "expected_ns"),
    [
        ("2025-01-15", 1_736_899_200 * NS_PER_S),
        ("2025-01-15T12:00:00", NOON_NS),
        ("2025-01-15T12:00:00.000001Z", NOON_NS + 1_000),
        ("2d", NOON_NS - 172_800 * NS_PER_S),
        ("1w", NOON_NS - 604_800 * NS_PER_S),
        ("90m", NOON_NS - 5_400 * NS_PER_S),
    ],
)
def test_a_time_is_read(text: str, expected_ns: int) -> None:
    assert moment_of(text, NOON_NS) == expected_ns


@pytest.mark.parametrize("text", ["", "yesterday", "7", "7y", "-7d", "2025-13-01"])
def test_a_time_that_is_none_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(AuditFault, match="expected RFC 3339 such as"):
        moment_of(text, NOON_NS)


def test_a_directory_without_a_log_is_a_fault(tmp_path: Path) -> None:
    with pytest.raises(AuditFault, match=r"no audit log at .*: name its directory with --dir"):
        query(tmp_path / "nowhere", Filters())
