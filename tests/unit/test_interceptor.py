"""The whole of a call: what runs, what is recorded, what happens when something breaks."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

import guard
from guard import Denied, Effect, Outcome, Point, ReviewPending, ToolDeclaration, testing
from guard.interceptor import Interceptor
from guard.testing import MemoryLog

SEARCH = ToolDeclaration(name="search", effects=("read",))
WIRE = ToolDeclaration(name="wire", effects=("pay",), destinations=("to",))
CLERK = "did:web:agents.example:clerk"


@pytest.fixture
def made() -> Interceptor:
    return testing.interceptor()[0]


@pytest.fixture
def log(made: Interceptor) -> MemoryLog:
    sink = made.recorder._sink
    assert isinstance(sink, MemoryLog)
    return sink


def _search(made: Interceptor, target: Any = None) -> guard.Request:
    return made.request(Point.PRE_TOOL_CALL, {"q": "x"} if target is None else target, tool=SEARCH)


def test_intent_stands_before_the_call_and_outcome_after_it(
    made: Interceptor, log: MemoryLog
) -> None:
    with guard.session(CLERK, grants=["search"]):
        result = made.call(_search(made), lambda p: [e.kind for e in log.entries])
    assert result == ["intent"]
    intent, outcome = log.entries
    assert (outcome.kind, outcome.ref, outcome.happened) == ("outcome", intent.decision_id, True)
    assert (intent.session_seq, outcome.session_seq) == (0, 1)


def test_what_runs_is_the_snapshot_and_not_the_callers_object(made: Interceptor) -> None:
    arguments = {"q": ["a"]}
    with guard.session(CLERK, grants=["search"]):
        request = _search(made, arguments)
        permit = made.before(request)
    assert isinstance(permit, guard.Permit)
    arguments["q"].append("changed after the decision")
    assert permit.target == {"q": ["a"]}


def test_a_result_is_a_snapshot_too(made: Interceptor) -> None:
    kept: list[str] = ["a"]
    with guard.session(CLERK, grants=["search"]):
        result = made.call(_search(made), lambda _: kept)
    kept.append("b")
    assert result == ["a"]


def test_personal_data_is_masked_in_the_record(made: Interceptor, log: MemoryLog) -> None:
    with guard.session(CLERK, grants=["search"]):
        made.call(_search(made, {"q": "jane@corp.example"}), lambda p: p.target["q"])
    assert [entry.input or entry.result for entry in log.entries] == [
        {"q": "<EMAIL_ADDRESS>"},
        "<EMAIL_ADDRESS>",
    ]
    assert log.entries[0].masked == ["/input/q"]


def test_a_redacted_result_keeps_its_structure(made: Interceptor) -> None:
    with guard.session(CLERK, grants=["search"]):
        result = made.call(_search(made), lambda _: {"n": 3, "card": ["4111 1111 1111 1111", True]})
    assert result == {"n": 3, "card": ["<CREDIT_CARD>", True]}


FAULTS = [RuntimeError("a secret hunter2"), MemoryError(), type("Panic", (BaseException,), {})()]


@pytest.mark.parametrize("stage", ["scan", "identity", "capability", "trust", "policy"])
@pytest.mark.parametrize("error", FAULTS, ids=lambda e: type(e).__name__)
def test_fault_in_any_stage_is_a_deny(
    made: Interceptor, log: MemoryLog, stage: str, error: BaseException
) -> None:
    def broken(request: guard.Request, evidence: Any) -> Any:
        raise error

    made.stages = tuple((n, broken if n == stage else s) for n, s in made.stages)
    ran: list[int] = []
    with guard.session(CLERK, grants=["search"]), pytest.raises(Denied) as caught:
        made.call(_search(made), lambda _: ran.append(1))
    decision = caught.value.decision
    assert ran == []
    assert [(f.code, f.stage) for f in decision.faults] == [(f"{stage}.exception", stage)]
    assert "hunter2" not in str(caught.value) + str(log.entries)
    assert log.entries[0].effect == "deny"


def test_without_a_completed_scan_only_a_commitment_is_stored(
    made: Interceptor, log: MemoryLog
) -> None:
    def broken(request: guard.Request, evidence: Any) -> Any:
        raise RuntimeError

    made.stages = (("scan", broken), *made.stages[1:])
    with guard.session(CLERK, grants=["search"]), pytest.raises(Denied):
        made.call(_search(made), lambda _: None)
    assert log.entries[0].input is None
    assert len(log.entries[0].commitment or "") == 64


@pytest.mark.parametrize("error", [KeyboardInterrupt(), asyncio.CancelledError(), SystemExit()])
def test_what_stops_the_process_passes_through_and_nothing_is_called(
    made: Interceptor, error: BaseException
) -> None:
    def stopped(request: guard.Request, evidence: Any) -> Any:
        raise error

    made.stages = (("scan", stopped),)
    ran: list[int] = []
    with guard.session(CLERK, grants=["search"]), pytest.raises(type(error)):
        made.call(_search(made), lambda _: ran.append(1))
    assert ran == []


def test_a_call_that_is_stopped_is_recorded_as_neither_done_nor_undone(
    made: Interceptor, log: MemoryLog
) -> None:
    def run(_: guard.Permit) -> None:
        raise KeyboardInterrupt

    with guard.session(CLERK, grants=["search"]), pytest.raises(KeyboardInterrupt):
        made.call(_search(made), run)
    outcome = log.entries[1]
    assert (outcome.happened, outcome.error) == (None, "KeyboardInterrupt")


@pytest.mark.parametrize(
    ("reason", "target"),
    [
        ("snapshot.not_json", {"x": object()}),
        ("snapshot.lone_surrogate", {"\ud800": 1}),
        ("snapshot.not_finite", {"x": float("nan")}),
        ("snapshot.too_large", {"x": "y" * 10_000_000}),
    ],
)
def test_arguments_that_are_not_plain_json_are_denied_with_a_code(
    made: Interceptor, log: MemoryLog, reason: str, target: Any
) -> None:
    with guard.session(CLERK, grants=["search"]), pytest.raises(Denied) as caught:
        made.call(_search(made, target), lambda _: None)
    assert [f.code for f in caught.value.decision.faults] == [reason]
    assert (log.entries[0].input, log.entries[0].effect) == (None, "deny")


def test_a_result_that_is_not_plain_json_is_withheld(made: Interceptor, log: MemoryLog) -> None:
    with guard.session(CLERK, grants=["search"]), pytest.raises(Denied):
        made.call(_search(made), lambda _: object())
    assert (log.entries[1].effect, log.entries[1].happened) == ("deny", True)


def test_an_exception_passes_the_post_point_and_its_text_is_redacted(
    made: Interceptor, log: MemoryLog
) -> None:
    def run(_: guard.Permit) -> None:
        try:
            raise KeyError("inner 4111 1111 1111 1111")
        except KeyError as inner:
            raise ValueError("no card 4111 1111 1111 1111") from inner

    with guard.session(CLERK, grants=["search"]), pytest.raises(ValueError, match="card") as caught:
        made.call(_search(made), run)
    assert str(caught.value) == "no card <CREDIT_CARD>"
    assert caught.value.__cause__ is None
    outcome = log.entries[1]
    assert (outcome.error, outcome.result) == ("ValueError", "no card <CREDIT_CARD>")


def test_an_exception_whose_type_cannot_be_remade_becomes_tool_failed(made: Interceptor) -> None:
    class Odd(Exception):
        def __init__(self, *, card: str) -> None:
            super().__init__(card)
            self.card = card

    def run(_: guard.Permit) -> None:
        raise Odd(card="4111 1111 1111 1111")

    with guard.session(CLERK, grants=["search"]), pytest.raises(guard.ToolFailed) as caught:
        made.call(_search(made), run)
    assert str(caught.value) == "Odd: <CREDIT_CARD>"


def test_a_denied_call_can_be_returned_as_a_value(made: Interceptor) -> None:
    value = made.call(_search(made), lambda _: None, on_deny="return")
    assert isinstance(value, Denied)
    assert value.decision.effect is Effect.DENY


def test_a_review_lets_exactly_this_call_through_once(made: Interceptor, log: MemoryLog) -> None:
    def request(amount: int) -> guard.Request:
        return made.request(Point.PRE_TOOL_CALL, {"to": "ops", "amount": amount}, tool=WIRE)

    with guard.session(CLERK, grants=["wire"]):
        with pytest.raises(ReviewPending) as pending:
            made.call(request(900), lambda _: "paid")
        made.approve(pending.value.review_id, by="ann@finance")
        with pytest.raises(ReviewPending):
            made.call(request(901), lambda _: "paid")
        assert made.call(request(900), lambda _: "paid") == "paid"
        with pytest.raises(ReviewPending):
            made.call(request(900), lambda _: "paid")
    told = [(e.kind, e.approved_by, e.detail) for e in log.entries if e.approved_by]
    assert told == [
        ("review", "ann@finance", {"answer": "approved", "queue": told[0][2]["queue"]}),
        ("intent", "ann@finance", {}),
    ]


def test_a_rejected_or_expired_review_denies(made: Interceptor) -> None:
    def pay() -> Any:
        request = made.request(Point.PRE_TOOL_CALL, {"to": "ops", "amount": 900}, tool=WIRE)
        return made.call(request, lambda _: "paid", on_deny="return")

    with guard.session(CLERK, grants=["wire"]):
        first = pay()
        made.reject(first.review_id, by="ann@finance")
        assert isinstance(pay(), Denied)
        clock = made.clock
        assert isinstance(clock, testing.FakeClock)
        clock.advance_s(3_601)
        second = pay()
        assert isinstance(second, ReviewPending)
        clock.advance_s(3_601)
        with pytest.raises(guard.ReviewFault, match="unknown or expired"):
            made.approve(second.review_id, by="ann@finance")


def test_nobody_approves_a_request_of_his_own(made: Interceptor) -> None:
    with guard.session(CLERK, grants=["wire"]):
        request = made.request(Point.PRE_TOOL_CALL, {"to": "ops", "amount": 900}, tool=WIRE)
        pending = made.call(request, lambda _: None, on_deny="return")
    assert isinstance(pending, ReviewPending)
    with pytest.raises(guard.ReviewFault, match="never by its requester"):
        made.approve(pending.review_id, by=CLERK)


def test_an_approval_does_not_lift_what_has_changed_on_the_path(made: Interceptor) -> None:
    with guard.session(CLERK, grants=["wire"]) as now:
        request = made.request(Point.PRE_TOOL_CALL, {"to": "ops", "amount": 900}, tool=WIRE)
        pending = made.call(request, lambda _: None, on_deny="return")
        assert isinstance(pending, ReviewPending)
        made.approve(pending.review_id, by="ann@finance")
        for _ in range(200):
            now.path.claim("tool:x")
        again = made.call(request, lambda _: None, on_deny="return")
    assert isinstance(again, Denied)


@pytest.mark.parametrize("on_failure", ["deny", "buffer", "allow"])
def test_the_declared_answer_when_the_log_fails(on_failure: str) -> None:
    made, log = testing.interceptor(on_audit_failure=on_failure)
    ran: list[int] = []
    with guard.session(CLERK, grants=["search"]):
        log.is_broken = True
        value = made.call(_search(made), lambda _: ran.append(1), on_deny="return")
        log.is_broken = False
        made.call(_search(made), lambda _: None)
    kinds = [entry.kind for entry in log.entries]
    # What was refused or lost has taken no number: a gap means that an entry was removed.
    assert [entry.session_seq for entry in log.entries] == list(range(len(kinds)))
    if on_failure == "deny":
        assert isinstance(value, Denied)
        assert [f.code for f in value.decision.faults] == ["audit.unavailable"]
        assert (ran, kinds) == ([], ["intent", "outcome"])
        return
    assert ran == [1]
    assert f"audit.on_failure={on_failure}" in log.entries[-1].notes
    assert kinds == ["intent", "outcome"] * (2 if on_failure == "buffer" else 1)
    if on_failure == "allow":
        assert "audit.lost=2" in log.entries[-1].notes


def test_a_result_is_withheld_when_only_its_outcome_cannot_be_recorded(
    made: Interceptor, log: MemoryLog
) -> None:
    def run(_: guard.Permit) -> str:
        log.is_broken = True
        return "result"

    with guard.session(CLERK, grants=["search"]), pytest.raises(Denied) as caught:
        made.call(_search(made), run)
    assert [f.code for f in caught.value.decision.faults] == ["audit.unavailable"]


def test_facts_of_a_result_stand_on_the_path(made: Interceptor) -> None:
    crm = ToolDeclaration(name="crm", effects=("read",), confidentiality="confidential")
    mail = ToolDeclaration(name="mail", effects=("send",), destinations=("to",))
    with guard.session(CLERK, grants=["crm", "mail"]):

        def send() -> Any:
            target = {"to": "eve@evil.example"}
            request = made.request(Point.PRE_TOOL_CALL, target, tool=mail)
            return made.call(request, lambda _: "sent", on_deny="return")

        assert send() == "sent"
        made.call(made.request(Point.PRE_TOOL_CALL, {}, tool=crm), lambda _: "customers")
        assert isinstance(send(), Denied)
        with guard.session("did:web:agents.example:helper", grants=["mail"]):
            assert isinstance(send(), Denied)


def test_sessions_do_not_leak_into_threads_and_can_be_entered_there(made: Interceptor) -> None:
    seen: dict[str, Any] = {}
    with guard.session(CLERK, grants=["search"]) as now:

        def bare() -> None:
            seen["bare"] = made.call(_search(made), lambda _: 1, on_deny="return")

        def entered() -> None:
            with now:
                seen["entered"] = made.call(_search(made), lambda _: 1)

        for work in (bare, entered):
            thread = threading.Thread(target=work)
            thread.start()
            thread.join()
    assert isinstance(seen["bare"], Denied)
    assert seen["entered"] == 1


async def test_tasks_keep_their_own_sessions(made: Interceptor, log: MemoryLog) -> None:
    async def work(name: str) -> Any:
        with guard.session(f"did:web:{name}", grants=["search"]):
            await asyncio.sleep(0)

            async def run(_: guard.Permit) -> str:
                await asyncio.sleep(0)
                return name

            return await made.acall(_search(made), run)

    assert await asyncio.gather(*(work(f"a{i}") for i in range(20))) == [f"a{i}" for i in range(20)]
    by_session: dict[str, set[str]] = {}
    for entry in log.entries:
        by_session.setdefault(entry.session_id, set()).add(entry.principal["id"])
    assert [len(names) for names in by_session.values()] == [1] * 20


def test_eight_threads_lose_no_record(made: Interceptor, log: MemoryLog) -> None:
    with guard.session(CLERK, grants=["search"]) as now:

        def work() -> None:
            with now:
                for _ in range(20):
                    made.call(_search(made), lambda _: "ok")

        threads = [threading.Thread(target=work) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert sorted(entry.session_seq for entry in log.entries) == list(range(320))
    assert now.path.view().length == 160
    assert now.path.view().pending == {}


def test_check_redacts_an_answer_and_records_one_decision(
    made: Interceptor, log: MemoryLog
) -> None:
    with guard.session(CLERK):
        checked = made.check(made.request(Point.OUTPUT, "your card is 4111 1111 1111 1111"))
    assert checked.target == "your card is <CREDIT_CARD>"
    assert [(entry.kind, entry.effect) for entry in log.entries] == [("decision", "redact")]


def test_a_host_that_cannot_pause_gets_a_deny_for_a_review(made: Interceptor) -> None:
    host = guard.Host(can_pause=False)
    with guard.session(CLERK, grants=["wire"]):
        request = made.request(
            Point.PRE_TOOL_CALL, {"to": "ops", "amount": 900}, tool=WIRE, host=host
        )
        decision = made.decide(request)
    assert (decision.effect, decision.reasons[0].code) == (Effect.DENY, "host.cannot_review")


def test_outcomes_survive_pickling() -> None:
    import pickle

    decision = guard.Decision(id="d", effect=Effect.DENY)
    denied = pickle.loads(pickle.dumps(Denied(decision)))
    pending = pickle.loads(pickle.dumps(ReviewPending(decision, ("r1", "r2"))))
    assert (denied.decision, pending.review_ids) == (decision, ("r1", "r2"))
    assert isinstance(denied, Outcome)


def test_a_key_that_is_personal_data_stands_in_no_pointer(
    made: Interceptor, log: MemoryLog
) -> None:
    target = {"to": "ops", "batch": {"jane@corp.example": {"amount": -1}}}
    with guard.session(CLERK, grants=["wire"]), pytest.raises(Denied) as caught:
        made.call(made.request(Point.PRE_TOOL_CALL, target, tool=WIRE), lambda _: None)
    pointers = [p for reason in caught.value.decision.reasons for p in reason.pointers]
    assert pointers == ["/args/batch/<EMAIL_ADDRESS>/amount"]
    assert "jane" not in str(log.entries)


def test_a_fact_that_cannot_be_kept_withholds_the_result(made: Interceptor) -> None:
    crm = ToolDeclaration(name="search", effects=("read",), confidentiality="secret")
    with guard.session(CLERK, grants=["search"]) as now:
        now.path.add_facts(f"fact:{n}" for n in range(4_096))
        with pytest.raises(Denied) as caught:
            made.call(made.request(Point.PRE_TOOL_CALL, {}, tool=crm), lambda _: "secret")
    assert [fault.stage for fault in caught.value.decision.faults] == ["path"]


def test_a_tool_name_that_the_model_invented_is_masked_and_cut_in_the_record(
    made: Interceptor, log: MemoryLog
) -> None:
    name = "mail_4111 1111 1111 1111_" + "x" * 500
    with guard.session(CLERK):
        made.call(made.request(Point.PRE_TOOL_CALL, {}, tool=name), lambda _: 1, on_deny="return")
    tool = log.entries[0].tool or ""
    assert "4111" not in tool
    assert len(tool) < 200


def test_a_result_under_review_is_held_and_released_once(tmp_path: Any) -> None:
    from support.bundles import head, write

    verdict = (
        'verdicts contains {"effect": "review", "code": "hold_it.always", "message": "look first"}'
    )
    rules = write(tmp_path, head("hold_it", points="post_tool_call") + verdict, rule="hold_it")
    made, log = testing.interceptor(policies=[rules])
    ran: list[int] = []
    with guard.session(CLERK, grants=["search"]):
        pending = made.call(_search(made), lambda _: ran.append(1) or "found", on_deny="return")
    assert isinstance(pending, ReviewPending)
    with pytest.raises(guard.ReviewFault, match="pending, not approved"):
        made.release(pending.review_id)
    made.approve(pending.review_id, by="ann@finance")
    with guard.session(CLERK, grants=["search"]):
        again = made.call(_search(made), lambda _: "found", on_deny="return")
    assert isinstance(again, ReviewPending)
    assert made.release(pending.review_id) == "found"
    with pytest.raises(guard.ReviewFault, match="holds no result"):
        made.release(pending.review_id)
    assert (ran, log.entries[1].happened, log.entries[1].effect) == ([1], True, "review")


def test_every_decision_names_the_policies_in_force(made: Interceptor, log: MemoryLog) -> None:
    with guard.session(CLERK, grants=["search"]):
        made.call(_search(made), lambda _: 1)
        made.call(_search(made, {"x": object()}), lambda _: 1, on_deny="return")
    assert {entry.revision for entry in log.entries} == {made.engine.revision}
    assert len(made.engine.revision) == 64


def test_a_reload_of_the_policies_is_one_assignment(made: Interceptor, tmp_path: Any) -> None:
    from support.bundles import head, write

    from guard.policy import EmbeddedEngine, load_bundle

    allow = 'verdicts contains {"effect": "allow", "code": "r.yes", "message": "yes"}'
    with guard.session(CLERK):
        before = made.decide(_search(made))
        made.engine = EmbeddedEngine(load_bundle([write(tmp_path, head() + allow)]))
        after = made.decide(_search(made))
    assert (before.effect, after.effect) == (Effect.DENY, Effect.ALLOW)
    assert after.revision == made.engine.revision != before.revision


@pytest.mark.parametrize(
    ("policy", "call", "is_raised"),
    [
        (None, None, True),
        ("return", None, False),
        ("return", "raise", True),
        ("raise", "return", False),
    ],
)
def test_the_call_then_the_policy_says_how_a_deny_arrives(
    tmp_path: Any, policy: str | None, call: Any, is_raised: bool
) -> None:
    from support.bundles import head, write

    wish = f', "on_deny": "{policy}"' if policy else ""
    deny = f'verdicts contains {{"effect": "deny", "code": "r.no", "message": "no"{wish}}}'
    made, _ = testing.interceptor(policies=[write(tmp_path, head() + deny)])
    with guard.session(CLERK, grants=["search"]):
        try:
            value = made.call(_search(made), lambda _: 1, on_deny=call)
        except Denied:
            value = None
    assert (value is None) is is_raised


async def test_a_cancelled_call_is_recorded_and_stays_cancelled(
    made: Interceptor, log: MemoryLog
) -> None:
    async def run(_: guard.Permit) -> None:
        await asyncio.sleep(3_600)

    with guard.session(CLERK, grants=["search"]) as now:
        task = asyncio.create_task(made.acall(_search(made), run))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert (log.entries[1].error, log.entries[1].happened) == ("CancelledError", None)
    assert now.path.view().pending == {}


def test_an_answer_that_cannot_be_recorded_is_none(made: Interceptor, log: MemoryLog) -> None:
    with guard.session(CLERK, grants=["wire"]):
        request = made.request(Point.PRE_TOOL_CALL, {"to": "ops", "amount": 900}, tool=WIRE)
        pending = made.call(request, lambda _: "sent", on_deny="return")
        assert isinstance(pending, ReviewPending)
        log.is_broken = True
        with pytest.raises(guard.AuditFault):
            made.approve(pending.review_id, by="ann@finance")
        log.is_broken = False
        assert [item.id for item in made.reviews.pending(made.clock.now_ns())] == [
            pending.review_id
        ]
