"""How durable an entry is before its effect: chosen by point and tool, waited for, or a deny."""

from __future__ import annotations

import asyncio
import os
import threading
from pathlib import Path
from typing import Any

import pytest
from support.entries import SIGNER, entry, open_log

import guard
from guard import Denied, Point, ToolDeclaration, testing
from guard.audit import AuditLog
from guard.audit.durable import Commits
from guard.audit.verify import verify
from guard.durability import Durabilities
from guard.errors import AuditFault
from guard.interceptor import Interceptor

READ = ToolDeclaration(name="search", effects=("read",))
SEND = ToolDeclaration(name="send_email", effects=("send",))
NOTE = ToolDeclaration(name="note", effects=("write",))


class _Counted:
    """A real log that remembers what was waited for."""

    def __init__(self, log: AuditLog) -> None:
        self.log = log
        self.waits: list[str] = []

    def append(self, one: Any) -> int:
        return self.log.append(one)

    def wait(self, number: int, durability: Any) -> None:
        self.waits.append(durability)
        self.log.wait(number, durability)

    async def wait_async(self, number: int, durability: Any) -> None:
        self.waits.append(f"async {durability}")
        await self.log.wait_async(number, durability)

    def checkpoint(self) -> str:
        return self.log.checkpoint()

    def close(self) -> None:
        self.log.close()


@pytest.fixture
def sink(tmp_path: Path) -> Any:
    counted = _Counted(open_log(tmp_path))
    yield counted
    counted.close()


def _governor(sink: Any, **options: Any) -> Interceptor:
    made, _ = testing.interceptor()
    return Interceptor(engine=made.engine, sink=sink, key=b"k" * 32, clock=made.clock, **options)


def _call(governor: Interceptor, tool: ToolDeclaration) -> object:
    request = governor.request(Point.PRE_TOOL_CALL, {"q": "x"}, tool=tool)
    return governor.call(request, lambda _: "done", on_deny="return")


def test_the_intent_of_a_tool_that_does_more_than_read_is_durable_before_it_runs(
    sink: _Counted,
) -> None:
    governor = _governor(sink)
    with guard.session("did:web:a", grants=["search", "note"]):
        _call(governor, READ)
        assert sink.waits == []
        assert _call(governor, NOTE) == "done"
        assert sink.waits == ["group"]


def test_durability_is_chosen_by_point_first() -> None:
    made, _ = testing.interceptor()
    chosen = Durabilities("relaxed", "sync", {"pre_model_call": "group"})
    asked = [
        made.request(Point.PRE_TOOL_CALL, {}, tool=READ),
        made.request(Point.PRE_TOOL_CALL, {}, tool=SEND),
        made.request(Point.PRE_MODEL_CALL, {}),
    ]
    assert [chosen.of(request) for request in asked] == ["relaxed", "sync", "group"]


async def test_an_async_call_waits_without_holding_the_loop(sink: _Counted) -> None:
    governor = _governor(sink, durability=Durabilities("group", "group"))

    async def run(_: object) -> str:
        return "done"

    with guard.session("did:web:a", grants=["search"]):
        request = governor.request(Point.PRE_TOOL_CALL, {"q": "x"}, tool=READ)
        assert await governor.acall(request, run) == "done"
    assert sink.waits == ["async group"]


def test_an_intent_that_cannot_be_made_durable_is_a_deny_and_nothing_runs(tmp_path: Path) -> None:
    log = open_log(tmp_path)
    governor = _governor(log, durability=Durabilities("group", "group"))
    read_end, write_end = os.pipe()  # what cannot be synced
    ran: list[int] = []
    assert log._spool is not None
    spool = log._spool
    real, spool.sync = spool.sync, lambda: _unsynced(write_end)  # type: ignore[method-assign]
    log._commits._sync = spool.sync
    with guard.session("did:web:a", grants=["search"]):
        request = governor.request(Point.PRE_TOOL_CALL, {"q": "x"}, tool=READ)
        answer = governor.call(request, lambda _: ran.append(1), on_deny="return")
    assert isinstance(answer, Denied)
    assert [fault.code for fault in answer.decision.faults] == ["audit.not_durable"]
    assert ran == []
    log._commits._sync = real
    log.close()
    os.close(read_end)
    os.close(write_end)
    report = verify(tmp_path, vkey=SIGNER.verifier)
    assert (report.damages, report.orphans) == ((), ())  # its outcome says that it did not happen


def _unsynced(descriptor: int) -> int:
    try:
        os.fdatasync(descriptor)
    except OSError as error:
        raise AuditFault(f"cannot write: {error.strerror}") from error
    raise AssertionError("a pipe was synced")


def test_threads_that_wait_at_once_share_syncs() -> None:
    calls = []
    at_disk, go_on = threading.Event(), threading.Event()
    handed_over = [0]

    def sync() -> int:
        calls.append(handed_over[0])
        at_disk.set()
        assert go_on.wait(10)
        return calls[-1]

    commits = Commits(sync)
    handed_over[0] = 1
    first = threading.Thread(target=commits.wait, args=(0,))
    first.start()
    assert at_disk.wait(10)
    handed_over[0] = 9  # eight more come while the disk is at it
    others = [threading.Thread(target=commits.wait, args=(number,)) for number in range(1, 9)]
    for thread in others:
        thread.start()
    go_on.set()
    for thread in (first, *others):
        thread.join(10)
    assert calls == [1, 9]


def test_a_failed_sync_fails_everyone_who_waits_for_it() -> None:
    def sync() -> int:
        raise AuditFault("no disk")

    commits = Commits(sync)
    for _ in range(2):
        with pytest.raises(AuditFault, match="no disk"):
            commits.wait(0)

    async def both() -> list[Any]:
        waits = [commits.wait_async(number) for number in range(2)]
        return await asyncio.gather(*waits, return_exceptions=True)

    assert [type(found) for found in asyncio.run(both())] == [AuditFault, AuditFault]
    commits.close()


def test_many_tasks_share_syncs_and_a_cancelled_one_harms_nobody(tmp_path: Path) -> None:
    log = open_log(tmp_path)
    syncs = [0]
    real = log._commits._sync

    def counted() -> int:
        syncs[0] += 1
        return real()

    log._commits._sync = counted

    async def run() -> list[Any]:
        tasks = [
            asyncio.create_task(log.append_async(entry(number), durability="group"))
            for number in range(64)
        ]
        await asyncio.sleep(0)
        tasks[5].cancel()
        return await asyncio.gather(*tasks, return_exceptions=True)

    found = asyncio.run(run())
    log.close()
    numbers = [number for number in found if isinstance(number, int)]
    assert len(numbers) == 63
    assert isinstance(found[5], asyncio.CancelledError)
    assert syncs[0] <= 3
    assert verify(tmp_path, vkey=SIGNER.verifier).entries == 64


@pytest.mark.parametrize("durability", ["relaxed", "group", "sync"])
def test_every_durability_writes_the_same_log(durability: Any, tmp_path: Path) -> None:
    with open_log(tmp_path) as log:
        for number in range(5):
            log.append(entry(number), durability=durability)
    report = verify(tmp_path, vkey=SIGNER.verifier)
    assert (report.damages, report.entries) == ((), 5)
