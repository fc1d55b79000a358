"""The publisher never keeps anybody waiting, loses nothing to an anchor that is down, and tells."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import warnings
from pathlib import Path
from typing import Any

import pytest
from support.anchors import (
    LOG,
    WITNESS,
    WITNESS_KEY,
    History,
    answering,
    free_port,
    says,
    witness_at,
)

from guard.audit.anchors import (
    AnchorStatus,
    DirectoryAnchor,
    Publisher,
    Receipt,
    WitnessAnchor,
    WitnessKey,
    WitnessSigner,
    cosignatures_of,
)
from guard.audit.checkpoint import Checkpoint, parse
from guard.errors import ConfigError
from guard.testing import FakeClock

TRUE = History()
FORK = History(fork_at=150)
SECOND = WitnessSigner("witness.example/w2", bytes([3]) * 32)
WAIT_S = 20


class Cosigned:
    """What `on_cosigned` was given, and a way to wait for a size."""

    def __init__(self) -> None:
        self.notes: list[bytes] = []
        self._changed = threading.Condition()

    def __call__(self, note: bytes) -> None:
        with self._changed:
            self.notes.append(note)
            self._changed.notify_all()

    def wait_for(self, size: int) -> None:
        def has_come() -> bool:
            return any(parse(note, LOG.verifier).size == size for note in self.notes)

        with self._changed:
            assert self._changed.wait_for(has_come, WAIT_S)


def _witness(url: str, history: History = TRUE, **keywords: Any) -> WitnessAnchor:
    return WitnessAnchor(url, WITNESS_KEY, consistency=history.consistency, **keywords)


def test_the_newest_checkpoint_goes_to_all_and_is_cosigned_by_all(tmp_path: Path) -> None:
    cosigned = Cosigned()
    (tmp_path / "worm").mkdir()
    with (
        witness_at(tmp_path / "1") as first,
        witness_at(tmp_path / "2", signer=SECOND) as second,
    ):
        second_key = WitnessKey.from_text(SECOND.vkey)
        anchors = [
            DirectoryAnchor(tmp_path / "worm"),
            _witness(first.url),
            WitnessAnchor(second.url, second_key, consistency=TRUE.consistency),
        ]
        publisher = Publisher(anchors, on_cosigned=cosigned)
        publisher.submit(*TRUE.at(100))
        cosigned.wait_for(100)
        publisher.submit(*TRUE.at(200))
        statuses = publisher.close()
    assert [(s.size, s.error, s.behind_s, s.is_alarm) for s in statuses] == [
        (200, None, 0.0, False)
    ] * 3
    last = cosigned.notes[-1]
    assert parse(last, LOG.verifier) == TRUE.checkpoint(200)
    names = [c.witness for c in cosignatures_of(last, [WITNESS_KEY, second_key])]
    assert names == [WITNESS.name, SECOND.name]


def test_submitting_does_not_wait_for_an_anchor_and_older_checkpoints_are_skipped() -> None:
    arrived, released = threading.Event(), threading.Event()

    def hold(connection: Any) -> None:
        arrived.set()
        released.wait(WAIT_S)
        says(500)(connection)

    with answering(hold) as (url, received):
        publisher = Publisher([_witness(url, timeout_s=WAIT_S)], on_cosigned=Cosigned())
        publisher.submit(*TRUE.at(1))
        assert arrived.wait(WAIT_S)
        assert publisher.status()[0].behind_s > 0
        for size in range(2, 200):
            publisher.submit(*TRUE.at(size))
        assert publisher.status()[0].behind_s > 0
        assert len(received) == 1
        released.set()
        publisher.close()
    assert len(received) == 2
    assert TRUE.note(199) in received[1][1]


def test_an_anchor_that_is_down_is_tried_again_by_itself(tmp_path: Path) -> None:
    cosigned = Cosigned()
    port = free_port()
    publisher = Publisher([_witness(f"http://127.0.0.1:{port}")], on_cosigned=cosigned)
    publisher.submit(*TRUE.at(100))
    with witness_at(tmp_path, port=port):
        cosigned.wait_for(100)
        publisher.close()


def test_the_status_tells_since_when_an_anchor_fails_and_what_it_lacks(tmp_path: Path) -> None:
    clock = FakeClock()
    start_ns = clock.now_ns()
    directory = tmp_path / "mount"
    publisher = Publisher([DirectoryAnchor(directory)], on_cosigned=Cosigned(), clock=clock)
    assert publisher.status() == [AnchorStatus("directory")]
    publisher.submit(*TRUE.at(9))
    publisher.publish_now()
    clock.advance_s(30)
    publisher.submit(*TRUE.at(10))
    (status,) = publisher.publish_now()
    assert status.failures >= 2
    assert (status.size, status.failing_since_ns, status.behind_s) == (None, start_ns, 30.0)
    assert status.error is not None
    assert status.error.startswith("audit: ")
    directory.mkdir()
    (status,) = publisher.publish_now()
    assert (status.size, status.failures, status.error, status.behind_s) == (10, 0, None, 0.0)
    assert status.published_at_ns == clock.now_ns()
    publisher.close()


def test_an_anchor_is_not_published_to_more_often_than_its_interval(tmp_path: Path) -> None:
    cosigned = Cosigned()
    worm = tmp_path / "worm"
    worm.mkdir()
    with witness_at(tmp_path / "state") as server:
        publisher = Publisher(
            [DirectoryAnchor(worm, interval_s=3600), _witness(server.url)], on_cosigned=cosigned
        )
        sizes = []
        for size in (100, 200):
            publisher.submit(*TRUE.at(size))
            cosigned.wait_for(size)  # The directory has its turn before the witness.
            sizes.append(len(list(worm.iterdir())))
        publisher.close()
    assert (sizes, len(list(worm.iterdir()))) == ([1, 1], 2)


def test_a_fork_is_an_alarm_in_the_status(tmp_path: Path) -> None:
    with witness_at(tmp_path) as server:
        _witness(server.url).publish(*TRUE.at(200))
        publisher = Publisher([_witness(server.url, FORK)], on_cosigned=Cosigned())
        publisher.submit(*FORK.at(220))
        publisher.submit(*FORK.at(221))
        publisher.publish_now()
    # The witness is gone now: an alarm is not silenced by that.
    (status,) = publisher.publish_now()
    publisher.close()
    assert (status.size, status.is_alarm) == (None, True)
    assert status.error is not None
    assert "another history" in status.error


class Broken:
    """An anchor with a defect."""

    name = "broken"
    interval_s = 0.0

    def publish(self, note: bytes, checkpoint: Checkpoint) -> Receipt:
        raise RuntimeError("the secret is 42")


def test_a_defect_in_one_anchor_does_not_stop_the_others_nor_show_its_text(
    tmp_path: Path,
) -> None:
    publisher = Publisher([Broken(), DirectoryAnchor(tmp_path)], on_cosigned=Cosigned())
    publisher.submit(*TRUE.at(9))
    broken, directory = publisher.close()
    assert (broken.size, broken.error, directory.size) == (None, "RuntimeError", 9)


def test_a_cosignature_that_cannot_be_stored_is_asked_for_again(tmp_path: Path) -> None:
    stored: list[bytes] = []

    def store(note: bytes) -> None:
        stored.append(note)
        if len(stored) == 1:
            raise OSError(28, "No space left on device")

    with witness_at(tmp_path) as server:
        publisher = Publisher([_witness(server.url)], on_cosigned=store, clock=FakeClock())
        publisher.submit(*TRUE.at(9))
        publisher.publish_now()
        (status,) = publisher.publish_now()
        publisher.close()
    assert (status.size, len(stored)) == (9, 2)


def test_closing_is_bounded_by_its_timeout_and_nothing_is_taken_afterwards() -> None:
    released = threading.Event()

    def hold(connection: Any) -> None:
        released.wait(WAIT_S)

    with answering(hold) as (url, received):
        publisher = Publisher([_witness(url, timeout_s=WAIT_S)], on_cosigned=Cosigned())
        publisher.submit(*TRUE.at(1))
        (status,) = publisher.close(timeout_s=0.05)
        publisher.submit(*TRUE.at(2))
        assert status.behind_s >= 0
        assert len(received) <= 1
        released.set()


def test_a_forked_child_starts_afresh_and_the_parent_goes_on(tmp_path: Path) -> None:
    cosigned = Cosigned()
    (tmp_path / "worm").mkdir()
    with witness_at(tmp_path / "state") as server:
        publisher = Publisher(
            [DirectoryAnchor(tmp_path / "worm", interval_s=0), _witness(server.url)],
            on_cosigned=cosigned,
        )
        publisher.submit(*TRUE.at(100))
        cosigned.wait_for(100)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # 3.12 warns of threads at a fork
            child = os.fork()
        if child == 0:
            try:
                is_fresh = publisher._thread is None
                publisher.submit(*TRUE.at(150))
                sizes = [status.size for status in publisher.close()]
                os._exit(0 if is_fresh and sizes == [150, 150] else 1)
            finally:
                os._exit(2)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        publisher.submit(*TRUE.at(200))
        cosigned.wait_for(200)
        publisher.close()


def test_anchors_of_one_name_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="names of their own"):
        Publisher([DirectoryAnchor(tmp_path)] * 2, on_cosigned=Cosigned())


# guard audit witness


def _command(directory: Path, *arguments: str) -> subprocess.Popen[str]:
    root = Path(__file__).parent.parent.parent
    return subprocess.Popen(
        [sys.executable, "-c", "from guard.cli.witness import witness; witness()",
         "--key", str(directory / "w.key"), "--state", str(directory / "state"),
         "--name", "witness.example/cli", "--listen", "127.0.0.1:0", *arguments],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONPATH": str(root)},
    )  # fmt: skip


def _started(process: subprocess.Popen[str], history: History) -> WitnessAnchor:
    assert process.stdout is not None
    key = WitnessKey.from_text(process.stdout.readline())
    url = process.stdout.readline().split()[-1]
    return WitnessAnchor(url, key, consistency=history.consistency)


def test_the_command_runs_a_witness_that_remembers_over_kill_9(tmp_path: Path) -> None:
    (tmp_path / "log.vkey").write_text(LOG.vkey + "\n", encoding="utf-8")
    with _command(tmp_path, "--log", LOG.vkey) as process:
        anchor = _started(process, TRUE)
        assert anchor.publish(*TRUE.at(200)).cosignatures
        process.kill()
    with _command(tmp_path, "--log", str(tmp_path / "log.vkey")) as process:
        anchor = _started(process, FORK)
        publisher = Publisher([anchor], on_cosigned=Cosigned())
        publisher.submit(*FORK.at(220))
        assert publisher.close()[0].is_alarm
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=WAIT_S)
    assert process.returncode == 0
    statuses = [line.split(" ", 2)[1] for line in errors.splitlines() if line[:2] == "20"]
    assert "422" in statuses
    assert (tmp_path / "w.key").stat().st_mode & 0o777 == 0o600
