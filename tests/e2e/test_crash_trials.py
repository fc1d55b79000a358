"""Crashes: kill -9 of several writers, power failures, failing system calls. Counts are printed.

`TRIALS=long` runs the long form. Nothing that was acknowledged may be lost, a restart always works,
and the log that is left verifies.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from support.entries import SIGNER, entries_of, entry, open_log
from support.forgetful import ForgetfulDisk

from guard.audit import AuditLog
from guard.audit.sequence import Rolling
from guard.audit.verify import verify
from guard.errors import AuditFault

TESTS = Path(__file__).parents[1]
IS_LONG = os.environ.get("TRIALS") == "long"
KILL_ROUNDS = 1_000 if IS_LONG else 50
POWER_ROUNDS = 300 if IS_LONG else 30
FAULT_ROUNDS = 300 if IS_LONG else 30

# Four writers on one log are killed at once, again and again. Each says what was acknowledged.
_KILLER = """
import json, os, random, signal, sys, time
from pathlib import Path
from support.entries import entry, open_log
from guard.audit.sequence import Rolling

directory, rounds = Path(sys.argv[1]), int(sys.argv[2])
chance = random.Random(7)
for number in range(rounds):
    children = []
    for child in range(4):
        ours, theirs = os.pipe()
        pid = os.fork()
        if pid == 0:
            try:
                os.close(ours)
                log = open_log(directory, rolling=Rolling(checkpoint_records=200,
                               segment_bytes_max=400_000))
                durability = ("relaxed", "group")[child % 2]
                for count in range(1_000_000):
                    one = entry(0, session_id=f"{number}-{child}", session_seq=count,
                                decision_id=f"{number}-{child}-{count}")
                    log.append(one, durability=durability)
                    os.write(theirs, b".")
            finally:
                os._exit(1)
        os.close(theirs)
        children.append((pid, ours, child))
    heard = {child: len(os.read(ours, 1)) for _, ours, child in children}
    time.sleep(chance.random() * 0.05)
    for pid, _, _ in children:
        os.kill(pid, signal.SIGKILL)
    for pid, ours, child in children:
        os.waitpid(pid, 0)
        while part := os.read(ours, 65_536):
            heard[child] += len(part)
        os.close(ours)
        print(json.dumps([f"{number}-{child}", heard[child]]), flush=True)
"""


def test_four_writers_killed_at_once_lose_nothing_they_acknowledged(tmp_path: Path) -> None:
    killer = subprocess.run(
        [sys.executable, "-c", _KILLER, str(tmp_path), str(KILL_ROUNDS)],
        env={**os.environ, "PYTHONPATH": str(TESTS)},
        capture_output=True, text=True, check=True, timeout=3_600,
    )  # fmt: skip
    acknowledged: dict[str, int] = dict(json.loads(line) for line in killer.stdout.splitlines())
    open_log(tmp_path).close()
    kept = entries_of(tmp_path)
    counts = Counter(found.session_id for found in kept if found.kind == "intent")
    lost = {name: n - counts[name] for name, n in acknowledged.items() if counts[name] < n}
    recoveries = sum(found.kind == "recovery" for found in kept)
    print(
        f"kill -9: {KILL_ROUNDS} rounds of 4 writers, {sum(acknowledged.values())} acknowledged, "
        f"{sum(lost.values())} lost, {recoveries} recoveries told"
    )
    assert lost == {}
    # Each session is dense: not even one that nobody acknowledged is missing before another.
    report = verify(tmp_path, vkey=SIGNER.verifier)
    assert report.damages == ()
    assert report.entries == report.signed
    assert list((tmp_path / "spool").iterdir()) == []


def _steps(log: AuditLog, chance: random.Random, durable: list[str]) -> None:
    """Some work on a log: appends of all durabilities, rounds of the sequencer, checkpoints."""
    for _ in range(chance.randrange(5, 60)):
        name = f"{chance.random()}"
        durability: Any = chance.choice(("relaxed", "group", "sync"))
        log.append(entry(0, session_id=None, decision_id=name), durability=durability)
        if durability != "relaxed":
            durable.append(name)
        if chance.random() < 0.1:
            log._round(sign=chance.random() < 0.5)


def test_a_power_failure_takes_nothing_that_was_durable(tmp_path: Path) -> None:
    chance = random.Random(11)
    acknowledged = kept_anyway = 0
    for number in range(POWER_ROUNDS):
        disk = tmp_path / f"disk-{number}"
        disk.mkdir()
        rolling = Rolling(checkpoint_records=20, segment_bytes_max=6_000)
        with ForgetfulDisk(disk, seed=number) as forgetful:
            log = open_log(disk / "audit", rolling=rolling, spool_bytes=8_192)
            durable: list[str] = []
            _steps(log, chance, durable)
            image = tmp_path / f"image-{number}"
            forgetful.image(image, kept_rate=chance.choice((0.0, 0.0, 0.3, 1.0)))
            log.close()
        left = image / "audit"
        open_log(left, rolling=rolling).close()
        names = {found.decision_id for found in entries_of(left)}
        assert [name for name in durable if name not in names] == []
        assert verify(left, vkey=SIGNER.verifier).damages == ()
        acknowledged += len(durable)
        kept_anyway += len(names) - len(durable)
    print(
        f"power failure: {POWER_ROUNDS} rounds, {acknowledged} acknowledged durable, 0 lost; "
        f"{kept_anyway} relaxed entries outlived it"
    )


def test_failing_system_calls_lose_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    """EIO, ENOSPC and short writes at random calls: a fault, or it worked; never a silent loss."""
    chance = random.Random(13)
    injected = faults = acknowledged = 0
    for number in range(FAULT_ROUNDS):
        disk = tmp_path / f"disk-{number}"
        disk.mkdir()
        rolling = Rolling(checkpoint_records=20, segment_bytes_max=6_000)
        durable: list[str] = []
        with ForgetfulDisk(disk, seed=number) as forgetful:
            log = open_log(disk / "audit", rolling=rolling, spool_bytes=8_192)
            forgetful.fault_rate = chance.choice((0.01, 0.1))
            for _ in range(10):
                try:
                    _steps(log, chance, durable)
                except AuditFault:
                    faults += 1
            forgetful.fault_rate = 0.0
            try:
                log.close()
            except AuditFault:
                faults += 1
            injected += forgetful.faults
        open_log(disk / "audit", rolling=rolling).close()
        names = {found.decision_id for found in entries_of(disk / "audit")}
        assert [name for name in durable if name not in names] == []
        assert verify(disk / "audit", vkey=SIGNER.verifier).damages == ()
        acknowledged += len(durable)
    print(
        f"failing calls: {FAULT_ROUNDS} rounds, {injected} faults injected, {faults} told as "
        f"faults, {acknowledged} acknowledged durable, 0 lost"
    )


@pytest.mark.parametrize("count", [2])
def test_a_log_is_whole_to_who_verifies_it_while_it_is_written(count: int, tmp_path: Path) -> None:
    script = (
        "import sys; from pathlib import Path; from support.entries import entry, open_log;"
        "from guard.audit.sequence import Rolling;"
        "log = open_log(Path(sys.argv[1]), rolling=Rolling(checkpoint_records=50,"
        " segment_bytes_max=60_000));"
        "[log.append(entry(n, session_id=sys.argv[2])) for n in range(4_000)]; log.close()"
    )
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", script, str(tmp_path), str(number)],
            env={**os.environ, "PYTHONPATH": str(TESTS)},
        )
        for number in range(count)
    ]
    while not (tmp_path / "checkpoint").exists():
        assert all(writer.poll() is None for writer in writers)
    found: list[object] = []
    runs = 0
    while any(writer.poll() is None for writer in writers):
        found += verify(tmp_path, vkey=SIGNER.verifier).damages
        runs += 1
    assert [writer.wait() for writer in writers] == [0] * count
    print(f"verified {runs} times while {count} processes wrote")
    assert found == []
    report = verify(tmp_path, vkey=SIGNER.verifier)
    intents = sum(one.session_id is not None for one in entries_of(tmp_path))
    assert (report.damages, intents) == ((), count * 4_000)
