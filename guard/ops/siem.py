"""Entries as lines for a SIEM: one JSON object each, in the words of a standard."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec

from ..audit.entry import NOT_AN_ENTRY, Entry
from ..audit.files import lines_of, segments_of
from ..audit.formats import FORMATS, Place
from ..audit.query import Signed
from ..errors import ConfigError

__all__ = ["lines"]


def lines(
    log: Path, name: str, *, since_ns: int, until_ns: int, on_unreadable: Callable[[int], None]
) -> Iterator[bytes]:
    """The entries of a time, both ends included, in the format `name`; also those not signed yet.

    What cannot be read goes by its index to `on_unreadable`. Raises ConfigError for an unknown
    format, AuditFault and LogCorrupt where there is no log to read.
    """
    if name not in FORMATS:
        raise ConfigError(f"unknown format `{name[:40]}`: expected {', '.join(FORMATS)}")
    translate, origin = FORMATS[name], Signed(log).checkpoint.origin
    decode = msgspec.json.Decoder(Entry).decode
    encode = msgspec.json.Encoder().encode
    for segment in segments_of(log):
        for index, line in enumerate(lines_of(segment.path), segment.first):
            if not line.endswith(b"\n"):
                return  # a write that is not finished
            try:
                entry = decode(line)
            except NOT_AN_ENTRY:
                on_unreadable(index)
                continue
            if since_ns <= entry.timestamp_ns <= until_ns:
                yield encode(translate(entry, Place(origin, index, line[:-1])))
