"""What a bundle is refused for when it loads: file, line and the mend."""

# ruff: noqa: E501 a table of refusals reads better unbroken

from __future__ import annotations

from pathlib import Path

import pytest
from support.bundles import HEAD, write

from guard.errors import PolicyLoadError
from guard.policy import builtin_directory, load_bundle

DENY = '{"effect": "deny", "code": "r.no", "message": "no"}'


REFUSED = [
    (HEAD + "verdicts contains {", r"rules/r/r\.rego:10: "),
    (HEAD + f"verdicts contains {DENY} if input.args.x ==", r"rules/r/r\.rego:10: expecting expression"),
    ("package guard.rules.r\nimport rego.v1\n", r"r\.rego:1: expected a `# METADATA` block"),
    (HEAD.replace("guard.rules.r\n", "guard.rules.other\n") + f"verdicts contains {DENY}",
     r"expected `package guard\.rules\.r`"),
    (HEAD.replace("pre_tool_call", "pre_tool_cal") + f"verdicts contains {DENY}",
     r"r\.rego:1: unknown point `pre_tool_cal`: did you mean pre_tool_call"),
    (HEAD.replace("points:", "point:") + f"verdicts contains {DENY}", r"unknown key `custom\.point`"),
    (HEAD + "helper if true", r"expected `verdicts contains"),
    (HEAD + f"verdicts := {DENY}", r"r\.rego:10: `verdicts` must be a set"),
    (HEAD + "verdicts contains v if v := {}", r"r\.rego:10: a verdict must be an object literal"),
    (HEAD + f"verdicts contains {DENY}".replace("deny", "maybe"),
     r"r\.rego:10: unknown effect `maybe` in rule `r`: expected allow, redact, route, review or deny"),
    (HEAD + f"verdicts contains {DENY}".replace('"r.no"', '"no"'), r"expected a code `r\.<reason>`"),
    (HEAD + f"verdicts contains {DENY}".replace('"no"}', "input.args.x}"),
     r"`message` must be a string literal, never computed"),
    (HEAD + f"verdicts contains {DENY}".replace("message", "mesage"),
     r"unknown verdict key `mesage`: did you mean `message`"),
    (HEAD + f"verdicts contains {DENY}".replace("}", ', "route": {"models": []}}'),
     r"`route` belongs to effect route"),
    (HEAD + f"verdicts contains {DENY}".replace("deny", "route"), r"effect route needs the key `route`"),
    (HEAD + f'verdicts contains {DENY} if http.send({{"url": "x"}})',
     r"r\.rego:10: function `http\.send` is not on the allow-list"),
    (HEAD + f"verdicts contains {DENY} if time.now_ns() > 1", r"`time\.now_ns` is not on the allow-list"),
    (HEAD + f"verdicts contains {DENY} if opa.runtime().env", r"`opa\.runtime` is not on the allow-list"),
    (HEAD + f"verdicts contains {DENY} if rand.intn(input.args.x, 2) == 1", r"`rand\.intn`"),
    (HEAD + f"verdicts contains {DENY} if unknown_fn(1)", r"function `unknown_fn` is not on the"),
    (HEAD + f"verdicts contains {DENY} if input.arg.x", r"unknown field `input\.arg`: did you mean `args`"),
    (HEAD + f"verdicts contains {DENY} if input.principal.rolls",
     r"unknown field `input\.principal\.rolls`: did you mean `roles`"),
    (HEAD + f"verdicts contains {DENY} if input.messages[0]",
     r"`input\.messages` is not there at pre_tool_call: the rule would never fire"),
    (HEAD + f'verdicts contains {DENY} if input.point == "output"',
     r"tests for point `output`, which its scope leaves out"),
    (HEAD.replace("call]", "call]\n#   tools: [pay]")
     + f'verdicts contains {DENY} if input.tool.name == "wire"',
     r"tests for tool `wire`, which its scope leaves out"),
    (HEAD + f"verdicts contains {DENY} if data.guard.rules.other.verdicts", r"a rule may read"),
    (HEAD + f"verdicts contains {DENY} if data.settings.gone", r"setting `data\.settings\.gone` has no"),
    (HEAD + f"p if input.args.x with input as {{}}\n\nverdicts contains {DENY} if p",
     r"`with` replaces the input"),
    (HEAD + f"f(x) := x\n\nverdicts contains {DENY} if f(1, 2, 3)", r"r\.rego:\d+: "),
    (HEAD + f"verdicts contains {DENY} if y == 3", r"r\.rego:10: .*unsafe"),
    (HEAD + f"item := 1\n\nverdicts contains {DENY} if {{ some item; input.args[item] }}",
     r"local `item` has the name of a rule in this file"),
    (HEAD + f"verdicts contains {DENY} if not startswith(input.args.x, \"a\")", r"`not` over `input\.args\.x`"),
    (HEAD + f"verdicts contains {DENY} if not input.args.x > 3", r"`not` over `input\.args\.x`"),
    (HEAD + f"verdicts contains {DENY} if not input.args.x in {{1}}", r"`not` over `input\.args\.x`"),
    (HEAD + f"f(x) if f(x)\n\nverdicts contains {DENY} if f(1)", r"r\.rego:10: rule `f` refers back to itself"),
    (HEAD + f"a if b\n\nb if not a\n\nverdicts contains {DENY} if a", r"refers back to itself"),
    (HEAD + f"verdicts contains {DENY} if count(verdicts) > 0", r"rule `verdicts` refers back to itself"),
    (HEAD + "facts contains input.args.x", r"a fact must be a string literal"),
    (HEAD + "#" * 300_000, r"a module is at most"),
]  # fmt: skip


@pytest.mark.parametrize(("source", "complaint"), REFUSED)
def test_a_rule_that_could_silently_miss_is_refused(
    tmp_path: Path, source: str, complaint: str
) -> None:
    with pytest.raises(PolicyLoadError, match=complaint):
        load_bundle([write(tmp_path, source)])


def test_the_default_policies_load_and_name_a_control_each() -> None:
    bundle = load_bundle([builtin_directory()], data={"fleet": {"models": {}}})
    assert len(bundle.rules) >= 10
    assert [r.name for r in bundle.rules.values() if not r.metadata.controls] == []


def test_the_revision_changes_with_a_rule_and_with_data(tmp_path: Path) -> None:
    one = write(tmp_path / "a", HEAD + f"verdicts contains {DENY}")
    two = write(tmp_path / "b", HEAD + f"verdicts contains {DENY} if true")
    assert load_bundle([one]).revision == load_bundle([one]).revision
    assert load_bundle([one]).revision != load_bundle([two]).revision
    assert load_bundle([one]).revision != load_bundle([one], data={"extra": 1}).revision


def test_a_directory_that_is_missing_or_empty_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PolicyLoadError, match="expected a directory of policies"):
        load_bundle([tmp_path / "gone"])
    with pytest.raises(PolicyLoadError, match="nothing could be permitted"):
        load_bundle([tmp_path])


def test_two_bundles_may_not_both_hold_a_rule(tmp_path: Path) -> None:
    one = write(tmp_path / "a", HEAD + f"verdicts contains {DENY}")
    two = write(tmp_path / "b", HEAD + f"verdicts contains {DENY}")
    with pytest.raises(PolicyLoadError, match="already in another bundle"):
        load_bundle([one, two])


def test_a_foreign_entrypoint_is_refused(tmp_path: Path) -> None:
    directory = write(tmp_path, HEAD + f"verdicts contains {DENY}")
    (directory / "main.rego").write_text("package guard\nimport rego.v1\nverdicts := set()\n")
    with pytest.raises(PolicyLoadError, match=r"main\.rego is guard's own"):
        load_bundle([directory])


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"payments_limit": {}}, "unknown rule `payments_limit`: did you mean `payment_limit`"),
        ({"payment_limit": {"amount_limit": 1}}, "unknown setting `payment_limit.amount_limit`"),
        ({"payment_limit": {"amount_max": "100"}}, "expected a number, got text"),
        ({"payment_limit": {"amount_max": True}}, "expected a number, got true or false"),
        ({"payment_limit": 5}, "expected a table"),
        ({"working_hours": {"weekdays": "Monday"}}, "expected a list, got text"),
    ],
)
def test_a_setting_that_no_rule_would_heed_is_refused(settings: object, complaint: str) -> None:
    with pytest.raises(PolicyLoadError, match=complaint):
        load_bundle([builtin_directory()], data={"settings": settings, "fleet": {"models": {}}})
