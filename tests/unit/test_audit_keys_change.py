"""The key of a log changes in the log itself, and old checkpoints still verify."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from support.entries import MAC, entry

from guard.audit import AuditLog
from guard.audit.checkpoint import Checkpoint, parse, sign
from guard.audit.keyring import keys_of
from guard.audit.rotate import rotate_key
from guard.audit.verify import verify
from guard.clock import SYSTEM_CLOCK
from guard.errors import AuditFault
from guard.keys import Signer


def _log(directory: Path, **options: Any) -> AuditLog:
    return AuditLog.open(
        directory / "audit",
        signer=lambda: Signer.load_or_create(directory / "log.key"),
        mac=MAC,
        spool_bytes=1 << 16,
        **options,
    )


def _write(directory: Path, first: int) -> str:
    with _log(directory) as log:
        for number in range(first, first + 3):
            log.append(entry(number, session_id=None))
        return log.checkpoint()


@pytest.fixture
def rotated(tmp_path: Path) -> tuple[Path, Signer, Signer, str]:
    """A log of six entries whose key changed in the middle; both keys, and the first checkpoint."""
    outside = _write(tmp_path, 0)
    old = Signer.load_or_create(tmp_path / "log.key")
    new = rotate_key(tmp_path / "audit", tmp_path / "log.key", clock=SYSTEM_CLOCK)
    _write(tmp_path, 3)
    return tmp_path, old, new, outside


def test_old_and_new_checkpoints_verify_with_the_first_key(rotated: Any) -> None:
    directory, old, new, outside = rotated
    report = verify(directory / "audit", vkey=old.verifier, checkpoints=[outside])
    assert (report.damages, report.entries) == ((), 7)
    assert report.vkeys == (old.vkey, new.vkey)
    latest = (directory / "audit" / "checkpoint").read_bytes()
    assert parse(latest, new.verifier).size == 7


def test_the_new_key_alone_is_enough_too(rotated: Any) -> None:
    directory, _, new, _ = rotated
    assert verify(directory / "audit", vkey=new.verifier).damages == ()


def test_the_old_key_is_kept_and_the_new_one_is_in_its_place(rotated: Any) -> None:
    directory, old, new, _ = rotated
    retired = directory / f"log.key.retired-{old.verifier.key_id.hex()}"
    assert Signer.load_or_create(retired).vkey == old.vkey
    assert Signer.load_or_create(directory / "log.key").vkey == new.vkey
    assert sorted(path.name for path in directory.glob("log.key*")) == ["log.key", retired.name]


def test_a_key_that_no_entry_names_is_damage(tmp_path: Path) -> None:
    _write(tmp_path, 0)
    thief = Signer("guard/audit", bytes(32))
    log = tmp_path / "audit"
    honest = keys_of(log)[0]
    signed = parse((log / "checkpoint").read_bytes(), honest)
    forged = sign(Checkpoint(signed.origin, signed.size, signed.root), thief)
    (log / "log.vkey").write_text(f"{honest}\n{thief.vkey}\n")
    (log / "checkpoint").write_bytes(forged)
    with (log / "checkpoints").open("ab") as file:
        file.write(forged + b"\n")
    (damage,) = verify(log, vkey=honest).damages
    assert damage.kind == "key"
    assert "no entry of the log names the key" in damage.detail


def test_a_retired_key_may_not_sign_any_more(rotated: Any) -> None:
    directory, old, new, _ = rotated
    log = directory / "audit"
    signed = parse((log / "checkpoint").read_bytes(), new.verifier)
    late = sign(Checkpoint(signed.origin, signed.size, signed.root), old)
    (log / "checkpoint").write_bytes(late)
    with (log / "checkpoints").open("ab") as file:
        file.write(late + b"\n")
    damages = verify(log, vkey=old.verifier).damages
    assert {damage.kind for damage in damages} == {"key"}
    assert "is signed by a key that was not good for it" in damages[0].detail


def test_the_key_does_not_change_while_another_process_sequences(tmp_path: Path) -> None:
    with _log(tmp_path) as log:
        log.append(entry(0))
        with pytest.raises(AuditFault, match="another process sequences"):
            rotate_key(tmp_path / "audit", tmp_path / "log.key", clock=SYSTEM_CLOCK)
    assert verify(tmp_path / "audit").damages == ()


def test_a_change_that_a_crash_cut_short_is_finished_by_the_next(tmp_path: Path) -> None:
    _write(tmp_path, 0)
    old = Signer.load_or_create(tmp_path / "log.key")
    new = rotate_key(tmp_path / "audit", tmp_path / "log.key", clock=SYSTEM_CLOCK)
    # As if it had ended before the files of the keys were exchanged.
    os.replace(tmp_path / "log.key", tmp_path / "log.key.next")
    os.replace(tmp_path / f"log.key.retired-{old.verifier.key_id.hex()}", tmp_path / "log.key")
    with pytest.raises(AuditFault, match="change keys with `guard audit rotate-key`"):
        _log(tmp_path)
    again = rotate_key(tmp_path / "audit", tmp_path / "log.key", clock=SYSTEM_CLOCK)
    assert again.vkey == new.vkey
    _write(tmp_path, 3)
    assert verify(tmp_path / "audit", vkey=old.verifier).damages == ()
