"""Reading a log before it is continued: what was signed must be there, a torn tail may not be.

(1) the key is the last of `log.vkey`, and the latest checkpoint is of this log and signed;
(2) the tree is read from the tiles up to the live segment, whose entries are hashed again: at the
    signed size it has the signed root, so both the tiles and the entries are what was signed;
(3) after the signed part there may be whole entries, which stay, and a torn write, which is moved
    aside, never lost: what the spools still have is taken again;
(4) how far each spool was taken stands in `state`, and in the entries after it.
Anything else was not done by a crash: LogCorrupt, and the log is not opened. Memory is bounded.
Segments before the live one are not read: that is the work of `guard audit verify`.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Final

import msgspec

from ..errors import AuditFault, LogCorrupt
from ..keys.signing import Verifier
from . import checkpoint as notes
from .checkpoint import NOTE_BYTES_MAX, Checkpoint
from .entry import NOT_AN_ENTRY
from .files import (
    CHECKPOINT,
    COSIGNED,
    HISTORY,
    SPOOL,
    STATE,
    TAKEN,
    Segment,
    encrypted_of,
    lines_of,
    read_small,
    segments_of,
    sync_directory,
    write_whole,
)
from .frames import taken_of
from .keyring import keys_of
from .tiles import Edge

__all__ = ["Recovered", "State", "Torn", "recover"]

_COPY_BYTES: Final = 1 << 20
# One name a tear at the same offset; more than one needs a crash during a repair.
_TORN_NAMES_MAX: Final = 100
STATE_BYTES_MAX: Final = 1 << 20


class Torn(msgspec.Struct, frozen=True):
    """Bytes of an unfinished write, and the file they were moved to."""

    moved_to: str
    offset: int
    size_bytes: int


class State(msgspec.Struct, frozen=True):
    """What the sequencer wrote beside a checkpoint. It proves nothing and spares a long read."""

    size: int
    segment: int
    segment_bytes: int
    writers: dict[str, int]


class Recovered(msgspec.Struct):
    """Where to go on."""

    edge: Edge
    segment: Segment
    segment_bytes: int
    checkpointed: int
    writers: dict[str, int]
    torn: tuple[Torn, ...] = ()


class _Head(msgspec.Struct):
    """Enough of an entry to tell one from noise, and whose it is."""

    kind: str
    decision_id: str
    writer: str
    writer_seq: int


_decoder: Final = msgspec.json.Decoder(_Head)
_state_decoder: Final = msgspec.json.Decoder(State)


def recover(log: Path, verifier: Verifier, origin: str, *, begin: Callable[[], None]) -> Recovered:
    """Check a log and mend its tail; raises LogCorrupt, or AuditFault when the key is another.

    `begin` lays out an empty log.
    """
    segments = segments_of(log)
    if not (log / CHECKPOINT).exists():
        if segments:
            raise LogCorrupt(f"{log} has entries and no checkpoint: {_ADVICE}")
        begin()
    _check_key(log, verifier)  # (1)
    torn = [*_mend_notes(log / HISTORY), *_mend_notes(log / COSIGNED)]
    signed = _latest(log, origin)
    segment = segments[-1] if segments else Segment(0, log)
    if segment.first > signed.size or (segments and not segment.live.exists()):
        raise LogCorrupt(f"{log}: the live segment {segment.live.name} is missing: {_ADVICE}")
    edge = Edge.load(log, segment.first)
    writers, known_size = _writers(log, segments, signed.size)
    size_bytes = _read(segment, edge, signed, writers=writers, known_size=known_size)  # (2)
    if edge.size < signed.size:
        raise LogCorrupt(
            f"{log} holds {edge.size} entries and its checkpoint signs {signed.size}: {_ADVICE}"
        )
    if segment.live.exists() and size_bytes < segment.live.stat().st_size:
        torn.append(_move_tail(segment.live, size_bytes))  # (3)
    return Recovered(edge, segment, size_bytes, signed.size, writers, tuple(torn))


_NEWLINE: Final = 10
_ADVICE: Final = "run `guard audit verify`, keep this directory as evidence and start a new one"


def _check_key(log: Path, verifier: Verifier) -> None:
    found = keys_of(log)[-1]
    if found != verifier:
        raise AuditFault(
            f"{log} is signed by `{found}` and the key at hand is `{verifier}`: use that key, "
            "change keys with `guard audit rotate-key`, or name a new directory"
        )


def _latest(log: Path, origin: str) -> Checkpoint:
    """The newest signed checkpoint. A crash can leave the history one ahead of `checkpoint`."""
    keys = keys_of(log)
    latest = _parse(log / CHECKPOINT, read_small(log / CHECKPOINT, NOTE_BYTES_MAX), keys)
    history, _ = notes.split_notes(_tail(log / HISTORY))
    for note in history[-1:]:
        newest = _parse(log / HISTORY, note, keys)
        latest = max(latest, newest, key=lambda checkpoint: checkpoint.size)
    if latest.origin != origin:
        raise LogCorrupt(
            f"{log / CHECKPOINT} is of the log `{latest.origin}`, expected `{origin}`: {_ADVICE}"
        )
    return latest


def _parse(path: Path, note: bytes, keys: list[Verifier]) -> Checkpoint:
    # A crash while the key changed can leave the last checkpoint with the key before.
    for verifier in (*keys[-2:-1], keys[-1]):
        try:
            return notes.parse(note, verifier)
        except LogCorrupt as error:
            fault = error
    raise LogCorrupt(f"{path} is not a valid checkpoint: {fault}; {_ADVICE}") from fault


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


def _mend_notes(path: Path) -> list[Torn]:
    if not path.exists():
        return []
    _, rest = notes.split_notes(_tail(path))
    return [_move_tail(path, path.stat().st_size - len(rest))] if rest else []


def _writers(log: Path, segments: list[Segment], signed_size: int) -> tuple[dict[str, int], int]:
    """The next number of each spool, and up to which index entries were counted for it (4)."""
    try:
        state = _state_decoder.decode(read_small(log / STATE, STATE_BYTES_MAX))
    except (FileNotFoundError, msgspec.MsgspecError):
        state = None
    first = segments[-1].first if segments else 0
    if state is not None and first <= state.size <= signed_size:
        return dict(state.writers), state.size
    writers: dict[str, int] = {}
    for segment in segments[:-1]:
        for line in lines_of(segment.path):
            _count(writers, line)
    # What is in a segment that nobody here can read was signed, and its writer was told.
    for spool in (log / SPOOL).glob("*/") if encrypted_of(log) else ():
        writers[spool.name] = max(writers.get(spool.name, 0), _told(spool))
    return writers, first


def _told(spool: Path) -> int:
    try:
        descriptor = os.open(spool / TAKEN, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return 0
    try:
        return taken_of(descriptor)
    finally:
        os.close(descriptor)


def _count(writers: dict[str, int], line: bytes) -> bool:
    """Count an entry for its writer; whether it is one."""
    try:
        head = _decoder.decode(line)
    except NOT_AN_ENTRY:
        return False
    writers[head.writer] = max(head.writer_seq + 1, writers.get(head.writer, 0))
    return True


def _read(
    segment: Segment, edge: Edge, signed: Checkpoint, *, writers: dict[str, int], known_size: int
) -> int:
    """Add the entries of the live segment to the tree; how many bytes of it are whole entries."""
    _check_root(segment.directory, edge, signed)
    if not segment.live.exists():
        return 0
    offset = 0
    for line in lines_of(segment.live):
        is_whole = line[-1] == _NEWLINE and (edge.size < known_size or _count(writers, line))
        if not is_whole:
            if edge.size < signed.size:
                raise LogCorrupt(f"entry {edge.size} in {segment.live} is unreadable: {_ADVICE}")
            break
        edge.append(sha256(b"\x00" + line[:-1]).digest())
        offset += len(line)
        _check_root(segment.directory, edge, signed)
    return offset


def _check_root(log: Path, edge: Edge, signed: Checkpoint) -> None:
    if edge.size == signed.size and edge.root() != signed.root:
        raise LogCorrupt(
            f"the first {signed.size} entries of {log} are not those that were signed: {_ADVICE}"
        )


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
