"""Hash tiles: the tree on disk, growing at its right edge, and proofs read back from it.

A tile of level L holds up to 256 hashes; each is the root over 256**L entries. Full tiles never
change. https://c2sp.org/tlog-tiles
"""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Callable, Iterable
from hashlib import sha256
from pathlib import Path
from typing import Final

from ..errors import LogCorrupt
from .files import make_directory, sync_directory, write_whole
from .merkle import EMPTY_ROOT, HASH_BYTES, consistency_ranges, inclusion_ranges, node_hash

__all__ = ["TILE_BYTES", "TILE_HASHES", "Edge", "StoredHashes", "Tiles", "number_path", "tile_path"]

TILE_HASHES: Final = 256
TILE_BYTES: Final = TILE_HASHES * HASH_BYTES
_BITS: Final = 8
_PAIR_BYTES: Final = 2 * HASH_BYTES
# A proof touches one tile a level and its neighbours; a thousand proofs in order share nearly all.
CACHED_TILES_MAX: Final = 256
# A verifier goes forward, and looks some tiles ahead where entries are missing.
_WINDOW_TILES: Final = 8


def number_path(number: int) -> str:
    """`x001/x234/067` for 1234067."""
    parts = [f"{number % 1_000:03}"]
    while number >= 1_000:
        number //= 1_000
        parts.append(f"x{number % 1_000:03}")
    return "/".join(reversed(parts))


def tile_path(level: int | str, number: int, width: int = TILE_HASHES) -> str:
    """Path of a tile below the log; with fewer hashes than are full it is a partial one."""
    partial = f".p/{width}" if width < TILE_HASHES else ""
    return f"tile/{level}/{number_path(number)}{partial}"


def root_of(hashes: bytes) -> bytes:
    """Root over the hashes of one tile, full or not."""
    while len(hashes) > HASH_BYTES:
        # Pairs side by side are what a node hashes; an odd one at the end goes up as it is.
        paired = len(hashes) // _PAIR_BYTES * _PAIR_BYTES
        above = [
            sha256(b"\x01" + hashes[at : at + _PAIR_BYTES]).digest()
            for at in range(0, paired, _PAIR_BYTES)
        ]
        hashes = b"".join(above) + hashes[paired:]
    return hashes or EMPTY_ROOT


class Edge:
    """The right edge of a tree: its partial tile of each level.

    Full tiles go to `on_full` (level, number, hashes); by default they wait for `store`.
    """

    def __init__(
        self, size: int = 0, partials: Iterable[bytes] = (),
        on_full: Callable[[int, int, bytes], None] | None = None,
    ) -> None:  # fmt: skip
        self.size = size
        self._partials = [bytearray(hashes) for hashes in partials]
        self._full: list[tuple[int, int, bytes]] = []
        self._on_full = on_full or (lambda *tile: self._full.append(tile))

    def copy(self) -> Edge:
        """One that grows apart from this, and whose full tiles nobody wants."""
        return Edge(self.size, map(bytes, self._partials), on_full=lambda *tile: None)

    def partials(self) -> dict[tuple[int, int], bytes]:
        """Hashes of the partial tiles by level and number."""
        return {
            (level, (self.size >> (_BITS * level)) >> _BITS): bytes(hashes)
            for level, hashes in enumerate(self._partials)
            if hashes
        }

    def append(self, leaves: bytes) -> None:
        """Add leaf hashes, 32 bytes each."""
        done = 0
        while done < len(leaves):
            if not self._partials:
                self._partials.append(bytearray())
            bottom = self._partials[0]
            piece = leaves[done : done + TILE_BYTES - len(bottom)]
            bottom += piece
            done += len(piece)
            self.size += len(piece) // HASH_BYTES
            self._carry()

    def root(self) -> bytes:
        """The hash that commits to all leaves and their order."""
        root = b""
        for hashes in self._partials:
            # What lies to the right of a level's hashes is one more, smaller node of that level.
            if hashes or root:
                root = root_of(bytes(hashes) + root)
        return root or EMPTY_ROOT

    def store(self, log: Path) -> None:
        """Write and sync the full tiles that are not on disk, and the partial ones; raises OSError.

        Partial tiles of the time before are removed afterwards.
        """
        partials = self.partials()
        new = [(log / tile_path(level, number), hashes) for level, number, hashes in self._full]
        for (level, number), hashes in partials.items():
            path = log / tile_path(level, number, len(hashes) // HASH_BYTES)
            if not path.exists():
                new.append((path, hashes))
        for directory in {_write(path, hashes) for path, hashes in new}:
            sync_directory(directory)
        for level, number, _ in self._full:
            _remove_partials(log, level, number, keep=None)
        for (level, number), hashes in partials.items():
            _remove_partials(log, level, number, keep=str(len(hashes) // HASH_BYTES))
        self._full.clear()

    @classmethod
    def load(cls, log: Path, size: int) -> Edge:
        """The edge of a tree of `size` leaves that was stored; raises LogCorrupt."""
        tiles = Tiles(log)
        partials = []
        rest, level = size, 0
        while rest:
            number, width = rest >> _BITS, rest & (TILE_HASHES - 1)
            partials.append(tiles.hashes(level, number, width))
            rest, level = number, level + 1
        return cls(size, partials)

    def _carry(self) -> None:
        level = 0
        while len(self._partials[level]) == TILE_BYTES:
            hashes = bytes(self._partials[level])
            number = (self.size >> (_BITS * (level + 1))) - 1
            self._on_full(level, number, hashes)
            self._partials[level] = bytearray()
            if level + 1 == len(self._partials):
                self._partials.append(bytearray())
            self._partials[level + 1] += root_of(hashes)
            level += 1


class Tiles:
    """Reads tiles, by default from the directory of a log; a bounded number of them is kept."""

    def __init__(self, log: Path, read: Callable[[str], bytes | None] | None = None) -> None:
        self._log = log
        self._read = read or self._read_file
        self._cache: OrderedDict[tuple[int, int], bytes] = OrderedDict()

    def hashes(self, level: int, number: int, width: int) -> bytes:
        """The first `width` hashes of a tile; raises LogCorrupt where they are neither stored nor
        to be had from the tiles below."""
        if width == 0:
            return b""
        known = self._cache.get((level, number), b"")
        if len(known) < width * HASH_BYTES:
            known = self._stored(level, number, width) or self._computed(level, number, width)
            self._cache[level, number] = known
            if len(self._cache) > CACHED_TILES_MAX:
                self._cache.popitem(last=False)
        return known[: width * HASH_BYTES]

    def inclusion(self, index: int, size: int) -> list[bytes]:
        """Proof that entry `index` is in the tree of `size` leaves: siblings, lowest first."""
        return [self.range_root(low, high) for low, high in inclusion_ranges(index, size)]

    def consistency(self, old_size: int, size: int) -> list[bytes]:
        """Proof that the tree of `old_size` leaves is a prefix of the one of `size`."""
        return [self.range_root(low, high) for low, high in consistency_ranges(old_size, size)]

    def leaf(self, index: int) -> bytes:
        """Stored hash of an entry."""
        number, at = divmod(index, TILE_HASHES)
        return self.hashes(0, number, at + 1)[at * HASH_BYTES :]

    def root(self, size: int) -> bytes:
        """Root over the first `size` leaves."""
        return self.range_root(0, size)

    def range_root(self, low: int, high: int) -> bytes:
        """Root over the leaves from `low` up to `high`; `low` begins a subtree of that size."""
        nodes = []
        while low < high:
            # The largest perfect subtree that begins here and ends before `high`.
            height = (high - low).bit_length() - 1
            if low:
                height = min(height, (low & -low).bit_length() - 1)
            nodes.append(self._node(height, low >> height))
            low += 1 << height
        if not nodes:
            return EMPTY_ROOT
        root = nodes.pop()
        while nodes:
            root = node_hash(nodes.pop(), root)
        return root

    def _node(self, height: int, index: int) -> bytes:
        level, rest = divmod(height, _BITS)
        first = index << rest
        number, at = divmod(first, TILE_HASHES)
        end = at + (1 << rest)
        return root_of(self.hashes(level, number, end)[at * HASH_BYTES : end * HASH_BYTES])

    def _stored(self, level: int, number: int, width: int) -> bytes | None:
        """A full tile, or the narrowest partial one that is wide enough."""
        data = self._read(tile_path(level, number))
        if data is None:
            for wide in range(width, TILE_HASHES):
                data = self._read(tile_path(level, number, wide))
                if data is not None:
                    break
        return data if data is not None and len(data) >= width * HASH_BYTES else None

    def _computed(self, level: int, number: int, width: int) -> bytes:
        if level == 0:
            raise LogCorrupt(
                f"{tile_path(level, number)} is missing: expected {width} hashes there; run "
                "`guard audit verify`"
            )
        below = (
            root_of(self.hashes(level - 1, number * TILE_HASHES + at, TILE_HASHES))
            for at in range(width)
        )
        return b"".join(below)

    def _read_file(self, name: str) -> bytes | None:
        try:
            with (self._log / name).open("rb") as file:
                return file.read(TILE_BYTES + 1)
        except FileNotFoundError:
            return None


class StoredHashes:
    """The leaf hashes below the latest checkpoint, as they are stored: for a verifier.

    Where a tile lacks or is damaged, hashes are unknown: empty.
    """

    def __init__(self, log: Path, size: int, *, report: Callable[[str, int | None], None]) -> None:
        self._log = log
        self._size = size
        self._report = report
        self._tiles: OrderedDict[int, bytes] = OrderedDict()

    def at(self, index: int) -> bytes:
        """The stored hash of an entry."""
        return self.window(index, 1)

    def window(self, index: int, count: int) -> bytes:
        """Stored hashes from `index` on, of at most `count` entries within one tile."""
        number, at = divmod(index, TILE_HASHES)
        tile = self._tiles.get(number)
        if tile is None:
            tile = self._tiles[number] = self._load(number)
            if len(self._tiles) > _WINDOW_TILES:
                self._tiles.popitem(last=False)
        return tile[at * HASH_BYTES : (at + count) * HASH_BYTES]

    def compare(self, level: int, number: int, hashes: bytes) -> None:
        """Report a tile that is not what it should be; a partial one may lack."""
        width = len(hashes) // HASH_BYTES
        name = tile_path(level, number, width)
        found = self._read(name)
        if found is None and width < TILE_HASHES:
            return
        if found != hashes:
            first = number << (_BITS * (level + 1))
            self._report(f"{name} {'is missing' if found is None else 'was changed'}", first)

    def _load(self, number: int) -> bytes:
        width = min(self._size - number * TILE_HASHES, TILE_HASHES)
        if width <= 0:
            return b""
        name = tile_path(0, number, width)
        data = self._read(name)
        if data is None and width < TILE_HASHES:
            return b""  # it can be computed anew
        if data is None or len(data) != width * HASH_BYTES:
            what = "is missing" if data is None else f"has {len(data)} bytes"
            self._report(f"{name} {what}: expected {width} hashes", number * TILE_HASHES)
            return b""
        return data

    def _read(self, name: str) -> bytes | None:
        try:
            with (self._log / name).open("rb") as file:
                return file.read(TILE_BYTES + 1)
        except FileNotFoundError:
            return None


def _remove_partials(log: Path, level: int, number: int, *, keep: str | None) -> None:
    directory = (log / tile_path(level, number, 1)).parent
    if not directory.is_dir():
        return
    for path in directory.iterdir():
        if path.name != keep:
            path.unlink(missing_ok=True)
    if keep is None:
        directory.rmdir()


def _write(path: Path, hashes: bytes) -> Path:
    """Write and sync a tile; the directory that has to be synced too.

    INVARIANT: a tile that has its name is whole: a write that failed half way left none.
    """
    make_directory(path.parent)
    temporary = path.with_name(f".{path.name}.new")
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(temporary, flags, 0o600)
    try:
        write_whole(descriptor, hashes)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    os.replace(temporary, path)
    return path.parent
