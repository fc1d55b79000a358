"""The small logs in tests/vectors/logs: `python -m support.log_vectors` writes them anew.

A folder is a log, named by what is wrong with it; the JSON beside it has the `verdict`, the
checkpoint `kept` elsewhere where one is needed.
"""

from __future__ import annotations

import gzip
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

from guard.audit.merkle import leaf_hash
from guard.keys import Signer

from .entries import SIGNER
from .raw_logs import lay_out, line_of, note_of

LOGS = Path(__file__).parent.parent / "vectors" / "logs"
SECOND = Signer("guard/audit", bytes(range(1, 33)))
FOREIGN = Signer("guard/audit", bytes(range(2, 34)))
PLAIN = [line_of(number) for number in range(4)]
SIGNED = [(0, SIGNER), (2, SIGNER), (4, SIGNER)]
CHANGED = [
    *PLAIN,
    line_of(4, kind="key_change", ref=None, detail={"vkey": SECOND.vkey}),
    line_of(5, kind="decision", ref=None),
]
_FIRST = f"records-{0:020}.jsonl"

Vector = tuple[str, str, Callable[[Path], object], dict[str, str]]


def _changed(name: str, change: Callable[[bytes], bytes]) -> Callable[[Path], None]:
    """A good log with one file of it changed."""

    def make(log: Path) -> None:
        lay_out(log, PLAIN, SIGNED)
        (log / name).write_bytes(change((log / name).read_bytes()))

    return make


def _of(lines: list[bytes], signed: list[tuple[int, Signer]]) -> Callable[[Path], object]:
    return lambda log: lay_out(log, lines, signed)


def _after(*above: bytes) -> Callable[[Path], object]:
    """A good log of two signed entries, and what follows them."""
    return lambda log: lay_out(log, [*PLAIN[:2], *above], SIGNED[:2])


def _notes(*sizes: int, end: bytes = b"") -> bytes:
    return b"".join(note_of(PLAIN, size) + b"\n" for size in sizes) + end


def _in_gzip(log: Path) -> None:
    lay_out(log, PLAIN, SIGNED, segments=(0, 2))
    (log / f"{_FIRST}.gz").write_bytes(gzip.compress((log / _FIRST).read_bytes(), mtime=0))
    (log / _FIRST).unlink()


def _without(*names: str, segments: tuple[int, ...] = (0, 2)) -> Callable[[Path], None]:
    def make(log: Path) -> None:
        lay_out(log, PLAIN, SIGNED, segments=segments)
        for name in names:
            (log / name).unlink()

    return make


def _beside(name: str, data: bytes) -> Callable[[Path], None]:
    """A good log with one more file."""

    def make(log: Path) -> None:
        lay_out(log, PLAIN, SIGNED)
        (log / name).write_bytes(data)

    return make


def _two_signatures(log: Path) -> None:
    """A note that the old key signed, with a line from under a later note put under it."""
    lay_out(log, CHANGED, KEY_SIGNED)
    history = (log / "checkpoints").read_bytes()
    line = note_of(CHANGED, 6, SECOND).splitlines(keepends=True)[-1]
    old = note_of(CHANGED, 4)
    (log / "checkpoints").write_bytes(history.replace(old, old + line))


OTHER = [PLAIN[0], line_of(1, tool="other"), *PLAIN[2:]]
KEY_SIGNED = [(0, SIGNER), (4, SIGNER), (5, SIGNER), (5, SECOND), (6, SECOND)]
TILE = "tile/0/000.p/4"


def vectors() -> Iterator[Vector]:
    """Name, verdict, how to lay it out, and what else the JSON says."""
    bad, whole, unknown = "not whole", "whole", "cannot be checked"
    # What is whole.
    yield "plain", whole, _of(PLAIN, SIGNED), {}
    yield "empty", whole, _of([], SIGNED[:1]), {}
    yield "two_segments", whole, _without(), {}
    yield "key_changed", whole, _of(CHANGED, KEY_SIGNED), {}
    yield "partial_tile_gone", whole, _without(TILE), {}
    before = _changed("checkpoint", lambda _: note_of(PLAIN, 2))
    yield "checkpoint_not_replaced", whole, before, {}  # a crash came between
    yield "cosigned", whole, _beside("cosigned", _notes(2)), {}
    yield "half_a_line_above", whole, _after(b'{"v":2,"ki'), {}
    yield "garbage_above", whole, _after(b"\x00", b"", b"[]"), {}
    yield "gap_above", whole, _after(line_of(9)), {}
    yield "repeated_above", whole, _after(*PLAIN[:2]), {}
    yield "newer_version_above", whole, _after(PLAIN[2].replace(b'"v":2', b'"v":3')), {}
    yield "segment_above", whole, _beside(f"records-{10**19:020}.jsonl", b"x\n"), {}
    yield "excerpt_of_other_runs", bad, _beside("excerpt", b"1 2\n"), {}
    yield "excerpt_empty", bad, _beside("excerpt", b""), {}
    # Step 2: notes.
    flip = _changed("checkpoint", lambda data: data.replace(b"\n4\n", b"\n3\n"))
    yield "checkpoint_changed", bad, flip, {}
    yield "checkpoint_gone", bad, _without("checkpoint"), {}
    yield "checkpoint_rolled_back", bad, _changed("checkpoint", lambda _: note_of(PLAIN, 0)), {}
    yield "checkpoint_empty", bad, _changed("checkpoint", lambda _: b""), {}
    yield "two_signatures", bad, _two_signatures, {}
    yield "history_begins_late", bad, _changed("checkpoints", lambda _: _notes(2, 4)), {}
    yield "history_cut_off", bad, _changed("checkpoints", lambda data: data[:-9]), {}
    yield "history_falls", bad, _changed("checkpoints", lambda _: _notes(0, 4, 2, 4)), {}
    yield "cosigned_garbage", bad, _beside("cosigned", b"garbage"), {}
    yield "cosigned_other_root", bad, _beside("cosigned", note_of(OTHER, 2) + b"\n"), {}
    yield "foreign_key", bad, _of(PLAIN, [(0, FOREIGN), (4, FOREIGN)]), {}
    # Steps 3 and 4: entries, tiles, roots.
    flip = _changed(_FIRST, lambda data: data.replace(b"search", b"seArch", 1))
    yield "entry_changed", bad, flip, {}
    yield "newline_cut", bad, _changed(_FIRST, lambda data: data[:-1]), {}
    yield "line_missing", bad, _changed(_FIRST, lambda data: data.split(b"\n", 1)[1]), {}
    yield "line_twice", bad, _changed(_FIRST, lambda data: PLAIN[0] + b"\n" + data), {}
    swapped = b"".join(PLAIN[k] + b"\n" for k in (0, 2, 1, 3))
    yield "lines_swapped", bad, _changed(_FIRST, lambda _: swapped), {}
    yield "segment_missing", bad, _without(_FIRST), {}
    yield "tail_cut", bad, _without(f"records-{2:020}.jsonl"), {}
    yield "sealed_and_not_named", bad, _in_gzip, {}
    yield "tile_changed", bad, _changed(TILE, lambda data: leaf_hash(b"") + data[32:]), {}
    yield "tile_short", bad, _changed(TILE, lambda data: data[:-1]), {}
    yield "no_entry", bad, _of([*PLAIN[:3], b'{"v":2,'], SIGNED), {}
    no_text = PLAIN[3].replace(b"search", b"sea\xff")
    yield "no_utf8", bad, _of([*PLAIN[:3], no_text], SIGNED), {}
    # Step 5: what was kept elsewhere.
    yield "rewritten", bad, _of(OTHER, SIGNED), {"kept": note_of(PLAIN, 4).decode()}
    yield "cut_off", bad, _of(PLAIN[:2], SIGNED[:2]), {"kept": note_of(PLAIN, 4).decode()}
    # Step 6: keys.
    yield "key_not_named", bad, _of(PLAIN, [*SIGNED[:2], (4, SECOND)]), {}
    yield "old_key_signs_on", bad, _of(CHANGED, [*KEY_SIGNED[:4], (6, SIGNER)]), {}
    yield "new_key_not_vouched", bad, _of(CHANGED, [*SIGNED, (5, SECOND), (6, SECOND)]), {}
    # Step 7: the story.
    yield "session_gap", bad, _of([*PLAIN[:3], line_of(3, session_seq=9)], SIGNED), {}
    late = [line_of(number, session_seq=number + 2) for number in range(4)]
    yield "session_begins_late", bad, _of(late, SIGNED), {}
    yield "writer_gap", bad, _of([*PLAIN[:3], line_of(3, writer_seq=4)], SIGNED), {}
    denied = [line_of(0, effect="deny"), line_of(1, happened=True), *PLAIN[2:]]
    yield "denied_and_happened", bad, _of(denied, SIGNED), {}
    # What cannot be checked.
    newer = PLAIN[3].replace(b'"v":2', b'"v":3')
    yield "newer_version", unknown, _of([*PLAIN[:3], newer], SIGNED), {}


def write(logs: Path = LOGS) -> None:
    """Write all of them."""
    shutil.rmtree(logs, ignore_errors=True)
    for name, verdict, make, more in vectors():
        make(logs / name)
        text = json.dumps({"verdict": verdict} | more, indent=2, ensure_ascii=False)
        (logs / f"{name}.json").write_text(text + "\n")


if __name__ == "__main__":
    write()
