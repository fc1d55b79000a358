"""Appending: what returns is in the log, what raises is not, and a restart goes on or refuses."""

from __future__ import annotations

import fcntl
import os
import resource
import signal
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from support.entries import MAC, SIGNER, entries_of, entry, open_log, written

from guard.audit import AuditLog, Entry
from guard.audit.checkpoint import parse
from guard.audit.entry import encode, stamp
from guard.audit.files import segments_of
from guard.audit.frames import count_spooled, frame_bytes, frames_of
from guard.audit.sequence import Rolling
from guard.audit.sequencer import Sequencer
from guard.audit.spool import Spool
from guard.audit.verify import verify
from guard.errors import AuditFault, LogCorrupt
from guard.keys import Signer
from guard.testing import FakeClock

RECORDS = f"records-{0:020}.jsonl"


def _bare(directory: Path) -> list[Entry]:
    """What was appended, without the stamp, and without what the log says about itself."""
    return [
        msgspec.structs.replace(found, writer="", writer_seq=0)
        for found in entries_of(directory)
        if found.writer != "sequencer"
    ]


def _repeat(call: Callable[[], object]) -> None:
    for _ in range(100_000):
        call()


def _signed(directory: Path) -> int:
    return parse((directory / "checkpoint").read_bytes(), SIGNER.verifier).size


def test_what_was_appended_is_read_back_in_order(tmp_path: Path) -> None:
    with open_log(tmp_path) as log:
        assert [log.append(entry(number)) for number in range(5)] == [0, 1, 2, 3, 4]
    assert _bare(tmp_path) == [entry(number) for number in range(5)]
    assert verify(tmp_path, vkey=SIGNER.verifier).ok


def test_an_entry_is_in_the_spool_when_append_returns(tmp_path: Path) -> None:
    with open_log(tmp_path) as log:
        log.append(entry(7))
        writer = log.writer
        (file,) = (tmp_path / "spool" / writer).glob("*.spool")
        (frame,), _ = frames_of(file.read_bytes(), 0, writer)
    assert (frame.number, frame.timestamp_ns) == (0, entry(7).timestamp_ns)
    assert frame.data == stamp(encode(entry(7), MAC.commit), writer, 0)


def test_a_log_goes_on_after_a_restart(tmp_path: Path) -> None:
    written(tmp_path, 5)
    with open_log(tmp_path) as log:
        assert log.append(entry(5)) == 0
    report = verify(tmp_path, vkey=SIGNER.verifier)
    assert (report.ok, report.entries, report.signed) == (True, 6, 6)


def test_segments_follow_one_another_and_continue_the_tree(tmp_path: Path) -> None:
    log = written(tmp_path, 20, signed_every=4, segment_bytes_max=1_200)
    assert len(segments_of(log)) == 6
    with open_log(tmp_path) as again:
        again.append(entry(20))
    report = verify(tmp_path, vkey=SIGNER.verifier)
    assert (report.ok, sum(e.writer != "sequencer" for e in entries_of(tmp_path))) == (True, 21)


def test_a_segment_rolls_when_it_is_old(tmp_path: Path) -> None:
    clock = FakeClock()
    with open_log(tmp_path, clock=clock) as log:
        log.append(entry(0))
        log.checkpoint()
        clock.advance_s(3_600)
        log.append(entry(1))
        log.checkpoint()
    assert len(segments_of(tmp_path)) == 2


def test_a_segment_is_compressed_once_the_next_one_began(tmp_path: Path) -> None:
    with open_log(tmp_path, rolling=Rolling(segment_bytes_max=100_000)) as log:
        for number in range(600):
            log.append(entry(number))
        log.checkpoint()
        while not list(tmp_path.glob("*.gz")) or (tmp_path / RECORDS).exists():
            log.checkpoint()
    assert _bare(tmp_path) == [entry(number) for number in range(600)]
    assert [e.detail["first"] for e in entries_of(tmp_path) if e.kind == "seal"] == [0]
    report = verify(tmp_path, vkey=SIGNER.verifier)
    assert (report.damages, report.entries) == ((), 601)


def test_files_and_directories_are_private(tmp_path: Path) -> None:
    old = os.umask(0)
    try:
        log = written(tmp_path / "audit", 1)
    finally:
        os.umask(old)
    modes = {(path.is_dir(), stat.S_IMODE(path.stat().st_mode)) for path in log.rglob("*")}
    assert stat.S_IMODE(log.stat().st_mode) == 0o700
    assert modes == {(True, 0o700), (False, 0o600)}


def test_a_checkpoint_is_written_when_enough_entries_came(tmp_path: Path) -> None:
    with open_log(tmp_path, rolling=Rolling(checkpoint_records=3), clock=FakeClock()) as log:
        signed = []
        for number in range(7):
            log.append(entry(number))
            log._round()
            signed.append(_signed(tmp_path))
    assert signed == [0, 0, 3, 3, 3, 6, 6]
    assert _signed(tmp_path) == 7


def test_a_checkpoint_is_written_when_enough_time_passed(tmp_path: Path) -> None:
    clock = FakeClock()
    with open_log(tmp_path, clock=clock) as log:
        log.append(entry(0))
        log._round()
        assert _signed(tmp_path) == 0
        clock.advance_s(1)
        log._round()
        assert _signed(tmp_path) == 1


def test_an_idle_log_is_signed_without_being_asked(tmp_path: Path) -> None:
    with open_log(tmp_path, rolling=Rolling(checkpoint_interval_ms=1)) as log:
        log.append(entry(0))
        deadline = time.monotonic() + 10
        while _signed(tmp_path) == 0 and time.monotonic() < deadline:
            time.sleep(0.01)
        assert _signed(tmp_path) == 1


def test_a_checkpoint_on_demand_is_the_one_on_disk(tmp_path: Path) -> None:
    with open_log(tmp_path) as log:
        log.append(entry())
        note = log.checkpoint()
        assert note.startswith("guard/audit\n1\n")
        assert (tmp_path / "checkpoint").read_text() == note


def test_two_writers_share_one_log_and_one_tree(tmp_path: Path) -> None:
    with open_log(tmp_path) as one, open_log(tmp_path) as two:
        one.append(entry(0))
        two.append(entry(1))
        two.checkpoint()  # the sequencer is the first one's: it is waited for
    assert _bare(tmp_path) == [entry(0), entry(1)]
    assert verify(tmp_path, vkey=SIGNER.verifier).damages == ()


def test_when_the_sequencer_leaves_another_writer_takes_over(tmp_path: Path) -> None:
    one, two = open_log(tmp_path), open_log(tmp_path)
    one.append(entry(0))
    two.append(entry(1))
    one.close()
    two.append(entry(2))
    two.close()
    assert _bare(tmp_path) == [entry(0), entry(1), entry(2)]
    assert _recoveries(tmp_path) == []


def test_without_a_key_another_process_sequences(tmp_path: Path) -> None:
    with open_log(tmp_path, signer=None) as worker:
        worker.append(entry(0))
        assert segments_of(tmp_path) == []
        with open_log(tmp_path) as sequencer:
            sequencer.checkpoint()
        assert worker.checkpoint() == (tmp_path / "checkpoint").read_text()
    assert _bare(tmp_path) == [entry(0)]


def test_a_spool_is_used_again_and_again_and_loses_nothing(tmp_path: Path) -> None:
    with open_log(tmp_path, spool_bytes=4_096) as log:
        for number in range(2_000):
            log.append(entry(number))
        assert len(list((tmp_path / "spool" / log.writer).glob("*.spool"))) <= 16
    assert _bare(tmp_path) == [entry(number) for number in range(2_000)]
    assert verify(tmp_path, vkey=SIGNER.verifier).damages == ()


def test_a_writer_whose_spools_nobody_empties_is_refused_in_the_end(tmp_path: Path) -> None:
    spool = Spool(tmp_path, file_bytes=4_096, files_max=2, wait_ms_max=1)
    data = encode(entry(0), MAC.commit)
    with pytest.raises(AuditFault, match="spool files wait for the sequencer"):
        _repeat(lambda: spool.append(data, 0))
    count, _ = count_spooled(spool.path, 0)
    assert count == spool.next > 10
    spool.close(is_empty=False)


def test_what_is_no_entry_in_a_spool_stops_nobody(tmp_path: Path) -> None:
    with open_log(tmp_path) as log:
        spool = Spool(tmp_path, file_bytes=1 << 16)
        os.pwrite(spool._descriptor, frame_bytes(0, 5, b'{"kind":"x"}'), 0)
        log.append(entry(0))
        log.checkpoint()
        writer = log.writer
        spool.close(is_empty=False)
    kinds = [(found.kind, found.writer, found.writer_seq) for found in entries_of(tmp_path)]
    assert sorted(kinds) == sorted([("failure", spool.writer, 0), ("intent", writer, 0)])
    assert verify(tmp_path, vkey=SIGNER.verifier).damages == ()


def test_a_closed_log_takes_no_entries_and_closes_twice(tmp_path: Path) -> None:
    log = open_log(tmp_path)
    log.close()
    log.close()
    with pytest.raises(AuditFault, match="is closed"):
        log.append(entry())


def test_eight_threads_lose_and_mix_nothing(tmp_path: Path) -> None:
    log = open_log(tmp_path, rolling=Rolling(checkpoint_records=50))
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
    assert sorted(e.session_seq for e in entries_of(tmp_path)) == list(range(800))
    assert verify(tmp_path, vkey=SIGNER.verifier).ok


def test_a_forked_child_has_a_spool_of_its_own(tmp_path: Path) -> None:
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
    assert (report.ok, report.entries) == (True, 3)
    assert len({found.writer for found in entries_of(tmp_path)}) == 2


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
        again.append(entry(0))
        assert again.checkpoint().startswith("guard/audit\n1\n")
    os.close(write_end)
    os.waitpid(child, 0)


def test_a_torn_tail_is_moved_aside_and_told(tmp_path: Path) -> None:
    log = written(tmp_path, 3)
    records = log / RECORDS
    whole_bytes = records.stat().st_size
    with records.open("ab") as file:
        file.write(b'{"v":2,"kind":"inte')
    assert verify(tmp_path, vkey=SIGNER.verifier).ok
    with open_log(tmp_path, clock=FakeClock()) as again:
        again.append(entry(3))
    torn = log / f"{RECORDS}.torn-{whole_bytes}"
    assert torn.read_bytes() == b'{"v":2,"kind":"inte'
    recovery = _recoveries(tmp_path)[0]
    assert recovery.notes == [
        f"19 bytes of an unfinished write at byte {whole_bytes} were moved to {torn.name}"
    ]
    assert recovery.detail == {"torn_bytes": 19}
    assert verify(tmp_path, vkey=SIGNER.verifier).ok


def _recoveries(directory: Path) -> list[Entry]:
    return [found for found in entries_of(directory) if found.kind == "recovery"]


def test_noise_after_the_signed_part_is_moved_aside(tmp_path: Path) -> None:
    log = written(tmp_path, 3)
    with (log / RECORDS).open("ab") as file:
        file.write(b"\0" * 100 + b"\n" + b"more\n")
    open_log(tmp_path).close()
    assert _recoveries(tmp_path)[0].detail == {"torn_bytes": 106}


def test_whole_entries_after_the_last_checkpoint_are_kept(tmp_path: Path) -> None:
    log = written(tmp_path, 3)
    with (log / RECORDS).open("ab") as file:
        file.write(stamp(encode(entry(3), MAC.commit), "ab" * 8, 0) + b"\n")
    with open_log(tmp_path) as again:
        again.append(entry(4))
    assert _bare(tmp_path) == [entry(number) for number in range(5)]
    assert verify(tmp_path, vkey=SIGNER.verifier).ok


def test_what_a_killed_writer_left_in_its_spool_is_taken_and_told(tmp_path: Path) -> None:
    spool = Spool(tmp_path, file_bytes=1 << 16)
    for number in range(3):
        spool.append(encode(entry(number), MAC.commit), number)
    os.pwrite(spool._descriptor, frame_bytes(3, 9, b"half")[:26], spool._offset)
    fcntl.flock(spool._writer_lock, fcntl.LOCK_UN)  # as the end of the process does
    report = verify_spooled(tmp_path)
    with open_log(tmp_path):
        pass
    assert report == (3, True)
    assert _bare(tmp_path) == [entry(number) for number in range(3)]
    (recovery,) = _recoveries(tmp_path)
    assert recovery.notes == [f"the writer {spool.writer} ended without closing"]
    assert (recovery.detail["entries"], recovery.detail["torn_bytes"]) == (3, 26)
    assert (tmp_path / str(recovery.detail["moved_to"])).stat().st_size == 26
    assert list((tmp_path / "spool").iterdir()) == []
    assert verify(tmp_path, vkey=SIGNER.verifier).damages == ()
    spool.abandon()


def verify_spooled(directory: Path) -> tuple[int, bool]:
    """Entries that wait in the only spool, and whether its end is torn."""
    (path,) = (directory / "spool").iterdir()
    return count_spooled(path, 0)


def test_nothing_is_taken_twice_when_the_sequencer_was_killed(tmp_path: Path) -> None:
    """Entries were appended and not signed: they are in the segment and in the spool."""
    spool = Spool(tmp_path, file_bytes=1 << 16)
    sequencer = Sequencer(
        tmp_path, load_signer=lambda: SIGNER, origin="guard/audit", clock=FakeClock(),
        rolling=Rolling(),
    )  # fmt: skip
    for number in range(3):
        spool.append(encode(entry(number), MAC.commit), number)
    assert sequencer.round()
    sequencer.close()  # without signing, as a kill does
    assert (_signed(tmp_path), len(entries_of(tmp_path))) == (0, 3)
    spool.append(encode(entry(3), MAC.commit), 3)
    with open_log(tmp_path):
        pass
    assert _bare(tmp_path) == [entry(number) for number in range(4)]
    spool.close(is_empty=True)


def test_without_the_state_file_nothing_is_taken_twice_either(tmp_path: Path) -> None:
    with open_log(tmp_path, rolling=Rolling(segment_bytes_max=1_000)) as log:
        for number in range(20):
            log.append(entry(number))
            if number % 4 == 0:
                log.checkpoint()
        assert log._rounds._sequencer is not None
        log._rounds._sequencer.close()
        (tmp_path / "state").unlink()
    assert _bare(tmp_path) == [entry(number) for number in range(20)]


def test_a_torn_history_of_checkpoints_is_mended(tmp_path: Path) -> None:
    log = written(tmp_path, 3)
    with (log / "checkpoints").open("ab") as file:
        file.write(b"guard/audit\n9\nAAAA")
    open_log(tmp_path).close()
    assert list(log.glob("checkpoints.torn-*"))
    assert verify(tmp_path, vkey=SIGNER.verifier).ok


def _flip_record(log: Path) -> None:
    _flip(log / RECORDS, 700)


def _flip_checkpoint(log: Path) -> None:
    _flip(log / "checkpoint", 25)


def _cut_records(log: Path) -> None:
    os.truncate(log / RECORDS, (log / RECORDS).stat().st_size - 10)


def _remove_records(log: Path) -> None:
    (log / RECORDS).unlink()


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
        _flip_record, _flip_checkpoint, _cut_records, _remove_records, _remove_checkpoint,
        _remove_history,
    ],
)  # fmt: skip
def test_a_log_that_contradicts_its_checkpoint_is_not_opened(
    damage: Callable[[Path], None], tmp_path: Path
) -> None:
    log = written(tmp_path, 5)
    damage(log)
    before = {path: path.read_bytes() for path in log.rglob("*") if path.is_file()}
    with pytest.raises(LogCorrupt, match="run `guard audit verify`"):
        open_log(tmp_path)
    assert {path: path.read_bytes() for path in log.rglob("*") if path.is_file()} == before


def test_a_log_of_another_origin_is_not_continued(tmp_path: Path) -> None:
    written(tmp_path, 1)
    with pytest.raises(LogCorrupt, match="is of the log `guard/audit`"):
        open_log(tmp_path, origin="acme/audit")


def test_a_log_of_another_key_is_not_continued(tmp_path: Path) -> None:
    written(tmp_path, 1)
    with pytest.raises(AuditFault, match="change keys with `guard audit rotate-key`"):
        AuditLog.open(tmp_path, signer=Signer("guard/audit", bytes(32)), mac=MAC)


def test_a_full_disk_is_a_fault_and_room_lets_the_log_go_on(small_disk: Path) -> None:
    log = open_log(small_disk / "audit", spool_bytes=4_096, rolling=Rolling(checkpoint_records=10))
    ballast = small_disk / "ballast"
    ballast.write_bytes(b"x" * 100_000)
    done: list[int] = []
    with pytest.raises(AuditFault, match="No space left on device"):
        _repeat(lambda: done.append(log.append(entry(len(done)))))
    ballast.unlink()
    log.append(entry(len(done)))
    log.close()
    assert _bare(small_disk / "audit") == [entry(number) for number in range(len(done) + 1)]
    assert verify(small_disk / "audit", vkey=SIGNER.verifier).damages == ()


def test_a_read_only_disk_is_a_fault_when_opening(small_disk: Path) -> None:
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    with pytest.raises(AuditFault, match="Read-only file system; name a directory of this user"):
        open_log(small_disk / "audit")


def test_a_file_in_place_of_the_directory_is_a_fault(tmp_path: Path) -> None:
    (tmp_path / "audit").write_text("")
    with pytest.raises(AuditFault, match="cannot write an audit log in"):
        open_log(tmp_path / "audit")


def test_a_write_that_is_cut_short_leaves_no_trace(tmp_path: Path) -> None:
    written(tmp_path, 5)
    with open_log(tmp_path) as log:
        size_bytes = (tmp_path / RECORDS).stat().st_size
        old_limit = resource.getrlimit(resource.RLIMIT_FSIZE)
        old_handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        try:
            resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes + 100, old_limit[1]))
            log.append(entry(5))  # its place in the spool was there before
            with pytest.raises(AuditFault, match="File too large"):
                log._round()
            assert (tmp_path / RECORDS).stat().st_size == size_bytes
            with pytest.raises(AuditFault, match="File too large"):
                log.append(entry(6))
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, old_limit)
            signal.signal(signal.SIGXFSZ, old_handler)
        log.append(entry(6))
    assert _bare(tmp_path) == [entry(number) for number in range(7)]
    assert verify(tmp_path, vkey=SIGNER.verifier).ok


@pytest.mark.parametrize("durability", ["sync", "group"])
def test_after_a_failed_sync_the_log_takes_nothing_more(durability: str, tmp_path: Path) -> None:
    # A pipe cannot be synced: fdatasync answers EINVAL, as a broken device answers EIO.
    log = open_log(tmp_path, durability=durability)
    log.append(entry(0))
    read_end, write_end = os.pipe()
    assert log._spool is not None
    saved = os.dup(log._spool._descriptor)
    data = encode(entry(1), MAC.commit)
    log._spool.append(data, 0)
    os.dup2(write_end, log._spool._descriptor)
    with pytest.raises(AuditFault, match="cannot write to the audit log"):
        log._commits.wait(1) if durability == "group" else log._spool.sync()
    os.dup2(saved, log._spool._descriptor)
    for descriptor in (saved, read_end, write_end):
        os.close(descriptor)
    with pytest.raises(AuditFault, match=r"failed earlier .* takes no more"):
        log.append(entry(2))
    log.close()
    assert _bare(tmp_path) == [entry(0), entry(1)]


def test_a_descriptor_that_foreign_code_closed_is_a_fault(tmp_path: Path) -> None:
    log = open_log(tmp_path)
    log.append(entry(0))
    log.checkpoint()
    assert log._spool is not None
    spare, unwritable = os.dup(log._spool._descriptor), os.open(os.devnull, os.O_RDONLY)
    os.dup2(unwritable, log._spool._descriptor)
    for _ in range(2):
        with pytest.raises(AuditFault, match="Bad file descriptor"):
            log.append(entry(1))
    os.dup2(spare, log._spool._descriptor)
    os.close(spare)
    os.close(unwritable)
    log.close()
    assert _bare(tmp_path) == [entry(0)]


def test_an_interrupt_in_an_append_leaves_log_and_tree_in_step(tmp_path: Path) -> None:
    """A signal handler that raises hits appends at every place it can."""
    script = """
import signal, sys
from pathlib import Path
from support.entries import entry, open_log
from guard.audit.sequence import Rolling

def interrupt(*_):
    raise KeyboardInterrupt

log = open_log(Path(sys.argv[1]), rolling=Rolling(checkpoint_records=20))
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
    log = open_log(tmp_path, rolling=Rolling(checkpoint_records=5))
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
    with pytest.raises(AuditFault, match="expected relaxed, group or sync"):
        open_log(tmp_path, durability="eventual")
