"""What is signed of a log: whether a line is the one in the tree, and the proof that it is."""

from __future__ import annotations

import base64
from hashlib import sha256
from pathlib import Path
from typing import Final

from ...errors import AuditFault, LogCorrupt
from ..checkpoint import NOTE_BYTES_MAX, Checkpoint, parse
from ..files import CHECKPOINT, read_small
from ..keyring import keys_of
from ..merkle import is_included, leaf_hash
from ..tiles import TILE_HASHES, Tiles

__all__ = ["Signed"]

_PROOF_HEADER: Final = "c2sp.org/tlog-proof@v1"


class Signed:
    """The latest checkpoint of a log and its tree; raises LogCorrupt where it does not hold."""

    def __init__(self, log: Path) -> None:
        self._tiles = Tiles(log)
        try:
            self.note = read_small(log / CHECKPOINT, NOTE_BYTES_MAX)
        except OSError as error:
            raise LogCorrupt(
                f"{log / CHECKPOINT} cannot be read ({error.strerror}): without it nothing is "
                "proven; run `guard audit verify`"
            ) from error
        self.checkpoint = self._parsed(log)

    @property
    def size(self) -> int:
        """How many entries are signed."""
        return self.checkpoint.size

    def leaves(self, first: int, count: int) -> bytes:
        """The stored hashes of some entries below `size`; raises LogCorrupt."""
        hashes = []
        end = first + count
        while first < end:
            number, at = divmod(first, TILE_HASHES)
            width = min(end - first, TILE_HASHES - at)
            known = min(TILE_HASHES, self.size - number * TILE_HASHES)
            hashes.append(self._tiles.hashes(0, number, known)[32 * at : 32 * (at + width)])
            first += width
        return b"".join(hashes)

    def changed(self, lines: list[bytes], first: int) -> int:
        """How many of these lines (with newline) are not as they were signed."""
        lines = lines[: max(0, self.size - first)]
        found = [sha256(b"\x00" + line[:-1]).digest() for line in lines]
        stored = self.leaves(first, len(lines))
        if b"".join(found) == stored:
            return 0
        return sum(stored[32 * at : 32 * at + 32] != one for at, one in enumerate(found))

    def check(self, index: int, line: bytes) -> bool:
        """Whether a line (without newline) is signed; raises LogCorrupt if as another one."""
        if index >= self.size:
            return False
        if self.leaves(index, 1) != leaf_hash(line):
            raise LogCorrupt(
                f"entry {index} is not as it was signed: run `guard audit verify`; if that finds "
                "no damage the index is wrong: ask with --rebuild"
            )
        return True

    def proof(self, index: int, line: bytes) -> str:
        """The C2SP tlog-proof of an entry, verified before it is given away.

        Raises AuditFault where it is not signed yet, LogCorrupt where it does not hold.
        """
        if index >= self.size:
            raise AuditFault(
                f"entry {index} is not signed yet: the latest checkpoint covers {self.size} "
                "entries; ask again in a second"
            )
        path = self._tiles.inclusion(index, self.size)
        root = self.checkpoint.root
        if not is_included(leaf_hash(line), index, self.size, proof=path, root=root):
            raise LogCorrupt(f"the proof of entry {index} does not hold: run `guard audit verify`")
        lines = [_PROOF_HEADER, f"index {index}", *(base64.b64encode(h).decode() for h in path)]
        return "\n".join(lines) + "\n\n" + self.note.decode()

    def _parsed(self, log: Path) -> Checkpoint:
        fault = LogCorrupt("there is no key")
        for key in reversed(keys_of(log)):
            try:
                return parse(self.note, key)
            except LogCorrupt as error:
                fault = error
        raise LogCorrupt(f"the latest checkpoint does not hold: {fault}; run `guard audit verify`")
