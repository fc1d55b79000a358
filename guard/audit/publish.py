"""Publishing: the log as C2SP tlog-tiles, for any web server and any client of that format.

Hash tiles are there already; what is added is the entries, in bundles, up to the latest checkpoint.
Full bundles never change, so a second run writes only what is new.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from ..errors import AuditFault, LogCorrupt
from .checkpoint import NOTE_BYTES_MAX
from .checkpoint import parse as parse_note
from .files import CHECKPOINT, lines_of, make_directory, read_small, replace_file, segments_of
from .keyring import keys_of
from .tiles import TILE_HASHES, Tiles, tile_path

__all__ = ["publish"]


def publish(log: Path, target: Path) -> int:
    """Write what a reader of tiles needs below `target`; the number of entries that are covered.

    Raises AuditFault when the log cannot be read whole, and then the checkpoint there is the old.
    """
    note = read_small(log / CHECKPOINT, NOTE_BYTES_MAX)
    size = parse_note(note, keys_of(log)[-1]).size
    tiles = Tiles(log)
    level, count = 0, size
    while count:
        for number in range(-(-count // TILE_HASHES)):
            width = min(count - number * TILE_HASHES, TILE_HASHES)
            _write(target / tile_path(level, number, width), tiles.hashes(level, number, width))
        level, count = level + 1, count // TILE_HASHES
    entries = _entries(log, size)
    for number in range(-(-size // TILE_HASHES)):
        width = min(size - number * TILE_HASHES, TILE_HASHES)
        path = target / tile_path("entries", number, width)
        bundle = b"".join(len(entry).to_bytes(2, "big") + entry for entry in islice(entries, width))
        _write(path, bundle)
    make_directory(target)
    # INVARIANT: the checkpoint comes last: whoever reads it finds what it covers.
    replace_file(target / CHECKPOINT, note)
    return size


def _entries(log: Path, size: int) -> Iterator[bytes]:
    index = 0
    for segment in segments_of(log):
        if segment.first != index:
            raise LogCorrupt(
                f"entries {index} to {segment.first - 1} are not here: nothing to show"
            )
        for line in lines_of(segment.path):
            if index == size:
                return
            yield line[:-1]
            index += 1
    if index < size:
        raise AuditFault(f"{log} holds {index} entries and signs {size}: run `guard audit verify`")


def _write(path: Path, data: bytes) -> None:
    if path.exists():
        return  # a tile of this width never changes
    make_directory(path.parent)
    temporary = path.with_name(f".{path.name}.new")
    temporary.write_bytes(data)
    os.replace(temporary, path)
