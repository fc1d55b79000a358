"""Sealing: a segment that is full is compressed, one bundle of 256 entries at a time.

Each bundle is a gzip member of its own, so `zcat` reads the whole file, and one entry costs the
decompression of one member. The live file counts as long as it is there: it goes once an entry
with the digest of the compressed one is signed. With recipients the compressed one is encrypted for
them, and goes too.
"""

from __future__ import annotations

import errno
import os
import re
import zlib
from collections.abc import Sequence
from hashlib import file_digest, sha256
from itertools import islice
from pathlib import Path
from typing import IO, Any, Final

import msgspec

from ..keys.age import encrypt
from .files import MEMBER_LINES, Segment, replace_file, segments_of, sync_directory
from .inflate import inflated
from .sequence import Sequence as LogSequence

__all__ = ["Sealer"]

# 6 is where more time no longer buys much: 1 KB entries go to some 300 bytes.
_LEVEL: Final = 6
# The kinds of entries without which nobody knows which keys, gaps and files are good.
ABOUT_KINDS: Final = ("key_change", "retention", "seal")
ABOUT_LOG: Final = re.compile(rb'"kind":"(?:%s)"' % "|".join(ABOUT_KINDS).encode())
_GZIP: Final = 31  # window bits that ask zlib for a gzip header


class _Head(msgspec.Struct):
    kind: str


class _Work(msgspec.Struct):
    """A segment that is half compressed; `about` are its entries about the log itself."""

    segment: Segment
    next: int
    about: list[bytes]
    source: IO[bytes]
    target: IO[bytes]
    path: Path


_decode: Final = msgspec.json.Decoder(_Head).decode


class Sealer:
    """Compresses what lies before the live segment, a step at a time."""

    def __init__(self, log: Path, recipients: Sequence[Any] = ()) -> None:
        self._log = log
        self._recipients = recipients
        self._work: _Work | None = None
        self._done: tuple[Segment, int] | None = None  # and the index of the entry that says so
        self._live = -1  # the first entry of the live segment when it was last looked

    def step(self, sequence: LogSequence) -> None:
        """Compress the next bundle, if there is one; raises OSError, and then it begins again."""
        try:
            self._step(sequence)
        except BaseException:
            self.close()
            raise

    def _step(self, sequence: LogSequence) -> None:
        live = sequence.segment
        if self._done is not None:
            segment, index = self._done
            if sequence.checkpointed > index:
                # INVARIANT: the compressed segment is durable and signed before the live one goes,
                # and the live one goes last: while it is there, all else is made anew.
                if self._recipients:
                    segment.sealed.unlink()
                segment.live.unlink()
                sync_directory(self._log)
                self._done = None
            return
        if self._work is None:
            if self._live == live.first:
                return
            waiting = [segment for segment in segments_of(self._log)
                       if segment.first < live.first and segment.live.exists()]  # fmt: skip
            if not waiting:
                self._live = live.first
                return
            self._work = _begun(waiting[0])
        lines = list(islice(self._work.source, MEMBER_LINES))
        if lines:
            member = zlib.compressobj(_LEVEL, wbits=_GZIP)
            self._work.target.write(member.compress(b"".join(lines)) + member.flush())
            if self._recipients:
                self._work.about += _about(lines, self._work.next)
            self._work.next += len(lines)
        else:
            work, self._work = self._work, None
            digest = _finished(work)
            detail = {"first": work.segment.first, "last": work.next - 1, "sha256": digest}
            if self._recipients:
                detail["age_sha256"] = _encrypted(work, self._recipients)
            sequence.say("seal", f"{work.segment.sealed.name} is compressed", detail)
            self._done = (work.segment, sequence.size - 1)

    def close(self) -> None:
        """Leave what is half done: the live file counts, and it is begun again."""
        if self._work is not None:
            self._work.source.close()
            self._work.target.close()
            self._work.path.unlink(missing_ok=True)
            self._work = None


def _begun(segment: Segment) -> _Work:
    path = segment.sealed.with_name(f".{segment.sealed.name}.new")
    path.unlink(missing_ok=True)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    target = os.fdopen(os.open(path, flags, 0o600), "wb")
    return _Work(segment, segment.first, [], segment.live.open("rb"), target, path)


def _about(lines: list[bytes], first: int) -> list[bytes]:
    """Entries that a verifier has to read, each after its index."""
    found = [(index, line) for index, line in enumerate(lines, first) if ABOUT_LOG.search(line)]
    return [b"%d %b" % (index, line) for index, line in found if _decode(line).kind in ABOUT_KINDS]


def _finished(work: _Work) -> str:
    """Put the compressed segment in its place; its SHA-256."""
    with work.source, work.target:
        work.target.flush()
        os.fsync(work.target.fileno())
    os.replace(work.path, work.segment.sealed)
    sync_directory(work.path.parent)
    _compare(work.segment)
    with work.segment.sealed.open("rb") as file:
        return file_digest(file, "sha256").hexdigest()


def _encrypted(work: _Work, recipients: Sequence[Any]) -> str:
    """Encrypt the compressed segment beside it; the SHA-256 of the encrypted file."""
    segment = work.segment
    replace_file(segment.about, b"".join(work.about))
    path = segment.encrypted.with_name(f".{segment.encrypted.name}.new")
    path.unlink(missing_ok=True)
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    with segment.sealed.open("rb") as source, os.fdopen(os.open(path, flags, 0o600), "w+b") as file:
        encrypt(source, file, recipients)
        file.flush()
        os.fsync(file.fileno())
        file.seek(0)
        digest = file_digest(file, "sha256").hexdigest()
    os.replace(path, segment.encrypted)
    sync_directory(path.parent)
    return digest


def _compare(segment: Segment) -> None:
    """What is to take the place of the live file must hold the same; raises OSError."""
    found = sha256()
    for chunk in inflated(segment.sealed):
        found.update(chunk)
    with segment.live.open("rb") as file:
        if file_digest(file, "sha256").digest() != found.digest():
            raise OSError(errno.EIO, "it does not hold what the segment holds", segment.sealed.name)
