"""The keys of data subjects: a value sealed with them is gone when one of them is destroyed.

A subject has a pseudonym, a key and a salt. Key and salt are wrapped by a master key; the subject's
own id is nowhere, only its HMAC, which is destroyed with them: nobody can tell any more whose
pseudonym it was, and the same id begins anew. Values of no known subject are salted by month.

A copy of the file that was made before an erasure can, with the master key, undo it: keep backups
of the two apart, and for a month at most.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import secrets
import sqlite3
import threading
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Final, TypeVar

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from ..clock import SYSTEM_CLOCK, Clock
from ..errors import ConfigError, PrivacyFault, SubjectErased
from ..locks import renew_after_fork
from .holds import HOLDS_SCHEMA, Holds, holds_of, refuse_held
from .signing import Mac
from .store import SecretStore
from .wrapping import KEY_BYTES, NONCE_BYTES, Wrapping, derived

__all__ = ["SUBJECT_ID_CHARS_MAX", "SubjectKeys"]

K = TypeVar("K")
V = TypeVar("V")
SUBJECT_ID_CHARS_MAX: Final = 256  # a DID with its path has fewer
# What another process erased is used no longer than this.
STALE_MS_MAX: Final = 100
# Of each of ids, secrets and ciphers that are kept; about 10 MB in all.
CACHED_MAX: Final = 10_000
_VERSION: Final = 1
_PSEUDONYM_BYTES: Final = 8
_NS_PER_DAY: Final = 86_400 * 1_000_000_000
_PROOF_INFO: Final = b"guard subjects proof v1"
_SCHEMA: Final = """
CREATE TABLE state (
    proof BLOB NOT NULL, generation INTEGER NOT NULL, is_clean INTEGER NOT NULL
);
CREATE TABLE subjects (
    pseudonym TEXT PRIMARY KEY, lookup BLOB NOT NULL UNIQUE, secret BLOB NOT NULL,
    seen_day INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE months (month TEXT PRIMARY KEY, secret BLOB) WITHOUT ROWID;
CREATE TABLE erased (
    pseudonym TEXT PRIMARY KEY, generation INTEGER NOT NULL, certificate BLOB,
    recorded INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX erased_by_generation ON erased (generation);
"""


class SubjectKeys:
    """Keys and salts of data subjects, in `subjects.db` beside their master key `subjects.key`."""

    lock: threading.RLock

    def __init__(self, store: SecretStore, master: bytes, clock: Clock) -> None:
        self.holds = Holds(store)
        self._store = store
        self._clock = clock
        self._wrapping = Wrapping(derived(master, b"guard subjects wrap v1"))
        self._lookup_key = derived(master, b"guard subjects lookup v1")
        self._known: dict[str, tuple[str, int]] = {}  # id: pseudonym, day it was last noted
        self._secrets: dict[str, tuple[bytes, bytes]] = {}  # pseudonym: key, salt
        self._ciphers: dict[tuple[str, ...], AESGCM] = {}
        self._months: dict[str, bytes] = {}
        self._listeners: list[Callable[[str], object]] = []
        self._fresh_until_ns = -1
        renew_after_fork(self)
        proof, self._generation, _ = store.read("SELECT * FROM state")[0]
        if not hmac.compare_digest(proof, derived(master, _PROOF_INFO)):
            raise ConfigError(
                f"the master key beside {store.path} is not the one that its keys are wrapped by: "
                "restore the file that belongs to it"
            )

    @classmethod
    def open(cls, directory: Path | str, *, clock: Clock = SYSTEM_CLOCK) -> SubjectKeys:
        """The store below `directory`, created when there is none; raises ConfigError."""
        path, key_path = Path(directory) / "subjects.db", Path(directory) / "subjects.key"
        # The key is made first: a store without its key has lost it, and a new one opens nothing.
        if path.exists() and not key_path.exists():
            raise ConfigError(
                f"the master key {key_path} is not there, so nothing in {path} can be opened: "
                "restore it, or move both away and give up what is sealed"
            )
        master = Mac.load_or_create(key_path).key
        if not path.exists():
            SecretStore.create(path, lambda connection: _fill(connection, master))
        return cls(SecretStore(path, version=_VERSION), master, clock)

    def close(self) -> None:
        """Forget what is in memory and let go of the file."""
        with self.lock:
            self._forget()
            self._store.close()

    # -- naming ------------------------------------------------------------------------------

    def pseudonym(self, subject_id: str) -> str:
        """The pseudonym of one."""
        return self.pseudonyms((subject_id,))[subject_id]

    def pseudonyms(self, subject_ids: Iterable[str]) -> dict[str, str]:
        """Pseudonyms by id; those that are new are made, all in one transaction."""
        self._freshen()
        today = self._clock.now_ns() // _NS_PER_DAY
        named: dict[str, str] = {}
        unknown: list[str] = []
        for subject_id in subject_ids:
            known = self._known.get(subject_id)
            if known is not None and known[1] == today:
                named[subject_id] = known[0]
            else:
                unknown.append(subject_id)
        if unknown:
            named |= self._enrol(unknown, today)
        return named

    def find(self, subject: str) -> str | None:
        """The pseudonym of an id, or of a pseudonym itself, whose keys are here; makes none."""
        rows = self._store.read(
            "SELECT pseudonym FROM subjects WHERE lookup = ?", self._lookup(subject)
        ) or self._store.read("SELECT pseudonym FROM subjects WHERE pseudonym = ?", subject)
        return rows[0][0] if rows else None

    # -- sealing -----------------------------------------------------------------------------

    def seal(self, value_json: bytes, pseudonyms: tuple[str, ...], aad: str) -> str:
        """Base64 of the sealed value. Raises SubjectErased, PrivacyFault."""
        nonce = secrets.token_bytes(NONCE_BYTES)
        sealed = self._cipher(pseudonyms).encrypt(nonce, value_json, aad.encode())
        return base64.b64encode(nonce + sealed).decode()

    def unseal(self, sealed: str, pseudonyms: tuple[str, ...], aad: str) -> bytes:
        """The JSON that was sealed. Raises SubjectErased, PrivacyFault when it was changed."""
        cipher = self._cipher(pseudonyms)
        try:
            raw = base64.b64decode(sealed, validate=True)
            return cipher.decrypt(raw[:NONCE_BYTES], raw[NONCE_BYTES:], aad.encode())
        except (InvalidTag, binascii.Error, ValueError) as error:
            raise PrivacyFault(
                "a sealed value does not open: it was changed, or moved here from another entry"
            ) from error

    def salt(self, pseudonym: str) -> bytes:
        """32 bytes for HMACs of values of this subject. Raises SubjectErased, PrivacyFault."""
        self._freshen()
        return self._secret(pseudonym)[1]

    def month_salt(self, month: str) -> bytes:
        """32 bytes for HMACs of values of no known subject in a month such as `2026_11`."""
        self._freshen()
        salt = self._months.get(month)
        return salt if salt is not None else self._load_month(month)

    # -- erasing -----------------------------------------------------------------------------

    @property
    def generation(self) -> int:
        """How often keys were destroyed in this store, as far as this process knows."""
        return int(self._generation)

    def on_erased(self, listener: Callable[[str], object]) -> None:
        """Call `listener` with each pseudonym erased from now on, also by other processes.

        It is called when this process next uses the keys, or asks for it with `refresh`.
        """
        with self.lock:
            self.refresh()
            self._listeners.append(listener)

    def refresh(self) -> None:
        """Learn now what other processes have erased, and forget its keys."""
        with self.lock:
            asked_ns = self._clock.monotonic_ns()
            generation = self._store.read("SELECT generation FROM state")[0][0]
            if generation != self._generation:
                since, self._generation = self._generation, generation
                self._forget()
                for (pseudonym,) in self._store.read(
                    "SELECT pseudonym FROM erased WHERE generation > ?", since
                ):
                    for listener in self._listeners:
                        listener(pseudonym)
            self._fresh_until_ns = asked_ns + STALE_MS_MAX * 1_000_000

    def erase(
        self, pseudonyms: Sequence[str], certify: Callable[[str, int], bytes] | None = None
    ) -> tuple[str, ...]:
        """Destroy keys, salts and ids of data subjects for good; which of them were still here.

        `certify(pseudonym, generation)` is kept with the pseudonym until `note_recorded`.
        Raises OnHold, with nothing destroyed, where a legal hold forbids one of them. PrivacyFault
        after the destruction means that the file still has to be scrubbed: do it again.
        """
        with self.lock:
            gone: list[str] = []
            with self._store.write() as connection:
                refuse_held(holds_of(connection), pseudonyms)
                generation = _next_generation(connection)
                for pseudonym in pseudonyms:
                    if connection.execute(
                        "DELETE FROM subjects WHERE pseudonym = ?", (pseudonym,)
                    ).rowcount:
                        certificate = certify(pseudonym, generation) if certify else None
                        connection.execute(
                            "INSERT INTO erased VALUES (?, ?, ?, ?)",
                            (pseudonym, generation, certificate, certify is None),
                        )
                        gone.append(pseudonym)
            self.refresh()
        self.scrub()
        return tuple(gone)

    def scrub(self) -> None:
        """Finish an erasure whose last step was prevented: rewrite the file without its remains."""
        generation, is_clean = self._store.read("SELECT generation, is_clean FROM state")[0]
        if not is_clean:
            self._store.scrub()
            with self._store.write() as connection:  # unless there was another one meanwhile
                connection.execute("UPDATE state SET is_clean = 1 WHERE generation = ?",
                                   (generation,))  # fmt: skip

    def is_erased(self, pseudonym: str) -> bool:
        """Whether its keys were destroyed."""
        return bool(self._store.read("SELECT 1 FROM erased WHERE pseudonym = ?", pseudonym))

    def certificate(self, pseudonym: str) -> bytes | None:
        """What was kept when this pseudonym was erased."""
        rows = self._store.read("SELECT certificate FROM erased WHERE pseudonym = ?", pseudonym)
        return rows[0][0] if rows else None

    def unrecorded(self) -> list[str]:
        """Pseudonyms that were erased and whose certificate is not in the log yet."""
        rows = self._store.read("SELECT pseudonym FROM erased WHERE NOT recorded ORDER BY 1")
        return [pseudonym for (pseudonym,) in rows]

    def note_recorded(self, pseudonym: str) -> None:
        """The log has the certificate of this pseudonym."""
        with self._store.write() as connection:
            connection.execute("UPDATE erased SET recorded = 1 WHERE pseudonym = ?", (pseudonym,))

    def months(self) -> list[str]:
        """The months whose salt is still here."""
        rows = self._store.read("SELECT month FROM months WHERE secret IS NOT NULL ORDER BY 1")
        return [month for (month,) in rows]

    def destroy_months(self, months: Sequence[str]) -> None:
        """Destroy the salts of months for good: no guess can be tested any more."""
        with self.lock:
            with self._store.write() as connection:
                for month in months:
                    connection.execute("INSERT OR REPLACE INTO months VALUES (?, NULL)", (month,))
                _next_generation(connection)
            self.refresh()
        self.scrub()

    def not_seen_since(self, moment_ns: int) -> list[str]:
        """Pseudonyms that nothing has concerned since the day of `moment_ns`."""
        return [row[0] for row in self._store.read(
            "SELECT pseudonym FROM subjects WHERE seen_day < ? ORDER BY seen_day",
            moment_ns // _NS_PER_DAY,
        )]  # fmt: skip

    # -- within ------------------------------------------------------------------------------

    def _freshen(self) -> None:
        # INVARIANT: nothing of the caches is used unless another process's erasures are known.
        if self._clock.monotonic_ns() > self._fresh_until_ns:
            self.refresh()

    def _cipher(self, pseudonyms: tuple[str, ...]) -> AESGCM:
        self._freshen()
        cipher = self._ciphers.get(pseudonyms)
        if cipher is None:
            if not pseudonyms:
                raise PrivacyFault("a value is sealed for one data subject at least: none is named")
            with self.lock:
                joined = b"".join([self._secret(pseudonym)[0] for pseudonym in pseudonyms])
                cipher = AESGCM(derived(joined, b"guard sealed v1"))
                _keep(self._ciphers, pseudonyms, cipher)
        return cipher

    def _secret(self, pseudonym: str) -> tuple[bytes, bytes]:
        known = self._secrets.get(pseudonym)
        if known is not None:
            return known
        with self.lock:  # so that nothing comes into the cache behind an erasure
            rows = self._store.read("SELECT secret FROM subjects WHERE pseudonym = ?", pseudonym)
            if not rows:
                if self.is_erased(pseudonym):
                    raise SubjectErased(f"the data subject {pseudonym} was erased: no key is left")
                raise PrivacyFault(
                    "no key of this pseudonym is here: it belongs to another installation, or the "
                    "store was replaced"
                )
            secret = self._wrapping.unwrap(rows[0][0], pseudonym)
            pair = secret[:KEY_BYTES], secret[KEY_BYTES:]
            _keep(self._secrets, pseudonym, pair)
            return pair

    def _enrol(self, subject_ids: Sequence[str], today: int) -> dict[str, str]:
        lookups = {subject_id: self._lookup(subject_id) for subject_id in subject_ids}
        named: dict[str, str] = {}
        with self.lock:
            for subject_id, lookup in lookups.items():
                for pseudonym, day in self._store.read(
                    "SELECT pseudonym, seen_day FROM subjects WHERE lookup = ?", lookup
                ):
                    if day >= today:
                        named[subject_id] = pseudonym
            if len(named) < len(lookups):
                with self._store.write() as connection:
                    for subject_id in lookups.keys() - named.keys():
                        named[subject_id] = self._noted(connection, lookups[subject_id], today)
            for subject_id, pseudonym in named.items():
                _keep(self._known, subject_id, (pseudonym, today))
        return named

    def _noted(self, connection: sqlite3.Connection, lookup: bytes, today: int) -> str:
        """The pseudonym, seen today; a new one where there is none."""
        row = connection.execute(
            "UPDATE subjects SET seen_day = max(seen_day, ?) WHERE lookup = ? RETURNING pseudonym",
            (today, lookup),
        ).fetchone()
        if row:
            return str(row[0])
        pseudonym = secrets.token_hex(_PSEUDONYM_BYTES)
        if connection.execute("SELECT 1 FROM erased WHERE pseudonym = ?", (pseudonym,)).fetchone():
            raise PrivacyFault("a new pseudonym was in use before: ask again")  # once in 2^64
        wrapped = self._wrapping.new(pseudonym, 2 * KEY_BYTES)
        connection.execute(
            "INSERT INTO subjects VALUES (?, ?, ?, ?)", (pseudonym, lookup, wrapped, today)
        )
        return pseudonym

    def _load_month(self, month: str) -> bytes:
        with self.lock:
            rows = self._store.read("SELECT secret FROM months WHERE month = ?", month)
            if not rows:
                wrapped = self._wrapping.new(month, KEY_BYTES)
                with self._store.write() as connection:
                    connection.execute(
                        "INSERT OR IGNORE INTO months VALUES (?, ?)", (month, wrapped)
                    )
                rows = self._store.read("SELECT secret FROM months WHERE month = ?", month)
            if rows[0][0] is None:
                raise SubjectErased(f"the salt of {month} was destroyed: nothing can be compared")
            salt = self._wrapping.unwrap(rows[0][0], month)
            _keep(self._months, month, salt)
            return salt

    def _lookup(self, subject_id: str) -> bytes:
        if not 0 < len(subject_id) <= SUBJECT_ID_CHARS_MAX:
            raise PrivacyFault(
                f"the id of a data subject has 1 to {SUBJECT_ID_CHARS_MAX} characters, "
                f"this one {len(subject_id)}"
            )
        return hmac.digest(self._lookup_key, subject_id.encode(errors="surrogatepass"), "sha256")

    def _forget(self) -> None:
        self._known.clear()
        self._secrets.clear()
        self._ciphers.clear()
        self._months.clear()


def _fill(connection: sqlite3.Connection, master: bytes) -> None:
    connection.executescript(_SCHEMA + HOLDS_SCHEMA)
    proof = derived(master, _PROOF_INFO)
    connection.execute("INSERT INTO state VALUES (?, 0, 1)", (proof,))
    connection.execute(f"PRAGMA user_version={_VERSION}")


def _next_generation(connection: sqlite3.Connection) -> int:
    (generation,) = connection.execute(
        "UPDATE state SET generation = generation + 1, is_clean = 0 RETURNING generation"
    ).fetchone()
    return int(generation)


def _keep(cache: dict[K, V], key: K, value: V) -> None:
    """Into a cache of bounded size; one that is full begins anew."""
    if len(cache) >= CACHED_MAX:
        cache.clear()
    cache[key] = value
