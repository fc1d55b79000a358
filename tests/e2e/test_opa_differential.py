"""A real OPA and the embedded engine give the same answer to every case.

OPA gets the policies as they are written, with `main.rego`, the scope table and the data; the
embedded engine runs the linked rules. The input is the same text.
"""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import msgspec
import pytest
from support.cases import case_id, case_request, case_session, load_cases

from guard.policy import EmbeddedEngine, build_input, encode_input
from guard.policy.builtins import ALLOWED_BUILTINS
from guard.request import POST_OF, Point

pytestmark = pytest.mark.needs_opa


def _opa(*arguments: str, stdin: str | None = None) -> Any:
    done = subprocess.run(
        ["opa", *arguments], input=stdin, capture_output=True, text=True, check=True
    )
    return json.loads(done.stdout)


def _write_bundle(engine: EmbeddedEngine, directory: Path) -> None:
    bundle = engine.bundle
    for name, source in [
        ("main.rego", bundle.main),
        *bundle.libraries.items(),
        *((rule.file, rule.source) for rule in bundle.rules.values()),
    ]:
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(source)
    (directory / "data.json").write_text(json.dumps(bundle.documents()))


def _sorted(verdicts: list[Any]) -> list[Any]:
    return sorted(verdicts, key=lambda verdict: json.dumps(verdict, sort_keys=True))


@pytest.mark.parametrize("case", load_cases(), ids=case_id)
def test_opa_and_the_embedded_engine_agree(case: dict[str, Any], tmp_path: Path) -> None:
    with case_session(case) as (made, _, _session):
        engine = made.engine
        assert isinstance(engine, EmbeddedEngine)
        _write_bundle(engine, tmp_path / "bundle")
        request = case_request(case, made)
        points = [request.point, *([POST_OF[request.point]] if request.point in POST_OF else [])]
        for point in points:
            asked = msgspec.structs.replace(request, point=Point(point))
            decided = made.explain(asked)
            document = build_input(asked, decided.evidence, asked.target)
            tool = asked.tool.name if asked.tool else None
            ours = engine.evaluate(asked.point, tool, document)
            theirs = _opa(
                "eval", "--format", "json", "--data", str(tmp_path / "bundle"),
                "--stdin-input", '{"verdicts": data.guard.verdicts, "facts": data.guard.facts}',
                stdin=encode_input(document),
            )["result"][0]["expressions"][0]["value"]  # fmt: skip
            said = [
                (v["effect"], v["code"], v["message"], tuple(v.get("pointers", ())))
                for v in theirs["verdicts"]
            ]
            mine = [(v.effect.value, v.code, v.message, v.pointers) for v in ours.verdicts]
            assert _sorted(mine) == _sorted(said)
            assert sorted(ours.facts) == sorted(theirs["facts"])


def test_opa_runs_the_tests_of_the_default_policies_like_we_do() -> None:
    from guard.policy import builtin_directory, load_bundle
    from guard.policy.unit import TestState, run_tests

    ours = run_tests(load_bundle([builtin_directory()], data={"fleet": {"models": {}}}))
    theirs = _opa("test", "--format", "json", str(builtin_directory()))
    assert {r.name for r in ours if r.state is TestState.PASS} == {
        r["name"] for r in theirs if not r.get("fail") and not r.get("skip")
    }
    assert len(ours) == len(theirs)


def test_opa_knows_every_allowed_builtin() -> None:
    known = {builtin["name"] for builtin in _opa("capabilities", "--current")["builtins"]}
    assert known >= ALLOWED_BUILTINS
