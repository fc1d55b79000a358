"""Each report answers its question, over a log that holds one case of everything."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.entries import NOON_NS, NS_PER_S, entry, open_log

from guard.audit.query import REPORTS, Index, Table, run
from guard.errors import AuditFault
from guard.testing import FakeClock

CLOCK = FakeClock(NOON_NS + 3_600 * NS_PER_S)
DENY = {"effect": "deny", "code": "email.external", "message": "m", "stage": "policy"}
REVIEW = {"effect": "review", "code": "pay.limit", "message": "m", "stage": "policy"}
ENTRIES = [
    entry(0, trace_id="trace-1", subjects=["s1"], metrics={"elapsed_ns": 40_000}),
    entry(1, trace_id="trace-1", happened=True, metrics={"elapsed_ns": 60_000}),
    entry(2, effect="deny", reasons=[DENY], principal={"id": "clerk"}, tool="send"),
    entry(3, ref="00000002", happened=True, principal={"id": "clerk"}, tool="send"),
    entry(4, effect="review", reasons=[REVIEW], review_id="r1", tool="pay"),
    entry(5, kind="review", ref="00000004", review_id="r1", approved_by="ann",
          detail={"answer": "approved"}, tool=None, effect="none"),
    entry(6, effect="review", reasons=[REVIEW], review_id="r2", tool="pay"),
    entry(8, tool="search"),
    entry(9, ref="nowhere", happened=True),
    entry(10, kind="decision", notes=["audit.on_failure=allow", "audit.lost=2"]),
    entry(11, kind="access", point="audit", ref=None, principal={"id": "eve"}, tool=None,
          effect="none", notes=["exported 5 entries"], session_id=None, session_seq=0),
    entry(12, kind="decision", timestamp_ns=NOON_NS, session_id="late", session_seq=1),
]  # fmt: skip


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Index]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        place: Path = tmp_path_factory.mktemp("reports")
        with open_log(place) as log:
            for one in ENTRIES:
                log.append(one)
        yield Index(place)


def _rows(index: Index, name: str, wanted: str = "", **period: Any) -> list[dict[str, Any]]:
    table = run(index, name, wanted, clock=CLOCK, **period)
    assert isinstance(table, Table)
    return [dict(zip(table.columns, row, strict=True)) for row in table.rows]


def _numbers(index: Index, name: str, wanted: str) -> list[int]:
    rows = run(index, name, wanted, clock=CLOCK)
    assert not isinstance(rows, Table)
    return [row.index for row in rows]


def test_trace_gives_the_steps_of_a_trace_or_of_a_session(index: Index) -> None:
    assert _numbers(index, "trace", "trace-1") == [0, 1]
    assert _numbers(index, "trace", "late") == [11]


def test_why_gives_a_decision_with_its_review_and_outcome(index: Index) -> None:
    assert _numbers(index, "why", "00000004") == [4, 5]
    assert _numbers(index, "why", "00000001") == [0, 1]


def test_subject_gives_what_concerns_a_person(index: Index) -> None:
    assert _numbers(index, "subject", "s1") == [0]
    assert _numbers(index, "subject", "s2") == []


def test_denials_by_agent_counts_them_with_their_reason(index: Index) -> None:
    found = [
        (row["agent"], row["reason"], row["count"]) for row in _rows(index, "denials-by-agent")
    ]
    assert found == [("clerk", "email.external", 1)]
    assert _rows(index, "denials-by-agent", "nobody") == []


def test_effects_are_counted_by_day_and_policies(index: Index) -> None:
    found = {row["tool"]: (row["day"], row["allow"], row["review"], row["deny"])
             for row in _rows(index, "effects")}  # fmt: skip
    assert found == {
        "search": ("2025-01-15", 4, 0, 0), "send": ("2025-01-15", 0, 0, 1),
        "pay": ("2025-01-15", 0, 2, 0),
    }  # fmt: skip


def test_reviews_say_who_decided_and_how_late_and_the_open_ones_come_first(index: Index) -> None:
    found = [(row["review"], row["answer"], row["reviewer"], row["waited_s"])
             for row in _rows(index, "reviews")]  # fmt: skip
    assert found == [("r2", None, None, None), ("r1", "approved", "ann", 1.0)]


def test_rules_say_how_often_they_fired_and_were_overturned(index: Index) -> None:
    found = [(row["rule"], row["fired"], row["overturned"]) for row in _rows(index, "rules")]
    assert found == [("pay.limit", 2, 1), ("email.external", 1, 0)]
    assert [row["rule"] for row in _rows(index, "rules", "email")] == ["email.external"]


def test_new_tools_are_those_that_an_agent_had_not_used_before(index: Index) -> None:
    found = [(row["agent"], row["tool"], row["denied"])
             for row in _rows(index, "new-tools", since="2025-01-15T12:00:01Z")]  # fmt: skip
    assert found == [("clerk", "send", 1), ("did:web:acme:support", "pay", 0)]


def test_ungoverned_finds_each_case(index: Index) -> None:
    found = [(row["what"], row["index"]) for row in _rows(index, "ungoverned")]
    assert found == [
        ("made although denied", 3), ("no outcome", 7), ("no decision", 8), ("failing open", 9),
        ("clock set back", 11),
    ]  # fmt: skip
    assert _rows(index, "ungoverned", until="2025-01-15T11:59:00Z") == []


def test_integrity_says_who_read_the_log(index: Index) -> None:
    found = [(row["what"], row["who"], row["note"]) for row in _rows(index, "integrity")]
    assert found == [("access", "eve", "exported 5 entries")]


def test_latency_is_by_the_hour(index: Index) -> None:
    assert _rows(index, "latency") == [
        {
            "hour": "2025-01-15 12:00",
            "decisions": 2,
            "p50_us": 50.0,
            "p99_us": 59.8,
            "most_us": 60.0,
        }
    ]


def test_gaps_are_missing_numbers(index: Index) -> None:
    found = [(row["what"], row["who"], row["missing"]) for row in _rows(index, "gaps")]
    assert found == [("session", "late", 1), ("session", "session-1", 1)]


def test_every_report_has_a_paragraph_in_plain_words_and_answers_an_empty_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    open_log(tmp_path / "log").close()
    empty = Index(tmp_path / "log")
    for name, report in REPORTS.items():
        assert len(report.help) > 100
        if name == "why":
            continue
        answer = run(empty, name, "x" if report.takes else "", since="7d", clock=CLOCK)
        assert (answer.rows if isinstance(answer, Table) else answer) == []


@pytest.mark.parametrize("name", [name for name, report in REPORTS.items() if report.sql])
def test_what_a_report_takes_is_never_sql(name: str, index: Index) -> None:
    if REPORTS[name].takes is not None:
        assert _rows(index, name, "' OR true --") == []
    assert index.rows("SELECT count(*) FROM entries") == [(len(ENTRIES),)]


def test_a_report_that_is_none_or_is_asked_wrongly_is_refused(index: Index) -> None:
    with pytest.raises(AuditFault, match="no report `nonsense`: expected trace, why"):
        run(index, "nonsense")
    with pytest.raises(AuditFault, match="the report why needs DECISION"):
        run(index, "why")
    with pytest.raises(AuditFault, match="the report latency takes no `x`"):
        run(index, "latency", "x")
    with pytest.raises(AuditFault, match="unknown time `soon`"):
        run(index, "latency", since="soon")
