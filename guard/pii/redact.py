"""Putting something else in the place of what was found, and leaving all the rest as it was.

INVARIANT: no original text of a chosen span is left, apart from the at most four last characters
that `mask` keeps. Spans that overlap become one, so no tail of either stays uncovered. What cannot
be carried out (a span that points nowhere, an unknown operator) is a fault, never a skip.
"""

from __future__ import annotations

import difflib
import hashlib
import hmac
from collections.abc import Sequence
from typing import Final

import msgspec

from ..decision import Redact
from ..errors import Fault, PolicyFault
from ..evidence import Span
from ..plain import Json, escape
from .scan import OPAQUE_CHARS_MIN, Scanner

__all__ = ["OPERATORS", "mask_for_record", "mask_text", "rewrite"]

# From the strongest to the weakest; of two on one span the stronger wins.
# remove   nothing is left, not even the kind
# replace  `<EMAIL_ADDRESS>`
# hash     `<EMAIL_ADDRESS:16 hex>`, HMAC-SHA256: equal values stay equal under one key
# mask     `************1111`: at most the last four characters, and only of 12 or more
OPERATORS: Final = ("remove", "replace", "hash", "mask")

HASH_HEX_CHARS: Final = 16  # 64 bits: no collision among the values of one deployment
MASK_KEPT_CHARS: Final = 4
MASK_CHARS_MIN: Final = 12  # of a shorter value four characters say too much

_RANKS: Final = {operator: rank for rank, operator in enumerate(OPERATORS)}
_EVERYTHING: Final = (Redact(),)


def rewrite(target: Json, spans: Sequence[Span], duties: Sequence[Redact], *, key: bytes) -> Json:
    """`target` with the spans that a duty names rewritten; raises Fault.

    A duty names spans by entity ("*" is all) and by pointer relative to the target: the leaf
    itself or any container above it. A span of UNKNOWN may be anything, so every duty names it.
    A number becomes text when it is rewritten. Containers without a change are the same objects.
    """
    return _rewritten(target, spans, duties, key)[0]


def mask_for_record(
    target: Json, spans: Sequence[Span], *, key: bytes, unscanned: Sequence[str] = ()
) -> tuple[Json, tuple[str, ...]]:
    """What the log may keep of `target`, and the sorted pointers of what was masked in it.

    Every span becomes `<ENTITY>`. At or below a pointer of `unscanned`, strings too long to have
    been scanned become `<UNSCANNED>`. Pointers name keys as they are in the copy.
    """
    hidden = [Span("UNSCANNED", *leaf) for leaf in _long_leaves(target, unscanned)]
    copy, pointers = _rewritten(target, [*spans, *hidden], _EVERYTHING, key)
    return copy, tuple(sorted(pointers))


def mask_text(text: str) -> str:
    """`text` with everything found in it replaced by `<ENTITY>`: for the text of an exception."""
    found = _SCANNER.scan(text)
    if not (found.pii or found.secrets):
        return text
    return str(_rewritten(text, found.pii + found.secrets, _EVERYTHING, b"")[0])


_SCANNER: Final = Scanner()


class _Piece(msgspec.Struct):
    """One stretch to rewrite: how, and what it is called."""

    start: int
    end: int
    rank: int  # index into OPERATORS
    entity: str
    weight: tuple[
        float, int
    ]  # of two pieces with one operator, the surer and longer gives the name


class _Node(msgspec.Struct):
    """What is to be rewritten at one place of the target and below it."""

    pieces: list[_Piece] = []
    key_pieces: list[_Piece] = []
    children: dict[str, _Node] = {}


def _rewritten(
    target: Json, spans: Sequence[Span], duties: Sequence[Redact], key: bytes
) -> tuple[Json, set[str]]:
    root = _Node()
    is_touched = False
    for span in spans:
        rank = _rank(span, duties)
        if rank is None:
            continue
        is_touched = True
        node = root
        for token in span.pointer.split("/")[1:]:
            child = node.children.get(token)
            if child is None:
                child = node.children[token] = _Node()
            node = child
        weight = (span.score, span.end - span.start)
        piece = _Piece(span.start, span.end, rank, span.entity, weight)
        (node.key_pieces if span.in_key else node.pieces).append(piece)
    if not is_touched:
        return target, set()
    if root.key_pieces:
        raise Fault("a span in a key points to the whole target, which is no key")
    writer = _Writer(key)
    return writer.value(target, root, ""), writer.pointers


def _rank(span: Span, duties: Sequence[Redact]) -> int | None:
    """Strongest operator that the duties ask for on this span, or None."""
    rank: int | None = None
    for duty in duties:
        wanted = _RANKS.get(duty.operator)
        if wanted is None:
            near = difflib.get_close_matches(duty.operator, OPERATORS, n=1)
            raise PolicyFault(
                f"unknown redact operator `{duty.operator[:60]}`: expected one of "
                f"{', '.join(OPERATORS)}" + (f"; did you mean `{near[0]}`?" if near else "")
            )
        if not ("*" in duty.entities or span.entity in duty.entities or span.entity == "UNKNOWN"):
            continue
        if duty.pointers and not any(_covers(pointer, span.pointer) for pointer in duty.pointers):
            continue
        if rank is None or wanted < rank:
            rank = wanted
    return rank


def _covers(above: str, pointer: str) -> bool:
    return pointer == above or pointer.startswith(f"{above}/")


class _Writer:
    """One rewriting: the key of hashes, and the pointers (in the copy) of what was written."""

    __slots__ = ("key", "pointers")

    def __init__(self, key: bytes) -> None:
        self.key = key
        self.pointers: set[str] = set()

    def value(self, item: Json, node: _Node, pointer: str) -> Json:
        kind = type(item)
        if node.pieces:
            if kind is str:
                text = item
            elif kind is int or kind is float:
                text = str(int(item))
                for piece in node.pieces:  # A span in a number means the whole number.
                    piece.start, piece.end = 0, len(text)
            else:
                raise Fault("a span points to a value that is neither text nor number")
            self.pointers.add(pointer)
            item = self.text(text, node.pieces)
        if not node.children:
            return item
        if kind is dict:
            return self.object(item, node, pointer)
        if kind is list or kind is tuple:
            elements = list(item)
            for token, child in node.children.items():
                if not (token.isdecimal() and int(token) < len(elements)) or child.key_pieces:
                    raise Fault("a span points to an element that the target does not have")
                elements[int(token)] = self.value(elements[int(token)], child, f"{pointer}/{token}")
            return elements if kind is list else tuple(elements)
        raise Fault("a span points below a value that holds nothing")

    def object(self, item: dict[str, Json], node: _Node, pointer: str) -> dict[str, Json]:
        children = {key: node.children.get(escape(key)) for key in item}
        if sum(child is not None for child in children.values()) != len(node.children):
            raise Fault("a span points to a key that the target does not have")
        # Keys that stay have the first right to their name.
        taken = {key for key, child in children.items() if child is None or not child.key_pieces}
        result: dict[str, Json] = {}
        for key, child in children.items():
            value = item[key]
            name = key
            if child is not None:
                if child.key_pieces:
                    name = _free_name(self.text(key, child.key_pieces), taken)
                    taken.add(name)
                    self.pointers.add(f"{pointer}/{escape(name)}")
                value = self.value(value, child, f"{pointer}/{escape(name)}")
            result[name] = value
        return result

    def text(self, text: str, pieces: list[_Piece]) -> str:
        parts: list[str] = []
        behind = 0
        for piece in _merged(pieces):
            if not 0 <= piece.start < piece.end <= len(text):
                raise Fault("a span lies outside of the text that it points to")
            parts.append(text[behind : piece.start])
            parts.append(self.substitute(text[piece.start : piece.end], piece))
            behind = piece.end
        parts.append(text[behind:])
        return "".join(parts)

    def substitute(self, original: str, piece: _Piece) -> str:
        operator = OPERATORS[piece.rank]
        if operator == "remove":
            return ""
        if operator == "replace":
            return f"<{piece.entity}>"
        if operator == "mask":
            kept = MASK_KEPT_CHARS if len(original) >= MASK_CHARS_MIN else 0
            return "*" * (len(original) - kept) + original[len(original) - kept :]
        if not self.key:
            raise Fault("the operator `hash` needs a key, and the key is empty")
        digest = hmac.digest(self.key, original.encode(), hashlib.sha256).hex()
        return f"<{piece.entity}:{digest[:HASH_HEX_CHARS]}>"


def _merged(pieces: list[_Piece]) -> list[_Piece]:
    """The pieces from left to right, those that overlap made one under the strongest operator."""
    merged: list[_Piece] = []
    for piece in sorted(pieces, key=lambda one: (one.start, one.end)):
        last = merged[-1] if merged else None
        if last is None or piece.start >= last.end:
            merged.append(_Piece(piece.start, piece.end, piece.rank, piece.entity, piece.weight))
            continue
        last.end = max(last.end, piece.end)
        # The entity's name is the last tie-break: the order of the spans must not matter.
        if (piece.rank, *(-part for part in piece.weight), piece.entity) < (
            last.rank,
            *(-part for part in last.weight),
            last.entity,
        ):
            last.rank, last.entity, last.weight = piece.rank, piece.entity, piece.weight
    return merged


def _free_name(name: str, taken: set[str]) -> str:
    if name not in taken:
        return name
    number = 2
    while f"{name}_{number}" in taken:
        number += 1
    return f"{name}_{number}"


def _long_leaves(target: Json, unscanned: Sequence[str]) -> list[tuple[str, int, int]]:
    leaves: dict[str, int] = {}
    for pointer in unscanned:
        item = target
        for token in pointer.split("/")[1:]:
            item = _below(item, token)
        _collect_long(item, pointer, leaves)
    return [(pointer, 0, chars_count) for pointer, chars_count in leaves.items()]


def _below(item: Json, token: str) -> Json:
    if type(item) is dict:
        plain = token.replace("~1", "/").replace("~0", "~")
        if plain in item:
            return item[plain]
    elif type(item) in (list, tuple) and token.isdecimal() and int(token) < len(item):
        return item[int(token)]
    raise Fault("a pointer of what was not scanned points nowhere")


def _collect_long(item: Json, pointer: str, leaves: dict[str, int]) -> None:
    if type(item) is str:
        if len(item) > OPAQUE_CHARS_MIN:
            leaves[pointer] = len(item)
    elif type(item) is dict:
        for key, value in item.items():
            _collect_long(value, f"{pointer}/{escape(key)}", leaves)
    elif type(item) in (list, tuple):
        for index, value in enumerate(item):
            _collect_long(value, f"{pointer}/{index}", leaves)
