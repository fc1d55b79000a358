"""One SQLite file of secrets that can be destroyed: no deleted byte is left in it, nor in its WAL.

Usable from threads, several processes and after a fork. Every statement that fails is a
PrivacyFault; the text of its error is SQLite's own and quotes no value.
"""

from __future__ import annotations

import os
import secrets
import sqlite3
import stat
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from ..errors import ConfigError, PrivacyFault
from ..locks import renew_after_fork

__all__ = ["SecretStore"]

# How long a statement waits for another process. A decision waits with it, so it is short.
BUSY_MS_MAX: Final = 1_000
# How often it is tried to be alone with the file for a moment, each time for BUSY_MS_MAX.
SCRUBS_MAX: Final = 5
_PAGES_CACHED: Final = 2_000  # 8 MB


class SecretStore:
    """A database at `path`, mode 0600, with one connection in each process."""

    lock: threading.RLock

    def __init__(self, path: Path, *, version: int) -> None:
        """Open what `create` made; raises ConfigError for a file that is not ours alone."""
        self.path = path
        self._connection: sqlite3.Connection | None = None
        self._pid = 0
        renew_after_fork(self)
        try:
            state = os.lstat(path)
        except OSError as error:
            raise ConfigError(f"cannot read the subject keys {path}: {error.strerror}") from error
        if not stat.S_ISREG(state.st_mode) or state.st_mode & 0o077:
            raise ConfigError(
                f"the subject keys {path} are not a file of mode 0600: others may reach them; "
                f"run `chmod 600 {path}`"
            )
        _STORES.add(self)
        found = self.read("PRAGMA user_version")[0][0]
        if found != version:
            raise ConfigError(
                f"the subject keys {path} have version {found}, expected {version}: "
                "use the guard that wrote them"
            )

    @staticmethod
    def create(path: Path, fill: Callable[[sqlite3.Connection], None]) -> None:
        """A database that `fill` has filled, unless another process was first."""
        temporary = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            os.close(os.open(temporary, flags, 0o600))
            try:
                connection = _connected(temporary)
                try:
                    connection.execute("PRAGMA journal_mode=WAL")
                    fill(connection)
                finally:
                    connection.close()
                # INVARIANT: a link never replaces, and what is linked is complete.
                os.link(temporary, path)
            except FileExistsError:
                return
            finally:
                temporary.unlink(missing_ok=True)
        except OSError as error:
            raise ConfigError(f"cannot create the subject keys {path}: {error.strerror}") from error
        except sqlite3.Error as error:
            raise ConfigError(f"cannot create the subject keys {path}: {error}") from error

    def read(self, statement: str, *values: Any) -> list[Any]:
        """All rows of one statement."""
        with self.lock, self._faults():
            return self._open().execute(statement, values).fetchall()

    @contextmanager
    def write(self) -> Iterator[sqlite3.Connection]:
        """One transaction, durable when the block ends, undone when it raises."""
        with self.lock, self._faults():
            connection = self._open()
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise

    def scrub(self) -> None:
        """Leave no byte of a deleted row in the file; raises PrivacyFault where others still read.

        `secure_delete` alone is not enough: a page that was rebalanced keeps copies of its rows.
        """
        for _ in range(SCRUBS_MAX):
            with self.lock, self._faults():
                connection = self._open()
                try:
                    connection.execute("VACUUM")
                except sqlite3.OperationalError as error:
                    if error.sqlite_errorcode == sqlite3.SQLITE_BUSY:
                        continue
                    raise
                if not connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]:
                    return
        raise PrivacyFault(
            f"keys are destroyed, but other processes are at {self.path}-wal, which may still hold "
            "them: do it again"
        )

    def close(self) -> None:
        """Let go of the file; the next statement opens it again."""
        with self.lock:
            connection, self._connection = self._connection, None
            if connection is not None:
                connection.close()

    def _open(self) -> sqlite3.Connection:
        if self._connection is None or self._pid != os.getpid():
            self._connection = _connected(self.path)
            self._pid = os.getpid()
        return self._connection

    @contextmanager
    def _faults(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise PrivacyFault(
                f"the subject keys {self.path} cannot be used: {error}; see who holds the file, "
                "the space on its disk, and its mode"
            ) from error


def _connected(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(
        f"{path.absolute().as_uri()}?mode=rw",
        uri=True,
        timeout=BUSY_MS_MAX / 1_000,
        isolation_level=None,
        check_same_thread=False,
    )
    try:
        connection.execute("PRAGMA secure_delete=ON")
        # A key is durable before a value is sealed with it, and gone before that is said.
        connection.execute("PRAGMA synchronous=FULL")
        # VACUUM copies the rows: in memory, not in a file somewhere else.
        connection.execute("PRAGMA temp_store=MEMORY")
        connection.execute(f"PRAGMA cache_size={_PAGES_CACHED}")
    except sqlite3.Error:
        connection.close()
        raise
    return connection


# SQLite may not be carried over a fork: the child would believe to hold its parent's file locks.
# So nothing is open while one happens, and each process opens it again when it needs it.
_STORES: Final[weakref.WeakSet[SecretStore]] = weakref.WeakSet()
_forking: Final[list[SecretStore]] = []
_one_fork = threading.RLock()  # two threads that fork would wait for each other's stores


def _before_fork() -> None:
    _one_fork.acquire()
    for store in list(_STORES):
        store.lock.acquire()
        _forking.append(store)
        store.close()


def _after_fork_in_parent() -> None:
    while _forking:
        _forking.pop().lock.release()
    _one_fork.release()


def _after_fork_in_child() -> None:
    global _one_fork
    _one_fork = threading.RLock()
    _forking.clear()


os.register_at_fork(
    before=_before_fork,
    after_in_parent=_after_fork_in_parent,
    after_in_child=_after_fork_in_child,
)
