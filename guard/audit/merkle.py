"""The Merkle tree of RFC 6962: hashes, a compact tree that grows, proofs and their verification.

Verification follows RFC 9162, sections 2.1.3.2 and 2.1.4.2, step by step.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256
from typing import Final

__all__ = [
    "EMPTY_ROOT",
    "HASH_BYTES",
    "Tree",
    "consistency_proof",
    "consistency_ranges",
    "inclusion_proof",
    "inclusion_ranges",
    "is_consistent",
    "is_included",
    "leaf_hash",
    "node_hash",
]

HASH_BYTES: Final = 32
EMPTY_ROOT: Final = sha256(b"").digest()


def leaf_hash(entry: bytes) -> bytes:
    """Hash of one entry."""
    return sha256(b"\x00" + entry).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """Hash of two subtrees."""
    return sha256(b"\x01" + left + right).digest()


class Tree:
    """A tree as its compact range: the roots of its perfect subtrees, largest first.

    `state` is one value that is replaced as a whole, so an exception between two bytecodes (a
    signal) leaves either the old tree or the new one; put an old state back to undo an append.
    """

    __slots__ = ("state",)

    def __init__(self, state: tuple[int, tuple[bytes, ...]] = (0, ())) -> None:
        self.state = state

    @property
    def size(self) -> int:
        """How many leaves."""
        return self.state[0]

    def append(self, leaf: bytes) -> None:
        """Add one leaf hash: O(log n) memory, one node hash on average."""
        size, nodes = self.state
        keep = len(nodes)
        low_bits = size
        while low_bits & 1:
            keep -= 1
            leaf = sha256(b"\x01" + nodes[keep] + leaf).digest()
            low_bits >>= 1
        self.state = (size + 1, (*nodes[:keep], leaf))

    def root(self) -> bytes:
        """The hash that commits to all leaves and their order."""
        nodes = self.state[1]
        if not nodes:
            return EMPTY_ROOT
        root = nodes[-1]
        for node in reversed(nodes[:-1]):
            root = node_hash(node, root)
        return root


def inclusion_ranges(index: int, size: int) -> list[tuple[int, int]]:
    """Leaves, from and up to, under each sibling of a proof for `index`, lowest first."""
    if not 0 <= index < size:
        raise IndexError(f"leaf {index} of a tree with {size}")
    ranges = []
    low, high = 0, size
    while high - low > 1:
        middle = low + _split(high - low)
        if index < middle:
            ranges.append((middle, high))
            high = middle
        else:
            ranges.append((low, middle))
            low = middle
    return ranges[::-1]


def consistency_ranges(old_size: int, size: int) -> list[tuple[int, int]]:
    """Leaves under each node of a proof that `old_size` leaves are a prefix, lowest first."""
    if not 0 < old_size <= size:
        raise IndexError(f"prefix of {old_size} leaves of a tree with {size}")
    ranges = []
    low, high = 0, size
    is_whole = True  # the old tree is a subtree that the verifier already knows
    while old_size != high:
        middle = low + _split(high - low)
        if old_size <= middle:
            ranges.append((middle, high))
            high = middle
        else:
            ranges.append((low, middle))
            low = middle
            is_whole = False
    if not is_whole:
        ranges.append((low, high))
    return ranges[::-1]


def inclusion_proof(leaves: Sequence[bytes], index: int) -> list[bytes]:
    """Proof that leaf `index` is in the tree of these leaf hashes: siblings, lowest first."""
    return [_range_root(leaves, *ends) for ends in inclusion_ranges(index, len(leaves))]


def consistency_proof(leaves: Sequence[bytes], old_size: int) -> list[bytes]:
    """Proof that the tree of the first `old_size` leaves is a prefix of the tree of all."""
    return [_range_root(leaves, *ends) for ends in consistency_ranges(old_size, len(leaves))]


def is_included(leaf: bytes, index: int, size: int, *, proof: Sequence[bytes], root: bytes) -> bool:
    """Whether `proof` shows that `leaf` is leaf `index` of the tree with this size and root."""
    if not 0 <= index < size:  # (1)
        return False
    node, last = index, size - 1  # (2)
    hashed = leaf  # (3)
    for sibling in proof:  # (4)
        if last == 0:
            return False
        if node & 1 or node == last:
            hashed = node_hash(sibling, hashed)
            while not node & 1 and node:
                node >>= 1
                last >>= 1
        else:
            hashed = node_hash(hashed, sibling)
        node >>= 1
        last >>= 1
    return last == 0 and hashed == root  # (5)


def is_consistent(
    old_size: int, new_size: int, *, proof: Sequence[bytes], old_root: bytes, new_root: bytes
) -> bool:
    """Whether `proof` shows that the old tree is a prefix of the new one."""
    if old_size < 0 or old_size > new_size:
        return False
    if old_size == new_size:
        return not proof and old_root == new_root
    if old_size == 0:
        return not proof and old_root == EMPTY_ROOT
    path = list(proof)
    if old_size & (old_size - 1) == 0:  # (2) the old tree is perfect: its root is the start
        path.insert(0, old_root)
    if not path:  # (1)
        return False
    node, last = old_size - 1, new_size - 1  # (3)
    while node & 1:  # (4)
        node >>= 1
        last >>= 1
    old_hash = new_hash = path[0]  # (5)
    for sibling in path[1:]:  # (6)
        if last == 0:
            return False
        if node & 1 or node == last:
            old_hash = node_hash(sibling, old_hash)
            new_hash = node_hash(sibling, new_hash)
            while not node & 1 and node:
                node >>= 1
                last >>= 1
        else:
            new_hash = node_hash(new_hash, sibling)
        node >>= 1
        last >>= 1
    return last == 0 and old_hash == old_root and new_hash == new_root  # (7)


def _split(size: int) -> int:
    """The largest power of two below `size`."""
    return 1 << ((size - 1).bit_length() - 1)


def _range_root(leaves: Sequence[bytes], low: int, high: int) -> bytes:
    tree = Tree()
    for index in range(low, high):
        tree.append(leaves[index])
    return tree.root()
