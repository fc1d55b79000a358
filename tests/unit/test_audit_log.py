"""Appending: what returns is in the log, what raises is not, and a restart goes on or refuses."""

from __future__ import annotations

import os
import resource
import signal
import stat
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from support.entries import MAC, NS_PER_S, SIGNER, entry, open_log, written

from guard.audit import AuditLog, Entry
from guard.audit.checkpoint import parse
from guard.audit.files import LOGS_MAX
from guard.audit.query import Filters, query
from guard.audit.verify import verify
from guard.errors import AuditFault, LogCorrupt
from guard.keys import Signer
from guard.testing import FakeClock

RECORDS = f"records-{0:020}.jsonl"
HASHES = f"hashes-{0:020}.bin"


def _entries(directory: Path) -> list[Entry]:
    return [row.entry for row in query(directory, Filters())]


def _signed(directory: Path) -> int:
    return parse((directory / "log-00" / "checkpoint").read_bytes(), SIGNER.verifier).size


def test_what_was_appended_is_read_back_in_order(tmp_path: Path) -> None:
    with open_log(tmp_path) as log:
        assert [log.append(entry(number)) for number in range(5)] == [0, 1, 2, 3, 4]
    assert _entries(tmp_path) == [entry(number) for number in range(5)]
    assert verify(tmp_path, vkey=SIGNER.verifier).ok


def test_a_line_is_in_the_file_when_append_returns(tmp_path: Path) -> None:
    with open_log(tmp_path) as log:
        log.append(entry(7))
        line = (tmp_path / "log-00" / RECORDS).read_bytes()
    assert line.endswith(b"\n")
    assert msgspec.json.decode(line, type=Entry) == entry(7)


def test_a_log_goes_on_after_a_restart(tmp_path: Path) -> None:
    written(tmp_path, 5)
    with open_log(tmp_path) as log:
        assert log.append(entry(5)) == 5
    report = verify(tmp_path, vkey=SIGNER.verifier)
    assert (report.ok, report.entries, report.logs[0].signed) == (True, 6, 6)


def test_segments_follow_one_another_and_continue_the_tree(tmp_path: Path) -> None:
    log = written(tmp_path, 20, segment_bytes_max=2_000)
    assert len(list(log.glob("records-*"))) > 3
    assert {path.stat().st_size > 2_000 for path in log.glob("records-*")} == {False}
    with open_log(tmp_path, segment_bytes_max=2_000) as again:
        assert again.append(entry(20)) == 20
    report = verify(tmp_path, vkey=SIGNER.verifier)
    assert (report.ok, report.entries) == (True, 21)


def test_files_and_directories_are_private(tmp_path: Path) -> None:
    old = os.umask(0)
    try:
        log = written(tmp_path / "audit", 1)
    finally:
        os.umask(old)
    assert stat.S_IMODE(log.stat().st_mode) == stat.S_IMODE(log.parent.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in log.iterdir()} == {0o600}


def test_a_checkpoint_is_written_when_enough_entries_came(tmp_path: Path) -> None:
    with open_log(tmp_path, checkpoint_records=3, clock=FakeClock()) as log:
        signed = []
        for number in range(7):
            log.append(entry(number))
            signed.append(_signed(tmp_path))
    assert signed == [0, 0, 3, 3, 3, 6, 6]
    assert _signed(tmp_path) == 7


def test_a_checkpoint_is_written_when_enough_time_passed(tmp_path: Path) -> None:
    clock = FakeClock()
    with open_log(tmp_path, clock=clock) as log:
        log.append(entry(0))
        assert _signed(tmp_path) == 0
        clock.advance_s(1)
        log.append(entry(1))
        assert _signed(tmp_path) == 2


def test_a_checkpoint_on_demand_is_the_one_on_disk(tmp_path: Path) -> None:
    with open_log(tmp_path) as log:
        log.append(entry())
        note = log.checkpoint()
        assert note.startswith("guard/audit/log-00\n1\n")
        assert (log.path / "checkpoint").read_text() == note


def test_every_writer_has_a_log_of_its_own(tmp_path: Path) -> None:
    with open_log(tmp_path) as one, open_log(tmp_path) as two:
        one.append(entry(0))
        two.append(entry(1))
        assert (one.path.name, two.path.name) == ("log-00", "log-01")
    assert _entries(tmp_path) == [entry(0), entry(1)]
    with open_log(tmp_path) as again:
        assert again.path.name == "log-00"


def test_one_writer_too_many_is_refused(tmp_path: Path) -> None:
    logs = [open_log(tmp_path) for _ in range(LOGS_MAX)]
    with pytest.raises(AuditFault, match="64 processes already write"):
        open_log(tmp_path)
    for log in logs:
        log.close()


def test_a_closed_log_takes_no_entries_and_closes_twice(tmp_path: Path) -> None:
    log = open_log(tmp_path)
    log.close()
    log.close()
    with pytest.raises(AuditFault, match="is closed"):
        log.append(entry())


def test_eight_threads_lose_and_mix_nothing(tmp_path: Path) -> None:
    log = open_log(tmp_path, checkpoint_records=50)
    indexes: list[int] = []

    def run(first: int) -> None:
        for number in range(first, first + 100):
            indexes.append(log.append(entry(number)))

    threads = [threading.Thread(target=run, args=(number * 100,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    log.close()
    assert sorted(indexes) == list(range(800))
    assert sorted(e.session_seq for e in _entries(tmp_path)) == list(range(800))
    assert verify(tmp_path, vkey=SIGNER.verifier).ok


def test_a_forked_child_writes_a_log_of_its_own(tmp_path: Path) -> None:
    log = open_log(tmp_path)
    log.append(entry(0))
    child = os.fork()
    if child == 0:
        code = 1
        try:
            log.append(entry(1))
            log.close()
            code = 0
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    log.append(entry(2))
    log.close()
    report = verify(tmp_path, vkey=SIGNER.verifier)
    assert [(state.log, state.entries) for state in report.logs] == [("log-00", 2), ("log-01", 1)]
    assert report.ok


def test_a_child_that_lives_on_does_not_hold_the_log_of_its_parent(tmp_path: Path) -> None:
    log = open_log(tmp_path)
    read_end, write_end = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(write_end)
        os.read(read_end, 1)
        os._exit(0)
    os.close(read_end)
    log.close()
    with open_log(tmp_path) as again:
        assert again.path.name == "log-00"
    os.close(write_end)
    os.waitpid(child, 0)


def test_a_torn_tail_is_moved_aside_and_told(tmp_path: Path) -> None:
    log = written(tmp_path, 3)
    records = log / RECORDS
    whole_bytes = records.stat().st_size
    with records.open("ab") as file:
        file.write(b'{"v":1,"kind":"inte')
    assert verify(tmp_path, vkey=SIGNER.verifier).ok
    with open_log(tmp_path, clock=FakeClock()) as again:
        assert again.append(entry(3)) == 4
    torn = log / f"{RECORDS}.torn-{whole_bytes}"
    assert torn.read_bytes() == b'{"v":1,"kind":"inte'
    recovery = _recoveries(tmp_path)[0]
    assert recovery.notes == [
        f"19 bytes of an unfinished write at byte {whole_bytes} were moved to {torn.name}"
    ]
    assert recovery.metrics == {"torn_bytes": 19}
    assert verify(tmp_path, vkey=SIGNER.verifier).ok


def _recoveries(directory: Path) -> list[Entry]:
    return [row.entry for row in query(directory, Filters(kind="recovery"))]


def test_noise_after_the_signed_part_is_moved_aside(tmp_path: Path) -> None:
    log = written(tmp_path, 3)
    with (log / RECORDS).open("ab") as file:
        file.write(b"\0" * 100 + b"\n" + b"more\n")
    open_log(tmp_path).close()
    assert _recoveries(tmp_path)[0].metrics == {"torn_bytes": 106}


def test_whole_entries_after_the_last_checkpoint_are_kept(tmp_path: Path) -> None:
    log = written(tmp_path, 3)
    with (log / RECORDS).open("ab") as file:
        file.write(msgspec.json.encode(entry(3)) + b"\n")
    with open_log(tmp_path) as again:
        assert again.append(entry(4)) == 4
    assert verify(tmp_path, vkey=SIGNER.verifier).ok


def test_hashes_that_are_short_are_rebuilt(tmp_path: Path) -> None:
    log = written(tmp_path, 5)
    whole = (log / HASHES).read_bytes()
    os.truncate(log / HASHES, 70)
    assert not verify(tmp_path, vkey=SIGNER.verifier).ok
    open_log(tmp_path).close()
    assert (log / HASHES).read_bytes() == whole
    assert verify(tmp_path, vkey=SIGNER.verifier).ok


def test_a_torn_history_of_checkpoints_is_mended(tmp_path: Path) -> None:
    log = written(tmp_path, 3)
    with (log / "checkpoints").open("ab") as file:
        file.write(b"guard/audit/log-00\n9\nAAAA")
    open_log(tmp_path).close()
    assert list(log.glob("checkpoints.torn-*"))
    assert verify(tmp_path, vkey=SIGNER.verifier).ok


def _flip_record(log: Path) -> None:
    _flip(log / RECORDS, 700)


def _flip_hash(log: Path) -> None:
    _flip(log / HASHES, 40)


def _flip_checkpoint(log: Path) -> None:
    _flip(log / "checkpoint", 25)


def _cut_records(log: Path) -> None:
    os.truncate(log / RECORDS, (log / RECORDS).stat().st_size - 10)


def _remove_records(log: Path) -> None:
    (log / RECORDS).unlink()


def _remove_segment(log: Path) -> None:
    (log / RECORDS).unlink()
    (log / HASHES).unlink()


def _remove_checkpoint(log: Path) -> None:
    (log / "checkpoint").unlink()


def _remove_history(log: Path) -> None:
    (log / "checkpoints").unlink()


def _flip(path: Path, position: int) -> None:
    data = bytearray(path.read_bytes())
    data[position] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize(
    "damage",
    [
        _flip_record, _flip_hash, _flip_checkpoint, _cut_records, _remove_records,
        _remove_segment, _remove_checkpoint, _remove_history,
    ],
)  # fmt: skip
def test_a_log_that_contradicts_its_checkpoint_is_not_opened(
    damage: Callable[[Path], None], tmp_path: Path
) -> None:
    log = written(tmp_path, 5)
    damage(log)
    before = {path.name: path.read_bytes() for path in log.iterdir()}
    with pytest.raises(LogCorrupt, match="run `guard audit verify`"):
        open_log(tmp_path)
    assert {path.name: path.read_bytes() for path in log.iterdir()} == before


def test_a_log_of_another_origin_is_not_continued(tmp_path: Path) -> None:
    written(tmp_path, 1)
    with pytest.raises(LogCorrupt, match="is of the log `guard/audit/log-00`"):
        open_log(tmp_path, origin="acme/audit")


def test_a_log_of_another_key_is_not_continued(tmp_path: Path) -> None:
    written(tmp_path, 1)
    with pytest.raises(AuditFault, match="use the old key, or a new directory"):
        AuditLog.open(tmp_path, signer=Signer("guard/audit", bytes(32)), mac=MAC)


def test_a_full_disk_is_a_fault_and_room_lets_the_log_go_on(small_disk: Path) -> None:
    log = open_log(small_disk / "audit", checkpoint_records=10)
    ballast = small_disk / "ballast"
    ballast.write_bytes(b"x" * 20_000)
    indexes: list[int] = []
    with pytest.raises(AuditFault, match="No space left on device"):
        indexes.extend(log.append(entry(number)) for number in range(10_000))
    kept = len(indexes)
    assert len(_entries(small_disk / "audit")) == kept > 10
    ballast.unlink()
    assert log.append(entry(kept)) == kept
    log.close()
    assert verify(small_disk / "audit", vkey=SIGNER.verifier).ok


def test_a_read_only_disk_is_a_fault_when_opening(small_disk: Path) -> None:
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    with pytest.raises(AuditFault, match="Read-only file system; name a directory of this user"):
        open_log(small_disk / "audit")


def test_a_file_in_place_of_the_directory_is_a_fault(tmp_path: Path) -> None:
    (tmp_path / "audit").write_text("")
    with pytest.raises(AuditFault, match="cannot write an audit log in"):
        open_log(tmp_path / "audit")


def test_a_write_that_is_cut_short_leaves_no_trace(tmp_path: Path) -> None:
    log = open_log(tmp_path)
    log.append(entry(0))
    records = log.path / RECORDS
    size_bytes = records.stat().st_size
    old_limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    old_handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes + 100, old_limit[1]))
        with pytest.raises(AuditFault, match="File too large"):
            log.append(entry(1))
        assert records.stat().st_size == size_bytes
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old_limit)
        signal.signal(signal.SIGXFSZ, old_handler)
    assert log.append(entry(1)) == 1
    log.close()
    assert _entries(tmp_path) == [entry(0), entry(1)]
    assert verify(tmp_path, vkey=SIGNER.verifier).ok


def test_after_a_failed_sync_the_log_takes_nothing_more(tmp_path: Path) -> None:
    # A pipe cannot be synced: fdatasync answers EINVAL, as a broken device answers EIO.
    log = open_log(tmp_path, durability="sync")
    log.append(entry(0))
    read_end, write_end = os.pipe()
    assert log._writer is not None
    records = log._writer._place[0]
    saved = os.dup(records)
    os.dup2(write_end, records)
    with pytest.raises(AuditFault, match="cannot write to the audit log"):
        log.append(entry(1))
    os.dup2(saved, records)
    for descriptor in (saved, read_end, write_end):
        os.close(descriptor)
    with pytest.raises(AuditFault, match=r"failed earlier .* takes no more"):
        log.append(entry(2))
    with pytest.raises(AuditFault, match="failed earlier"):
        log.checkpoint()
    with pytest.raises(AuditFault, match="failed earlier"):
        log.close()
    assert _entries(tmp_path) == [entry(0)]
    with open_log(tmp_path) as again:
        assert again.append(entry(3)) == 1


def test_an_interrupt_in_an_append_leaves_log_and_tree_in_step(tmp_path: Path) -> None:
    """A signal handler that raises hits appends at every place it can."""
    script = """
import signal, sys
from pathlib import Path
from support.entries import entry, open_log

def interrupt(*_):
    raise KeyboardInterrupt

log = open_log(Path(sys.argv[1]), checkpoint_records=20)
signal.signal(signal.SIGALRM, interrupt)
done = hit = 0
while hit < 300:
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.00002 + hit % 30 * 0.00001)
        while True:
            log.append(entry(done))
            done += 1
    except KeyboardInterrupt:
        hit += 1
signal.setitimer(signal.ITIMER_REAL, 0)
log.close()
"""
    tests = Path(__file__).parents[1]
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)],
        env={**os.environ, "PYTHONPATH": str(tests)},
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert done.stderr == ""
    report = verify(tmp_path, vkey=SIGNER.verifier)
    assert report.damages == ()


def test_an_append_from_a_signal_handler_is_refused_or_done_but_never_waits(
    tmp_path: Path,
) -> None:
    log = open_log(tmp_path, checkpoint_records=5)
    outcomes = {"done": 0, "refused": 0}

    def handle(*_: object) -> None:
        try:
            log.append(entry(0, session_id=None))
            outcomes["done"] += 1
        except AuditFault:
            outcomes["refused"] += 1

    old_handler = signal.signal(signal.SIGALRM, handle)
    try:
        for number in range(3_000):
            if number % 10 == 0:
                signal.setitimer(signal.ITIMER_REAL, 0.00001 + number % 70 * 0.00001)
            log.append(entry(0, session_id=None))
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, old_handler)
    log.close()
    report = verify(tmp_path, vkey=SIGNER.verifier)
    assert (report.damages, report.entries) == ((), 3_000 + outcomes["done"])


def test_the_log_is_signed_when_the_interpreter_ends_without_close(tmp_path: Path) -> None:
    script = (
        "import sys; from pathlib import Path; from support.entries import entry, open_log;"
        "log = open_log(Path(sys.argv[1])); log.append(entry())"
    )
    tests = Path(__file__).parents[1]
    subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)],
        env={**os.environ, "PYTHONPATH": str(tests)}, check=True, timeout=60,
    )  # fmt: skip
    assert _signed(tmp_path) == 1


def test_an_unknown_durability_is_refused(tmp_path: Path) -> None:
    with pytest.raises(AuditFault, match="expected relaxed or sync"):
        open_log(tmp_path, durability="eventual")


def test_time_between_entries_is_the_clock_of_the_log(tmp_path: Path) -> None:
    clock = FakeClock()
    with open_log(tmp_path, clock=clock, checkpoint_interval_ms=60_000) as log:
        clock.advance_s(59)
        log.append(entry(0))
        assert _signed(tmp_path) == 0
        clock.advance_s(1)
        log.append(entry(1, timestamp_ns=NS_PER_S))
        assert _signed(tmp_path) == 2
