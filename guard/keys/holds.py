"""Legal holds: while one stands, nothing that it covers is erased or expires."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from typing import Final

import msgspec

from ..errors import OnHold, PrivacyFault
from .store import SecretStore

__all__ = ["HOLDS_SCHEMA", "Hold", "Holds", "holds_of", "refuse_held"]

HOLDS_SCHEMA: Final = """
CREATE TABLE holds (
    name TEXT PRIMARY KEY, pseudonym TEXT, retention TEXT, authority TEXT NOT NULL,
    placed_ns INTEGER NOT NULL
) WITHOUT ROWID;
"""


class Hold(msgspec.Struct, frozen=True):
    """A hold on one data subject, on one retention class, or (with neither) on everything."""

    name: str
    pseudonym: str | None
    retention: str | None
    authority: str
    placed_ns: int


class Holds:
    """The legal holds of an installation, kept with the keys that they protect."""

    def __init__(self, store: SecretStore) -> None:
        self._store = store

    def place(self, hold: Hold) -> None:
        """Let it stand; raises PrivacyFault when the name is taken or the subject has no key."""
        with self._store.write() as connection:
            if connection.execute("SELECT 1 FROM holds WHERE name = ?", (hold.name,)).fetchone():
                raise PrivacyFault(f"there is a hold `{hold.name}` already: lift it first")
            if (
                hold.pseudonym is not None
                and not connection.execute(
                    "SELECT 1 FROM subjects WHERE pseudonym = ?", (hold.pseudonym,)
                ).fetchone()
            ):
                raise PrivacyFault("no key of this data subject is here: nothing to hold")
            connection.execute(
                "INSERT INTO holds VALUES (?, ?, ?, ?, ?)", msgspec.structs.astuple(hold)
            )

    def named(self, name: str) -> Hold:
        """The hold of that name; raises PrivacyFault when there is none."""
        rows = self._store.read("SELECT * FROM holds WHERE name = ?", name)
        if not rows:
            raise PrivacyFault(f"there is no hold `{name}`: see `guard hold list`")
        return Hold(*rows[0])

    def lift(self, name: str) -> None:
        """Take it away; one that is not there stays away."""
        with self._store.write() as connection:
            connection.execute("DELETE FROM holds WHERE name = ?", (name,))

    def refuse(self, pseudonyms: Iterable[str]) -> None:
        """Raise OnHold when the keys of one of them must stay."""
        refuse_held(self.standing(), pseudonyms)

    def standing(self) -> list[Hold]:
        """All of them, oldest first."""
        return [
            Hold(*row) for row in self._store.read("SELECT * FROM holds ORDER BY placed_ns, name")
        ]


def holds_of(connection: sqlite3.Connection) -> list[Hold]:
    """The holds that stand, within a transaction."""
    return [Hold(*row) for row in connection.execute("SELECT * FROM holds")]


def refuse_held(holds: Iterable[Hold], pseudonyms: Iterable[str]) -> None:
    """Raise OnHold when one of the holds covers one of the pseudonyms."""
    wanted = set(pseudonyms)
    for hold in holds:
        # A hold on a class covers entries of anybody: whose they are, the keys cannot tell.
        if hold.pseudonym is None or hold.pseudonym in wanted:
            raise OnHold(
                f"the legal hold `{hold.name}` forbids it: nothing was erased; lift the hold first "
                "with `guard hold lift`"
            )
