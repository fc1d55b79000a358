"""Ways round that an attacker found, each closed: the program that found it, as a test."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
import traceback
from pathlib import Path
from typing import Any

import pytest
from support.bundles import head, write
from support.cases import FLEET
from support.entries import open_log

import guard
from guard import Denied, Interceptor, Point, ReviewPending, ToolDeclaration, testing
from guard.audit import AuditLog
from guard.decorators import Decorators
from guard.errors import PolicyLoadError
from guard.pii import Scanner
from guard.policy import load_bundle
from guard.testing import MemoryLog

CLERK = "did:web:agents.example:clerk"
CARD = "4111 1111 1111 1111"
CRM = ToolDeclaration(name="crm", effects=("read",), confidentiality="confidential")
MAIL = ToolDeclaration(name="mail", effects=("send",), destinations=("to",))
SEARCH = ToolDeclaration(name="search", effects=("read",))
WIRE = ToolDeclaration(name="wire", effects=("pay",))


@pytest.fixture
def pair() -> tuple[Interceptor, MemoryLog]:
    return testing.interceptor()


def _call(made: Interceptor, tool: ToolDeclaration, target: Any, result: Any = "ok") -> Any:
    request = made.request(Point.PRE_TOOL_CALL, target, tool=tool)
    return made.call(request, lambda _: result, on_deny="return")


def test_a_run_that_is_resumed_by_its_id_keeps_its_path(pair: Any) -> None:
    made, log = pair
    with guard.session(CLERK, grants=["crm", "mail"], id="run-7"):
        _call(made, CRM, {})
    with guard.session(CLERK, grants=["crm", "mail"], id="run-7") as resumed:
        assert isinstance(_call(made, MAIL, {"to": "eve@evil.example"}), Denied)
        assert resumed.path.view().counts["tool:crm"] == 1
    assert [entry.session_seq for entry in log.entries] == [0, 1, 2]


def test_a_run_inside_another_brings_its_facts_along(pair: Any) -> None:
    made, _ = pair
    with guard.session(CLERK, grants=["crm"], id="run-8"):
        _call(made, CRM, {})
    with guard.session(CLERK, grants=["mail"]):
        with guard.session(CLERK, id="run-8"):
            pass
        assert isinstance(_call(made, MAIL, {"to": "eve@evil.example"}), Denied)


def test_a_released_result_is_redacted_needs_everyone_and_is_recorded(tmp_path: Path) -> None:
    source = head("two", points="post_tool_call") + "".join(
        f'verdicts contains {{"effect": "review", "code": "two.{queue}", "message": "look", '
        f'"review": {{"queue": "{queue}"}}}}\n\n'
        for queue in ("a", "b")
    )
    made, log = testing.interceptor(policies=[write(tmp_path, source, rule="two")])
    with guard.session(CLERK, grants=["search"]):
        pending = _call(made, SEARCH, {}, result={"card": CARD})
    assert isinstance(pending, ReviewPending)
    first, second = pending.review_ids
    made.approve(first, by="ann")
    with pytest.raises(guard.ReviewFault, match="of queue `b` is pending"):
        made.release(first)
    made.approve(second, by="bob")
    assert made.release(first) == {"card": "<CREDIT_CARD>"}
    entry = log.entries[-1]
    assert (entry.kind, entry.approved_by, entry.result, entry.effect) == (
        "release", "ann, bob", {"card": "<CREDIT_CARD>"}, "allow",
    )  # fmt: skip


@pytest.mark.parametrize("asked", [["evil"], {"id": "evil"}, None, 7])
def test_a_model_that_is_not_named_by_text_is_not_called(asked: Any) -> None:
    made, _ = testing.interceptor(fleet=FLEET)

    @Decorators(lambda: made).model("large-eu", provider="p", argument="model")
    def chat(model: Any, messages: str) -> Any:
        raise AssertionError("an unapproved model was called")

    with guard.session(CLERK), pytest.raises(Denied):
        chat(asked, "hello")


def test_the_model_that_was_asked_for_is_masked_in_the_record() -> None:
    made, log = testing.interceptor(fleet=FLEET, models={"large-eu": lambda **_: "eu"})

    @Decorators(lambda: made).model("large-eu", provider="p", argument="model")
    def chat(model: str) -> str:
        return model

    with guard.session(CLERK):
        assert chat(f"jane@corp.example {CARD}") == "large-eu"
    assert CARD not in str(log.entries)
    assert "jane" not in str(log.entries)


def test_a_flood_of_findings_is_denied_and_blinds_no_rule(pair: Any) -> None:
    made, _ = pair
    with guard.session(CLERK, grants=["search"]):
        denied = _call(made, SEARCH, {"columns": ["a@b.co"] * 6_000, "table": "payroll"})
    assert [fault.code for fault in denied.decision.faults] == ["scan.too_many_findings"]


def test_thousands_of_reasons_still_leave_a_record(tmp_path: Path) -> None:
    made, _ = testing.interceptor()
    log = open_log(tmp_path / "audit")
    governor = Interceptor(engine=made.engine, sink=log, key=b"k" * 32, clock=made.clock)
    with guard.session(CLERK, grants=["wire"]):
        denied = _call(governor, WIRE, {"items": [{"amount": "x"}] * 3_000})
    assert isinstance(denied, Denied)
    assert denied.decision.faults == ()
    log.close()
    assert _lines(log) == 1


def test_an_entry_that_no_log_can_hold_is_not_waited_with() -> None:
    class Small(MemoryLog):
        def append(self, entry: Any) -> int:
            if entry.tool == "search":
                raise guard.EntryRefused("too large")
            return super().append(entry)

    made, _ = testing.interceptor(on_audit_failure="buffer")
    made.recorder._sink = log = Small()
    with guard.session(CLERK, grants=["search", "crm"]):
        assert isinstance(_call(made, SEARCH, {}), Denied)
        assert _call(made, CRM, {}) == "ok"
    assert [entry.tool for entry in log.entries] == ["crm", "crm"]


async def test_a_call_that_is_cancelled_still_counts(pair: Any) -> None:
    made, _ = pair

    async def slow(_: guard.Permit) -> None:
        await asyncio.sleep(3_600)

    with guard.session(CLERK, grants=["search"]) as now:
        request = made.request(Point.PRE_TOOL_CALL, {}, tool=SEARCH)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(made.acall(request, slow), timeout=0.01)
    assert now.path.view().counts["tool:search"] == 1


def test_attempts_that_are_denied_are_steps_too(pair: Any) -> None:
    made, _ = pair
    with guard.session(CLERK) as now:
        for _ in range(3):
            _call(made, SEARCH, {})
    assert now.path.view().length == 3


def test_a_fact_before_a_call_is_refused_when_the_rule_loads(tmp_path: Path) -> None:
    rule = write(tmp_path, head() + 'facts contains "x"')
    with pytest.raises(PolicyLoadError, match="not at pre_tool_call: use post_tool_call"):
        load_bundle([rule])


class WithOutput(Exception):
    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.stderr = f"card {CARD}"


def _noted() -> Exception:
    error = ValueError("clean")
    error.add_note(f"card {CARD}")
    return error


def _caused() -> Exception:
    try:
        raise KeyError(CARD)
    except KeyError as cause:
        error = ValueError("clean")
        error.__cause__ = cause
        return error


@pytest.mark.parametrize(
    "error",
    [
        ExceptionGroup("two failed", [ValueError(CARD), OSError("x")]),
        WithOutput("clean"),
        ValueError("clean", {"card": CARD}),
        _noted(),
        _caused(),
        ValueError(f"card {CARD} \ud800"),
    ],
    ids=["group", "attribute", "argument", "note", "cause", "surrogate"],
)
def test_nothing_that_an_exception_carries_shows_what_was_withheld(
    pair: Any, error: Exception
) -> None:
    made, _ = pair

    def run(_: guard.Permit) -> None:
        raise error

    outcomes = (type(error), guard.ToolFailed, Denied)
    with guard.session(CLERK, grants=["search"]), pytest.raises(outcomes) as caught:
        made.call(made.request(Point.PRE_TOOL_CALL, {}, tool=SEARCH), run)
    shown = "".join(traceback.format_exception(caught.value))
    assert CARD not in shown.replace("ValueError(CARD", "")
    assert (caught.value.__context__, caught.value.__cause__) == (None, None)


def test_a_denied_end_of_a_generator_carries_no_value_with_it(pair: Any) -> None:
    @Decorators(lambda: pair[0]).tool(effects=["read"], name="search")
    def items() -> Any:
        yield 1
        return object()

    with guard.session(CLERK, grants=["search"]):
        stream = items()
        next(stream)
        with pytest.raises(Denied) as caught:
            next(stream)
    assert caught.value.__context__ is None


def test_a_scan_of_many_names_without_values_comes_to_its_end() -> None:
    # 256 KB took 24 s when each name looked at all that follows; bench rows hold the time.
    scan = Scanner().scan("token=a(" * 32_000)
    assert (scan.secrets, scan.unscanned) == ((), ())


def test_a_child_that_forks_in_the_middle_of_records_can_call(pair: Any) -> None:
    made, _ = pair
    stop = threading.Event()
    with guard.session(CLERK, grants=["search"]) as now:

        def work() -> None:
            with now:
                while not stop.is_set():
                    _call(made, SEARCH, {})

        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        try:
            codes = []
            for _ in range(6):
                child = os.fork()
                if child == 0:
                    signal.alarm(20)  # a child that hangs is killed, and the test fails
                    _call(made, SEARCH, {})
                    os._exit(0)
                codes.append(os.waitpid(child, 0)[1])
        finally:
            stop.set()
            for thread in threads:
                thread.join()
    assert codes == [0] * 6


def _lines(log: AuditLog) -> int:
    return sum(path.read_bytes().count(b"\n") for path in log.directory.glob("records-*.jsonl"))
