"""Every proof holds, every changed byte is refused, the compact tree is the recursive one."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from guard.audit.merkle import (
    EMPTY_ROOT,
    Tree,
    consistency_proof,
    inclusion_proof,
    is_consistent,
    is_included,
    leaf_hash,
    node_hash,
)

ENTRIES = st.lists(st.binary(max_size=8), min_size=1, max_size=70)


def _mth(leaves: list[bytes]) -> bytes:
    """RFC 6962, section 2.1, as it is written there."""
    if not leaves:
        return EMPTY_ROOT
    if len(leaves) == 1:
        return leaves[0]
    split = 1
    while split * 2 < len(leaves):
        split *= 2
    return node_hash(_mth(leaves[:split]), _mth(leaves[split:]))


def _flipped(data: bytes, position: int) -> bytes:
    at = position % len(data)
    return data[:at] + bytes([data[at] ^ (1 << position % 8)]) + data[at + 1 :]


@given(ENTRIES)
def test_the_compact_root_is_the_recursive_root(entries: list[bytes]) -> None:
    leaves = [leaf_hash(entry) for entry in entries]
    tree = Tree()
    for leaf in leaves:
        tree.append(leaf)
    assert tree.root() == _mth(leaves)


@given(ENTRIES, st.data())
def test_every_inclusion_proof_holds_and_a_changed_one_does_not(
    entries: list[bytes], data: st.DataObject
) -> None:
    leaves = [leaf_hash(entry) for entry in entries]
    index = data.draw(st.integers(0, len(leaves) - 1))
    proof, root = inclusion_proof(leaves, index), _mth(leaves)
    size = len(leaves)
    assert is_included(leaves[index], index, size, proof=proof, root=root)
    flip = data.draw(st.integers(0, 1_000))
    assert not is_included(_flipped(leaves[index], flip), index, size, proof=proof, root=root)
    assert not is_included(leaves[index], index, size, proof=proof, root=_flipped(root, flip))
    assert not is_included(leaves[index], index, size, proof=[*proof, root], root=root)
    if proof:
        at = data.draw(st.integers(0, len(proof) - 1))
        bad = [*proof[:at], _flipped(proof[at], flip), *proof[at + 1 :]]
        assert not is_included(leaves[index], index, size, proof=bad, root=root)
        assert not is_included(leaves[index], index, size, proof=proof[:-1], root=root)


@given(ENTRIES, st.data())
def test_every_consistency_proof_holds_and_a_changed_one_does_not(
    entries: list[bytes], data: st.DataObject
) -> None:
    leaves = [leaf_hash(entry) for entry in entries]
    new = len(leaves)
    old = data.draw(st.integers(1, new))
    proof = consistency_proof(leaves, old)
    old_root, new_root = _mth(leaves[:old]), _mth(leaves)

    def holds(steps: list[bytes], first: bytes = old_root, second: bytes = new_root) -> bool:
        return is_consistent(old, new, proof=steps, old_root=first, new_root=second)

    assert holds(proof)
    flip = data.draw(st.integers(0, 1_000))
    assert not holds(proof, first=_flipped(old_root, flip))
    assert not holds(proof, second=_flipped(new_root, flip))
    if proof:
        at = data.draw(st.integers(0, len(proof) - 1))
        assert not holds([*proof[:at], _flipped(proof[at], flip), *proof[at + 1 :]])
        assert not holds(proof[:-1])
