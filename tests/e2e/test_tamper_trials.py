"""Tampering: random single changes of a log, every one of them found by both verifiers.

`TRIALS=long` makes 10,000 of them; the seed and the counts are printed (`-s`). Each is asked with a
checkpoint that was kept outside, as an auditor has one: what a thief of the keys writes anew is
found by that alone.
"""

from __future__ import annotations

import gzip
import os
import random
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from support.entries import SIGNER, entry, open_log

from guard.audit import standalone_verify
from guard.audit.checkpoint import Checkpoint, parse, sign, split_notes
from guard.audit.files import lines_of, segments_of
from guard.audit.merkle import Tree, leaf_hash
from guard.audit.sequence import Rolling
from guard.audit.sequencer import Sequencer
from guard.audit.tiles import Edge
from guard.audit.verify import verify
from guard.clock import SystemClock
from guard.errors import AuditFault, LogCorrupt
from guard.keys import Signer

TRIALS = 10_000 if os.environ.get("TRIALS") == "long" else 600
SEED = int(os.environ.get("TRIALS_SEED", "2026"))
SECOND = Signer("guard/audit", bytes(range(1, 33)))
# What a sequencer writes for itself, and what is empty, proves nothing.
_DERIVED = {"state", "sequencer.lock"}


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Several segments, sealed ones among them, two levels of tiles, and two keys."""
    place = tmp_path_factory.mktemp("trials") / "log"
    rolling = Rolling(segment_bytes_max=30_000)
    _append(place, range(300), rolling, SIGNER)
    sequencer = Sequencer(
        place, load_signer=lambda: SIGNER, origin=None, clock=SystemClock(), rolling=rolling
    )
    sequence = sequencer.hold()
    assert sequence is not None
    sequence.change_key(SECOND)
    sequencer.close()
    _append(place, range(300, 600), rolling, SECOND)
    assert len(list(place.glob("*.gz"))) >= 3
    assert (place / "tile/0/001").exists()
    assert list(place.glob("tile/1/000.p/*"))
    return place


def _append(place: Path, numbers: range, rolling: Rolling, signer: Signer) -> None:
    with open_log(place, rolling=rolling, signer=signer) as made:
        for number in numbers:
            made.append(entry(number))
            if number % 90 == 89:
                made.checkpoint()
        for _ in range(20):  # One segment is sealed in a round.
            made._round(sign=True)


def _by_guard(log: Path, kept: str) -> bool:
    """Whether the verifier of guard holds the log for whole."""
    try:
        return verify(log, vkey=SIGNER.verifier, checkpoints=[kept]).ok
    except AuditFault:
        return False


def _alone(log: Path, kept: str) -> bool:
    """Whether the stand-alone one does."""
    try:
        return not standalone_verify.check(log, key=SIGNER.vkey, checkpoints=[kept])
    except standalone_verify.CannotCheckError:
        return False


def _whole(log: Path, kept: str) -> tuple[bool, bool]:
    return _by_guard(log, kept), _alone(log, kept)


# --- changes --------------------------------------------------------------------------------------

_Change = Callable[[bytes, random.Random], bytes]
_Lines = list[bytes]


def _flip(data: bytes, chance: random.Random) -> bytes:
    at = chance.randrange(len(data))
    return data[:at] + bytes([data[at] ^ 1 << chance.randrange(8)]) + data[at + 1 :]


def _cut_out(data: bytes, chance: random.Random) -> bytes:
    at = chance.randrange(len(data))
    return data[:at] + data[at + chance.randrange(1, 40) :]


def _cut_tail(data: bytes, chance: random.Random) -> bytes:
    return data[: chance.randrange(len(data))]


def _insert(data: bytes, chance: random.Random) -> bytes:
    at = chance.randrange(len(data) + 1)
    return data[:at] + chance.randbytes(chance.randrange(1, 40)) + data[at:]


def _swap(lines: _Lines, at: int, chance: random.Random) -> None:
    other = chance.randrange(len(lines))
    lines[at], lines[other] = lines[other], lines[at]


def _delete(lines: _Lines, at: int, _: random.Random) -> None:
    del lines[at]


def _duplicate(lines: _Lines, at: int, chance: random.Random) -> None:
    lines.insert(chance.randrange(len(lines)), lines[at])


def _put_in(lines: _Lines, at: int, _: random.Random) -> None:
    lines.insert(at, lines[at].replace(b'"tool":"search"', b'"tool":"pay"').replace(b"=", b"A"))


def _rewrite(lines: _Lines, at: int, _: random.Random) -> None:
    lines[at] = lines[at].replace(b"search", b"delete").replace(b'"guard"', b'"other"')


def _in_lines(change: Callable[[_Lines, int, random.Random], None]) -> _Change:
    """A change of lines; those of a sealed segment are packed again."""

    def run(data: bytes, chance: random.Random) -> bytes:
        is_packed = data.startswith(b"\x1f\x8b")
        before = gzip.decompress(data) if is_packed else data
        lines = before.splitlines(keepends=True)
        change(lines, chance.randrange(len(lines)), chance)
        after = b"".join(lines)
        return data if after == before else gzip.compress(after) if is_packed else after

    return run


_BYTES: dict[str, _Change] = {
    "flip": _flip, "cut out": _cut_out, "cut tail": _cut_tail, "insert": _insert,
}  # fmt: skip
_LINES: dict[str, _Change] = {
    "swap": _in_lines(_swap), "delete": _in_lines(_delete), "duplicate": _in_lines(_duplicate),
    "put in": _in_lines(_put_in), "rewrite": _in_lines(_rewrite),
}  # fmt: skip


def _kind_of(path: Path) -> str:
    if path.name.startswith("records-"):
        return "sealed segment" if path.suffix == ".gz" else "live segment"
    if "tile" in path.parts:
        level = path.parts[path.parts.index("tile") + 1]
        return f"tile/{level}, {'partial' if '.p' in path.parent.name else 'full'}"
    return path.name


def _tried(log: Path, kinds: Callable[[str], bool], rounds: int, verifiers: object) -> list[str]:
    """Change files of these kinds, one at a time; print the counts; the changes not found."""
    assert callable(verifiers)
    kept = (log / "checkpoint").read_text()
    files: dict[str, list[Path]] = {}
    for path in sorted(log.rglob("*")):
        if path.is_file() and path.name not in _DERIVED and path.stat().st_size:
            files.setdefault(_kind_of(path), []).append(path)
    asked = [kind for kind in files if kinds(kind)]
    chance = random.Random(SEED)
    counts: Counter[tuple[str, str]] = Counter()
    missed = []
    while counts.total() < rounds:
        kind = chance.choice(asked)  # Every kind of file as often as the others.
        path = chance.choice(files[kind])
        good = path.read_bytes()
        changes = _BYTES if kind.startswith("tile") else _BYTES | _LINES
        name = chance.choice(list(changes))
        bad = changes[name](good, chance)
        if bad == good or (path.suffix == ".jsonl" and bad.startswith(good)):
            continue  # What was only added after the last signed entry is no damage, see below.
        path.write_bytes(bad)
        said = verifiers(log, kept)
        path.write_bytes(good)
        counts[kind, name] += 1
        if said not in ((False, False), False):
            missed.append(
                f"{path.relative_to(log)}: {name}: {said}, {len(bad)} of {len(good)} bytes"
            )
    print(f"\nseed {SEED}: {counts.total()} changes, {len(missed)} not found", *missed, sep="\n")
    for (kind, name), count in sorted(counts.items()):
        print(f"{kind:18}{name:12}{count:7}")
    return missed


def test_every_single_change_of_a_log_is_found_by_both_verifiers(log: Path) -> None:
    assert _whole(log, (log / "checkpoint").read_text()) == (True, True)
    missed = _tried(log, lambda kind: True, TRIALS, _whole)
    assert missed == []
    assert _whole(log, (log / "checkpoint").read_text()) == (True, True)


def _cosigned(log: Path, copy: Path) -> Path:
    """A copy of the log with notes that came back from witnesses."""
    shutil.copytree(log, copy)
    notes, _ = split_notes((copy / "checkpoints").read_bytes())
    (copy / "cosigned").write_bytes(b"".join(note + b"\n" for note in notes[1:]))
    return copy


@pytest.mark.parametrize("verifier", [_by_guard, _alone])
def test_every_change_of_cosigned_notes_is_found(
    verifier: Callable[[Path, str], bool], log: Path, tmp_path: Path
) -> None:
    copy = _cosigned(log, tmp_path / "copy")
    assert verifier(copy, (copy / "checkpoint").read_text())
    missed = _tried(copy, lambda kind: kind == "cosigned", TRIALS // 10, verifier)
    # The order of these notes says nothing, and how many there are is not written anywhere.
    assert [each for each in missed if ": swap" not in each and ": cut tail" not in each] == []


# --- one entry rewritten, with everything that follows from it ------------------------------------


def _rewritten(log: Path, copy: Path, chance: random.Random) -> list[bytes]:
    """A copy in which one entry is another, and all hashes with it; its lines."""
    shutil.copytree(log, copy)
    lines = [line for segment in segments_of(copy) for line in lines_of(segment.path)]
    index = chance.randrange(len(lines))
    other = lines[index].replace(b'"point":"p', b'"point":"q').replace(b'"audit"', b'"other"')
    assert other != lines[index]
    lines[index] = other
    for path in copy.glob("records-*"):
        path.unlink()
    (copy / f"records-{0:020}.jsonl").write_bytes(b"".join(lines))
    shutil.rmtree(copy / "tile")
    edge = Edge()
    edge.append(b"".join(leaf_hash(line[:-1]) for line in lines))
    edge.store(copy)
    return lines


def _signer_of(note: bytes) -> tuple[Signer, Checkpoint]:
    try:
        return SIGNER, parse(note, SIGNER.verifier)
    except LogCorrupt:
        return SECOND, parse(note, SECOND.verifier)


def _signed_anew(copy: Path, lines: list[bytes]) -> None:
    """All checkpoints of the copy, made anew with the stolen keys."""
    history, _ = split_notes((copy / "checkpoints").read_bytes())
    notes = []
    for signer, checkpoint in map(_signer_of, history):
        tree = Tree()
        for line in lines[: checkpoint.size]:
            tree.append(leaf_hash(line[:-1]))
        notes.append(sign(Checkpoint(checkpoint.origin, checkpoint.size, tree.root()), signer))
    (copy / "checkpoints").write_bytes(b"".join(note + b"\n" for note in notes))
    (copy / "checkpoint").write_bytes(notes[-1])


@pytest.mark.parametrize("has_key", [False, True])
def test_an_entry_rewritten_with_all_its_hashes_is_found(
    has_key: bool, log: Path, tmp_path: Path
) -> None:
    kept = (log / "checkpoint").read_text()
    chance = random.Random(SEED)
    rounds = max(10, TRIALS // 50)
    for number in range(rounds):
        copy = tmp_path / str(number)
        lines = _rewritten(log, copy, chance)
        if has_key:
            _signed_anew(copy, lines)
            # Without what was kept, a thief of the keys is not seen: that is what it is kept for.
            assert _whole(copy, (copy / "checkpoint").read_text()) == (True, True)
        assert _whole(copy, kept) == (False, False)
        shutil.rmtree(copy)
    print(f"rewritten with all hashes, {'with' if has_key else 'without'} the key: {rounds} found")


# --- above the last checkpoint --------------------------------------------------------------------


def _with_a_tail(log: Path, copy: Path) -> tuple[Path, int]:
    """A copy with entries that are not signed yet; their file, and where in it they begin."""
    shutil.copytree(log, copy)
    live = segments_of(copy)[-1].live
    signed_bytes = live.stat().st_size
    with live.open("ab") as file:
        for number in range(600, 620):
            file.write(b'{"v":2,"kind":"decision","decision_id":"%d","timestamp_ns":1,' % number)
            file.write(b'"timestamp":"t","tool":"search","writer":"ab","writer_seq":%d}\n'
                       % (number - 600))  # fmt: skip
        file.write(b'{"v":2,"kind":"half')
    return live, signed_bytes


def test_what_lies_above_the_last_checkpoint_is_told_and_is_no_damage(
    log: Path, tmp_path: Path
) -> None:
    copy = tmp_path / "copy"
    _with_a_tail(log, copy)
    kept = (copy / "checkpoint").read_text()
    assert _whole(copy, kept) == (True, True)
    notes = verify(copy, vkey=SIGNER.verifier, checkpoints=[kept]).notes
    assert any("not signed yet" in note for note in notes)


@pytest.mark.parametrize("verifier", [_by_guard, _alone])
def test_a_change_above_the_last_checkpoint_is_no_damage(
    verifier: Callable[[Path, str], bool], log: Path, tmp_path: Path
) -> None:
    live, signed_bytes = _with_a_tail(log, tmp_path / "copy")
    kept = (log / "checkpoint").read_text()
    good = live.read_bytes()
    chance = random.Random(SEED)
    changes = _BYTES | _LINES
    for _ in range(TRIALS // 10):
        change = chance.choice(list(changes))
        live.write_bytes(good[:signed_bytes] + changes[change](good[signed_bytes:], chance))
        assert verifier(tmp_path / "copy", kept), change


def test_a_change_of_what_is_only_spooled_is_no_damage(tmp_path: Path) -> None:
    place, copy = tmp_path / "log", tmp_path / "copy"
    with open_log(place, signer=SIGNER) as made:
        for number in range(10):
            made.append(entry(number))
        made.checkpoint()
        made.append(entry(10))
        shutil.copytree(place, copy)
    kept = (copy / "checkpoint").read_text()
    spools = [path for path in copy.glob("spool/*/*.spool") if path.stat().st_size]
    assert spools
    chance = random.Random(SEED)
    for _ in range(50):
        path = chance.choice(spools)
        good = path.read_bytes()
        path.write_bytes(chance.choice([_flip, _cut_tail])(good[:4096], chance))
        assert _whole(copy, kept) == (True, True)
        path.write_bytes(good)
