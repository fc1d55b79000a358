"""Tiles grow with the log, prove every entry, and are what C2SP tlog-tiles asks for."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.entries import SIGNER, written

from guard.audit.checkpoint import parse
from guard.audit.files import lines_of, segments_of
from guard.audit.merkle import Tree, is_consistent, is_included, leaf_hash
from guard.audit.publish import publish
from guard.audit.tiles import Edge, Tiles, number_path, tile_path
from guard.errors import LogCorrupt

LEAVES = [leaf_hash(b"%d" % number) for number in range(70_000)]


@pytest.mark.parametrize(
    ("number", "path"),
    [(0, "000"), (999, "999"), (1_000, "x001/000"), (1_234_067, "x001/x234/067")],
)
def test_numbers_of_tiles_are_groups_of_three_digits(number: int, path: str) -> None:
    assert number_path(number) == path
    assert tile_path(0, number, 7) == f"tile/0/{path}.p/7"


@pytest.mark.parametrize("steps", [(1, 1, 254, 1, 300), (256, 256), (65_536, 4_463)])
def test_the_edge_has_the_root_of_the_tree_and_is_read_back(
    steps: tuple[int, ...], tmp_path: Path
) -> None:
    tree, edge = Tree(), Edge()
    for count in steps:
        part = LEAVES[edge.size : edge.size + count]
        for leaf in part:
            tree.append(leaf)
        edge.append(b"".join(part))
        edge.store(tmp_path)
        assert edge.root() == tree.root() == Edge.load(tmp_path, edge.size).root()
    partial = [path for path in tmp_path.rglob("*") if path.parent.suffix == ".p"]
    assert len(partial) == sum(1 for hashes in edge.partials().values() if hashes)


def test_every_proof_from_tiles_holds(tmp_path: Path) -> None:
    edge = Edge()
    edge.append(b"".join(LEAVES))
    edge.store(tmp_path)
    tiles = Tiles(tmp_path)
    root = edge.root()
    for index in (0, 1, 255, 256, 65_535, 65_536, 69_999, *range(100, 70_000, 997)):
        proof = tiles.inclusion(index, edge.size)
        assert is_included(LEAVES[index], index, edge.size, proof=proof, root=root)
        assert tiles.leaf(index) == LEAVES[index]
    for old in (1, 255, 256, 257, 65_536, 69_999):
        proof = tiles.consistency(old, edge.size)
        assert is_consistent(old, edge.size, proof=proof, old_root=tiles.root(old), new_root=root)


def test_a_tile_of_a_higher_level_that_lacks_is_computed_and_a_lowest_one_is_not(
    tmp_path: Path,
) -> None:
    edge = Edge()
    edge.append(b"".join(LEAVES[:1_000]))
    edge.store(tmp_path)
    (tmp_path / "tile/1/000.p/3").unlink()
    assert Tiles(tmp_path).root(1_000) == edge.root()
    (tmp_path / "tile/0/001").unlink()
    with pytest.raises(LogCorrupt, match="tile/0/001 is missing"):
        Tiles(tmp_path).root(1_000)


def test_a_published_log_is_read_by_the_rules_of_tlog_tiles_alone(tmp_path: Path) -> None:
    log = written(tmp_path / "audit", 600, signed_every=250, segment_bytes_max=50_000)
    size = publish(log, tmp_path / "www")
    site = tmp_path / "www"
    checkpoint = parse((site / "checkpoint").read_bytes(), SIGNER.verifier)
    assert checkpoint.size == size >= 600
    entries: list[bytes] = []
    tree = Tree()
    for number in range(-(-size // 256)):
        width = min(256, size - 256 * number)
        bundle = (site / tile_path("entries", number, width)).read_bytes()
        hashes = (site / tile_path(0, number, width)).read_bytes()
        for at in range(width):
            length = int.from_bytes(bundle[:2], "big")
            entries.append(bundle[2 : 2 + length])
            bundle = bundle[2 + length :]
            assert leaf_hash(entries[-1]) == hashes[at * 32 : at * 32 + 32]
            tree.append(leaf_hash(entries[-1]))
        assert bundle == b""
    assert tree.root() == checkpoint.root
    stored = [line[:-1] for segment in segments_of(log) for line in lines_of(segment.path)]
    assert entries == stored[:size]


def test_publishing_again_adds_only_what_is_new(tmp_path: Path) -> None:
    log = written(tmp_path / "audit", 300)
    publish(log, tmp_path / "www")
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "www").rglob("*/000")}
    written(tmp_path / "audit", 300)
    assert publish(log, tmp_path / "www") == 600
    assert {path: path.stat().st_mtime_ns for path in before} == before
