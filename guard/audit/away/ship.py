"""A copy of the log in a bucket: every segment that is closed, and what proves it.

(1) what is copied ends where the live segment begins, at a checkpoint; it is the same log: what the
    bucket signs must be a prefix of what this log signs;
(2) each entry is shown to be as it was signed before it goes;
(3) segments and tiles never change: one that is there is left, and one that differs is an alarm;
(4) the checkpoint comes last: it never covers what is not there. `fetch` reads it first.

A segment goes compressed once the copy holds the entry that names its digest; until then it goes as
its lines, which the next round takes away.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from hashlib import file_digest
from io import BytesIO
from itertools import islice, pairwise
from pathlib import Path
from typing import Final

import msgspec

from ...errors import AuditFault, LogCorrupt
from ...keys.signing import Verifier
from ..checkpoint import NOTE_BYTES_MAX, Checkpoint, parse, split_notes
from ..entry import Entry
from ..files import (
    CHECKPOINT,
    COSIGNED,
    HISTORY,
    VKEY,
    Segment,
    encrypted_of,
    lines_of,
    make_directory,
    segments_of,
)
from ..keyring import KEYS_MAX, keys_of
from ..query import Signed
from ..tiles import TILE_HASHES, Tiles, tile_path
from .bucket import Bucket, File, Stored
from .proven import BATCH_MAX, prove

__all__ = ["fetch", "ship"]

# No file of a log is larger: segments roll at 4 GiB at the most, at the next checkpoint.
FILE_BYTES_MAX: Final = 8 << 30
HISTORY_BYTES_MAX: Final = 1 << 30
_SEAL: Final = b'"kind":"seal"'
_FILES: Final = re.compile(
    r"records-(?P<first>[0-9]{20})\.jsonl(?:\.gz)?"
    r"|tile/[0-9]/(?:x[0-9]{3}/)*[0-9]{3}(?:\.p/[0-9]{1,3})?"
)
_SIZE: Final = re.compile(rb"[^\n]*\n([0-9]{1,18})\n")
_MEANWHILE: Final = "it was shipped to meanwhile, or changed by another: fetch again"


def ship(
    log: Path, bucket: Bucket, *, on_put: Callable[[str], None] = lambda name: None
) -> Checkpoint | None:
    """Copy what lacks; the checkpoint of the copy, None while no segment is closed.

    `on_put` is told each object that was put or removed. Raises AuditFault where the store does not
    take it, LogCorrupt where log or copy are not as they were signed. Run again, it goes on.
    """
    try:
        try:
            return _Shipping(log, bucket, on_put).run()
        except (LogCorrupt, FileNotFoundError):
            # A log that is written replaces its partial tiles, and segments by compressed ones,
            # while they are read: what does not hold is looked at once more.
            return _Shipping(log, bucket, on_put).run()
    except OSError as error:
        raise AuditFault(f"cannot read {error.filename}: {error.strerror}") from error


class _Shipping:
    """One round: what the bucket lists at its start."""

    def __init__(self, log: Path, bucket: Bucket, on_put: Callable[[str], None]) -> None:
        self._log = log
        self._bucket = bucket
        self._on_put = on_put
        self._there: dict[str, Stored] = {}

    def run(self) -> Checkpoint | None:
        """The steps above."""
        segments = segments_of(self._log)
        if encrypted := encrypted_of(self._log):
            raise AuditFault(
                f"{len(encrypted)} segments are encrypted, and a copy in a bucket is made of those "
                "in clear: leave encrypt_to out, or copy the files with a tool of yours"
            )
        if len(segments) < 2:
            return None
        signed = Signed(self._log)
        history = split_notes((self._log / HISTORY).read_bytes())[0]
        notes = _until(history, segments[-1].first)  # (1)
        tiles = Tiles(self._log)
        keys = keys_of(self._log)
        checkpoint = self._same_log(notes[-1:], keys, tiles)
        self._there = self._bucket.objects()
        if CHECKPOINT in self._there:
            self._continues(checkpoint, keys, tiles)
        self._segments(segments, signed)
        for name, hashes in _tiles_of(tiles, checkpoint.size):
            self._keep(name, BytesIO(hashes))  # (3)
        with suppress(FileNotFoundError):
            cosigned = split_notes((self._log / COSIGNED).read_bytes())[0]
            self._replace(COSIGNED, _joined(_until(cosigned, checkpoint.size)))
        self._replace(VKEY, _keys_text(keys, notes[-1]))
        self._replace(HISTORY, _joined(notes))
        self._replace(CHECKPOINT, notes[-1])  # (4)
        for segment in segments[:-1]:
            if {segment.live.name, segment.sealed.name} <= self._there.keys():
                self._bucket.remove(segment.live.name)
                self._on_put(segment.live.name)
        return checkpoint

    def _same_log(self, notes: list[bytes], keys: list[Verifier], tiles: Tiles) -> Checkpoint:
        """The checkpoint at which the copy ends, held against the tree."""
        if not notes:
            raise LogCorrupt(f"{HISTORY} holds no checkpoint: run `guard audit verify`")
        checkpoint = _parsed(notes[0], keys)
        if tiles.root(checkpoint.size) != checkpoint.root:
            raise LogCorrupt("the tree is not the one that was signed: run `guard audit verify`")
        return checkpoint

    def _continues(self, checkpoint: Checkpoint, keys: list[Verifier], tiles: Tiles) -> None:
        """What the bucket signs is a prefix of this log."""
        try:
            before = _parsed(self._bucket.get(CHECKPOINT, NOTE_BYTES_MAX) or b"", keys)
        except LogCorrupt as error:
            raise LogCorrupt(
                f"{self._bucket.shown} holds another log, or was tampered with ({error}): ship to "
                "another prefix"
            ) from error
        if before.size > checkpoint.size:
            raise LogCorrupt(
                f"{self._bucket.shown} has {before.size} entries, and {checkpoint.size} are closed "
                "here: this log was cut back, or is an old copy; run `guard audit verify`"
            )
        if before.origin != checkpoint.origin or tiles.root(before.size) != before.root:
            raise LogCorrupt(
                f"{self._bucket.shown} holds another log, or this one was written anew: run `guard "
                "audit verify` with its checkpoint, and ship to another prefix"
            )

    def _segments(self, segments: list[Segment], signed: Signed) -> None:
        """Put what is closed, from the first segment on that is not there compressed."""
        waiting = [(one, end.first) for one, end in pairwise(segments)]
        for segment, _ in waiting:
            if segment.sealed.name in self._there and segment.path == segment.sealed:
                self._keep_file(segment.sealed)  # (3)
        waiting = [pair for pair in waiting if pair[0].sealed.name not in self._there]
        seals: dict[int, str] = {}
        ends = [_prove(segment, end, signed, seals) for segment, end in waiting]  # (2)
        for (segment, end), index in zip(waiting, ends, strict=True):
            digest = seals.get(segment.first)
            if digest is not None and segment.path == segment.sealed:
                with segment.sealed.open("rb") as file:
                    if file_digest(file, "sha256").hexdigest() != digest:
                        raise LogCorrupt(
                            f"{segment.sealed.name} is not the file that the log names: run `guard "
                            "audit verify`"
                        )
                self._keep_file(segment.sealed)
            elif index != end:
                raise LogCorrupt(
                    f"entries {index} to {end - 1} are not here: run `guard audit verify`"
                )
            elif segment.path == segment.live:
                self._keep_file(segment.live)
            else:
                self._keep(segment.live.name, BytesIO(b"".join(lines_of(segment.sealed))))

    def _keep_file(self, path: Path) -> None:
        with path.open("rb") as file:
            self._keep(path.name, file)

    def _keep(self, name: str, file: File) -> None:
        """Put what never changes, unless it is there."""
        stored = self._there.get(name)
        if stored is None:
            self._put(name, file)
        elif not self._bucket.has(name, stored, file):
            raise LogCorrupt(
                f"{name} in {self._bucket.shown} is another one than here, and neither may ever "
                "change: find out who did it; nothing was overwritten"
            )

    def _replace(self, name: str, data: bytes) -> None:
        """Put what grows with the log."""
        stored = self._there.get(name)
        if stored is None or not self._bucket.has(name, stored, BytesIO(data)):
            self._put(name, BytesIO(data))

    def _put(self, name: str, file: File) -> None:
        self._bucket.put(name, file)
        self._there[name] = Stored(0, "")
        self._on_put(name)


def fetch(bucket: Bucket, target: Path) -> Checkpoint:
    """Copy a shipped log into a new directory, as it was at its checkpoint; which that is.

    Raises AuditFault. It is for `guard audit verify` to say whether it is whole.
    """
    note = bucket.get(CHECKPOINT, NOTE_BYTES_MAX)
    if note is None:
        raise AuditFault(f"no log at {bucket.shown}: no checkpoint was shipped there yet")
    names = bucket.objects()
    try:
        make_directory(target)
        if any(target.iterdir()):
            raise AuditFault(f"{target} is not empty: name a new directory")
        # The keys first: without them nobody knows how far the rest is to be read.
        text = bucket.get(VKEY, KEYS_MAX * NOTE_BYTES_MAX) or b""
        _write(target / VKEY, [text])
        keys = keys_of(target)
        checkpoint = _parsed(note, keys)
        os.truncate(target / VKEY, len(_keys_text(keys, note)))
        for name in (HISTORY, COSIGNED):
            if name in names:
                notes = split_notes(bucket.get(name, HISTORY_BYTES_MAX) or b"")[0]
                _write(target / name, [_joined(_until(notes, checkpoint.size))])
        for name in names:
            # INVARIANT: no name that somebody else chose becomes a path.
            known = _FILES.fullmatch(name)
            if known is None or (known["first"] and int(known["first"]) >= checkpoint.size):
                continue
            make_directory((target / name).parent)
            _write(target / name, bucket.pieces(name, FILE_BYTES_MAX))
        _write(target / CHECKPOINT, [note])
    except OSError as error:
        raise AuditFault(f"cannot write {target}: {error.strerror}") from error
    if bucket.get(CHECKPOINT, NOTE_BYTES_MAX) != note:
        raise AuditFault(f"{bucket.shown} changed: {_MEANWHILE}")
    return checkpoint


def _write(path: Path, pieces: Iterator[bytes] | list[bytes]) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    with os.fdopen(os.open(path, flags, 0o600), "wb") as file:
        for piece in pieces:
            file.write(piece)


def _prove(segment: Segment, end: int, signed: Signed, seals: dict[int, str]) -> int:
    """See that the entries of a segment are signed, and note its seals; the index behind it."""
    lines, index = lines_of(segment.path), segment.first
    while batch := list(islice(lines, min(end - index, BATCH_MAX - index % BATCH_MAX))):
        prove(signed, batch, index)
        index += len(batch)
        for line in batch:
            if _SEAL in line:
                entry = _decoder.decode(line)
                if entry.kind == "seal":
                    seals[entry.detail["first"]] = entry.detail["sha256"]
    if index == end and next(lines, None) is not None:
        raise LogCorrupt(
            f"{segment.path.name} holds more than was signed: run `guard audit verify`"
        )
    return index


def _tiles_of(tiles: Tiles, size: int) -> Iterator[tuple[str, bytes]]:
    """Name and hashes of every tile of a tree of that size, full ones and not."""
    level, count = 0, size
    while count:
        for number in range(-(-count // TILE_HASHES)):
            width = min(count - number * TILE_HASHES, TILE_HASHES)
            yield tile_path(level, number, width), tiles.hashes(level, number, width)
        level, count = level + 1, count // TILE_HASHES


def _parsed(note: bytes, keys: list[Verifier]) -> Checkpoint:
    """What one of the keys signed; raises LogCorrupt."""
    fault = LogCorrupt("there is no key")
    for key in reversed(keys):
        try:
            return parse(note, key)
        except LogCorrupt as error:
            fault = error
    raise fault


def _keys_text(keys: list[Verifier], note: bytes) -> bytes:
    """The keys up to the one that signed a note: a later one is named by an entry behind it."""
    for count, key in enumerate(keys, 1):
        with suppress(LogCorrupt):
            parse(note, key)
            return "".join(f"{one}\n" for one in keys[:count]).encode()
    raise LogCorrupt(f"no key in {VKEY} signed the checkpoint: run `guard audit verify`")


def _until(notes: list[bytes], size: int) -> list[bytes]:
    """The notes of checkpoints up to a size; a note that is none of ours is for verifying."""
    found = [(note, _SIZE.match(note)) for note in notes]
    return [note for note, said in found if said is not None and int(said[1]) <= size]


def _joined(notes: list[bytes]) -> bytes:
    return b"".join(note + b"\n" for note in notes)


_decoder: Final = msgspec.json.Decoder(Entry)
