"""Which fields a rule reads: followed where it can be, everything where it cannot."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from support.bundles import head, write
from support.cases import case_id, case_request, case_session, load_cases

from guard.policy import EmbeddedEngine, build_input, load_bundle
from guard.policy.reads import project

DENY = 'verdicts contains {"effect": "deny", "code": "r.no", "message": "no"} if '

READS = [
    (DENY + 'input.tool.name == "a"', {"tool": {"name"}}),
    (DENY + "input.args.x > 1", {"args": None}),
    (DENY + 'input["principal"].id == "a"', {"principal": {"id"}}),
    (DENY + "input.evidence.trust.lower < 1", {"evidence": {"trust"}}),
    (DENY + "count(input.path) > 1", {"path": None}),
    (DENY + "f(input)\n\nf(x) if x.tool.name == data.settings.s", {"tool": {"name"}}),
    (DENY + "f(1, input)\n\nf(_, x) if g(x)\n\ng(y) if y.path.length > 1", {"path": {"length"}}),
    (DENY + "f(input)\n\nf(x) if x.error\n\nf(x) if x.point", {"error": None, "point": None}),
    (DENY + "count(input) > 1", None),
    (DENY + '{ some k in ["tool"]; input[k] }', None),
    (DENY + "{ x := input; x.tool }", None),
    (DENY + "f(input)\n\nf(x) := y if y := x", None),
    (DENY + "f(input)\n\nf({}) if true", None),
    (DENY + 'object.get(input, ["tool", "name"], "") == "a"', None),
    (DENY + "{ some x in [input]; x.tool }", None),
]


@pytest.mark.parametrize(("source", "want"), READS)
def test_what_a_rule_reads(tmp_path: Path, source: str, want: Any) -> None:
    data = '{"settings": {"s": "a"}}'
    rule = load_bundle([write(tmp_path, head() + source, data=data)]).rules["r"]
    found = rule.reads
    if found is not None:
        found = {key: names if names is None else set(names) for key, names in found.items()}
    assert found == want


@pytest.mark.parametrize("case", load_cases(), ids=case_id)
def test_what_is_left_out_changes_no_answer(case: dict[str, Any]) -> None:
    with case_session(case) as (made, _, _session):
        engine = made.engine
        assert isinstance(engine, EmbeddedEngine)
        request = case_request(case, made)
        document = build_input(request, made.explain(request).evidence, request.target)
        tool = request.tool.name if request.tool else None
        scope = engine.bundle.scope(request.point, tool)
        part = project(document, scope.reads)
        assert len(part) < len(document)
        from guard.policy.input import encode_input

        key = (-1, scope.rules)
        whole = engine._evaluate_here(key, scope, encode_input(document))
        assert engine._evaluate_here(key, scope, encode_input(part)) == whole
