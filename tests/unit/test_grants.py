"""Grants: no capability, no tool; and equal in Python is not equal to a tool."""

from __future__ import annotations

import datetime
from typing import Any

import pytest

from guard.capability import check, from_table
from guard.errors import CapabilityFault
from guard.evidence import CapabilityView
from guard.plain import Json
from guard.request import Grant, Point, Request, undeclared

NOW_NS = 1_000


def _check(
    *grants: Grant,
    args: Json = None,
    tool: str | None = "send",
    point: Point = Point.PRE_TOOL_CALL,
) -> CapabilityView:
    return check(
        Request(
            point=point,
            target={} if args is None else args,
            tool=undeclared(tool) if tool is not None else None,
            grants=grants,
            now_ns=NOW_NS,
        )
    )


GRANTED = CapabilityView(True, "granted")


def _refused(why: str) -> CapabilityView:
    return CapabilityView(False, why)


def test_without_a_grant_there_is_no_tool() -> None:
    assert _check() == _refused("no_grant")
    assert _check(Grant(tool="sen"), Grant(tool="Send"), Grant(tool="send*")) == _refused(
        "no_grant"
    )


def test_without_a_tool_there_is_nothing_to_grant() -> None:
    assert _check(Grant(tool="*"), tool=None) == _refused("no_tool")


@pytest.mark.parametrize("name", ["send", "*"])
def test_a_grant_covers_the_tool_it_names_or_every_tool(name: str) -> None:
    assert _check(Grant(tool=name)) == GRANTED


def test_a_grant_ends_at_the_moment_of_its_expiry() -> None:
    assert _check(Grant(tool="send", expires_ns=NOW_NS + 1)) == GRANTED
    assert _check(Grant(tool="send", expires_ns=NOW_NS)) == _refused("expired")
    assert _check(Grant(tool="send", expires_ns=0)) == _refused("expired")


ONLY_A = Grant(tool="send", arguments={"to": ("a@corp.com",)})


@pytest.mark.parametrize(
    "args", [{}, {"to": "b@corp.com"}, {"to": ["a@corp.com"]}, {"to": None}, ["a@corp.com"], "to"]
)
def test_a_constrained_argument_must_be_there_and_be_allowed(args: Json) -> None:
    assert _check(ONLY_A, args=args) == _refused("argument_not_allowed")


def test_arguments_without_a_constraint_are_free() -> None:
    assert _check(ONLY_A, args={"to": "a@corp.com", "body": "hello"}) == GRANTED


@pytest.mark.parametrize(
    ("allowed", "value"), [(1, True), (True, 1), (1, "1"), (1, 1.0), (0, False), (None, 0)]
)
def test_values_of_another_type_are_other_values(allowed: Any, value: Json) -> None:
    grant = Grant(tool="send", arguments={"n": (allowed,)})
    assert _check(grant, args={"n": allowed}) == GRANTED
    assert _check(grant, args={"n": value}) == _refused("argument_not_allowed")


def test_one_grant_must_cover_the_whole_call() -> None:
    to_a = Grant(tool="send", arguments={"to": ("a",), "cc": ("x",)})
    to_b = Grant(tool="send", arguments={"to": ("b",), "cc": ("y",)})
    assert _check(to_a, to_b, args={"to": "b", "cc": "y"}) == GRANTED
    assert _check(to_a, to_b, args={"to": "a", "cc": "y"}) == _refused("argument_not_allowed")


def test_the_reason_is_that_of_the_grant_that_came_furthest() -> None:
    expired = Grant(tool="send", expires_ns=1)
    for grants in ((expired, ONLY_A), (ONLY_A, expired)):
        assert _check(*grants, args={"to": "z"}) == _refused("argument_not_allowed")


def test_after_the_call_the_result_is_not_mistaken_for_arguments() -> None:
    assert _check(ONLY_A, args={"status": "sent"}, point=Point.POST_TOOL_CALL) == GRANTED
    assert _check(args={"status": "sent"}, point=Point.POST_TOOL_CALL) == _refused("no_grant")


def test_grants_are_read_from_a_table() -> None:
    rows = [
        {"tool": "search"},
        {"tool": "pay", "arguments": {"currency": "EUR", "n": [1, True, None]}, "expires_ns": 5},
        {
            "tool": "*",
            "expires_at": datetime.datetime(2026, 1, 1, 1, 0, 0, 1, tzinfo=datetime.UTC),
        },
    ]
    assert from_table(rows) == (
        Grant(tool="search"),
        Grant(tool="pay", arguments={"currency": ("EUR",), "n": (1, True, None)}, expires_ns=5),
        Grant(tool="*", expires_ns=1_767_229_200_000_001_000),
    )


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"tool": "a", "argumens": {}}, "unknown key `argumens`: did you mean `arguments`?"),
        ({"tool": "a", "zzz": 1}, "unknown key `zzz`: expected tool, arguments"),
        ({}, "expected `tool`"),
        ({"tool": ""}, "expected `tool`"),
        ({"tool": 3}, "expected `tool`"),
        ({"tool": "a", "arguments": ["x"]}, "expected `arguments` to be a table, got `list`"),
        ({"tool": "a", "arguments": {"x": []}}, "expected 1 to 1000 values for `x`, got 0"),
        ({"tool": "a", "arguments": {"x": [[1]]}}, "null for `x`, got `list`"),
        ({"tool": "a", "arguments": {"x": float("nan")}}, "null for `x`, got `float`"),
        ({"tool": "a", "expires_ns": True}, "expected `expires_ns` in nanoseconds"),
        ({"tool": "a", "expires_ns": -1}, "expected `expires_ns` in nanoseconds"),
        ({"tool": "a", "expires_ns": 1, "expires_at": 2}, "got both"),
        ({"tool": "a", "expires_at": datetime.datetime(2026, 1, 1)}, "with an offset"),
        ("tool", "expected a table, got `str`"),
    ],
)
def test_a_malformed_grant_is_a_fault_that_says_the_mend(row: Any, message: str) -> None:
    with pytest.raises(CapabilityFault) as caught:
        from_table([{"tool": "first"}, row])
    assert str(caught.value).startswith("grant 2: ")
    assert message in str(caught.value)


def test_too_many_grants_are_a_fault() -> None:
    with pytest.raises(CapabilityFault, match="at most 1000 grants, got 1001"):
        from_table([{"tool": "a"}] * 1_001)
