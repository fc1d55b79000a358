"""kill -9 in a loop, and two processes on one directory: nothing that was acknowledged is lost."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from support.entries import SIGNER, entry, open_log

from guard.audit.query import Filters, query
from guard.audit.verify import verify

TESTS = Path(__file__).parents[1]
ROUNDS = 15

# Says each index after append has returned for it. A number in argv ends it after so many entries.
WRITER = """
import os, sys
from pathlib import Path
from support.entries import entry, open_log

first, count = int(sys.argv[2]), int(sys.argv[3])
log = open_log(Path(sys.argv[1]), segment_bytes_max=50_000, checkpoint_records=25,
               durability=sys.argv[4])
for number in range(first, first + count):
    index = log.append(entry(number, session_id=f"from-{first}"))
    os.write(1, b"%d %d\\n" % (number, index))
log.close()
"""


def _start(directory: Path, first: int, count: int, durability: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-c", WRITER, str(directory), str(first), str(count), durability],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(TESTS)},
    )


@pytest.mark.parametrize("durability", ["relaxed", "sync"])
def test_a_killed_writer_loses_nothing_it_acknowledged(durability: str, tmp_path: Path) -> None:
    acknowledged: dict[int, int] = {}
    for round_number in range(ROUNDS if durability == "relaxed" else 3):
        writer = _start(tmp_path, round_number * 100_000, 100_000, durability)
        assert writer.stdout is not None
        # Killed after another number of acknowledgements each time: no clock decides.
        lines = [writer.stdout.readline() for _ in range(1 + 37 * round_number)]
        writer.send_signal(signal.SIGKILL)
        lines += writer.stdout.read().splitlines()
        writer.stdout.close()
        writer.wait(timeout=30)
        for line in lines:
            number, index = map(int, line.split())
            acknowledged[number] = index
        stored = {
            row.index: row.entry.session_seq
            for row in query(tmp_path, Filters())
            if row.entry.kind != "recovery"
        }
        lost = {n: i for n, i in acknowledged.items() if stored.get(i) != n}
        assert lost == {}
        report = verify(tmp_path, vkey=SIGNER.verifier)
        assert report.damages == ()
    with open_log(tmp_path) as log:
        log.append(entry(0, session_id="last"))
    report = verify(tmp_path, vkey=SIGNER.verifier)
    assert report.damages == ()
    assert report.logs[0].entries == report.logs[0].signed


def test_a_log_is_whole_to_who_verifies_it_while_it_is_written(tmp_path: Path) -> None:
    writers = [_start(tmp_path, number * 100_000, 2_000, "relaxed") for number in range(2)]
    for writer in writers:
        assert writer.stdout is not None
        writer.stdout.readline()
    found = []
    while any(writer.poll() is None for writer in writers):
        found += verify(tmp_path, vkey=SIGNER.verifier).damages
        for writer in writers:
            os.read(writer.stdout.fileno(), 65_536)  # type: ignore[union-attr]
    for writer in writers:
        writer.communicate(timeout=30)
    assert found == []


def test_two_processes_write_one_directory_and_both_logs_are_whole(tmp_path: Path) -> None:
    writers = [_start(tmp_path, number * 100_000, 500, "relaxed") for number in range(2)]
    for writer in writers:
        assert len(writer.communicate(timeout=60)[0].splitlines()) == 500
        assert writer.returncode == 0
    report = verify(tmp_path, vkey=SIGNER.verifier)
    assert report.damages == ()
    assert report.entries == 1_000
    numbers = sorted(row.entry.session_seq for row in query(tmp_path, Filters()))
    assert numbers == [*range(500), *range(100_000, 100_500)]
