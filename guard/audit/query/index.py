"""The index: Parquet files made from the log, and what is not yet in them, as one table in DuckDB.

It can be removed at any time. What it says is never believed alone: it must carry the mark of this
user's own key, and every entry that is shown is read from the log again.
"""

from __future__ import annotations

import fcntl
import hmac
import os
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from hashlib import file_digest, sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec

from ...errors import AuditFault, ConfigError
from ..files import Segment, replace_file, segments_of
from .part import IS_ENTRY, SELECT, Piece, cut, fill, literal
from .place import index_key, index_place
from .signed import Signed

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

__all__ = ["Index", "Progress", "connect"]

# Fewer entries at the end of the log are not written to a file, but read anew with each question.
PART_ENTRIES_MIN: Final = 2_000
# How long one waits for another process that makes the same index: 100,000,000 entries in an hour.
LOCK_WAIT_S_MAX: Final = 3_600
_LOCK_POLL_S: Final = 0.1
_THREADS_MAX: Final = 8
_MANIFEST: Final = "manifest"
_MAC_BYTES: Final = 32

Progress = Callable[[int, int], None]  # entries that are indexed, of how many


class Part(msgspec.Struct, frozen=True, kw_only=True):
    """A Parquet file, and of which bytes of which file of entries it was made."""

    file: str
    segment: str
    first: int
    count: int
    begin: int
    end: int
    unreadable: int
    changed: int
    sha256: str
    stat: tuple[int, int, int]  # size, inode, time of change: who may not set clocks cannot keep it


class _Manifest(msgspec.Struct, frozen=True):
    shape: str
    log: str
    parts: list[Part]


class Index:
    """The entries of a log as the table `entries`. Raises ConfigError without the extra."""

    def __init__(
        self, log: Path, *, where: Path | None = None, on_progress: Progress | None = None,
        is_anew: bool = False,
    ) -> None:  # fmt: skip
        self.log = log
        self._segments = segments_of(log)
        self.signed = Signed(log)
        self.where = index_place(log, where)
        self._key = index_key()
        self._on_progress = on_progress or (lambda done, whole: None)
        self._builder = connect()
        self._files: list[tuple[Path, int]] = []
        self._tail: tuple[Path, int, int] | None = None  # file, first entry and byte
        with self._locked():
            self.parts = self._refreshed([] if is_anew else self._kept())
            self._store()
            self.connection = self._opened()
        self._builder.close()

    @property
    def unreadable(self) -> int:
        """Lines that are no entries."""
        return sum(part.unreadable for part in self.parts) + self._tail_unreadable

    @property
    def changed(self) -> int:
        """Lines that are not as they were signed."""
        return sum(part.changed for part in self.parts) + self._tail_changed

    def rows(self, sql: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """The answer to a question of ours."""
        return self.connection.execute(sql, values).fetchall()

    def segment_of(self, index: int) -> Path:
        """The file in which an entry was when the index was made."""
        for path, first in reversed(self._files):
            if first <= index:
                return path
        raise AuditFault(f"there is no entry {index}")

    def close(self) -> None:
        """Let go of it."""
        self.connection.close()

    def _kept(self) -> list[Part]:
        """The parts that are there and ours; none where anything is not as it was written."""
        try:
            data = (self.where / _MANIFEST).read_bytes()
            mac, document = data[:_MAC_BYTES], data[_MAC_BYTES:]
            if not hmac.compare_digest(mac, hmac.digest(self._key, document, "sha256")):
                return []
            manifest = msgspec.json.decode(document, type=_Manifest)
        except (OSError, msgspec.MsgspecError, ValueError):
            return []
        if manifest.shape != _shape() or manifest.log != str(self.log.resolve()):
            return []
        return [part for part in map(self._as_written, manifest.parts) if part is not None]

    def _as_written(self, part: Part) -> Part | None:
        path = self.where / part.file
        try:
            if _stat(path) == part.stat:
                return part
            with path.open("rb") as file:
                if file_digest(file, "sha256").hexdigest() != part.sha256:
                    return None
            return msgspec.structs.replace(part, stat=_stat(path))
        except OSError:
            return None

    def _refreshed(self, kept: list[Part]) -> list[Part]:
        """The parts of all segments; missing ones are made, several at a time."""
        whole = self.signed.size
        found: list[Part] = []
        missing: list[tuple[Path, int, int, int | None]] = []
        for segment, following in zip(self._segments, [*self._segments[1:], None], strict=True):
            path = segment.path
            self._files.append((path, segment.first))
            mine = [part for part in kept if part.segment == path.name]
            if following is not None or path.suffix == ".gz":
                if [(part.begin, part.end) for part in mine] == [(0, path.stat().st_size)]:
                    found += mine
                else:
                    missing.append((path, segment.first, 0, None))
                continue
            mine = _chain(mine, segment, path)
            found += mine
            first = mine[-1].first + mine[-1].count if mine else segment.first
            self._tail = (path, first, mine[-1].end if mine else 0)
            if whole - first >= PART_ENTRIES_MIN:
                missing.append((path, first, self._tail[2], whole))
        done = sum(part.count for part in found)
        if missing:
            self._on_progress(done, whole)
        with ThreadPoolExecutor(min(os.cpu_count() or 1, _THREADS_MAX)) as pool:
            for part in pool.map(lambda one: self._made(*one), missing):
                found.append(part)
                done += part.count
                self._on_progress(done, whole)
                if self._tail is not None and part.segment == self._tail[0].name:
                    self._tail = (self._tail[0], part.first + part.count, part.end)
        return found

    def _made(self, segment: Path, first: int, begin: int, below: int | None) -> Part:
        lines, new = self.where / f".{first:020}.lines", self.where / f".{first:020}.new"
        try:
            piece = cut(segment, lines, first=first, begin=begin, signed=self.signed, below=below)
            with self._builder.cursor() as connection:
                unreadable = fill(connection, new, lines, piece)
            with new.open("rb") as file:
                digest = file_digest(file, "sha256").hexdigest()
            # Its own name: who still reads another one is not disturbed.
            target = self.where / f"{first:020}-{digest[:16]}.parquet"
            os.replace(new, target)
        except OSError as error:
            raise AuditFault(f"cannot make the index in {self.where}: {error.strerror}") from error
        finally:
            lines.unlink(missing_ok=True)
            new.unlink(missing_ok=True)
        return Part(
            file=target.name, segment=segment.name, first=first, count=piece.count, begin=begin,
            end=piece.end, unreadable=unreadable, changed=piece.changed, sha256=digest,
            stat=_stat(target),
        )  # fmt: skip

    def _store(self) -> None:
        manifest = _Manifest(_shape(), str(self.log.resolve()), self.parts)
        document = msgspec.json.encode(manifest)
        wanted = {part.file for part in self.parts} | {_MANIFEST, "lock"}
        try:
            replace_file(
                self.where / _MANIFEST, hmac.digest(self._key, document, "sha256") + document
            )
            for path in self.where.glob("*.parquet"):
                if path.name not in wanted:
                    path.unlink(missing_ok=True)
        except OSError as error:
            raise AuditFault(f"cannot keep the index in {self.where}: {error.strerror}") from error

    def _opened(self) -> DuckDBPyConnection:
        """A connection that sees the parts and the tail, and no other file."""
        files = [str(self.where / part.file) for part in self.parts]
        connection = connect()
        self._read_tail(connection)
        sources = ["SELECT * FROM tail"]
        if files:
            named = ", ".join(map(literal, files))
            sources.insert(0, f"SELECT * FROM read_parquet([{named}])")
        connection.execute("SET parquet_metadata_cache = true")
        connection.execute(
            f"CREATE VIEW entries AS SELECT * FROM ({' UNION ALL '.join(sources)}) WHERE {IS_ENTRY}"
        )
        connection.execute(f"SET allowed_paths = [{', '.join(map(literal, files))}]")
        for setting in (
            "enable_external_access = false", "autoinstall_known_extensions = false",
            "autoload_known_extensions = false", "lock_configuration = true",
        ):  # fmt: skip
            connection.execute(f"SET {setting}")
        return connection

    def _read_tail(self, connection: DuckDBPyConnection) -> None:
        lines = self.where / f".{os.getpid()}.tail"
        self._tail_unreadable = self._tail_changed = 0
        try:
            if self._tail is None:
                lines.touch()
                piece = Piece(first=0, count=0, end=0, blocks=[], changed=0)
            else:
                path, first, begin = self._tail
                piece = cut(path, lines, first=first, begin=begin, signed=self.signed)
            self._tail_changed = piece.changed
            self._tail_unreadable = fill(connection, "tail", lines, piece)
        finally:
            lines.unlink(missing_ok=True)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        descriptor = os.open(
            self.where / "lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600
        )
        deadline = time.monotonic() + LOCK_WAIT_S_MAX
        try:
            while True:
                try:
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if time.monotonic() > deadline:
                        raise AuditFault(
                            f"another process makes the index in {self.where}: ask again later"
                        ) from None
                    time.sleep(_LOCK_POLL_S)
            yield
        finally:
            os.close(descriptor)


def connect() -> DuckDBPyConnection:
    """A connection to nothing: no file of DuckDB's own is written. Raises ConfigError."""
    try:
        import duckdb
    except ImportError as error:
        raise ConfigError(
            "the index of the audit log needs DuckDB: pip install 'stepguard[audit]'"
        ) from error
    return duckdb.connect(":memory:", config={"temp_directory": ""})


def _shape() -> str:
    """Another shape of the table is another index; so is another DuckDB, which may hash anew."""
    import duckdb

    return sha256(f"{duckdb.__version__} {SELECT}".encode()).hexdigest()


def _chain(parts: list[Part], segment: Segment, path: Path) -> list[Part]:
    """The parts of the segment that is written to, as far as they join one another."""
    chain: list[Part] = []
    first, begin, size = segment.first, 0, path.stat().st_size
    for part in sorted(parts, key=lambda part: part.first):
        if (part.first, part.begin) != (first, begin) or part.end > size:
            break
        chain.append(part)
        first, begin = part.first + part.count, part.end
    return chain


def _stat(path: Path) -> tuple[int, int, int]:
    found = path.stat()
    return (found.st_size, found.st_ino, found.st_ctime_ns)
