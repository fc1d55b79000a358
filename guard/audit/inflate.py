"""Decompressing a sealed segment, here or in a process of its own: the other half of the work.

A verifier hashes and decodes; a second core can decompress meanwhile. This file imports nothing of
guard, so that the process starts in milliseconds.
"""

from __future__ import annotations

import os
import subprocess
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Final

__all__ = ["Broken", "inflated", "inflated_beside"]

_READ_BYTES: Final = 1 << 18
# A gzip member can hold a thousand times its size: it is taken out in pieces of this size.
_INFLATED_BYTES: Final = 1 << 20
_GZIP: Final = 31  # window bits that tell zlib to expect a gzip header
# Below this a process costs more than it saves: a tenth of a second of decompressing.
_BESIDE_BYTES_MIN: Final = 8 * 1024 * 1024
_BROKEN_EXIT: Final = 3


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


def inflated_beside(path: Path) -> Iterator[bytes]:
    """The same from another process, where there is a core for it and enough to do."""
    if (os.cpu_count() or 1) < 2 or path.stat().st_size < _BESIDE_BYTES_MIN:
        yield from inflated(path)
        return
    command = [sys.executable, "-I", "-S", __file__, str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:  # noqa: S603 ourselves
        assert process.stdout is not None  # noqa: S101 it was asked for
        try:
            while chunk := os.read(process.stdout.fileno(), _INFLATED_BYTES):
                yield chunk
        finally:
            process.stdout.close()
    if process.returncode:
        # Once more here: where it is broken, and with what words.
        for _ in inflated(path):
            continue
        raise Broken(f"the process that decompressed it ended with {process.returncode}")


def _main() -> int:
    try:
        for chunk in inflated(Path(sys.argv[1])):
            sys.stdout.buffer.write(chunk)
    except Broken:
        return _BROKEN_EXIT
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


if __name__ == "__main__":
    sys.exit(_main())
