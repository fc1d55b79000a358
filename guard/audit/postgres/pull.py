"""Pulling: the log of a database as the directory that verifiers and queries read.

(1) read one snapshot of the database: nothing that comes meanwhile is seen;
(2) what the directory signs must be a prefix of what the database has, under the same key;
(3) cut off what an interrupted pull left after the checkpoint of the directory;
(4) write entries, tiles and the history of checkpoints, and make them durable;
(5) at last replace `checkpoint`: a crash before leaves the directory as it was.
What is pulled is not judged: that is the work of `guard audit verify`.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import IO, Any, Final

import msgspec

from ...errors import AuditFault, ConfigError, LogCorrupt
from ...keys.signing import Verifier
from .. import checkpoint as notes
from ..checkpoint import NOTE_BYTES_MAX, Checkpoint
from ..entry import ENTRY_BYTES_MAX
from ..files import (
    CHECKPOINT,
    COSIGNED,
    HISTORY,
    VKEY,
    Segment,
    lines_of,
    make_directory,
    read_small,
    replace_file,
    segments_of,
    sync_directory,
)
from ..keyring import keys_of
from ..sequence import SEGMENT_BYTES_MAX
from ..tiles import TILE_HASHES, Tiles, tile_path
from .store import READ_S_MAX, Connection, Store, tile_of

__all__ = ["Pulled", "pull"]

_BATCH: Final = 512
_SNAPSHOT: Final = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"


class Pulled(msgspec.Struct, frozen=True):
    """How far the directory was, and how far it is now."""

    before: int
    size: int


def pull(dsn: str, directory: Path, *, vkey: Verifier | None = None) -> Pulled:
    """Write or continue the log of a database in `directory`.

    `vkey` is the public key as it was kept elsewhere; without it the first pull takes the key that
    the database says, and later ones hold it to that. Raises LogCorrupt, and has changed nothing,
    when the directory is no prefix of the database: it was cut back or has forked.
    """
    store = Store(dsn)
    with store.connect(answer_s_max=READ_S_MAX) as connection, store.faults("cannot read"):
        connection.execute(f"SET statement_timeout = {READ_S_MAX * 1_000}")
        connection.execute(f"SET idle_in_transaction_session_timeout = {READ_S_MAX * 1_000}")
        connection.execute(_SNAPSHOT)  # (1)
        key = _key(connection, directory, vkey)
        note, there = _latest(connection, key)
        try:
            here = _begun(connection, directory, key)
            _check_prefix(connection, here, there)  # (2)
            if here.size < there.size:
                _continue(connection, directory, here, there, note)
            _write_cosigned(connection, directory)
        except OSError as error:
            raise AuditFault(
                f"cannot write to {error.filename or directory}: {error.strerror}; make room or "
                "name another directory with --to"
            ) from error
    return Pulled(here.size, there.size)


def _key(connection: Connection, directory: Path, vkey: Verifier | None) -> Verifier:
    keys = connection.execute("SELECT vkey FROM guard_audit.key ORDER BY id").fetchall()
    if len(keys) != 1:
        raise LogCorrupt(f"the database names {len(keys)} keys: expected the one that signs")
    try:
        key = Verifier.from_text(str(keys[0][0]))
    except ConfigError as error:
        raise LogCorrupt(f"the database names what is no public key: {error}") from error
    if (directory / VKEY).exists():
        vkey = vkey or keys_of(directory)[-1]
    if vkey not in (None, key):
        raise LogCorrupt(f"the database is signed by `{key}`, and expected was `{vkey}`")
    return key


def _latest(connection: Connection, key: Verifier) -> tuple[bytes, Checkpoint]:
    query = "SELECT note FROM guard_audit.checkpoint ORDER BY size DESC LIMIT 1"
    row = connection.execute(query).fetchone()
    if row is None:
        raise AuditFault("the database has no checkpoint: nothing was signed there yet")
    return _note(row[0]), notes.parse(_note(row[0]), key)


def _note(value: object) -> bytes:
    if not isinstance(value, bytes):
        raise LogCorrupt("the database holds a checkpoint that is no bytes: it is not one of ours")
    return value


def _begun(connection: Connection, directory: Path, key: Verifier) -> Checkpoint:
    """What the directory signs; an empty one is begun with the checkpoint of size 0."""
    if not (directory / CHECKPOINT).exists():
        if directory.exists() and segments_of(directory):
            raise AuditFault(
                f"{directory} holds entries and no checkpoint: name an empty directory with --to"
            )
        query = "SELECT note FROM guard_audit.checkpoint WHERE size = 0"
        row = connection.execute(query).fetchone()
        if row is None:
            raise LogCorrupt("the database has no checkpoint of size 0: its start was cut off")
        make_directory(directory)
        replace_file(directory / VKEY, f"{key}\n".encode())
        replace_file(directory / HISTORY, _note(row[0]) + b"\n")
        replace_file(directory / CHECKPOINT, _note(row[0]))
    return notes.parse(read_small(directory / CHECKPOINT, NOTE_BYTES_MAX), key)


def _check_prefix(connection: Connection, here: Checkpoint, there: Checkpoint) -> None:
    if here.origin != there.origin:
        raise LogCorrupt(f"the directory is of `{here.origin}`, the database of `{there.origin}`")
    if there.size < here.size:
        raise LogCorrupt(
            f"the database was cut back: it signs {there.size} entries, and the directory already "
            f"{here.size}; keep both as evidence, nothing was changed"
        )
    row = connection.execute("SELECT count(*) FROM guard_audit.entry").fetchone()
    if row is None or row[0] < there.size:
        raise LogCorrupt(
            f"the database signs {there.size} entries and has fewer: it was cut back; keep it as "
            "evidence, nothing was changed"
        )
    tiles = Tiles(Path(), read=lambda name: tile_of(connection, name))
    # Both ends: whoever cuts a database back and goes on changes one of them.
    if tiles.root(here.size) != here.root or tiles.root(there.size) != there.root:
        raise LogCorrupt(
            f"the database has forked or was changed: the first {here.size} of its {there.size} "
            "entries are not those that the directory signs, or its tiles are not what it signs; "
            "keep both as evidence, nothing was changed"
        )


def _continue(
    connection: Connection, directory: Path, here: Checkpoint, there: Checkpoint, note: bytes
) -> None:
    """Steps (3) to (5)."""
    kept = _end_of(directory / HISTORY, read_small(directory / CHECKPOINT, NOTE_BYTES_MAX))
    segment, offset = _live(directory, here.size)
    entries = _entries(connection, here.size, there.size)
    _write_entries(entries, segment, offset)
    for name, hashes in _tiles(connection, here.size, there.size):
        path = directory / name
        make_directory(path.parent)
        replace_file(path, hashes)
    query = "SELECT note FROM guard_audit.checkpoint WHERE size > %s AND size <= %s ORDER BY size"
    with _opened(directory / HISTORY, kept) as file:
        for (found,) in _rows(connection, query, [here.size, there.size]):
            file.write(found + b"\n")
    sync_directory(directory)
    replace_file(directory / CHECKPOINT, note)


def _live(directory: Path, size: int) -> tuple[Segment, int]:
    """The segment to go on with, and the bytes of it that are signed (3)."""
    segments = segments_of(directory)
    while segments and segments[-1].first > size:
        segments.pop().live.unlink()
    if not segments or not segments[-1].live.exists():
        return Segment(size, directory), 0
    segment = segments[-1]
    lines = list(map(len, islice(lines_of(segment.live), size - segment.first)))
    if segment.first + len(lines) < size:
        raise LogCorrupt(
            f"{directory} holds {segment.first + len(lines)} entries and signs {size}: run "
            "`guard audit verify`, and pull to another directory"
        )
    return segment, sum(lines)


def _entries(connection: Connection, low: int, high: int) -> Iterator[tuple[int, bytes]]:
    # A line that was made longer is cut where it can be told to be none.
    query = (
        "SELECT index, substring(line FOR %s) FROM guard_audit.entry "
        "WHERE index >= %s AND index < %s ORDER BY index"
    )
    yield from _rows(connection, query, [ENTRY_BYTES_MAX + 1, low, high])


def _write_entries(entries: Iterator[tuple[int, bytes]], segment: Segment, offset: int) -> None:
    is_more = True
    while is_more:
        is_more = False
        with _opened(segment.live, offset) as file:
            for index, line in entries:
                file.write(line + b"\n")
                if file.tell() >= SEGMENT_BYTES_MAX:
                    segment, offset, is_more = Segment(index + 1, segment.directory), 0, True
                    break


def _tiles(connection: Connection, low: int, high: int) -> Iterator[tuple[str, bytes]]:
    """The stored tiles that are new since `low`; what lacks there lacks here."""
    level = 0
    while high:
        first = low // TILE_HASHES
        for number in range(first, -(-high // TILE_HASHES)):
            name = tile_path(level, number, min(high - number * TILE_HASHES, TILE_HASHES))
            hashes = tile_of(connection, name)
            if hashes is not None:
                yield name, hashes
        low, high, level = low // TILE_HASHES, high // TILE_HASHES, level + 1


def _write_cosigned(connection: Connection, directory: Path) -> None:
    query = "SELECT note FROM guard_audit.cosigned ORDER BY id"
    found = b"".join(note + b"\n" for (note,) in connection.execute(query).fetchall())
    if found:
        replace_file(directory / COSIGNED, found)


def _rows(connection: Connection, query: str, values: list[int]) -> Iterator[Any]:
    """The rows of a query, some at a time."""
    with connection.cursor(name="pull", binary=True) as cursor:
        cursor.itersize = _BATCH
        yield from cursor.execute(query, values)


def _end_of(history: Path, note: bytes) -> int:
    """Where `note` ends in the history: what follows is of a pull that was interrupted (3)."""
    with history.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        at = data.rfind(note + b"\n")
    if at < 0:
        raise LogCorrupt(f"`{CHECKPOINT}` is not in {history}: run `guard audit verify`")
    return at + len(note) + 1


@contextmanager
def _opened(path: Path, offset: int) -> Iterator[IO[bytes]]:
    """A file to go on with from `offset`, durable afterwards."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.truncate(offset)
        file.seek(offset)
        yield file
        file.flush()
        os.fsync(file.fileno())
