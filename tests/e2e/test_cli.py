"""The command line as a person types it: text, --json, exit codes, and never a traceback."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from guard.config import load_config
from guard.durability import Durabilities

REQUEST = {
    "point": "pre_tool_call",
    "tool": {"name": "wire", "effects": ["pay"]},
    "target": {"to": "jane@corp.example", "amount": 900},
    "principal": "did:web:clerk",
    "grants": ["wire"],
    "now_ns": 1736942400000000000,
}


def guard(*arguments: str, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "guard", *arguments], input=stdin, capture_output=True, text=True
    )


def _json(*arguments: str, stdin: str | None = None) -> Any:
    return json.loads(guard(*arguments, stdin=stdin).stdout)


def test_help_of_every_verb_teaches() -> None:
    top = guard("--help")
    assert top.returncode == 0
    for verb in ("init", "doctor", "demo", "decide", "explain", "policy", "audit"):
        assert verb in top.stdout
        done = guard(verb, "--help")
        assert (done.returncode, done.stderr) == (0, "")
        assert len(done.stdout) > 200


def test_a_verb_that_does_not_exist_gets_a_suggestion() -> None:
    done = guard("decid")
    assert done.returncode == 2
    assert "did you mean `decide`" in done.stderr


@pytest.mark.parametrize(
    ("change", "effect", "code"),
    [
        ({}, "review", 1),
        ({"target": {"to": "ops", "amount": 9}}, "allow", 0),
        ({"grants": []}, "deny", 1),
    ],
)
def test_decide_answers_and_says_so_with_its_exit_code(
    change: dict[str, Any], effect: str, code: int
) -> None:
    done = guard("decide", "--json", stdin=json.dumps(REQUEST | change))
    decision = json.loads(done.stdout)
    assert (decision["effect"], decision["recorded"], done.returncode) == (effect, False, code)
    assert not Path(".guard").exists()


def test_decide_in_words() -> None:
    done = guard("decide", stdin=json.dumps(REQUEST))
    assert done.stdout.splitlines()[0] == "REVIEW"
    assert "payment_limit.over_limit" in done.stdout
    assert "jane" not in done.stdout


def test_explain_says_which_rules_were_in_scope_and_which_fired() -> None:
    told = _json("explain", "--json", stdin=json.dumps(REQUEST))
    assert told["rules"]["payment_limit"] is True
    assert told["rules"]["unknown_tool"] is False
    assert told["evidence"]["pii"][0]["entity"] == "EMAIL_ADDRESS"
    text = guard("explain", stdin=json.dumps(REQUEST)).stdout
    assert "EMAIL_ADDRESS at /to" in text


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"point": "lunch"}', '{"point": "output", "targte": 1}', '"\\ud800"']
)
def test_a_malformed_request_is_one_line_and_exit_2(text: str) -> None:
    done = guard("decide", stdin=text)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("guard: ")
    assert len(done.stderr.splitlines()) == 1


def test_init_writes_a_project_that_passes_its_own_checks() -> None:
    first = _json("init", "--json")
    assert len(first["written"]) == 6
    assert _json("init", "--json") == {"written": [], "kept": first["written"]}
    assert guard("policy", "check", "builtin", "policies").returncode == 0
    tested = _json("policy", "test", "builtin", "policies", "--json", "--match", "refund")
    assert (tested["ok"], tested["counts"]["pass"]) == (True, 2)
    doctor = _json("doctor", "--json")
    assert [c for c in doctor["checks"] if not c["ok"]] == []
    assert not Path(".guard").exists()
    chosen = load_config(Path("guard.toml")).audit.durabilities()
    assert chosen == Durabilities(), "what does more than read is on the disk before it happens"


def test_doctor_names_what_is_wrong() -> None:
    Path("guard.toml").write_text("[audit]\ndirectory = 'guard.toml/audit'\n")
    done = guard("doctor")
    assert done.returncode == 1
    assert "cannot be written" in done.stdout


def test_policy_check_and_test_use_their_exit_codes(tmp_path: Path) -> None:
    rule = tmp_path / "bad" / "rules" / "r"
    rule.mkdir(parents=True)
    (rule / "r.rego").write_text("package guard.rules.r\n")
    done = guard("policy", "check", str(tmp_path / "bad"))
    assert (done.returncode, "r.rego:1" in done.stderr) == (1, True)
    assert _json("policy", "check", str(tmp_path / "bad"), "--json")["ok"] is False
    assert guard("policy", "check", "--no-such-option").returncode == 2


def test_a_failing_policy_test_fails_the_command() -> None:
    guard("init")
    path = Path("policies/rules/refund_limit/refund_limit_test.rego")
    path.write_text(path.read_text().replace("after(2)", "after(3)"))
    done = guard("policy", "test", "policies")
    assert done.returncode == 1
    assert "FAIL" in done.stdout
    path.write_text(path.read_text() + "\ntest_broken if ")
    assert guard("policy", "test", "policies").returncode == 1


def test_a_broken_configuration_is_one_line_and_exit_2() -> None:
    Path("guard.toml").write_text("[audit]\ndirectry = 'x'\n")
    done = guard("decide", stdin=json.dumps(REQUEST))
    assert done.returncode == 2
    assert "did you mean `directory`" in done.stderr
