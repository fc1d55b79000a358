"""A line of a segment as it is checked, and the damage that is found there."""

from __future__ import annotations

import re
from typing import Final

import msgspec

from .files import Segment
from .report import Damage

__all__ = ["Line", "located"]

_ID: Final = re.compile(rb'"decision_id":"([\w.:-]{1,128})"')


class Line(msgspec.Struct, frozen=True):
    """Its first byte in the segment, its bytes with the newline, and its leaf hash."""

    start: int
    data: bytes
    leaf: bytes


def located(kind: str, detail: str, segment: Segment, lines: list[Line], index: int) -> Damage:
    """Damage in these lines, of which the first is entry `index`."""
    # The id is only a help to find the entry, and only a plain one is repeated.
    found = _ID.search(lines[0].data) if lines else None
    return Damage(
        kind=kind,
        detail=detail,
        segment=segment.path.name,
        start=lines[0].start if lines else None,
        end=lines[-1].start + len(lines[-1].data) if lines else None,
        index=index,
        decision_id=found[1].decode() if found else None,
    )
