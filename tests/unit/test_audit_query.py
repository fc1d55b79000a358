"""Queries: each filter alone, with the index and without; what the index says is never believed."""

from __future__ import annotations

import base64
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.entries import NOON_NS, NS_PER_S, entry, open_log, written

from bench.audit_entries import END_NS, write_log
from guard.audit import AuditLog
from guard.audit.merkle import is_included, leaf_hash
from guard.audit.query import (
    Filters,
    Index,
    counts,
    follow,
    moment_of,
    query,
    select,
    show,
    write_parquet,
)
from guard.audit.sequence import Rolling
from guard.errors import AuditFault, LogCorrupt
from guard.testing import FakeClock

CLOCK = FakeClock(NOON_NS + 10 * NS_PER_S)
REASON = {"effect": "deny", "code": "email.external", "message": "m", "stage": "policy"}
ENTRIES = [
    entry(0, principal={"id": "did:web:acme:billing", "on_behalf_of": "user:7"}, tool="pay"),
    entry(1, kind="decision", effect="deny", reasons=[REASON], ref=None,
          bundles={"guard": {"revision": "sha256:abcdef0123"}}),
    entry(2, point="pre_model_call", tool=None, model="gpt-x", session_id="other", tenant="acme",
          labels={"integrity": "trusted"}, cost_usd=0.5, trace_id="feed01"),
    entry(3, ref="00000002", metrics={"elapsed_ns": 90_000}, subjects=["s1", "s2"],
          input={"note": "Grüße an \"alle\""}),
]  # fmt: skip


@pytest.fixture(autouse=True)
def _cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    with open_log(tmp_path / "log") as log:
        for one in ENTRIES:
            log.append(one)
    return tmp_path / "log"


def _found(directory: Path, *, index: Index | None = None, **filters: Any) -> list[int]:
    rows = query(directory, Filters(**filters), clock=CLOCK, index=index)
    return [row.entry.session_seq for row in rows]


@pytest.mark.parametrize("is_indexed", [False, True], ids=["scan", "index"])
@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        ({}, [0, 1, 2, 3]),
        ({"since": "2025-01-15T12:00:02Z"}, [2, 3]),
        ({"since": "8s"}, [2, 3]),
        ({"since": "today"}, [0, 1, 2, 3]),
        ({"until": "yesterday"}, []),
        ({"until": "2025-01-15"}, [0, 1, 2, 3]),
        ({"until": "2025-01-15T13:00:01+01:00"}, [0, 1]),
        ({"since": "9s", "until": "8s"}, [1, 2]),
        ({"tenant": "acme"}, [2]),
        ({"principal": "did:web:acme:billing"}, [0]),
        ({"principal": "did:web:*"}, [0, 1, 2, 3]),
        ({"principal": "did_web%"}, []),
        ({"on_behalf_of": "user:7"}, [0]),
        ({"on_behalf_of": "user:*"}, [0]),
        ({"tool": "pay"}, [0]),
        ({"tool": "p*"}, [0]),
        ({"model": "gpt-*"}, [2]),
        ({"point": "pre_model_call"}, [2]),
        ({"effect": "deny"}, [1]),
        ({"kind": "intent"}, [0, 2]),
        ({"session": "oth"}, [2]),
        ({"trace": "feed"}, [2]),
        ({"reason": "email.ext"}, [1]),
        ({"reason": "external"}, []),
        ({"rules": ("email",)}, [1]),
        ({"rules": ("mail",)}, []),
        ({"rules": ("other", "email")}, [1]),
        ({"rules": ()}, []),
        ({"revision": "abcdef"}, [1]),
        ({"revision": "sha256:abcdef"}, [1]),
        ({"labels": (("integrity", "trusted"),)}, [2]),
        ({"labels": (("integrity", "untrusted"),)}, []),
        ({"subjects": ("s2",)}, [3]),
        ({"subjects": ("s",)}, []),
        ({"cost_min_usd": 0.4}, [2]),
        ({"cost_max_usd": 0.4}, []),
        ({"latency_min_us": 90.0, "latency_max_us": 90.0}, [3]),
        ({"latency_min_us": 91.0}, []),
        ({"text": "grÜSSe an \"Alle"}, [3]),
        ({"text": "grÜße an \"Alle"}, [3]),
        ({"text": "SEARCH", "limit": 1}, [3]),
        ({"decision_id": "00000002"}, [2, 3]),
        ({"limit": 2}, [2, 3]),
        ({"kind": "intent", "effect": "deny"}, []),
    ],
    ids=str,
)  # fmt: skip
def test_a_filter_finds_what_fits(
    filters: dict[str, Any], expected: list[int], is_indexed: bool, directory: Path
) -> None:
    index = Index(directory) if is_indexed else None
    assert _found(directory, index=index, **filters) == expected


HOSTILE = ["' OR 1=1 --", "x'; DROP VIEW entries; --", "?", "$1", "\\", "%", "\x00", "]", 'a"b']


@pytest.mark.parametrize("value", HOSTILE)
@pytest.mark.parametrize(
    "name",
    ["tenant", "principal", "on_behalf_of", "tool", "model", "point", "effect", "reason", "session",
     "trace", "kind", "decision_id"],
)  # fmt: skip
def test_no_value_of_a_filter_becomes_sql(name: str, value: str, shared: Index) -> None:
    for wanted in (value, f"*{value}*"):
        assert _found(shared.log, index=shared, **{name: wanted}) == []
    assert shared.rows("SELECT count(*) FROM entries") == [(4,)]


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Index]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        log = tmp_path_factory.mktemp("shared")
        with open_log(log) as opened:
            for one in ENTRIES:
                opened.append(one)
        yield Index(log)


@pytest.mark.parametrize("value", HOSTILE)
def test_lists_and_groups_take_hostile_values(value: str, shared: Index) -> None:
    assert _found(shared.log, index=shared, rules=(value,)) == []
    assert _found(shared.log, index=shared, subjects=(value,)) == []
    assert _found(shared.log, index=shared, labels=((value, value),)) == []
    assert counts(shared, Filters(), [f"label.{value}"]).rows == [(None, 4)]
    with pytest.raises(AuditFault, match="unknown field"):
        counts(shared, Filters(), [value])


@pytest.mark.parametrize(
    "sql",
    ["INSERT INTO entries VALUES (1)", "DROP VIEW entries", "CREATE TABLE x AS SELECT 1",
     "COPY entries TO 'x.csv'", "ATTACH 'x.db'", "INSTALL httpfs", "LOAD httpfs", "SET threads = 1",
     "PRAGMA database_list", "SELECT 1; SELECT 2", "SELECT * FROM read_csv('/etc/passwd')",
     "SELECT * FROM '/etc/passwd'", "SELECT * FROM read_text('/etc/passwd')",
     "SELECT * FROM glob('/*')", "EXPORT DATABASE 'x'", "CALL pragma_version()", "", "nonsense",
     "WITH a AS (INSERT INTO tail SELECT * FROM tail RETURNING *) SELECT * FROM a",
     "SELECT * FROM read_parquet('/tmp/*.parquet')", "EXPLAIN SELECT 1"],
)  # fmt: skip
def test_sql_that_writes_or_looks_elsewhere_is_refused(
    sql: str, shared: Index, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    before = {path: path.stat().st_mtime_ns for path in shared.log.rglob("*")}
    with pytest.raises(AuditFault, match=r"expected one SELECT|the SQL was refused"):
        select(shared, sql)
    assert list(tmp_path.iterdir()) == []
    assert {path: path.stat().st_mtime_ns for path in shared.log.rglob("*")} == before
    assert shared.rows("SELECT count(*) FROM entries") == [(4,)]


def test_sql_answers_over_the_entries(shared: Index) -> None:
    table = select(shared, "WITH a AS (SELECT tool FROM entries) SELECT tool, count(*) AS n FROM a "
                           "WHERE tool IS NOT NULL GROUP BY tool ORDER BY n")  # fmt: skip
    assert (table.columns, table.rows) == (("tool", "n"), [("pay", 1), ("search", 2)])
    with pytest.raises(AuditFault, match="more than 2 rows"):
        select(shared, "SELECT * FROM entries", rows_max=2)


def test_counts_are_by_any_fields(shared: Index) -> None:
    assert counts(shared, Filters(kind="intent"), ["tool", "effect"]).rows == [
        ("pay", "allow", 1), (None, "allow", 1),
    ]  # fmt: skip
    assert counts(shared, Filters(), ["subject"]).rows == [("s1", 1), ("s2", 1)]
    assert counts(shared, Filters(), ["rule"]).rows == [("email", 1)]
    assert counts(shared, Filters(), ["day"], clock=CLOCK).rows == [("2025-01-15", 4)]
    with pytest.raises(AuditFault, match="holds no payloads"):
        counts(shared, Filters(text="x"), ["tool"])


# -- the index and the log ---------------------------------------------------------------------


@pytest.fixture
def many(tmp_path: Path) -> Path:
    write_log(tmp_path / "log", 9_000, segment_bytes_max=4_000_000)
    return tmp_path / "log"


def test_index_and_scan_find_the_same_in_sealed_and_live_segments(many: Path) -> None:
    clock = FakeClock(END_NS)
    index = Index(many)
    assert len(index.parts) >= 2
    assert index.rows("SELECT count(*) > 0 FROM tail") == [(True,)]
    for filters in (
        Filters(effect="deny"), Filters(since="2d", kind="outcome"), Filters(tool="send_*"),
        Filters(principal="*-07", limit=20), Filters(text="INV-000"), Filters(reason="pii."),
        Filters(cost_min_usd=0.01, model="large-4"), Filters(latency_max_us=20.0), Filters(limit=9),
    ):  # fmt: skip
        fast = [(row.index, row.line) for row in query(many, filters, clock=clock, index=index)]
        slow = [(row.index, row.line) for row in query(many, filters, clock=clock)]
        assert fast == slow
        assert fast


def test_the_index_is_made_once_and_goes_on_where_it_was(many: Path) -> None:
    first = Index(many)
    done: list[tuple[int, int]] = []
    second = Index(many, on_progress=lambda *step: done.append(step))
    assert (second.parts, done) == (first.parts, [])
    with open_log(many) as log:
        for number in range(2_500):
            log.append(entry(number))
    third = Index(many)
    assert third.parts[: len(first.parts)] == first.parts
    assert third.rows("SELECT count(*), max(index) + 1 FROM entries") == [
        (third.signed.size, third.signed.size)
    ]


@pytest.mark.parametrize("damage", ["bytes", "swap", "manifest", "foreign", "gone"])
def test_an_index_that_was_tampered_with_is_made_anew(
    damage: str, many: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = counts(Index(many), Filters(), ["effect"]).rows
    one, other = sorted((many / "index").glob("*.parquet"))[:2]
    manifest = many / "index" / "manifest"
    if damage == "bytes":
        data = bytearray(one.read_bytes())
        data[len(data) // 2] ^= 1
        one.write_bytes(data)
    elif damage == "swap":
        shutil.copyfile(other, one)
    elif damage == "manifest":
        manifest.write_bytes(manifest.read_bytes().replace(b'"count":', b'"count" :', 1))
    elif damage == "foreign":
        # A whole index, made by somebody with another key: of a log that has only denials.
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "another"))
        Index(many, is_anew=True)
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "mine"))
    else:
        one.unlink()
    assert counts(Index(many), Filters(), ["effect"]).rows == wanted


def test_an_index_that_is_wrong_about_an_entry_is_an_error(many: Path) -> None:
    index = Index(many)
    place = index.where / index.parts[0].file
    import duckdb

    with duckdb.connect() as connection:
        connection.execute(
            f"COPY (SELECT * REPLACE ('deny' AS effect) FROM read_parquet('{place}')) TO "
            f"'{place}.x' (FORMAT parquet)"
        )
    shutil.move(f"{place}.x", place)
    index.connection.execute("SELECT 1")
    with pytest.raises(LogCorrupt, match=r"the index is wrong about entry \d+: .*--rebuild"):
        list(query(many, Filters(effect="deny"), index=index))


def test_an_entry_that_is_not_as_it_was_signed_is_never_shown(directory: Path) -> None:
    records = next(directory.glob("records-*"))
    records.write_bytes(records.read_bytes().replace(b"gpt-x", b"gpt-y"))
    index = Index(directory)
    assert index.changed == 1
    for by in (None, index):
        with pytest.raises(LogCorrupt, match="entry 2 is not as it was signed"):
            _found(directory, index=by)
        assert _found(directory, index=by, tool="pay") == [0]


def test_a_log_that_others_own_is_indexed_in_the_cache(
    directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("guard.audit.query.place._is_own", lambda log: False)
    index = Index(directory)
    assert index.where.parent.name == "index"
    assert not (directory / "index").exists()
    chosen = Index(directory, where=tmp_path / "chosen")
    assert chosen.where == tmp_path / "chosen"
    assert _found(directory, index=chosen, tool="pay") == [0]


def test_lines_that_cannot_be_read_are_counted_and_others_keep_their_number(tmp_path: Path) -> None:
    log = written(tmp_path, 2)
    with next(log.glob("records-*")).open("ab") as file:
        file.write(b'noise\n\n{"v":1}\n\xff\n')
        file.write(next(log.glob("records-*")).read_bytes().splitlines(keepends=True)[1])
        file.write(b'{"v":1,"kin')
    for index in (None, Index(log)):
        rows = query(log, Filters(), index=index)
        assert [row.index for row in rows] == [0, 1, 6]
        assert rows.skipped - (index is None) in (3, 4)


def test_entries_of_a_newer_version_are_refused(directory: Path) -> None:
    with next(directory.glob("records-*")).open("ab") as file:
        file.write(b'{"v":3,"kind":"intent"}\n')
    with pytest.raises(AuditFault, match="of version 3, and this guard reads 2"):
        list(query(directory, Filters()))
    with pytest.raises(AuditFault, match="of version 3, and this guard reads 2"):
        Index(directory)


def test_a_limit_continues_over_segments(tmp_path: Path) -> None:
    written(tmp_path, 12, segment_bytes_max=1_600, signed_every=2)
    for index in (None, Index(tmp_path)):
        assert _found(tmp_path, limit=5, tool="search", index=index) == [7, 8, 9, 10, 11]


def test_parquet_holds_what_the_log_says(directory: Path, tmp_path: Path) -> None:
    import duckdb

    target = tmp_path / "out.parquet"
    assert write_parquet(query(directory, Filters()), target) == 4
    with duckdb.connect() as connection:
        rows = connection.execute(
            "SELECT index, tool, json_extract_string(input, '$.note') FROM read_parquet(?)",
            [str(target)],
        ).fetchall()
    assert rows[0] == (0, "pay", None)
    assert rows[3] == (3, "search", 'Grüße an "alle"')
    with pytest.raises(AuditFault, match="name a new file"):
        write_parquet(query(directory, Filters()), target)


def test_a_proof_is_a_tlog_proof_that_holds(many: Path) -> None:
    rows = query(many, Filters(effect="deny", limit=3))
    for row in rows:
        head, _, note = rows.signed.proof(row.index, row.line).partition("\n\n")
        version, number, *hashes = head.split("\n")
        assert (version, number) == ("c2sp.org/tlog-proof@v1", f"index {row.index}")
        assert note == (many / "checkpoint").read_text()
        root = base64.b64decode(note.split("\n")[2])
        assert is_included(
            leaf_hash(row.line), row.index, int(note.split("\n")[1]),
            proof=[base64.b64decode(one) for one in hashes], root=root,
        )  # fmt: skip
    with pytest.raises(LogCorrupt, match="does not hold"):
        rows.signed.proof(0, b"another line")
    with pytest.raises(AuditFault, match="is not signed yet"):
        rows.signed.proof(1 << 40, b"")


# -- following ---------------------------------------------------------------------------------


def _follow(log: AuditLog, steps: list[Any], **filters: Any) -> list[int]:
    def wait() -> bool:
        if not steps:
            return False
        steps.pop(0)()
        return True

    rows = follow(log.directory, Filters(**filters), wait=wait)
    return [row.entry.session_seq for row in rows if row.entry.kind != "seal"]


def test_following_goes_on_over_segments_and_sealing(tmp_path: Path) -> None:
    with open_log(tmp_path, rolling=Rolling(segment_bytes_max=1_000)) as log:
        log.append(entry(0))
        log.checkpoint()

        def step(first: int) -> Any:
            def append() -> None:
                for number in range(first, first + 7):
                    log.append(entry(number))
                    log.checkpoint()

            return append

        assert _follow(log, [step(1), step(8), step(15)]) == list(range(1, 22))
        assert len(list(tmp_path.glob("records-*"))) > 2
        assert _follow(log, [step(22)], kind="outcome") == [23, 25, 27]


def test_following_shows_no_half_line(tmp_path: Path) -> None:
    written(tmp_path, 2)
    path = next(tmp_path.glob("records-*"))
    line = path.read_bytes().splitlines()[1]

    def write(data: bytes) -> Any:
        def append() -> None:
            with path.open("ab") as file:
                file.write(data)

        return append

    steps = [write(line[:50]), write(line[50:]), write(b"\n")]
    seen = list(follow(tmp_path, Filters(), wait=lambda: bool(steps) and (steps.pop(0)(), True)[1]))
    assert [row.index for row in seen] == [2]


# -- one decision, and times -------------------------------------------------------------------


@pytest.mark.parametrize("is_indexed", [False, True], ids=["scan", "index"])
@pytest.mark.parametrize("wanted", ["00000002", "00000003"])
def test_show_gives_the_intent_and_its_outcome_from_either_id(
    wanted: str, is_indexed: bool, directory: Path
) -> None:
    index = Index(directory) if is_indexed else None
    rows = show(directory, wanted, index=index)
    assert [row.entry.decision_id for row in rows] == ["00000002", "00000003"]


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
        ("today", 1_736_899_200 * NS_PER_S),
        ("yesterday", 1_736_812_800 * NS_PER_S),
        ("2025-01-15T12:00:00", NOON_NS),
        ("2025-01-15T12:00:00.000001Z", NOON_NS + 1_000),
        ("2d", NOON_NS - 172_800 * NS_PER_S),
        ("1w", NOON_NS - 604_800 * NS_PER_S),
        ("90m", NOON_NS - 5_400 * NS_PER_S),
    ],
)
def test_a_time_is_read(text: str, expected_ns: int) -> None:
    assert moment_of(text, NOON_NS) == expected_ns


def test_a_date_as_an_end_is_the_whole_day() -> None:
    assert moment_of("2025-01-15", NOON_NS, is_end=True) == 1_736_985_600 * NS_PER_S - 1
    assert moment_of("yesterday", NOON_NS, is_end=True) == 1_736_899_200 * NS_PER_S - 1


@pytest.mark.parametrize("text", ["", "tomorrow", "7", "7y", "-7d", "2025-13-01"])
def test_a_time_that_is_none_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(AuditFault, match="expected RFC 3339 such as"):
        moment_of(text, NOON_NS)


def test_a_directory_without_a_log_is_a_fault(tmp_path: Path) -> None:
    with pytest.raises(AuditFault, match=r"no audit log at .*: name its directory with --dir"):
        query(tmp_path / "nowhere", Filters())


def test_a_log_of_an_earlier_version_is_refused(tmp_path: Path) -> None:
    (tmp_path / "log-00").mkdir()
    for ask in (lambda: Index(tmp_path), lambda: query(tmp_path, Filters())):
        with pytest.raises(AuditFault, match="an earlier version"):
            ask()
