"""Running the tests of a bundle: the meaning of `opa test`, by the embedded engine.

A test is a rule `test_...` in a package of a `_test.rego` file. It passes when it is true; it
fails when it is false or undefined; an evaluation error is an error. `todo_test_...` is skipped.
Rules are evaluated as they are written, not as they are linked, so that `with input as ...` reaches
them.
"""

from __future__ import annotations

import json
from enum import StrEnum
from typing import Final

import msgspec
import regorus

from ..errors import PolicyLoadError
from .bundle import Bundle
from .syntax import Module, parse, reason_of

__all__ = ["TestResult", "TestState", "run_tests"]

UNDEFINED: Final = '"<undefined>"'


class TestState(StrEnum):
    """How one test ended."""

    __test__ = False  # not pytest's

    PASS = "pass"  # noqa: S105 a result, not a password
    FAIL = "fail"
    ERROR = "error"
    SKIPPED = "skipped"


class TestResult(msgspec.Struct, frozen=True, kw_only=True):
    """One test: its package, its name, and why it did not pass."""

    __test__ = False

    file: str
    package: str
    name: str
    state: TestState
    detail: str = ""


def run_tests(bundle: Bundle, *, match: str = "") -> tuple[TestResult, ...]:
    """Every test of the bundle whose `package.name` contains `match`, in order of file and name.

    Raises PolicyLoadError when a test file does not compile.
    """
    engine = regorus.Engine()
    engine.set_gather_prints(True)
    modules: list[Module] = []
    try:
        engine.add_policy("main.rego", bundle.main)
        for name, source in bundle.libraries.items():
            engine.add_policy(name, source)
        for rule in bundle.rules.values():
            engine.add_policy(rule.file, rule.source)
        for name, source in bundle.tests.items():
            modules.append(parse(name, source))
            engine.add_policy(name, source)
        engine.add_data_json(json.dumps(bundle.documents()))
        engine.set_input_json("{}")
    except RuntimeError as error:
        raise PolicyLoadError(reason_of(error, "tests")) from None
    return tuple(
        result
        for module in modules
        for name in dict.fromkeys(head.name for head in module.heads)
        if match in f"{module.package}.{name}"
        for result in _run(engine, module, name)
    )


def _run(engine: regorus.Engine, module: Module, name: str) -> list[TestResult]:
    if name.startswith("todo_test_"):
        return [_result(module, name, TestState.SKIPPED)]
    if not name.startswith("test_"):
        return []
    try:
        value = engine.eval_rule_as_json(f"data.{module.package}.{name}")
    except RuntimeError as error:
        return [_result(module, name, TestState.ERROR, reason_of(error, module.name))]
    if value == "true":
        return [_result(module, name, TestState.PASS)]
    detail = "undefined" if value == UNDEFINED else f"gave {value[:200]}"
    return [_result(module, name, TestState.FAIL, detail)]


def _result(module: Module, name: str, state: TestState, detail: str = "") -> TestResult:
    return TestResult(
        file=module.name, package=module.package, name=name, state=state, detail=detail
    )
