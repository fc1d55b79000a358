"""A part of a log in the log's own format, so that every verifier of logs verifies it.

The entries that are asked for stand there byte for byte, one file for each run of them; of the rest
only the hashes are there. See "An excerpt" in docs/audit-format.md.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

import msgspec

from ..audit.checkpoint import parse, split_notes
from ..audit.entry import NOT_AN_ENTRY, Entry
from ..audit.files import CHECKPOINT as LATEST
from ..audit.files import COSIGNED, EXCERPT, HISTORY, VKEY, lines_of, segments_of
from ..audit.keyring import keys_of
from ..audit.query import Signed
from ..audit.tiles import TILE_HASHES, Tiles, tile_path
from ..errors import AuditFault, LogCorrupt
from .zip_file import ZipWriter

__all__ = ["Excerpt"]

# A file for each run: what an archive, and who unpacks it, can bear.
RUNS_MAX: Final = 100_000


class Excerpt:
    """What is signed of a log at one moment, and the runs of entries that were chosen of it."""

    def __init__(self, log: Path) -> None:
        self._log = log
        self.signed = Signed(log)
        self.keys = self._keys()
        self.runs: list[list[int]] = []
        self.unreadable = 0

    def choose(self, is_wanted: Callable[[Entry], bool]) -> Iterator[tuple[int, Entry]]:
        """Read the log once, and give the entries that are wanted; raises LogCorrupt, AuditFault.

        Entries that name a key of the log are chosen too, and not given: without them no verifier
        knows which key to believe.
        """
        decode = msgspec.json.Decoder(Entry).decode
        for index, line in self._lines():
            try:
                entry = decode(line)
            except NOT_AN_ENTRY:
                self.unreadable += 1
                continue
            is_chosen = is_wanted(entry)
            if is_chosen or entry.kind == "key_change":
                self._extend(index)
            if is_chosen:
                yield index, entry

    def write(self, archive: ZipWriter, folder: str, *, prove: Collection[int]) -> dict[int, str]:
        """Write the runs and what verifies them below `folder`; the proofs of some entries."""
        proofs: dict[int, str] = {}
        lines = self._lines()
        for first, last in self.runs:
            with archive.open(f"{folder}records-{first:020}.jsonl") as write:
                for index, line in lines:
                    if index < first:
                        continue
                    write(line + b"\n")
                    if index in prove:
                        # An entry that is not as it was signed has none; verifying names it.
                        with suppress(LogCorrupt):
                            proofs[index] = self.signed.proof(index, line)
                    if index == last:
                        break
        runs = "".join(f"{first} {last}\n" for first, last in self.runs)
        archive.add(f"{folder}{EXCERPT}", runs.encode())
        self._write_signed(archive, folder)
        return proofs

    def _write_signed(self, archive: ZipWriter, folder: str) -> None:
        archive.add(f"{folder}{VKEY}", "".join(f"{key}\n" for key in self.keys).encode())
        archive.add(f"{folder}{LATEST}", self.signed.note)
        for name in (HISTORY, COSIGNED):
            if (notes := self._notes(name)) or name == HISTORY:
                archive.add(f"{folder}{name}", b"".join(note + b"\n" for note in notes))
        tiles = Tiles(self._log)
        level, count = 0, self.signed.size
        while count:
            for number in range(-(-count // TILE_HASHES)):
                width = min(count - number * TILE_HASHES, TILE_HASHES)
                hashes = tiles.hashes(level, number, width)
                archive.add(f"{folder}{tile_path(level, number, width)}", hashes)
            level, count = level + 1, count // TILE_HASHES

    def _keys(self) -> list[object]:
        """The keys up to the one that signs the checkpoint: a later one cannot be checked by it."""
        keys: list[object] = []
        for key in keys_of(self._log):
            keys.append(key)
            with suppress(LogCorrupt):
                parse(self.signed.note, key)
                break
        return keys

    def _notes(self, name: str) -> list[bytes]:
        """The checkpoints of a file up to the one at hand: a log that is written goes on."""
        try:
            notes, _ = split_notes((self._log / name).read_bytes())
        except FileNotFoundError:
            return []
        return [note for note in notes if _size(note) <= self.signed.size]

    def _lines(self) -> Iterator[tuple[int, bytes]]:
        """Index and line, without newline, of all entries that are signed."""
        segments = segments_of(self._log)
        ends = [segment.first for segment in segments[1:]] + [self.signed.size]
        try:
            for segment, following in zip(segments, ends, strict=True):
                end = min(following, self.signed.size)
                if segment.first >= end:
                    continue
                for index, line in enumerate(lines_of(segment.path), segment.first):
                    if index == end:
                        break
                    yield index, line.removesuffix(b"\n")
        except OSError as error:
            # A segment can be compressed, or expire, while it is read.
            raise AuditFault(
                f"cannot read {error.filename}: {error.strerror}; ask again"
            ) from error

    def _extend(self, index: int) -> None:
        if self.runs and self.runs[-1][1] + 1 == index:
            self.runs[-1][1] = index
            return
        self.runs.append([index, index])
        if len(self.runs) > RUNS_MAX:
            raise AuditFault(
                f"the entries stand in more than {RUNS_MAX} places of the log: ask for a shorter "
                "time, in several packs"
            )


def _size(note: bytes) -> int:
    _, size, *_ = [*note.split(b"\n", 2), b""]
    return int(size) if size.isdigit() else 0
