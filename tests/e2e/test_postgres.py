"""The audit log on a real PostgreSQL: many processes, one tree, and servers that crash."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner
from support.entries import MAC, SIGNER, entries_of, entry
from support.postgres import Server, postgres

import guard
from guard.audit import Entry, standalone_verify
from guard.audit.files import lines_of, segments_of
from guard.audit.postgres import PostgresLog, handover, pull
from guard.audit.report import Report
from guard.audit.sequence import Rolling
from guard.audit.verify import verify
from guard.cli.audit import audit
from guard.errors import AuditFault, ConfigError, LogCorrupt
from guard.keys import Signer

pytestmark = pytest.mark.needs_postgres
__all__ = ["postgres"]

GUARD = (sys.executable, "-m", "guard")
TESTS = Path(__file__).parents[1]
FAST = Rolling(checkpoint_interval_ms=50)


def _open(dsn: str, **options: Any) -> PostgresLog:
    known: dict[str, Any] = {"signer": SIGNER, "mac": MAC, "origin": "guard/audit", "rolling": FAST}
    return PostgresLog.open(dsn, **known | options)


def _pulled(dsn: str, directory: Path) -> Report:
    """The log as it is now in the database; both verifiers agree about it."""
    pull(dsn, directory, vkey=SIGNER.verifier)
    report = verify(directory, vkey=SIGNER.verifier)
    alone = standalone_verify.check(directory, key=SIGNER.vkey, checkpoints=[])
    assert (alone == []) == report.ok
    return report


def _plain(number: int) -> Entry:
    return entry(number, kind="decision", ref=None, session_id=None, session_seq=0)


_WRITER = """
import os, sys, threading
sys.path.insert(0, sys.argv[1])
from support.entries import MAC, entry
from guard.audit.postgres import PostgresLog
dsn, first, count = sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
log = PostgresLog.open(dsn, signer=None, mac=MAC)
def work(numbers):
    for number in numbers:
        log.append(entry(number, kind="decision", ref=None, session_id=None, session_seq=0),
                   durability="group")
        os.write(1, b"%d\\n" % number)
threads = [threading.Thread(target=work, args=(range(first + k, first + count, 4),))
           for k in range(4)]
[one.start() for one in threads]
[one.join() for one in threads]
log.close()
"""


def _writer(dsn: str, first: int, count: int) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", _WRITER, str(TESTS), dsn, str(first), str(count)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def test_entries_of_four_processes_with_threads_make_one_tree(
    postgres: Server, tmp_path: Path
) -> None:
    dsn = postgres.database()
    with _open(dsn):
        writers = [_writer(dsn, 1_000 * k, 200) for k in range(4)]
        for one in writers:
            assert len((one.communicate()[0] or "").split()) == 200
            assert one.returncode == 0
    report = _pulled(dsn, tmp_path / "log")
    assert (report.damages, report.entries, report.signed) == ((), 800, 800)
    ids = Counter(one.decision_id for one in entries_of(tmp_path / "log"))
    assert ids == {f"{1_000 * k + n:08x}": 1 for k in range(4) for n in range(200)}


def test_writers_that_are_killed_lose_nothing_that_was_acknowledged(
    postgres: Server, tmp_path: Path
) -> None:
    dsn = postgres.database()
    acknowledged: set[str] = set()
    with _open(dsn):
        for trial in range(8):
            writer = _writer(dsn, 10_000 * trial, 5_000)
            assert writer.stdout is not None
            acknowledged.add(f"{int(writer.stdout.readline()):08x}")
            time.sleep(0.01 * trial)
            writer.kill()
            # The last line may be cut short.
            said = (writer.communicate()[0] or "").splitlines(keepends=True)
            acknowledged |= {f"{int(line):08x}" for line in said if line.endswith("\n")}
    report = _pulled(dsn, tmp_path / "log")
    assert report.damages == ()
    there = Counter(one.decision_id for one in entries_of(tmp_path / "log"))
    assert acknowledged - there.keys() == set()
    assert set(there.values()) == {1}
    print(f"\n8 kill -9, {len(acknowledged)} acknowledged, 0 lost")


_SEQUENCER = """
import sys, time
sys.path.insert(0, sys.argv[1])
from support.entries import MAC, SIGNER
from guard.audit.postgres import PostgresLog
from guard.audit.sequence import Rolling
log = PostgresLog.open(sys.argv[2], signer=SIGNER, mac=MAC, origin="guard/audit",
                       rolling=Rolling(checkpoint_interval_ms=20))
print("begun", flush=True)
time.sleep(60)
"""


def test_another_process_goes_on_where_a_sequencer_was_killed(
    postgres: Server, tmp_path: Path
) -> None:
    dsn = postgres.database()
    number = 0
    with _open(dsn):
        pass
    with _open(dsn, signer=None) as log:
        for _ in range(4):
            process = subprocess.Popen(
                [sys.executable, "-c", _SEQUENCER, str(TESTS), dsn], stdout=subprocess.PIPE
            )
            assert process.stdout is not None
            assert process.stdout.readline() == b"begun\n"
            for _ in range(100):
                log.append(_plain(number), durability="group")
                number += 1
            os.kill(process.pid, signal.SIGKILL)
            process.communicate()
    with _open(dsn) as last:
        last.checkpoint()
    report = _pulled(dsn, tmp_path / "log")
    assert (report.damages, report.entries) == ((), number)


def test_what_was_durable_is_there_after_the_server_crashed(
    postgres: Server, tmp_path: Path
) -> None:
    dsn = postgres.database()
    with _open(dsn) as log:
        for number in range(50):
            log.append(_plain(number), durability="group")
        postgres.stop("immediate")
        postgres.start()
        # What is refused while the server comes back is tried again, as the recorder's caller may.
        deadline = time.monotonic() + 30
        while True:
            try:
                log.append(_plain(50), durability="group")
                break
            except AuditFault:
                assert time.monotonic() < deadline
                time.sleep(0.1)
        log.checkpoint()
    report = _pulled(dsn, tmp_path / "log")
    assert report.damages == ()
    there = {one.decision_id for one in entries_of(tmp_path / "log")}
    assert {f"{number:08x}" for number in range(51)} <= there


def test_a_server_that_is_away_refuses_at_once_and_the_log_goes_on_when_it_is_back(
    postgres: Server, tmp_path: Path
) -> None:
    dsn = postgres.database()
    log = _open(dsn)
    log.append(_plain(0), durability="group")
    postgres.stop("fast")
    try:
        started = time.monotonic()
        with pytest.raises(AuditFault, match="the audit log in PostgreSQL at"):
            log.append(_plain(1), durability="group")
        assert time.monotonic() - started < 10
    finally:
        postgres.start()
    deadline = time.monotonic() + 30
    while True:
        try:
            log.append(_plain(2), durability="group")
            break
        except AuditFault:
            assert time.monotonic() < deadline
            time.sleep(0.1)
    log.close()
    report = _pulled(dsn, tmp_path / "log")
    assert report.damages == ()
    assert f"{2:08x}" in {one.decision_id for one in entries_of(tmp_path / "log")}


def test_an_entry_that_was_changed_in_the_database_is_found_after_a_pull(
    postgres: Server, tmp_path: Path
) -> None:
    dsn = postgres.database()
    with _open(dsn) as log:
        for number in range(20):
            log.append(_plain(number))
    postgres.execute(
        "UPDATE guard_audit.entry SET line = decode(replace(encode(line, 'escape'), 'search', "
        "'delete'), 'escape') WHERE index = 7", dsn=dsn,
    )  # fmt: skip
    report = _pulled(dsn, tmp_path / "log")
    assert [(damage.kind, damage.index) for damage in report.damages] == [("record", 7)]


def test_a_pull_goes_on_where_it_was_and_refuses_a_database_that_was_cut_back(
    postgres: Server, tmp_path: Path
) -> None:
    dsn = postgres.database()
    with _open(dsn) as log:
        for number in range(300):
            log.append(_plain(number))
    assert _pulled(dsn, tmp_path / "log").entries == 300
    with _open(dsn) as log:
        for number in range(300, 700):
            log.append(_plain(number))
    report = _pulled(dsn, tmp_path / "log")
    assert (report.damages, report.entries) == ((), 700)
    before = _files(tmp_path / "log")
    for table, least in (("entry", "index >= 400"), ("checkpoint", "size > 400")):
        postgres.execute(f"DELETE FROM guard_audit.{table} WHERE {least}", dsn=dsn)
    with pytest.raises(LogCorrupt, match="was cut back"):
        pull(dsn, tmp_path / "log")
    assert _files(tmp_path / "log") == before


def test_a_database_that_forked_is_refused(postgres: Server, tmp_path: Path) -> None:
    one, other = postgres.database(), postgres.database()
    for dsn, tool in ((one, "search"), (other, "delete")):
        with _open(dsn) as log:
            for number in range(40):
                log.append(entry(number, tool=tool))
    pull(one, tmp_path / "log")
    with pytest.raises(LogCorrupt, match="has forked or was changed"):
        pull(other, tmp_path / "log")


def _files(place: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in place.rglob("*") if path.is_file()}


def test_a_sequencer_refuses_a_log_that_was_cut_back(postgres: Server) -> None:
    dsn = postgres.database()
    with _open(dsn) as log:
        for number in range(30):
            log.append(_plain(number))
    postgres.execute("DELETE FROM guard_audit.entry WHERE index > 10", dsn=dsn)
    with pytest.raises(LogCorrupt, match="holds 11 entries and signs 30"):
        _open(dsn)


def test_another_key_does_not_continue_the_log(postgres: Server) -> None:
    dsn = postgres.database()
    with _open(dsn) as log:
        log.append(_plain(0))
    with pytest.raises(AuditFault, match="use that key"):
        _open(dsn, signer=Signer("guard/audit", bytes(range(1, 33))))


def test_a_role_that_writes_cannot_read_or_change_what_was_written(postgres: Server) -> None:
    dsn = postgres.database()
    with _open(dsn) as log:
        log.append(_plain(0))
        for statement in (
            "DROP ROLE IF EXISTS guard_writer", "CREATE ROLE guard_writer LOGIN",
            "GRANT USAGE ON SCHEMA guard_audit TO guard_writer",
            "GRANT INSERT ON guard_audit.handed TO guard_writer",
            "GRANT SELECT ON guard_audit.checkpoint, guard_audit.writer TO guard_writer",
        ):  # fmt: skip
            postgres.execute(statement, dsn=dsn)
        theirs = dsn.replace("user=owner", "user=guard_writer")
        with _open(theirs, signer=None) as writer:
            writer.append(_plain(1), durability="group")
            writer.append(_plain(2))
        for statement in (
            "SELECT * FROM guard_audit.handed", "DELETE FROM guard_audit.handed",
            "UPDATE guard_audit.entry SET line = ''", "DELETE FROM guard_audit.checkpoint",
        ):  # fmt: skip
            with pytest.raises(Exception, match="permission denied"):
                postgres.execute(statement, dsn=theirs)
        log.checkpoint()
    rows = postgres.execute("SELECT count(*) FROM guard_audit.entry", dsn=dsn)
    assert rows == [(3,)]
    postgres.execute("DROP OWNED BY guard_writer; DROP ROLE guard_writer", dsn=dsn)


def test_a_dsn_that_is_wrong_is_refused_without_its_password(postgres: Server) -> None:
    with pytest.raises(ConfigError, match="cannot be read") as broken:
        _open("postgresql://me:hunter2@[host/log")
    with pytest.raises(AuditFault, match="cannot reach the audit log") as away:
        _open("host=127.0.0.1 port=1 user=me password=hunter2 dbname=log")
    with pytest.raises(ConfigError, match="`NO_SUCH_DSN` is not set"):
        _open("env:NO_SUCH_DSN")
    assert "hunter2" not in str(broken.value) + str(away.value)


def test_a_writer_whose_backlog_was_full_while_the_server_went_away_goes_on(
    postgres: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(handover, "UNTAKEN_MAX", 3)
    dsn = postgres.database()
    with _open(dsn):
        pass
    log = _open(dsn, signer=None)
    for number in range(3):
        log.append(_plain(number), durability="group")
    with pytest.raises(AuditFault, match="wait for the sequencer"):
        log.append(_plain(3), durability="group")
    postgres.stop("fast")
    with pytest.raises(AuditFault):
        log.append(_plain(3), durability="group")
    postgres.start()
    with _open(dsn) as other:
        other.checkpoint()
        deadline = time.monotonic() + 30
        while True:
            try:
                log.append(_plain(3), durability="group")
                break
            except AuditFault:
                assert time.monotonic() < deadline
                time.sleep(0.1)
        log.close()


def test_an_entry_of_a_child_after_a_fork_is_of_a_writer_of_its_own(
    postgres: Server, tmp_path: Path
) -> None:
    dsn = postgres.database()
    with _open(dsn) as log:
        log.append(_plain(0))
        child = os.fork()
        if child == 0:
            try:
                log.append(_plain(1), durability="group")
                os._exit(0)
            finally:
                os._exit(1)
        assert os.waitpid(child, 0)[1] == 0
        log.append(_plain(2), durability="group")
        log.checkpoint()
    report = _pulled(dsn, tmp_path / "log")
    assert (report.damages, report.entries) == ((), 3)
    writers = {
        msgspec.json.decode(line)["writer"]
        for segment in segments_of(tmp_path / "log")
        for line in lines_of(segment.path)
    }
    assert len(writers) == 2


CONFIG = """
[audit]
database = "env:AUDIT_DSN"
checkpoint_interval_ms = 50
[policy]
settings = {}
"""


def test_governed_calls_are_recorded_in_the_database_and_pulled_by_the_command(
    postgres: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AUDIT_DSN", postgres.database())
    monkeypatch.chdir(tmp_path)
    (tmp_path / "guard.toml").write_text(CONFIG)
    made = guard.init(tmp_path / "guard.toml")

    @guard.tool(effects=["read"])
    def look(what: str) -> str:
        return f"seen {what}"

    @guard.tool(effects=["write"])
    async def keep(what: str) -> str:
        return f"kept {what}"

    try:
        with guard.session("agent", grants=["look", "keep"]):
            assert look("a") == "seen a"
            assert asyncio.run(keep("b")) == "kept b"
            with pytest.raises(guard.Denied), guard.session("agent"):
                look("c")
        threads = [threading.Thread(target=_in_session, args=(look,)) for _ in range(4)]
        for one in threads:
            one.start()
        for one in threads:
            one.join()
    finally:
        made.close()
    done = CliRunner().invoke(audit, ["pull", "--from", "env:AUDIT_DSN", "--to", "copy"])
    assert done.exit_code == 0, done.output
    assert "entries in copy" in done.output
    report = verify(tmp_path / "copy")
    assert report.damages == ()
    kinds = Counter((one.kind, one.tool) for one in entries_of(tmp_path / "copy"))
    assert kinds[("outcome", "look")] == 5
    assert kinds[("outcome", "keep")] == 1
    again = CliRunner().invoke(audit, ["pull", "--from", "env:NO_DSN", "--to", "copy"])
    assert (again.exit_code, "is not set" in again.output) == (2, True)


def _in_session(look: Any) -> None:
    with guard.session("agent", grants=["look"]):
        look("t")


def test_a_sequencer_of_its_own_signs_what_processes_without_a_key_hand_over(
    postgres: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AUDIT_DSN", postgres.database())
    monkeypatch.chdir(tmp_path)
    (tmp_path / "guard.toml").write_text(
        CONFIG.replace("[policy]", 'sequencer = "process"\n[policy]')
    )
    with _open("env:AUDIT_DSN", signer=Signer.load_or_create(tmp_path / ".guard/keys/log.key")):
        pass  # the tables
    process = subprocess.Popen([*GUARD, "audit", "sequence"], stderr=subprocess.DEVNULL)
    made = guard.init(tmp_path / "guard.toml")
    try:
        with guard.session("agent", grants=["look"]):
            assert guard.tool(_look, name="look", effects=["read"])("a") == "a"
        made.recorder.checkpoint()
    finally:
        made.close()
        process.terminate()
        assert process.wait(10) == 0
    pull("env:AUDIT_DSN", tmp_path / "copy")
    report = verify(tmp_path / "copy")
    assert (report.damages, report.signed) == ((), 2)
    doctor = subprocess.run([*GUARD, "doctor"], capture_output=True, text=True, check=False)
    assert "PostgreSQL at" in doctor.stdout
    changed = CliRunner().invoke(audit, ["rotate-key"])
    assert (changed.exit_code, "keeps its key" in changed.output) == (2, True)


def _look(what: str) -> str:
    return what
