"""The tree against the vectors of Certificate Transparency."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from guard.audit.merkle import (
    Tree,
    consistency_proof,
    inclusion_proof,
    is_consistent,
    is_included,
    leaf_hash,
)

VECTORS = json.loads((Path(__file__).parents[1] / "vectors" / "rfc6962.json").read_text())
LEAVES = [leaf_hash(bytes.fromhex(leaf)) for leaf in VECTORS["leaves"]]
ROOTS = [bytes.fromhex(root) for root in VECTORS["roots"]]


def test_every_size_has_the_root_of_the_vectors() -> None:
    tree = Tree()
    roots = [tree.root()]
    for leaf in LEAVES:
        tree.append(leaf)
        roots.append(tree.root())
    assert roots == ROOTS


@pytest.mark.parametrize("case", VECTORS["inclusion"], ids=lambda c: f"{c['index']}-of-{c['size']}")
def test_inclusion_proofs_are_those_of_the_vectors_and_hold(case: dict[str, Any]) -> None:
    index, size = case["index"], case["size"]
    proof = inclusion_proof(LEAVES[:size], index)
    assert [step.hex() for step in proof] == case["proof"]
    assert is_included(LEAVES[index], index, size, proof=proof, root=ROOTS[size])


@pytest.mark.parametrize("case", VECTORS["consistency"], ids=lambda c: f"{c['old']}-{c['new']}")
def test_consistency_proofs_are_those_of_the_vectors_and_hold(case: dict[str, Any]) -> None:
    old, new = case["old"], case["new"]
    proof = consistency_proof(LEAVES[:new], old)
    assert [step.hex() for step in proof] == case["proof"]
    assert is_consistent(old, new, proof=proof, old_root=ROOTS[old], new_root=ROOTS[new])


def test_a_proof_for_an_index_outside_the_tree_is_refused() -> None:
    assert not is_included(LEAVES[0], 1, 1, proof=[], root=ROOTS[1])
    with pytest.raises(IndexError, match="leaf 8 of a tree with 8"):
        inclusion_proof(LEAVES, 8)


def test_a_tree_does_not_shrink_consistently() -> None:
    assert not is_consistent(8, 7, proof=[], old_root=ROOTS[8], new_root=ROOTS[7])


def test_the_empty_tree_is_a_prefix_of_every_tree() -> None:
    assert is_consistent(0, 8, proof=[], old_root=ROOTS[0], new_root=ROOTS[8])
    assert not is_consistent(0, 8, proof=[], old_root=ROOTS[1], new_root=ROOTS[8])


def test_putting_an_old_state_back_undoes_an_append() -> None:
    tree = Tree()
    for leaf in LEAVES[:5]:
        tree.append(leaf)
    before = tree.state
    tree.append(LEAVES[5])
    tree.state = before
    assert (tree.size, tree.root()) == (5, ROOTS[5])
