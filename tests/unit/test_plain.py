"""Freezing: what is plain JSON, and what is refused with which code."""

from __future__ import annotations

import enum
import math
from typing import Any

import pytest

from guard.errors import SnapshotFault
from guard.plain import Bounds, freeze, walk_strings


class Colour(enum.StrEnum):
    RED = "red"


class Loud(str):
    def __str__(self) -> str:
        return "changed"


class Apart(str):
    """Equal to nothing but itself, so a dict holds it beside its twin."""

    def __eq__(self, other: object) -> bool:
        return self is other

    def __hash__(self) -> int:
        return id(self)


class Pair(tuple[int, int]):
    pass


def _cyclic() -> Any:
    value: dict[str, Any] = {}
    value["self"] = [value]
    return value


def _nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return value


REFUSED: list[tuple[str, Any]] = [
    ("snapshot.not_json", object()),
    ("snapshot.not_json", {"a": {1, 2}}),
    ("snapshot.not_json", b"bytes"),
    ("snapshot.not_json", Pair((1, 2))),
    ("snapshot.key_not_text", {1: "a"}),
    ("snapshot.key_too_long", {"k" * 2_000: 1}),
    ("snapshot.duplicate_key", {Apart("red"): 1, "red": 2}),
    ("snapshot.lone_surrogate", "\ud800"),
    ("snapshot.lone_surrogate", {"a": ["x", "\udfff"]}),
    ("snapshot.lone_surrogate", {"\ud800": 1}),
    ("snapshot.not_finite", math.nan),
    ("snapshot.not_finite", [math.inf]),
    ("snapshot.not_finite", {"a": -math.inf}),
    ("snapshot.integer_range", 2**63),
    ("snapshot.integer_range", [-(2**63) - 1]),
    ("snapshot.integer_range", 10**400),
    ("snapshot.cyclic", _cyclic()),
    ("snapshot.too_deep", _nested(65)),
    ("snapshot.too_deep", _nested(20_000)),
    ("snapshot.too_large", "x" * (10 * 1024 * 1024)),
    ("snapshot.too_large", {"a": "é" * (3 * 1024 * 1024)}),
    ("snapshot.too_many_nodes", [0] * 100_001),
]


@pytest.mark.parametrize(("reason", "value"), REFUSED)
def test_what_is_not_bounded_plain_json_is_refused_with_its_code(reason: str, value: Any) -> None:
    with pytest.raises(SnapshotFault) as caught:
        freeze(value)
    assert caught.value.reason == reason


def test_a_snapshot_is_equal_and_shares_no_container() -> None:
    value = {"a": [1, 2.5, None, True, "é\U0001f600"], "b": {"c": (1, [2])}}
    copy = freeze(value)
    assert copy == value
    value["a"].append(3)  # type: ignore[attr-defined]
    assert copy == {"a": [1, 2.5, None, True, "é\U0001f600"], "b": {"c": (1, [2])}}


def test_enum_members_and_subclasses_of_scalars_become_the_plain_value() -> None:
    copy = freeze({"c": Colour.RED, "l": Loud("said"), "n": enum.IntEnum("N", "ONE").ONE})
    assert copy == {"c": "red", "l": "said", "n": 1}
    assert [type(item) for item in copy.values()] == [str, str, int]


def test_the_same_container_twice_is_no_cycle() -> None:
    shared = [1]
    assert freeze([shared, shared]) == [[1], [1]]


def test_depth_64_is_accepted() -> None:
    assert freeze(_nested(64)) == _nested(64)


def test_bounds_can_be_narrowed() -> None:
    with pytest.raises(SnapshotFault, match="payload_bytes_max = 3"):
        freeze(["ab", "cd"], Bounds(payload_bytes_max=3))


def test_a_message_never_holds_the_value() -> None:
    with pytest.raises(SnapshotFault) as caught:
        freeze({"secret-key": "s3cr3t\ud800"})
    assert "s3cr3t" not in str(caught.value)
    assert "secret-key" not in str(caught.value)


def test_pointers_escape_slash_and_tilde() -> None:
    assert walk_strings({"a/b": {"~": ["x"]}}) == [("/a~1b/~0/0", "x")]
