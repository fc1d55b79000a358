"""What a verifier can say of encrypted segments without their identity.

Their entries are not read. Their hashes are in the tiles, an entry of the log names the digest of
the file, and what its entries say about the log itself (keys, seals, expiries) stands beside it in
clear, each with the index where the tree has it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from hashlib import file_digest
from pathlib import Path
from typing import Final

from .check import LogCheck
from .files import Segment, encrypted_of, read_small
from .report import Damage
from .story import Seal, Story

__all__ = ["encrypted_ranges"]

ABOUT_BYTES_MAX: Final = 32 * 1024 * 1024
_NOWHERE: Final = 1 << 62


def encrypted_ranges(
    log: Path, check: LogCheck, story: Story, *, report: Callable[[Damage], None]
) -> list[tuple[int, int]]:
    """First and last entry of each segment that is encrypted, as the log says.

    What they say about the log is told to `story`.
    """
    segments = encrypted_of(log)
    for segment in segments:
        for index, line in _about(segment):
            head = check.proven_head(index, line) if index < story.signed else None
            if head is None:
                report(_not_named(segment.about, segment.first))
            else:
                story.follow_about(head, index)
    ranges = []
    for segment in segments:
        seal = story.seals.get(segment.first, Seal())
        with segment.encrypted.open("rb") as file:
            digest = file_digest(file, "sha256").hexdigest()
        if digest != seal.encrypted_digest:
            report(_not_named(segment.encrypted, segment.first))
        if isinstance(seal.last, int):
            ranges.append((segment.first, seal.last))
    return ranges


def _about(segment: Segment) -> Iterator[tuple[int, bytes]]:
    """Index and line, without newline, of what an encrypted segment says about the log."""
    if segment.about.exists():
        for text in read_small(segment.about, ABOUT_BYTES_MAX).splitlines():
            number, _, line = text.partition(b" ")
            yield int(number) if number.isdigit() and len(number) < 19 else _NOWHERE, line


def _not_named(path: Path, first: int) -> Damage:
    detail = "the file is not the one that the log names"
    return Damage(kind="sealed", detail=detail, segment=path.name, index=first)
