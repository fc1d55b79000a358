"""A real PostgreSQL server on a Unix socket in a directory of the test."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

__all__ = ["Server", "postgres"]


class Server:
    """A cluster with the superuser `owner`; each `database` is a new one."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self._data = place / "data"
        self._databases = 0
        # initdb refuses root: then the server belongs to somebody who owns nothing else.
        self._user = "nobody" if os.geteuid() == 0 else None
        if self._user is not None:
            owner = pwd.getpwnam(self._user)
            os.chown(place, owner.pw_uid, owner.pw_gid)
        self._run(
            "initdb", "-D", str(self._data), "-U", "owner", "--auth-local=trust",
            "--auth-host=scram-sha-256", "--no-instructions",
        )  # fmt: skip
        with (self._data / "postgresql.conf").open("a") as file:
            file.write(
                f"listen_addresses = ''\nunix_socket_directories = '{place}'\n"
                "max_connections = 60\nshared_buffers = '16MB'\n"
            )

    def start(self) -> None:
        """Start, and wait until it answers."""
        self._run("pg_ctl", "-D", str(self._data), "-l", str(self.place / "log"), "-w", "start")

    def stop(self, mode: str = "immediate") -> None:
        """Stop; `immediate` is a crash."""
        self._run("pg_ctl", "-D", str(self._data), "-m", mode, "-w", "stop")

    def database(self) -> str:
        """The DSN of a new, empty database."""
        self._databases += 1
        name = f"d{self._databases}"
        self.execute(f"CREATE DATABASE {name}", dsn=self.dsn("postgres"))
        return self.dsn(name)

    def dsn(self, name: str, user: str = "owner") -> str:
        """The DSN of a database."""
        return f"host={self.place} dbname={name} user={user}"

    @staticmethod
    def execute(statement: str, *, dsn: str) -> list[Any]:
        """Run one statement; its rows."""
        with psycopg.connect(dsn, autocommit=True) as connection:
            cursor = connection.execute(statement)  # type: ignore[arg-type]
            return cursor.fetchall() if cursor.description else []

    def _run(self, *command: str) -> None:
        subprocess.run(
            command, check=True, stdout=subprocess.DEVNULL, user=self._user, cwd=self.place,
            env={"PATH": os.environ["PATH"], "LC_ALL": "C"},
        )  # fmt: skip


@pytest.fixture(scope="module")
def postgres() -> Iterator[Server]:
    """A running server. Its socket's path has to be short, and open to who is not root."""
    place = Path(tempfile.mkdtemp(prefix="guard-pg-", dir="/tmp"))
    place.chmod(0o755)
    server = Server(place)
    server.start()
    yield server
    server.stop()
    shutil.rmtree(place)
