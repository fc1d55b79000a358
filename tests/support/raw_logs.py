"""Logs laid out by hand, so that they can be wrong in any way; keys as in `entries`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from guard.audit.checkpoint import Checkpoint, sign
from guard.audit.merkle import Tree, leaf_hash
from guard.audit.tiles import Edge
from guard.keys import Signer

from .entries import SIGNER, entry

WRITER = "00000000000000aa"


def line_of(number: int, **fields: Any) -> bytes:
    """The line of a small entry, without its newline."""
    writer_seq = fields.pop("writer_seq", number)
    line = msgspec.json.encode(entry(number, **fields))
    return line[:-1] + b',"writer":"%s","writer_seq":%d}' % (WRITER.encode(), writer_seq)


def lay_out(
    directory: Path,
    lines: Sequence[bytes],
    signed: Sequence[tuple[int, Signer]],
    *,
    segments: Sequence[int] = (0,),
    origin: str = "guard/audit",
) -> Path:
    """A log of these lines, with a checkpoint of each size by its signer; the directory."""
    directory.mkdir(parents=True)
    for first, after in zip(segments, [*segments[1:], len(lines)], strict=True):
        text = b"".join(line + b"\n" for line in lines[first:after])
        (directory / f"records-{first:020}.jsonl").write_bytes(text)
    edge = Edge()
    edge.append(b"".join(map(leaf_hash, lines[: signed[-1][0]])))
    edge.store(directory)
    notes = [note_of(lines, size, signer, origin=origin) for size, signer in signed]
    (directory / "checkpoints").write_bytes(b"".join(note + b"\n" for note in notes))
    (directory / "checkpoint").write_bytes(notes[-1])
    vkeys = dict.fromkeys(signer.vkey for _, signer in signed)
    (directory / "log.vkey").write_text("".join(f"{vkey}\n" for vkey in vkeys))
    return directory


def note_of(
    lines: Sequence[bytes], size: int, signer: Signer = SIGNER, *, origin: str = "guard/audit"
) -> bytes:
    """The signed checkpoint over the first `size` lines."""
    tree = Tree()
    for line in lines[:size]:
        tree.append(leaf_hash(line))
    return sign(Checkpoint(origin, size, tree.root()), signer)
