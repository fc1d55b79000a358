"""Reading a segment: decompressed, cut into lines, hashed; here or in a process of its own.

A verifier decodes entries and follows them; a second core can do all that comes before meanwhile.
This file imports nothing of guard, so that the process starts in milliseconds.
"""

from __future__ import annotations

import os
import struct
import sys
import zlib
from collections.abc import Generator, Iterator
from hashlib import sha256
from io import BytesIO
from pathlib import Path
from typing import IO, Final

__all__ = ["HASH_BYTES", "Broken", "Hashed", "hashed", "hashed_beside", "inflated", "lines_in"]

HASH_BYTES: Final = 32
_READ_BYTES: Final = 1 << 18
# A gzip member can hold a thousand times its size: it is taken out in pieces of this size.
_INFLATED_BYTES: Final = 1 << 20
_GZIP: Final = 31  # window bits that tell zlib to expect a gzip header
# Below this a process costs more than it saves: a tenth of a second of work.
_BESIDE_BYTES_MIN: Final = {".gz": 1 << 20, ".jsonl": 16 << 20}
_PIPE_BYTES: Final = 1 << 20
_BROKEN_EXIT: Final = 3
_BLOCK: Final = struct.Struct("<II")  # hashes, bytes of the lines after them


class Broken(Exception):
    """The file is not whole; says where."""


def inflated(path: Path) -> Iterator[bytes]:
    """What the gzip members of a file hold, in pieces of a bounded size; raises Broken."""
    with path.open("rb") as file:
        member = zlib.decompressobj(_GZIP)
        compressed = file.read(_READ_BYTES)
        is_between = True
        while compressed:
            try:
                data = member.decompress(compressed, _INFLATED_BYTES)
            except zlib.error as error:
                at = file.tell() - len(compressed)
                raise Broken(f"it cannot be decompressed at byte {at}") from error
            if data:
                yield data
            compressed = member.unconsumed_tail
            is_between = member.eof
            if is_between:
                compressed = member.unused_data
                member = zlib.decompressobj(_GZIP)
            compressed = compressed or file.read(_READ_BYTES)
        if not is_between:
            raise Broken("it ends within a gzip member: its end was cut off")


def lines_in(path: Path, line_bytes_max: int) -> Iterator[list[bytes]]:
    """The lines of a segment with their newline, some at a time; what has none, or is longer than a
    line may be, comes alone and in pieces. Raises Broken."""
    rest = b""
    for chunk in inflated(path) if path.suffix == ".gz" else _plain(path):
        lines = BytesIO(rest + chunk).readlines()
        rest = b"" if lines[-1].endswith(b"\n") else lines.pop()
        yield lines
        while len(rest) > line_bytes_max:
            yield [rest[:line_bytes_max]]
            rest = rest[line_bytes_max:]
    if rest:
        yield [rest]


def hashed(path: Path, line_bytes_max: int) -> Generator[tuple[list[bytes], bytes]]:
    """The same with the leaf hashes of the lines, joined; of a line without newline it is none."""
    for lines in lines_in(path, line_bytes_max):
        if lines and not lines[-1].endswith(b"\n"):  # then it is alone
            yield lines, bytes(HASH_BYTES)
        else:
            yield lines, b"".join([sha256(b"\0" + line[:-1]).digest() for line in lines])


class HashedBeside:
    """The same from another process, which begins at once."""

    def __init__(self, path: Path, line_bytes_max: int) -> None:
        import subprocess  # 5 ms that a process which only writes does not spend

        self._again = hashed(path, line_bytes_max)
        self._process = subprocess.Popen(  # noqa: S603 ourselves
            [sys.executable, "-I", "-S", __file__, str(path), str(line_bytes_max)],
            stdout=subprocess.PIPE,
            pipesize=_PIPE_BYTES,
        )
        assert self._process.stdout is not None  # noqa: S101 it was asked for
        self._pipe: IO[bytes] = self._process.stdout

    def __iter__(self) -> Iterator[tuple[list[bytes], bytes]]:
        """Itself."""
        return self

    def __next__(self) -> tuple[list[bytes], bytes]:
        """The next lines and their hashes; raises Broken."""
        head = self._pipe.read(_BLOCK.size)
        if len(head) == _BLOCK.size:
            count, size = _BLOCK.unpack(head)
            hashes, text = self._pipe.read(count * HASH_BYTES), self._pipe.read(size)
            if len(text) == size:
                return BytesIO(text).readlines(), hashes
        self.close()
        if self._process.returncode:
            # Once more here: where it is broken, and with what words.
            for _ in self._again:
                continue
            raise Broken(f"the process that read it ended with {self._process.returncode}")
        raise StopIteration

    def close(self) -> None:
        """Let the process end."""
        self._pipe.close()
        self._process.wait()


Hashed = Generator[tuple[list[bytes], bytes]] | HashedBeside


def hashed_beside(path: Path, line_bytes_max: int) -> Hashed:
    """`hashed`, in another process where there is a core for it and enough to do."""
    least = _BESIDE_BYTES_MIN.get(path.suffix, 0)
    if (os.cpu_count() or 1) < 2 or path.stat().st_size < least:
        return hashed(path, line_bytes_max)
    return HashedBeside(path, line_bytes_max)


def _plain(path: Path) -> Iterator[bytes]:
    with path.open("rb", buffering=0) as file:
        while chunk := file.read(_READ_BYTES):
            yield chunk


def _main() -> int:
    out = sys.stdout.fileno()
    try:
        for lines, hashes in hashed(Path(sys.argv[1]), int(sys.argv[2])):
            head = _BLOCK.pack(len(lines), sum(map(len, lines)))
            block = memoryview(b"".join([head, hashes, *lines]))
            while block:
                block = block[os.write(out, block) :]
    except Broken:
        return _BROKEN_EXIT
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


if __name__ == "__main__":
    sys.exit(_main())
