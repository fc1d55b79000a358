"""Reading a log before it is continued: what was signed must be there, a torn tail may not be.

(1) the key, the origin and the latest checkpoint are what this writer would write;
(2) the segments follow one another from entry 0 on, and every signed entry is there: the tree over
    the re-hashed entries has the signed root;
(3) stored leaf hashes say the same; what is short, or not yet signed, is rebuilt;
(4) after the signed part, the last segment may end in a torn write: it is moved aside, never lost.
Anything else was not done by a crash: LogCorrupt, and the log is not opened. Memory is bounded.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

import msgspec

from ..errors import AuditFault, LogCorrupt
from ..keys.signing import Signer, Verifier
from . import checkpoint as notes
from .checkpoint import NOTE_BYTES_MAX, Checkpoint
from .files import (
    CHECKPOINT,
    HISTORY,
    VKEY,
    Segment,
    lines_of,
    read_small,
    replace_file,
    segments_of,
    sync_directory,
    write_whole,
)
from .merkle import HASH_BYTES, Tree, leaf_hash

__all__ = ["Recovered", "Torn", "create", "recover"]

_COPY_BYTES: Final = 1 << 20
# One name a tear at the same offset; more than one needs a crash during a repair.
_TORN_NAMES_MAX: Final = 100


class Torn(msgspec.Struct, frozen=True):
    """Bytes of an unfinished write, and the file they were moved to."""

    moved_to: str
    offset: int
    size_bytes: int


class Recovered(msgspec.Struct):
    """Where to go on."""

    tree: Tree
    segment: Segment
    segment_bytes: int
    checkpointed: int
    torn: tuple[Torn, ...] = ()


class _Head(msgspec.Struct):
    """Enough of an entry to tell one from noise."""

    kind: str
    decision_id: str


_decoder: Final = msgspec.json.Decoder(_Head)


def create(log: Path, signer: Signer, origin: str) -> None:
    """Lay out an empty log: its key and a checkpoint of size 0, before the first entry."""
    replace_file(log / VKEY, f"{signer.vkey}\n".encode())
    note = notes.sign(Checkpoint(origin, 0, Tree().root()), signer)
    replace_file(log / HISTORY, note + b"\n")
    replace_file(log / CHECKPOINT, note)


def recover(log: Path, signer: Signer, origin: str) -> Recovered:
    """Check a log and mend its tail; raises LogCorrupt, or AuditFault when the key is another."""
    segments = segments_of(log)
    if not (log / CHECKPOINT).exists():
        if segments:
            raise LogCorrupt(f"{log} has entries and no checkpoint: {_ADVICE}")
        create(log, signer, origin)
    _check_key(log, signer)
    torn = _mend_history(log)
    signed = _latest(log, signer.verifier, origin)  # (1)
    tree = Tree()
    size_bytes = 0
    if signed.size == 0:
        _check_root(log, tree, signed)
    for position, segment in enumerate(segments):
        if segment.first != tree.size or not segment.records.exists():  # (2)
            raise LogCorrupt(f"{log}: entries from {tree.size} on are missing: {_ADVICE}")
        is_last = position == len(segments) - 1
        size_bytes = _read(segment, tree, signed, is_last=is_last)
        if is_last and size_bytes < segment.records.stat().st_size:
            torn.append(_move_tail(segment.records, size_bytes))  # (4)
    if tree.size < signed.size:
        raise LogCorrupt(
            f"{log} holds {tree.size} entries and its checkpoint signs {signed.size}: {_ADVICE}"
        )
    last = segments[-1] if segments else Segment(0, log)
    return Recovered(tree, last, size_bytes, signed.size, tuple(torn))


_ADVICE: Final = "run `guard audit verify`, keep this directory as evidence and start a new one"


def _check_key(log: Path, signer: Signer) -> None:
    try:
        found = read_small(log / VKEY, NOTE_BYTES_MAX).decode(errors="replace").strip()
    except FileNotFoundError:
        found = "no key"
    if found != signer.vkey:
        raise AuditFault(
            f"{log} is signed by `{found[:120]}` and the key at hand is `{signer.vkey}`: "
            "use the old key, or a new directory"
        )


def _latest(log: Path, verifier: Verifier, origin: str) -> Checkpoint:
    """The newest signed checkpoint. A crash can leave the history one ahead of `checkpoint`."""
    latest = _parse(log / CHECKPOINT, read_small(log / CHECKPOINT, NOTE_BYTES_MAX), verifier)
    history, _ = notes.split_notes(_tail(log / HISTORY))
    for note in history[-1:]:
        newest = _parse(log / HISTORY, note, verifier)
        latest = max(latest, newest, key=lambda checkpoint: checkpoint.size)
    if latest.origin != origin:
        raise LogCorrupt(
            f"{log / CHECKPOINT} is of the log `{latest.origin}`, expected `{origin}`: {_ADVICE}"
        )
    return latest


def _parse(path: Path, note: bytes, verifier: Verifier) -> Checkpoint:
    try:
        return notes.parse(note, verifier)
    except LogCorrupt as error:
        raise LogCorrupt(f"{path} is not a valid checkpoint: {error}; {_ADVICE}") from error


def _tail(path: Path) -> bytes:
    """The end of the history, from the start of a note on."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            start = max(0, size - 4 * NOTE_BYTES_MAX)
            file.seek(start)
            tail = file.read()
    except FileNotFoundError as error:
        raise LogCorrupt(f"{path} is missing: {_ADVICE}") from error
    if start == 0:
        return tail
    # Somewhere inside: a blank line followed by a signature is inside a note, any other between.
    cut = tail.find(b"\n\n")
    while cut >= 0 and tail[cut + 2 :].startswith("— ".encode()):
        cut = tail.find(b"\n\n", cut + 2)
    return tail[cut + 2 :] if cut >= 0 else b""


def _mend_history(log: Path) -> list[Torn]:
    path = log / HISTORY
    _, rest = notes.split_notes(_tail(path))
    return [_move_tail(path, path.stat().st_size - len(rest))] if rest else []


def _check_root(log: Path, tree: Tree, signed: Checkpoint) -> None:
    if tree.root() != signed.root:
        raise LogCorrupt(
            f"the first {signed.size} entries of {log} are not those that were signed: {_ADVICE}"
        )


def _read(segment: Segment, tree: Tree, signed: Checkpoint, *, is_last: bool) -> int:
    """Add the entries of a segment to the tree; how many bytes of it are whole entries."""
    offset = 0
    good_bytes = 0
    rebuilt: list[bytes] = []  # bounded by the size of a segment
    bytes_max = segment.records.stat().st_size  # no line is shorter than its hash
    stored = read_small(segment.hashes, bytes_max) if segment.hashes.exists() else b""
    for line in lines_of(segment.records):
        index = tree.size
        is_signed = index < signed.size
        if line[-1] != 10 or not (is_signed or _is_entry(line)):
            if is_signed or not is_last:
                raise LogCorrupt(f"entry {index} in {segment.records} is unreadable: {_ADVICE}")
            break
        leaf = leaf_hash(line[:-1])
        if not rebuilt and stored[good_bytes : good_bytes + HASH_BYTES] == leaf:  # (3)
            good_bytes += HASH_BYTES
        elif is_signed and not rebuilt and len(stored) >= good_bytes + HASH_BYTES:
            raise LogCorrupt(
                f"entry {index} in {segment.records} at byte {offset} and its stored hash "
                f"contradict each other: {_ADVICE}"
            )
        else:
            rebuilt.append(leaf)
        tree.append(leaf)
        offset += len(line)
        if tree.size == signed.size:
            _check_root(segment.directory, tree, signed)
    if rebuilt or len(stored) != good_bytes:
        _rewrite_tail(segment.hashes, good_bytes, b"".join(rebuilt))
    return offset


def _is_entry(line: bytes) -> bool:
    try:
        _decoder.decode(line)
    except (msgspec.MsgspecError, ValueError):
        return False
    return True


def _rewrite_tail(path: Path, keep_bytes: int, data: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        os.ftruncate(descriptor, keep_bytes)
        os.lseek(descriptor, keep_bytes, os.SEEK_SET)
        write_whole(descriptor, data)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _move_tail(path: Path, offset: int) -> Torn:
    """Copy what follows `offset` into a file of its own, make it durable, then cut it off."""
    target, moved = _torn_file(path, offset)
    size_bytes = 0
    try:
        with path.open("rb") as file:
            file.seek(offset)
            while chunk := file.read(_COPY_BYTES):
                write_whole(moved, chunk)
                size_bytes += len(chunk)
        os.fsync(moved)
    finally:
        os.close(moved)
    sync_directory(path.parent)
    descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.ftruncate(descriptor, offset)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    return Torn(target.name, offset, size_bytes)


def _torn_file(path: Path, offset: int) -> tuple[Path, int]:
    for attempt in range(_TORN_NAMES_MAX):
        suffix = f"-{attempt}" if attempt else ""
        target = path.with_name(f"{path.name}.torn-{offset}{suffix}")
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        try:
            return target, os.open(target, flags, 0o600)
        except FileExistsError:
            continue
    raise AuditFault(f"{path} was torn {_TORN_NAMES_MAX} times at byte {offset}: look at its disk")
