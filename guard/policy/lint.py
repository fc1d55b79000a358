"""What a rule must be before it may decide anything. A rule that could silently miss is refused.

For every rule module, in this order:
(1) it sits in `rules/<rule>/` and its package is `guard.rules.<rule>`;
(2) it defines `verdicts contains {...}` or `facts contains "..."`, and else only helpers;
(3) a verdict is an object literal with a known effect, a static code `<rule>.<reason>`, a static
    message, and no unknown key; a fact is a static string;
(4) it calls only functions of its own, of `data.guard.lib`, or built-ins of the allow-list;
(5) it refers only to `input`, `data.guard.lib`, `data.settings` and `data.fleet`, and to fields of
    the input that exist at one of its points at least;
(6) it negates no call or comparison over a field that may be missing, `not f(input.args.x)`: OPA
    answers undefined there, the embedded engine true;
(7) it does not contradict its scope: a test `input.point == "x"` names a point of the scope.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Any, Final

from ..decision import Effect
from ..errors import PolicyLoadError
from ..request import POST_OF, Point
from .builtins import ALLOWED_BUILTINS
from .input import FIELDS, fields_at
from .metadata import Metadata
from .syntax import Call, Module, Node, Ref, RuleHead, text_of, walk, with_line

__all__ = ["lint_library", "lint_rule"]

_VERDICT_KEYS: Final = (
    *("effect", "code", "message", "pointers", "on_deny"),
    *("redact", "route", "review"),
)
_DATA_ROOTS: Final = (("data", "guard", "lib"), ("data", "settings"), ("data", "fleet"))


def lint_rule(module: Module, rule: str, metadata: Metadata) -> None:
    """Raises PolicyLoadError with file, line and the mend on the first thing that is wrong."""
    if not rule.isidentifier() or "__" in rule:
        raise PolicyLoadError(
            f"{module.name}:1: the folder `{rule}` must be a name of letters, digits and single _"
        )
    if module.package != f"guard.rules.{rule}":  # (1)
        raise PolicyLoadError(
            f"{module.name}:1: expected `package guard.rules.{rule}`, got `{module.package}`"
        )
    answers = [head for head in module.heads if head.name in ("verdicts", "facts")]
    if not answers:  # (2)
        raise PolicyLoadError(
            f"{module.name}:1: expected `verdicts contains {{...}}` or `facts contains ...`"
        )
    for head in answers:
        if head.form != "Set":
            raise PolicyLoadError(
                f"{module.name}:{head.line}: `{head.name}` must be a set: "
                f"write `{head.name} contains ... if ...`"
            )
        if head.name == "verdicts":
            _lint_verdict(module, rule, head)  # (3)
        elif text_of(head.node["head"]["Set"]["key"]) is None:
            raise PolicyLoadError(
                f"{module.name}:{head.line}: a fact must be a string literal such as "
                '`facts contains "read:confidential"`'
            )
    early = [point for point in metadata.points if Point(point) in POST_OF]
    if early and any(head.name == "facts" for head in answers):
        raise PolicyLoadError(
            f"{module.name}:1: a fact becomes true after a call, not at {early[0]}: use "
            f"{POST_OF[Point(early[0])].value}"
        )
    _lint_names(module, points=metadata.points, is_rule=True)
    _lint_scope(module, metadata)


def lint_library(module: Module) -> None:
    """The same for a module of `lib/`: only (4) and (5), for every point."""
    if not module.package.startswith("guard.lib."):
        raise PolicyLoadError(
            f"{module.name}:1: expected a package below `guard.lib`, got `{module.package}`"
        )
    _lint_names(module, points=None, is_rule=False)


def _lint_verdict(module: Module, rule: str, head: RuleHead) -> None:
    where = f"{module.name}:{head.line}"
    literal = head.node["head"]["Set"]["key"].get("Object")
    if literal is None:
        raise PolicyLoadError(f"{where}: a verdict must be an object literal in the head")
    fields: dict[str, Node] = {}
    for _, key_node, value_node in literal["fields"]:
        key = text_of(key_node)
        if key not in _VERDICT_KEYS:
            raise PolicyLoadError(
                f"{where}: unknown verdict key `{key}`{_near(key or '', _VERDICT_KEYS)}"
            )
        fields[key] = value_node
    effect = _static_text(where, fields, "effect")
    effects = [e.value for e in Effect]
    if effect not in effects:
        raise PolicyLoadError(
            f"{where}: unknown effect `{effect}` in rule `{rule}`: "
            "expected allow, redact, route, review or deny"
        )
    code = _static_text(where, fields, "code")
    if not code.startswith(f"{rule}.") or len(code) == len(rule) + 1:
        raise PolicyLoadError(f"{where}: expected a code `{rule}.<reason>`, got `{code}`")
    _static_text(where, fields, "message")
    for duty in ("redact", "route", "review"):
        if duty in fields and effect != duty:
            raise PolicyLoadError(f"{where}: `{duty}` belongs to effect {duty}, not to {effect}")
    if effect in ("redact", "route") and effect not in fields:
        raise PolicyLoadError(f"{where}: effect {effect} needs the key `{effect}` that says how")


def _static_text(where: str, fields: dict[str, Node], key: str) -> str:
    if key not in fields:
        raise PolicyLoadError(f"{where}: a verdict needs `{key}`")
    text = text_of(fields[key])
    if not text:
        # A computed message could carry payload into the log and to the model.
        raise PolicyLoadError(f"{where}: `{key}` must be a string literal, never computed")
    return text


def _lint_names(module: Module, *, points: tuple[str, ...] | None, is_rule: bool) -> None:
    own = {head.name for head in module.heads}
    for item in walk(module.tree["rules"]):
        if isinstance(item, Call):
            _lint_call(module, item, own)  # (4)
        elif isinstance(item, Ref):
            _lint_ref(module, item, points)  # (5)
        elif item[0] == "NotExpr":
            _lint_negation(module, item[1])  # (6)
    replaced = with_line(module.tree["rules"])
    if replaced is not None:
        raise PolicyLoadError(
            f"{module.name}:{replaced}: `with` replaces the input: use it in tests only"
        )
    for path in module.imports.values():
        if is_rule and path[:3] != _DATA_ROOTS[0] and path[:2] not in _DATA_ROOTS:
            raise PolicyLoadError(
                f"{module.name}: import of `{'.'.join(path)}`: a rule may import data.guard.lib, "
                "data.settings and data.fleet"
            )


def _lint_call(module: Module, call: Call, own: set[str]) -> None:
    base = call.name.split(".", 1)[0]
    if call.name in own or call.name in ALLOWED_BUILTINS or base in module.imports:
        return
    if call.name.startswith("data.guard.lib."):
        return
    near = difflib.get_close_matches(call.name, ALLOWED_BUILTINS, 1)
    hint = f"; did you mean `{near[0]}`" if near else ""
    raise PolicyLoadError(
        f"{module.name}:{call.line}: function `{call.name}` is not on the allow-list of pure "
        f"built-ins, and no function of this file or of an imported guard.lib{hint}"
    )


def _lint_negation(module: Module, negated: Node) -> None:
    ((kind, inner),) = negated["expr"].items()
    is_comparison = kind == "BoolExpr" and inner["op"] != "Eq"
    if kind not in ("Call", "Membership") and not is_comparison:
        return
    for item in walk(negated["expr"]):
        if isinstance(item, Ref) and item.parts[:1] == ("input",) and len(item.parts) > 2:
            raise PolicyLoadError(
                f"{module.name}:{item.line}: `not` over `{'.'.join(item.parts)}`, which may be "
                "missing: name the test in a helper rule and negate that"
            )


def _lint_ref(module: Module, ref: Ref, points: tuple[str, ...] | None) -> None:
    root = ref.parts[0] if ref.parts else ""
    if root == "input":
        _lint_input(module, ref, points)
    elif root == "data":
        known = any(ref.parts[: len(path)] == path for path in _DATA_ROOTS)
        if not known:
            raise PolicyLoadError(
                f"{module.name}:{ref.line}: reference to `{'.'.join(ref.parts)}`: a rule may read "
                "data.guard.lib, data.settings and data.fleet"
            )


def _lint_input(module: Module, ref: Ref, points: tuple[str, ...] | None) -> None:
    if len(ref.parts) < 2:
        return
    where = f"{module.name}:{ref.line}"
    key = ref.parts[1]
    if key not in FIELDS:
        raise PolicyLoadError(f"{where}: unknown field `input.{key}`{_near(key, FIELDS)}")
    if points is not None and not any(key in fields_at(point) for point in points):
        raise PolicyLoadError(
            f"{where}: `input.{key}` is not there at {', '.join(points)}: the rule would never fire"
        )
    inner = FIELDS[key]
    if inner is not None and len(ref.parts) > 2 and ref.parts[2] not in inner:
        raise PolicyLoadError(
            f"{where}: unknown field `input.{key}.{ref.parts[2]}`{_near(ref.parts[2], inner)}"
        )


def _near(word: str, known: Iterable[str]) -> str:
    names = sorted(known)
    near = difflib.get_close_matches(word, names, 1)
    return f": did you mean `{near[0]}`" if near else f": expected one of {', '.join(names)}"


def _lint_scope(module: Module, metadata: Metadata) -> None:
    for item in walk(module.tree["rules"]):
        if not isinstance(item, tuple) or item[0] != "BoolExpr" or item[1]["op"] != "Eq":
            continue
        node: dict[str, Any] = item[1]
        for left, right in ((node["lhs"], node["rhs"]), (node["rhs"], node["lhs"])):
            value = text_of(right)
            ref = next(walk(left), None)
            if value is None or not isinstance(ref, Ref):
                continue
            where = f"{module.name}:{node['span']['line']}"
            if ref.parts == ("input", "point") and value not in metadata.points:  # (7)
                raise PolicyLoadError(
                    f"{where}: tests for point `{value}`, which its scope leaves out: add it to "
                    "custom.points or drop the test"
                )
            is_tool = ref.parts == ("input", "tool", "name")
            if is_tool and metadata.tools is not None and value not in metadata.tools:
                raise PolicyLoadError(
                    f"{where}: tests for tool `{value}`, which its scope leaves out: add it to "
                    "custom.tools or drop the test"
                )
