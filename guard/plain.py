"""Freezing: one private, bounded, plain-JSON copy of whatever a caller or a model handed over.

The copy is made in Python before any native code sees the value. The Rego bindings end the process
on a lone surrogate or a cyclic dict, so this file is the wall in front of them.

The checks, in the order of the code:
(1) only None, bool, int, float, str, list, tuple, dict, and subclasses of int, float and str,
    which are copied to the plain type; a subclass of dict, list or tuple is not plain;
(2) strings are UTF-8 encodable (no lone surrogates), keys are strings and stay distinct;
(3) integers fit into 64 bits with sign, floats are finite;
(4) no container contains itself, depth, number of nodes and total bytes stay under their bounds.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from .errors import SnapshotFault

__all__ = ["Bounds", "DEFAULT_BOUNDS", "Json", "escape", "freeze", "walk_strings"]

# The JSON edge: nested None, bool, int, float, str, list, tuple and dict with string keys.
Json = Any

INT64_MAX: Final = 2**63 - 1
INT64_MIN: Final = -(2**63)
# A key is an index into the policy and the log; nothing legitimate names a field with more.
KEY_CHARS_MAX: Final = 1_024


class Bounds(msgspec.Struct, frozen=True, kw_only=True):
    """The bounds of one snapshot."""

    depth_max: int = 64  # the bindings die near 20,000; no tool schema comes near 64
    nodes_max: int = 100_000  # 100,000 leaves are scanned in about 0.1 s: the worst stall we accept
    payload_bytes_max: int = 4 * 1024 * 1024  # a book; larger inputs belong in a file with a name


DEFAULT_BOUNDS: Final = Bounds()


def freeze(value: Json, bounds: Bounds = DEFAULT_BOUNDS) -> Json:
    """Private plain-JSON copy of `value`; raises SnapshotFault with a stable reason code."""
    kind = type(value)
    if kind is str or value is None or kind is bool:
        # One leaf needs no walk state.
        if kind is str:
            _check_text(value, bounds.payload_bytes_max)
        return value
    return _Freezer(bounds).copy(value, 0)


def _check_text(text: str, bytes_max: int) -> int:
    if text.isascii():
        size_bytes = len(text)
    else:
        try:
            size_bytes = len(text.encode())  # (2)
        except UnicodeEncodeError:
            raise SnapshotFault(
                "snapshot.lone_surrogate",
                "a string holds a lone surrogate: expected text that encodes as UTF-8",
            ) from None
    if size_bytes > bytes_max:
        raise SnapshotFault(
            "snapshot.too_large", f"the value is larger than payload_bytes_max = {bytes_max}"
        )
    return size_bytes


class _Freezer:
    """State of one walk: what is left of each bound, and the containers we are inside of."""

    __slots__ = ("bounds", "bytes_left", "inside", "nodes_left")

    def __init__(self, bounds: Bounds) -> None:
        self.bounds = bounds
        self.bytes_left = bounds.payload_bytes_max
        self.nodes_left = bounds.nodes_max
        self.inside: set[int] = set()

    def copy(self, value: Json, depth: int) -> Json:
        kind = type(value)
        if kind is str:
            return self.text(value)
        if value is None or kind is bool:
            return value
        if kind is int:
            return _integer(value)
        if kind is float:
            return _finite(value)
        if kind is dict or kind is list or kind is tuple:
            return self.container(value, depth)
        return self.subclass(value)

    def text(self, value: str) -> str:
        if value.isascii():
            self.bytes_left -= len(value)
        else:
            self.bytes_left -= _check_text(value, self.bounds.payload_bytes_max)
        if self.bytes_left < 0:
            raise SnapshotFault(
                "snapshot.too_large",
                f"the value is larger than payload_bytes_max = {self.bounds.payload_bytes_max}",
            )
        return value

    def container(self, value: Json, depth: int) -> Json:
        if depth >= self.bounds.depth_max:  # (4)
            raise SnapshotFault(
                "snapshot.too_deep",
                f"the value nests deeper than depth_max = {self.bounds.depth_max}",
            )
        mark = id(value)
        if mark in self.inside:
            raise SnapshotFault("snapshot.cyclic", "the value contains itself")
        self.nodes_left -= 1 + len(value)
        if self.nodes_left < 0:
            raise SnapshotFault(
                "snapshot.too_many_nodes",
                f"the value has more nodes than nodes_max = {self.bounds.nodes_max}",
            )
        self.inside.add(mark)
        copy = self.copy
        result: Json
        if type(value) is dict:
            result = {}
            items = tuple(value.items())
            for key, item in items:
                # The usual key and leaf need no further call; everything else takes the long way.
                if type(key) is str and len(key) < KEY_CHARS_MAX and key.isascii():
                    self.bytes_left -= len(key)
                else:
                    key = self.key(key)
                if type(item) is str and item.isascii() and len(item) < self.bytes_left:
                    self.bytes_left -= len(item)
                    result[key] = item
                else:
                    result[key] = copy(item, depth + 1)
            if len(result) != len(items):
                raise SnapshotFault(
                    "snapshot.duplicate_key", "two keys of one object are equal as text"
                )
            if self.bytes_left < 0:
                self.text("")  # many keys without text: the bound holds for them too
        elif type(value) is list:
            result = [copy(item, depth + 1) for item in tuple(value)]
        else:
            result = tuple([copy(item, depth + 1) for item in value])
        self.inside.discard(mark)
        return result

    def key(self, key: Json) -> str:
        if not isinstance(key, str):
            raise SnapshotFault(
                "snapshot.key_not_text", f"expected a string as key of an object, got {_name(key)}"
            )
        if len(key) > KEY_CHARS_MAX:
            raise SnapshotFault(
                "snapshot.key_too_long", f"a key is longer than {KEY_CHARS_MAX} characters"
            )
        return self.text(key if type(key) is str else str.__str__(key))

    def subclass(self, value: Json) -> Json:
        # (1) An enum member or numpy scalar is its plain value: the copy forgets its methods.
        if isinstance(value, str):
            return self.text(str.__str__(value))
        if isinstance(value, int):
            return _integer(int.__index__(value))
        if isinstance(value, float):
            return _finite(float.__float__(value))
        raise SnapshotFault(
            "snapshot.not_json",
            f"expected plain JSON, got {_name(value)}: convert it before the call, "
            "or declare a parameter as injected",
        )


def _integer(value: int) -> int:
    if INT64_MIN <= value <= INT64_MAX:  # (3)
        return value
    raise SnapshotFault("snapshot.integer_range", "expected an integer of at most 64 bits")


def _finite(value: float) -> float:
    if value - value == 0.0:  # false for NaN and both infinities
        return value
    raise SnapshotFault("snapshot.not_finite", "expected a finite number, got NaN or infinity")


def _name(value: object) -> str:
    # The type's name is the developer's word, not payload; it is bounded all the same.
    return f"`{type(value).__qualname__[:60]}`"


def walk_strings(value: Json, pointer: str = "") -> list[tuple[str, str]]:
    """All (JSON pointer, string) leaves of a frozen value, keys not included (RFC 6901)."""
    leaves: list[tuple[str, str]] = []
    _walk(value, pointer, leaves)
    return leaves


def _walk(value: Json, pointer: str, leaves: list[tuple[str, str]]) -> None:
    kind = type(value)
    if kind is str:
        leaves.append((pointer, value))
    elif kind is dict:
        for key, item in value.items():
            _walk(item, f"{pointer}/{escape(key)}", leaves)
    elif kind is list or kind is tuple:
        for index, item in enumerate(value):
            _walk(item, f"{pointer}/{index}", leaves)


def escape(key: str) -> str:
    """`key` as one token of a JSON pointer (RFC 6901, section 3)."""
    if "~" in key or "/" in key:
        return key.replace("~", "~0").replace("/", "~1")
    return key
