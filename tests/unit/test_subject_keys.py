"""The keys of data subjects: sealing, erasing for good, many processes, and bad input."""

from __future__ import annotations

import base64
import multiprocessing
import os
import sqlite3
import threading
import time
from collections.abc import Iterator
from multiprocessing.synchronize import Event
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from hypothesis import given, settings
from hypothesis import strategies as st

from guard.errors import ConfigError, OnHold, PrivacyFault, SubjectErased
from guard.keys.holds import Hold
from guard.keys.subjects import CACHED_MAX, STALE_MS_MAX, SubjectKeys
from guard.testing import FakeClock

AAD = "d1 /input/email"
WAIT_S = 20


@pytest.fixture
def keys(tmp_path: Path) -> Iterator[SubjectKeys]:
    opened = SubjectKeys.open(tmp_path)
    yield opened
    opened.close()


def _bytes_below(directory: Path) -> bytes:
    return b"".join(path.read_bytes() for path in sorted(directory.rglob("*")) if path.is_file())


def _wrapped(directory: Path) -> dict[str, tuple[bytes, bytes]]:
    """Lookup and wrapped secret by pseudonym, as they are in the file."""
    connection = sqlite3.connect(directory / "subjects.db")
    try:
        rows = connection.execute("SELECT pseudonym, lookup, secret FROM subjects").fetchall()
    finally:
        connection.close()
    return {row[0]: (row[1], row[2]) for row in rows}


def test_an_id_keeps_its_pseudonym_and_two_ids_have_two(keys: SubjectKeys, tmp_path: Path) -> None:
    jane, john = keys.pseudonym("jane"), keys.pseudonym("john")
    keys.close()
    again = SubjectKeys.open(tmp_path)
    assert (again.pseudonym("jane"), again.pseudonym("john")) == (jane, john)
    assert jane != john
    assert len(jane) == 16
    again.close()


def test_what_is_sealed_opens_again_and_only_in_its_place(keys: SubjectKeys) -> None:
    subjects = tuple(sorted(keys.pseudonyms(["jane", "john"]).values()))
    sealed = keys.seal(b'"a@b.co"', subjects, AAD)
    assert keys.unseal(sealed, subjects, AAD) == b'"a@b.co"'
    with pytest.raises(PrivacyFault, match="was changed, or moved"):
        keys.unseal(sealed, subjects, "d2 /input/email")
    with pytest.raises(PrivacyFault, match="was changed, or moved"):
        keys.unseal(sealed, subjects[:1], AAD)
    with pytest.raises(PrivacyFault, match="was changed, or moved"):
        keys.unseal("not base64", subjects, AAD)
    with pytest.raises(PrivacyFault, match="one data subject at least"):
        keys.seal(b"1", (), AAD)


def test_a_sealed_value_is_what_the_format_says(keys: SubjectKeys) -> None:
    subjects = tuple(sorted(keys.pseudonyms(["jane", "john"]).values()))
    raw = base64.b64decode(keys.seal(b"[1]", subjects, AAD))
    joined = b"".join(keys._secret(pseudonym)[0] for pseudonym in subjects)
    key = HKDF(SHA256(), 32, None, b"guard sealed v1").derive(joined)
    assert AESGCM(key).decrypt(raw[:12], raw[12:], AAD.encode()) == b"[1]"


@settings(max_examples=15, deadline=None)
@given(
    ids=st.lists(st.text("abcdefgh0123456789@.-", min_size=12, max_size=40), min_size=2,
                 max_size=30, unique=True),
    data=st.data(),
)  # fmt: skip
def test_after_an_erasure_nothing_of_the_subject_is_left_and_others_are_whole(
    tmp_path_factory: pytest.TempPathFactory, ids: list[str], data: st.DataObject
) -> None:
    directory = tmp_path_factory.mktemp("keys")
    keys = SubjectKeys.open(directory)
    named = keys.pseudonyms(ids)
    victim = data.draw(st.sampled_from(ids))
    other = data.draw(st.sampled_from([one for one in ids if one != victim]))
    values = {
        name: (subjects, keys.seal(b'"x"', subjects, AAD))
        for name, subjects in {
            "victim": (named[victim],),
            "shared": tuple(sorted((named[victim], named[other]))),
            "other": (named[other],),
        }.items()
    }
    key, salt = keys._secret(named[victim])
    wrapped = _wrapped(directory)

    assert keys.erase((named[victim],)) == (named[victim],)

    for name in ("victim", "shared"):
        with pytest.raises(SubjectErased):
            keys.unseal(values[name][1], values[name][0], AAD)
    assert keys.unseal(values["other"][1], values["other"][0], AAD) == b'"x"'
    before_close = _bytes_below(directory)  # with the WAL
    keys.close()
    for stored in (before_close, _bytes_below(directory)):
        lookup, secret = wrapped[named[victim]]
        remains = [key, salt, lookup, victim.encode()]
        # A part of the wrapped secret would be enough for a part of the key.
        remains += [secret[at : at + 16] for at in range(0, len(secret) - 15, 8)]
        assert [one for one in remains if one in stored] == []
        assert wrapped[named[other]][1] in stored
    again = SubjectKeys.open(directory)
    assert again.find(victim) is None
    assert again.pseudonym(victim) != named[victim]
    again.close()


def test_no_id_is_ever_in_the_file(keys: SubjectKeys, tmp_path: Path) -> None:
    keys.pseudonym("jane.roe@example.com")
    assert b"jane.roe" not in _bytes_below(tmp_path)


def test_a_pseudonym_that_was_erased_is_known_to_be(keys: SubjectKeys) -> None:
    jane = keys.pseudonym("jane")
    assert not keys.is_erased(jane)
    keys.erase((jane,), lambda pseudonym, generation: f"{pseudonym} {generation}".encode())
    assert keys.is_erased(jane)
    assert keys.certificate(jane) == f"{jane} 1".encode()
    assert keys.unrecorded() == [jane]
    keys.note_recorded(jane)
    assert keys.unrecorded() == []
    assert keys.erase((jane,)) == ()


def test_a_certificate_that_fails_leaves_the_subject_whole(keys: SubjectKeys) -> None:
    jane = keys.pseudonym("jane")

    def certify(pseudonym: str, generation: int) -> bytes:
        raise RuntimeError

    with pytest.raises(RuntimeError):
        keys.erase((jane,), certify)
    assert keys.find("jane") == jane
    assert keys.generation == 0


def test_a_hold_forbids_the_erasure(keys: SubjectKeys) -> None:
    jane, john = keys.pseudonym("jane"), keys.pseudonym("john")
    keys.holds.place(Hold("case-1", jane, None, "court", 0))
    with pytest.raises(OnHold, match="`case-1` forbids it: nothing was erased"):
        keys.erase((john, jane))
    assert keys.find("john") == john
    assert keys.erase((john,)) == (john,)
    keys.holds.lift("case-1")
    assert keys.erase((jane,)) == (jane,)


def test_the_salt_of_a_month_stays_the_same_until_it_is_destroyed(
    keys: SubjectKeys, tmp_path: Path
) -> None:
    salt = keys.month_salt("2026_11")
    keys.close()
    again = SubjectKeys.open(tmp_path)
    assert again.month_salt("2026_11") == salt != again.month_salt("2026_12")
    again.destroy_months(["2026_11"])
    assert again.months() == ["2026_12"]
    with pytest.raises(SubjectErased, match="2026_11"):
        again.month_salt("2026_11")
    again.close()


def test_caches_are_bounded(keys: SubjectKeys) -> None:
    keys.pseudonyms([f"s{number}" for number in range(CACHED_MAX + 10)])
    assert len(keys._known) <= CACHED_MAX


# -- several threads and processes -------------------------------------------------------------


def test_threads_that_ask_first_get_one_pseudonym(tmp_path: Path) -> None:
    found: list[str] = []

    def ask() -> None:
        keys = SubjectKeys.open(tmp_path)
        found.append(keys.pseudonym("jane"))
        keys.close()

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8
    assert len(set(found)) == 1


def _seal_until_erased(directory: str, sealed: str, ready: Event, erased: Event) -> None:
    """Exit code 0 when sealing and opening stop within a second of the erasure."""
    keys = SubjectKeys.open(directory)
    jane = keys.pseudonym("jane")
    heard: list[str] = []
    keys.on_erased(heard.append)
    assert keys.unseal(sealed, (jane,), AAD) == b"1"
    ready.set()
    stopped = set()
    deadline = time.monotonic() + WAIT_S
    while time.monotonic() < deadline:
        was_erased = erased.is_set()
        at = time.monotonic()
        for name, use in (
            ("seal", lambda: keys.seal(b"1", (jane,), AAD)),
            ("unseal", lambda: keys.unseal(sealed, (jane,), AAD)),
            ("salt", lambda: keys.salt(jane)),
        ):
            try:
                use()
            except SubjectErased:
                stopped.add(name)
        if len(stopped) == 3:
            break
        if was_erased:
            deadline = min(deadline, at + 1)
    os._exit(0 if stopped == {"seal", "unseal", "salt"} and heard == [jane] else 1)


def test_another_process_stops_using_the_keys_within_a_second(
    keys: SubjectKeys, tmp_path: Path
) -> None:
    context = multiprocessing.get_context("spawn")
    ready, erased = context.Event(), context.Event()
    jane = keys.pseudonym("jane")
    sealed = keys.seal(b"1", (jane,), AAD)
    child = context.Process(target=_seal_until_erased, args=(str(tmp_path), sealed, ready, erased))
    child.start()
    assert ready.wait(WAIT_S)
    keys.erase((jane,))
    erased.set()
    child.join(WAIT_S)
    assert child.exitcode == 0
    assert STALE_MS_MAX < 1_000


def test_parent_and_child_go_on_after_a_fork(keys: SubjectKeys) -> None:
    jane = keys.pseudonym("jane")
    sealed = keys.seal(b"1", (jane,), AAD)
    pid = os.fork()
    if pid == 0:
        try:
            assert keys.unseal(sealed, (jane,), AAD) == b"1"
            keys.pseudonym("from the child")
            keys.erase((jane,))
            os._exit(0)
        except BaseException:
            os._exit(1)
    assert os.waitpid(pid, 0)[1] == 0
    keys.refresh()
    with pytest.raises(SubjectErased):
        keys.unseal(sealed, (jane,), AAD)
    assert keys.find("from the child") is not None


# -- what bad input gets -----------------------------------------------------------------------


def test_the_files_are_for_their_owner_alone(keys: SubjectKeys, tmp_path: Path) -> None:
    keys.pseudonym("jane")
    modes = {path.name: path.stat().st_mode & 0o777 for path in tmp_path.iterdir()}
    assert set(modes.values()) == {0o600}
    assert {"subjects.db", "subjects.key", "subjects.db-wal"} <= modes.keys()


def test_a_store_that_others_can_read_is_refused(keys: SubjectKeys, tmp_path: Path) -> None:
    (tmp_path / "subjects.db").chmod(0o644)
    with pytest.raises(ConfigError, match="chmod 600"):
        SubjectKeys.open(tmp_path)


def test_a_store_without_its_master_key_is_refused_and_no_key_is_made(
    keys: SubjectKeys, tmp_path: Path
) -> None:
    (tmp_path / "subjects.key").unlink()
    with pytest.raises(ConfigError, match="is not there, so nothing in"):
        SubjectKeys.open(tmp_path)
    assert not (tmp_path / "subjects.key").exists()


def test_a_foreign_master_key_is_refused(keys: SubjectKeys, tmp_path: Path) -> None:
    other = tmp_path / "other"
    SubjectKeys.open(other).close()
    (tmp_path / "subjects.key").write_bytes((other / "subjects.key").read_bytes())
    with pytest.raises(ConfigError, match="is not the one that its keys are wrapped by"):
        SubjectKeys.open(tmp_path)


def test_a_store_of_a_newer_version_is_refused(tmp_path: Path) -> None:
    SubjectKeys.open(tmp_path).close()
    connection = sqlite3.connect(tmp_path / "subjects.db")
    connection.execute("PRAGMA user_version=2")
    connection.close()
    with pytest.raises(ConfigError, match="version 2, expected 1"):
        SubjectKeys.open(tmp_path)


def test_what_is_no_database_is_refused(tmp_path: Path) -> None:
    SubjectKeys.open(tmp_path).close()
    (tmp_path / "subjects.db").write_bytes(b"x" * 4096)
    with pytest.raises(PrivacyFault, match="file is not a database"):
        SubjectKeys.open(tmp_path)


def test_a_locked_store_faults_within_its_bound(keys: SubjectKeys, tmp_path: Path) -> None:
    other = sqlite3.connect(tmp_path / "subjects.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    try:
        with pytest.raises(PrivacyFault, match="database is locked"):
            keys.pseudonym("jane")
    finally:
        other.close()
    assert keys.pseudonym("jane")


def test_an_erasure_that_a_reader_keeps_from_its_last_step_is_finished_later(
    keys: SubjectKeys, tmp_path: Path
) -> None:
    jane = keys.pseudonym("jane")
    lookup = _wrapped(tmp_path)[jane][0]
    reader = sqlite3.connect(tmp_path / "subjects.db", isolation_level=None)
    reader.execute("BEGIN")
    reader.execute("SELECT * FROM subjects").fetchall()
    with pytest.raises(PrivacyFault, match="keys are destroyed, but other processes"):
        keys.erase((jane,))
    reader.close()
    with pytest.raises(SubjectErased):
        keys.salt(jane)
    keys.scrub()
    keys.close()
    assert lookup not in _bytes_below(tmp_path)


def test_a_key_that_was_moved_to_another_pseudonym_does_not_open(
    keys: SubjectKeys, tmp_path: Path
) -> None:
    jane, john = keys.pseudonym("jane"), keys.pseudonym("john")
    keys.close()
    connection = sqlite3.connect(tmp_path / "subjects.db", isolation_level=None)
    connection.execute(
        "UPDATE subjects SET secret = (SELECT secret FROM subjects WHERE pseudonym = ?)"
        " WHERE pseudonym = ?", (john, jane),
    )  # fmt: skip
    connection.close()
    with pytest.raises(PrivacyFault, match="was changed"):
        keys.salt(jane)


@pytest.mark.parametrize("subject_id", ["", "x" * 257])
def test_an_id_out_of_bounds_is_refused_without_repeating_it(
    keys: SubjectKeys, subject_id: str
) -> None:
    with pytest.raises(PrivacyFault, match=f"1 to 256 characters, this one {len(subject_id)}"):
        keys.pseudonym(subject_id)


def test_an_id_of_any_text_works(keys: SubjectKeys) -> None:
    assert keys.pseudonym("\ud800'; DROP TABLE subjects") == keys.find(
        "\ud800'; DROP TABLE subjects"
    )


def test_a_pseudonym_of_another_installation_is_no_erased_one(keys: SubjectKeys) -> None:
    with pytest.raises(PrivacyFault, match="another installation") as caught:
        keys.salt("0123456789abcdef")
    assert not isinstance(caught.value, SubjectErased)


def test_subjects_are_seen_by_the_day(tmp_path: Path) -> None:
    clock = FakeClock()
    keys = SubjectKeys.open(tmp_path, clock=clock)
    jane, john = keys.pseudonym("jane"), keys.pseudonym("john")
    clock.advance_s(3 * 86_400)
    keys.pseudonym("john")
    assert keys.not_seen_since(clock.now_ns()) == [jane]
    clock.advance_s(-10 * 86_400)  # a clock that steps back takes nothing away
    keys.pseudonym("john")
    assert keys.not_seen_since(FakeClock().now_ns() + 3 * 86_400 * 10**9) == [jane]
    assert john not in keys.not_seen_since(FakeClock().now_ns())
    keys.close()


def test_a_full_disk_faults_and_the_store_is_whole_once_there_is_room(small_disk: Path) -> None:
    keys = SubjectKeys.open(small_disk)
    jane = keys.pseudonym("jane")
    ballast = small_disk / "ballast"
    room = os.statvfs(small_disk)
    ballast.write_bytes(b"x" * (room.f_bavail * room.f_frsize))
    with pytest.raises(PrivacyFault, match=r"disk is full|disk I/O error"):
        keys.pseudonyms([f"s{number}" for number in range(2_000)])
    assert keys.find("jane") == jane
    ballast.unlink()
    assert keys.erase((jane,)) == (jane,)
    keys.close()
