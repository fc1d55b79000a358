"""The declared answer on a disk that is really full: what cannot be recorded does not happen."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.entries import SIGNER, open_log

import guard
from guard import Denied, Point, ToolDeclaration, testing
from guard.audit.verify import verify
from guard.interceptor import Interceptor

SEARCH = ToolDeclaration(name="search", effects=("read",))


def test_a_full_disk_denies_until_there_is_room(small_disk: Path) -> None:
    made, _ = testing.interceptor()
    log = open_log(small_disk / "audit")
    governor = Interceptor(engine=made.engine, sink=log, key=b"k" * 32, clock=made.clock)
    ran: list[int] = []

    def call() -> object:
        request = governor.request(Point.PRE_TOOL_CALL, {"q": "x" * 8_000}, tool=SEARCH)
        return governor.call(request, lambda _: ran.append(1) or "ok", on_deny="return")

    ballast = small_disk / "ballast"
    ballast.write_bytes(b"x" * 100_000)
    with guard.session("did:web:a", grants=["search"]):
        answers = [call() for _ in range(60)]
        denied = [answer for answer in answers if isinstance(answer, Denied)]
        assert "ok" in answers
        assert {fault.code for d in denied for fault in d.decision.faults} == {"audit.unavailable"}
        ballast.unlink()
        assert call() == "ok"
    governor.close()
    report = verify(small_disk / "audit", vkey=SIGNER.verifier)
    assert (report.ok, report.session_gaps) == (True, ())
    # Each run stands in the log as an intent; the outcome of one may not have found room.
    assert len(ran) == sum(answer == "ok" for answer in answers) + 1 + len(report.orphans)


@pytest.mark.parametrize("word", ["fail_open", "allow_all"])
def test_there_is_no_way_to_ask_for_less(word: str) -> None:
    with pytest.raises(TypeError):
        testing.interceptor(**{word: True})
