"""The embedded engine: scope, linking, threads, faults, and what crosses into native code."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
import regorus
from support.bundles import HEAD, head, write

from guard.decision import Effect, Redact, Review, Route, Verdict
from guard.errors import PolicyFault
from guard.evidence import Evidence, Span
from guard.policy import EmbeddedEngine, build_input, load_bundle
from guard.policy.answer import read_facts, read_verdicts
from guard.policy.builtins import ALLOWED_BUILTINS
from guard.policy.embedded import _LOCAL, FOREIGN_CALLS_MAX
from guard.request import Point, Principal, Request, ToolDeclaration


def _request(point: Point = Point.PRE_TOOL_CALL, target: Any = None, tool: str = "pay") -> Request:
    return Request(
        point=point,
        target={"amount": 5} if target is None else target,
        principal=Principal(id="did:web:a"),
        tool=ToolDeclaration(name=tool, effects=("pay",)),
    )


def _evaluate(engine: EmbeddedEngine, request: Request) -> Any:
    document = build_input(request, Evidence(), request.target)
    return engine.evaluate(request.point, request.tool.name if request.tool else None, document)


def _verdict(code: str, condition: str = "true") -> str:
    return (
        f'verdicts contains {{"effect": "deny", "code": "{code}", "message": "no"}} '
        f"if {condition}\n"
    )


def test_only_rules_in_scope_of_the_point_and_the_tool_are_asked(tmp_path: Path) -> None:
    for rule, tools in (("any", ""), ("pay", "pay"), ("mail", "mail")):
        write(tmp_path, head(rule, tools=tools) + _verdict(f"{rule}.no"), rule=rule)
    engine = EmbeddedEngine(load_bundle([tmp_path]))
    asked = {tool: _evaluate(engine, _request(tool=tool)).rules for tool in ("pay", "mail", "x")}
    assert asked == {"pay": ("any", "pay"), "mail": ("any", "mail"), "x": ("any",)}
    assert _evaluate(engine, _request(Point.OUTPUT, "text")).rules == ()


def test_helpers_of_the_same_name_in_two_rules_stay_apart(tmp_path: Path) -> None:
    for rule, limit in (("one", 1), ("two", 10)):
        source = (
            head(rule)
            + f"limit := {limit}\n\nis_over(x) if x > limit\n\n"
            + _verdict(f"{rule}.over", "is_over(input.args.amount)")
        )
        write(tmp_path, source, rule=rule)
    engine = EmbeddedEngine(load_bundle([tmp_path]))
    assert [v.code for v in _evaluate(engine, _request()).verdicts] == ["one.over"]


def test_settings_are_linked_in_as_their_values(tmp_path: Path) -> None:
    directory = write(
        tmp_path,
        HEAD + _verdict("r.over", "input.args.amount > data.settings.r.max"),
        data='{"settings": {"r": {"max": 4}}}',
    )
    assert "input.args.amount > 4" in load_bundle([directory]).rules["r"].linked
    over = load_bundle([directory], data={"settings": {"r": {"max": 5}}})
    assert _evaluate(EmbeddedEngine(over), _request()).verdicts == ()


def test_threads_have_engines_of_their_own(tmp_path: Path) -> None:
    engine = EmbeddedEngine(load_bundle([write(tmp_path, HEAD + _verdict("r.no"))]))
    answers: list[Any] = []
    threads = [
        threading.Thread(target=lambda: answers.append(_evaluate(engine, _request()).verdicts))
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == [_evaluate(engine, _request()).verdicts] * 8


def test_touching_a_foreign_engine_is_a_base_exception() -> None:
    # The trap the pipeline catches BaseException for; when this changes, that may change too.
    engine = regorus.Engine()
    caught: list[BaseException] = []

    def touch() -> None:
        try:
            engine.set_input_json("{}")
        except BaseException as error:
            caught.append(error)

    thread = threading.Thread(target=touch)
    thread.start()
    thread.join()
    assert len(caught) == 1
    assert not isinstance(caught[0], Exception)


def test_a_conflict_at_evaluation_is_a_fault_without_values(tmp_path: Path) -> None:
    source = HEAD + (
        "p := 1 if input.args.amount > 1\n\np := 2 if input.args.amount > 2\n\n"
        + _verdict("r.no", "p")
    )
    engine = EmbeddedEngine(load_bundle([write(tmp_path, source)]))
    with pytest.raises(PolicyFault, match="could not be evaluated") as caught:
        _evaluate(engine, _request(target={"amount": 77}))
    assert "77" not in str(caught.value)
    # The engine that failed is gone; the next call gets a sound one.
    assert _evaluate(engine, _request(target={"amount": 1})).verdicts == ()


@pytest.mark.parametrize(
    "answer",
    [
        "null", "true", "{}", '"<undefined>"', "[1]", '[{"effect": "allow"}]', "[null]", "",
        '[{"effect": "maybe", "code": "a", "message": "b"}]',
        '[{"effect": "allow", "code": "a", "message": "b", "allow": false}]',
        '[{"effect": "allow", "code": 1, "message": "b"}]',
        '[{"effect": "route", "code": "a", "message": "b"}]',
        '[{"effect": "review", "code": "a", "message": "b", "review": {"ttl_s": 0}}]',
        '[{"effect": "redact", "code": "a", "message": "b", "redact": {"pointers": ["/tool"]}}]',
        '[{"effect": "deny", "code": "a", "message": "b", "on_deny": "ignore"}]',
        '[{"effect": "deny", "code": "a", "message": "b", "pointers": ["no-slash"]}]',
    ],
)  # fmt: skip
def test_what_is_not_exactly_an_answer_is_a_fault(answer: str) -> None:
    with pytest.raises(PolicyFault):
        read_verdicts(answer, "args")


def test_every_obligation_is_read() -> None:
    answer = """[
        {"effect": "redact", "code": "a.b", "message": "m",
         "redact": {"entities": ["X"], "operator": "mask", "pointers": ["/args/to"]}},
        {"effect": "route", "code": "a.c", "message": "m", "route": {"models": ["m1"]}},
        {"effect": "review", "code": "a.d", "message": "m",
         "review": {"queue": "q", "ttl_s": 60}}]"""
    said = [
        ("a.b", Effect.REDACT, Redact(entities=("X",), operator="mask", pointers=("/to",))),
        ("a.c", Effect.ROUTE, Route(models=("m1",))),
        ("a.d", Effect.REVIEW, Review(queue="q", ttl_s=60)),
    ]
    assert read_verdicts(answer, "args") == tuple(
        Verdict(effect=effect, code=code, message="m", obligation=duty)
        for code, effect, duty in said
    )


def test_facts_are_short_names() -> None:
    assert read_facts('["read:confidential"]') == ("read:confidential",)
    with pytest.raises(PolicyFault):
        read_facts('["' + "x" * 200 + '"]')


def test_a_fault_about_an_answer_never_quotes_it() -> None:
    with pytest.raises(PolicyFault) as caught:
        read_verdicts('[{"effect": "hunter2", "code": "a", "message": "b"}]', "args")
    assert "hunter2" not in str(caught.value)


def test_spans_are_summed_by_entity_with_pointers_into_the_input() -> None:
    spans = (Span("EMAIL_ADDRESS", "/to", 0, 5), Span("EMAIL_ADDRESS", "/to", 6, 9))
    built = build_input(_request(), Evidence(pii=spans), {"to": "x"})
    assert built["evidence"]["pii"] == {"EMAIL_ADDRESS": {"count": 2, "pointers": ["/args/to"]}}


def test_untrusted_text_stands_nowhere_but_below_the_target() -> None:
    target = {"principal": {"id": "admin"}, "context": {"tenant": "x"}, "tool": {"name": "y"}}
    built = build_input(_request(target=target), Evidence(), target)
    assert built["principal"] == Principal(id="did:web:a")
    assert built["args"] == target


@pytest.mark.parametrize("name", sorted(ALLOWED_BUILTINS))
def test_the_engine_knows_every_allowed_builtin(name: str) -> None:
    engine = regorus.Engine()
    engine.add_policy("b.rego", f"package b\nimport rego.v1\np if {name}(1, 2, 3, 4, 5, 6, 7, 8)")
    engine.set_input_json("{}")
    # It must complain about the arguments, not about the name.
    with pytest.raises(RuntimeError) as caught:
        engine.eval_rule_as_json("data.b.p")
    assert "could not find function" not in str(caught.value)


@pytest.mark.parametrize(("is_daemon", "engines"), [(True, [0, 0, 0]), (False, [0, 0, 1])])
def test_a_thread_gets_engines_of_its_own_only_when_it_stays(
    tmp_path: Path, is_daemon: bool, engines: list[int]
) -> None:
    engine = EmbeddedEngine(load_bundle([write(tmp_path, HEAD + _verdict("r.no"))]))
    owned: list[int] = []

    def work() -> None:
        for calls in (1, FOREIGN_CALLS_MAX - 1, 1):
            for _ in range(calls):
                assert [v.code for v in _evaluate(engine, _request()).verdicts] == ["r.no"]
            owned.append(len(_LOCAL.engines))

    # A daemon never does: its engines would be freed by another thread at the end.
    thread = threading.Thread(target=work, daemon=is_daemon)
    thread.start()
    thread.join()
    assert owned == engines


def test_a_fault_in_the_evaluator_reaches_the_caller() -> None:
    from guard.policy.evaluator import Evaluator

    def panic() -> None:
        raise BaseException("panic")

    evaluator = Evaluator()
    with pytest.raises(BaseException, match="panic"):
        evaluator.run(panic)
    assert evaluator.run(lambda: 7) == 7


def test_a_process_that_used_threads_ends_in_silence() -> None:
    code = (
        "import threading, guard\nfrom guard import testing, Point, ToolDeclaration\n"
        "made, _ = testing.interceptor()\n"
        "def work():\n"
        "    with guard.session('did:web:a', grants=['s']):\n"
        "        for _ in range(30):\n"
        "            made.decide(made.request(Point.PRE_TOOL_CALL, {}, tool='s'))\n"
        "for daemon in (True, False):\n"
        "    t = threading.Thread(target=work, daemon=daemon); t.start(); t.join()\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_an_evaluation_over_its_time_is_a_fault(tmp_path: Path) -> None:
    rule = write(tmp_path, HEAD + _verdict("r.no", "count(numbers.range(1, input.args.n)) > 9"))
    engine = EmbeddedEngine(load_bundle([rule]), evaluation_ms_max=20)
    assert _evaluate(engine, _request(target={"n": 2})).verdicts == ()
    with pytest.raises(PolicyFault, match="took longer than 20 ms"):
        _evaluate(engine, _request(target={"n": 1_000_000}))


def test_a_new_bundle_is_a_new_engine_and_keeps_nothing_of_the_old(tmp_path: Path) -> None:
    directory = write(
        tmp_path,
        HEAD + _verdict("r.over", "input.args.amount > data.settings.limits[input.tool.name]"),
        data='{"settings": {"limits": {"pay": 1}}}',
    )
    old = EmbeddedEngine(load_bundle([directory]))
    assert [v.code for v in _evaluate(old, _request()).verdicts] == ["r.over"]
    (directory / "data.json").write_text('{"settings": {"limits": {"other": 1}}}')
    new = EmbeddedEngine(load_bundle([directory]))
    assert _evaluate(new, _request()).verdicts == ()
    assert [v.code for v in _evaluate(old, _request()).verdicts] == ["r.over"]
    assert new.revision != old.revision
