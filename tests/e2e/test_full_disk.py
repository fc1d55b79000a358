"""The declared answer on a disk that is really full: what cannot be recorded does not happen."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from support.entries import SIGNER, entries_of, open_log
from support.forgetful import ForgetfulDisk

import guard
from guard import Denied, Point, ToolDeclaration, testing
from guard.audit.verify import verify
from guard.errors import AuditFault
from guard.interceptor import Interceptor
from guard.recorder import OnAuditFailure

SEARCH = ToolDeclaration(name="search", effects=("read",))


class _World:
    """A governed call over a real log in `directory`, with every answer that can be configured."""

    def __init__(self, directory: Path, on_failure: OnAuditFailure) -> None:
        made, _ = testing.interceptor()
        self.log = open_log(directory, spool_bytes=4_096)
        self.directory = directory
        self.governor = Interceptor(
            engine=made.engine, sink=self.log, key=b"k" * 32, clock=made.clock,
            on_audit_failure=on_failure,
        )  # fmt: skip
        self.ran = 0

    def call(self) -> str:
        """`ok`, or the code of the fault that denied."""
        request = self.governor.request(Point.PRE_TOOL_CALL, {"q": "x" * 900}, tool=SEARCH)
        answer = self.governor.call(request, self._run, on_deny="return")
        if isinstance(answer, Denied):
            return answer.decision.faults[0].code
        return str(answer)

    def call_and_sequence(self) -> str:
        """A call, and a round of the sequencer, as it comes by itself every 50 ms: the spool has
        its space already, so it is there that a full disk is met."""
        answer = self.call()
        with suppress(AuditFault):
            self.log._round()
        return answer

    def calls(self, count: int) -> set[str]:
        """The different answers to so many calls."""
        return {self.call() for _ in range(count)}

    def _run(self, _: object) -> str:
        self.ran += 1
        return "ok"


@contextmanager
def _full_disk(world: _World) -> Iterator[None]:
    ballast = world.directory.parent / "ballast"
    with ballast.open("wb", buffering=0) as file, suppress(OSError):
        for _ in range(10_000):
            file.write(b"x" * 1_024)
    assert shutil.disk_usage(ballast).free == 0
    yield
    ballast.unlink()


@contextmanager
def _full_inode_table(world: _World) -> Iterator[None]:
    files = [world.directory.parent / f"file-{number}" for number in range(40)]
    with suppress(OSError):
        for path in files:
            path.touch()
    assert os.statvfs(world.directory).f_ffree == 0
    yield
    for path in files:
        path.unlink(missing_ok=True)


@contextmanager
def _closed_descriptor(world: _World) -> Iterator[None]:
    assert world.log._spool is not None
    descriptor = world.log._spool._descriptor
    spare = os.dup(descriptor)
    # Not only closed: its number must not become that of another file of ours.
    unwritable = os.open(os.devnull, os.O_RDONLY)
    os.dup2(unwritable, descriptor)
    yield
    os.dup2(spare, descriptor)
    os.close(spare)
    os.close(unwritable)


@contextmanager
def _broken_device(world: _World) -> Iterator[None]:
    with ForgetfulDisk(world.directory, seed=1, fault_rate=1.0):
        yield


_BREAKS = {
    "full disk": ("small_disk", _full_disk),
    "full inode table": ("few_inodes", _full_inode_table),
    "closed descriptor": ("tmp_path", _closed_descriptor),
    "input/output error": ("tmp_path", _broken_device),
}


@pytest.mark.parametrize("on_failure", ["deny", "buffer", "allow"])
@pytest.mark.parametrize("kind", list(_BREAKS))
def test_the_configured_answer_holds_however_the_disk_fails(
    kind: str, on_failure: OnAuditFailure, request: pytest.FixtureRequest
) -> None:
    place, breaks = _BREAKS[kind]
    world = _World(request.getfixturevalue(place) / "audit", on_failure)
    with guard.session("did:web:a", grants=["search"]):
        assert world.calls(3) == {"ok"}
        with breaks(world):
            answers = [world.call_and_sequence() for _ in range(40)]
        ran = world.ran
        if on_failure == "allow":
            assert set(answers) == {"ok"}
            assert world.governor.recorder.lost > 0
        elif on_failure == "deny":
            assert answers[-1] == "audit.unavailable"
            assert set(answers) <= {"ok", "audit.unavailable"}
        assert ran == 3 + answers.count("ok")
        is_poisoned = kind in ("closed descriptor", "input/output error")
        after = world.calls(3)
        if on_failure != "deny" or not is_poisoned:
            assert after == {"ok"}
    with suppress(AuditFault):
        world.governor.close()
    open_log(world.directory, spool_bytes=4_096).close()  # a restart mends what is torn
    report = verify(world.directory, vkey=SIGNER.verifier)
    assert report.damages == ()
    if on_failure == "deny":
        # Nothing ran that the log does not know of.
        intents = [found for found in entries_of(world.directory) if found.kind == "intent"]
        assert len(intents) >= world.ran


def test_a_read_only_mount_is_a_fault_before_anything_is_governed(small_disk: Path) -> None:
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    with pytest.raises(AuditFault, match="Read-only file system; name a directory of this user"):
        open_log(small_disk / "audit")


@pytest.mark.parametrize("word", ["fail_open", "allow_all"])
def test_there_is_no_way_to_ask_for_less(word: str) -> None:
    with pytest.raises(TypeError):
        testing.interceptor(**{word: True})
