"""The database of a log: connections with bounded waits, its tables, and faults in our words.

Needs the extra `postgres` (psycopg). The DSN may be `env:NAME`: then it stands in that variable.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from ...errors import AuditFault, ConfigError
from ..tiles import Tiles

if TYPE_CHECKING:
    import psycopg

Connection: TypeAlias = "psycopg.Connection[tuple[Any, ...]]"

__all__ = ["Connection", "READ_S_MAX", "Store", "tile_of"]

# libpq waits two seconds at least; a server on the same network answers in milliseconds.
CONNECT_S_MAX: Final = 3
# The server gives up a statement, or waiting for a row that another one holds.
STATEMENT_MS_MAX: Final = 10_000
# A server that answers nothing, because its machine is gone or frozen, is given up by us.
ANSWER_S_MAX: Final = 12.0
# A read of many entries: between two rows a statement may well wait for who reads them.
READ_S_MAX: Final = 3_600
_SETTINGS: Final = (
    f"-c statement_timeout={STATEMENT_MS_MAX} -c lock_timeout={STATEMENT_MS_MAX} "
    f"-c idle_in_transaction_session_timeout={STATEMENT_MS_MAX} "
    "-c tcp_keepalives_idle=3 -c tcp_keepalives_interval=3 -c tcp_keepalives_count=3"
)
_ENVIRONMENT: Final = "env:"
# The advisory locks of guard in a database: its name in ASCII, and a number.
_SCHEMA_LOCK: Final = 0x6775617264 << 8 | 1


class Store:
    """Where the log is. Opens connections; holds none, so a fork does not concern it."""

    def __init__(self, dsn: str) -> None:
        """Raises ConfigError when the DSN cannot be read or psycopg is not installed."""
        try:
            import psycopg
            from psycopg.conninfo import conninfo_to_dict, make_conninfo
        except ImportError as error:
            raise ConfigError(
                "a log in PostgreSQL needs psycopg: run `pip install 'stepguard[postgres]'`"
            ) from error
        self.psycopg = psycopg
        try:
            known = conninfo_to_dict(_resolved(dsn))
        except psycopg.Error:
            # The text of this error can quote the password.
            raise ConfigError(
                "the DSN of the audit log cannot be read: expected "
                "postgresql://USER@HOST:PORT/DATABASE or `key=value` words of libpq"
            ) from None
        self._password = str(known.get("password") or "")
        self.place = f"{known.get('host') or 'the default host'}/{known.get('dbname') or ''}"
        given = known.pop("options", None)
        words: dict[str, Any] = {
            "connect_timeout": CONNECT_S_MAX,
            "keepalives_idle": CONNECT_S_MAX,
            "tcp_user_timeout": int(ANSWER_S_MAX * 1_000),
            "application_name": "guard-audit",
            **known,
            "client_encoding": "UTF8",
            "options": f"{_SETTINGS} {given}" if given else _SETTINGS,
        }
        self._conninfo = make_conninfo(**words)

    def connect(self, *, answer_s_max: float = ANSWER_S_MAX) -> Connection:
        """A connection in autocommit, whose every wait is bounded; raises AuditFault."""
        import psycopg

        class Bounded(psycopg.Connection[tuple[Any, ...]]):
            def wait(self, gen: Any, *args: Any, **kwargs: Any) -> Any:
                return super().wait(_until(gen, time.monotonic() + answer_s_max), *args, **kwargs)

        with self.faults("cannot reach"):
            return Bounded.connect(self._conninfo, autocommit=True)

    def give_up(self, connection: Connection) -> None:
        """Close a connection in whatever state it is, without waiting for the server."""
        if not connection.closed:
            connection.pgconn.finish()

    def abandon(self, connection: Connection) -> None:
        """After a fork, in the child: close our copy of the socket and say nothing on it, so that
        the server sees when the parent ends."""
        if not connection.closed:
            socket.close(connection.fileno())
            _ABANDONED.append(connection)

    @contextmanager
    def faults(self, what: str) -> Iterator[None]:
        """Errors of the database as AuditFault. Their first line names no values of rows."""
        try:
            yield
        except (self.psycopg.Error, TimeoutError) as error:
            words = type(error).__name__ if isinstance(error, TimeoutError) else str(error)
            text = (words.strip().splitlines() or [type(error).__name__])[0]
            if self._password:
                text = text.replace(self._password, "***")
            raise AuditFault(
                f"{what} the audit log in PostgreSQL at {self.place}: {text}; see that the server "
                "runs and the role may: without a record nothing is allowed"
            ) from None

    def prepare(self, connection: Connection) -> None:
        """Create the tables where they lack; raises ConfigError when this role may not."""
        with self.faults("cannot prepare"):
            try:
                if _has_tables(connection):
                    return
                with connection.transaction():
                    connection.execute("SELECT pg_advisory_xact_lock(%s)", [_SCHEMA_LOCK])
                    connection.execute(Path(__file__).with_name("schema.sql").read_bytes())
            except self.psycopg.errors.InsufficientPrivilege:
                raise ConfigError(
                    f"this role may not create the tables of the audit log at {self.place}: run "
                    "guard/audit/postgres/schema.sql there once, as the role that sequences"
                ) from None

    def tiles(self) -> Tiles:
        """The stored hashes, for proofs; each read is a connection of its own, for rare readers."""
        return Tiles(Path(), read=self._tile)

    def keep_cosigned(self, note: bytes) -> None:
        """Keep a note that witnesses signed too; raises AuditFault."""
        connection = self.connect()
        with connection, self.faults("cannot write to"):
            connection.execute("INSERT INTO guard_audit.cosigned (note) VALUES (%s)", [note])

    def _tile(self, name: str) -> bytes | None:
        connection = self.connect()
        with connection, self.faults("cannot read"):
            return tile_of(connection, name)


def tile_of(connection: Connection, name: str) -> bytes | None:
    """A tile by its path in tlog-tiles."""
    query = "SELECT hashes FROM guard_audit.tile WHERE name = %s"
    row = connection.execute(query, [name]).fetchone()
    return row[0] if row is not None else None


_ABANDONED: Final[list[Any]] = []  # of parents: a destructor would complain of them


def _has_tables(connection: Connection) -> bool:
    row = connection.execute(
        "SELECT count(*) FROM pg_class JOIN pg_namespace n ON n.oid = relnamespace "
        "WHERE nspname = 'guard_audit' AND relname = 'key'"
    ).fetchone()
    return row is not None and row[0] == 1


def _resolved(dsn: str) -> str:
    if not dsn.startswith(_ENVIRONMENT):
        return dsn
    name = dsn.removeprefix(_ENVIRONMENT)
    value = os.environ.get(name)
    if not value:
        raise ConfigError(f"the variable `{name}` is not set: expected the DSN of the audit log")
    return value


def _until(steps: Generator[Any, Any, Any], deadline: float) -> Generator[Any, Any, Any]:
    """The same steps of psycopg, which comes by ten times a second, and an end to them."""
    try:
        state = next(steps)
        while True:
            ready = yield state
            if not ready and time.monotonic() > deadline:
                raise TimeoutError("the server does not answer")
            state = steps.send(ready)
    except StopIteration as end:
        return end.value
