"""Full segments encrypted at rest: the writer cannot read them, and both verifiers can tell."""

from __future__ import annotations

import gzip
import io
import subprocess
import sys
from pathlib import Path

import pyrage
import pytest
from click.testing import CliRunner
from support.entries import SIGNER, entry, open_log

from guard.audit import standalone_verify
from guard.audit.files import encrypted_of, segments_of
from guard.audit.report import Report
from guard.audit.sequence import Rolling
from guard.audit.verify import verify
from guard.cli.audit import audit
from guard.errors import ConfigError

OFFICER = pyrage.x25519.Identity.generate()
RECIPIENT = str(OFFICER.to_public())


def _written(directory: Path, numbers: range, *, recipient: str = RECIPIENT) -> Path:
    rolling = Rolling(segment_bytes_max=20_000, encrypt_to=(recipient,))
    with open_log(directory, rolling=rolling) as log:
        for number in numbers:
            log.append(entry(number))
            if number % 50 == 49:
                log.checkpoint()
        for _ in range(40):  # a step of sealing in each round
            log._round(sign=True)
    return directory


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return _written(tmp_path / "log", range(400))


def _verified(directory: Path) -> Report:
    report = verify(directory, vkey=SIGNER.verifier)
    alone = standalone_verify.check(directory, key=SIGNER.vkey, checkpoints=[])
    assert (alone == []) == report.ok
    return report


def test_full_segments_are_encrypted_and_nothing_of_them_stays_in_clear(log: Path) -> None:
    encrypted = encrypted_of(log)
    assert len(encrypted) >= 3
    assert [one.path.exists() for one in encrypted] == [False] * len(encrypted)
    assert not any(b"did:web:acme" in path.read_bytes() for path in log.glob("records-*.age"))
    lines = gzip.decompress(pyrage.decrypt(encrypted[0].encrypted.read_bytes(), [OFFICER]))
    assert lines.count(b"\n") == encrypted[1].first
    assert len(segments_of(log)) >= 1


def test_both_verifiers_hold_an_encrypted_log_for_whole_and_say_what_they_did_not_read(
    log: Path,
) -> None:
    report = _verified(log)
    assert report.damages == ()
    assert any("are encrypted and were not read" in note for note in report.notes)


def test_the_log_goes_on_after_its_segments_were_encrypted(log: Path) -> None:
    before = len(encrypted_of(log))
    (log / "state").unlink()  # as if it were lost: all writers are counted anew
    _written(log, range(400, 800))
    assert len(encrypted_of(log)) > before
    assert _verified(log).damages == ()


@pytest.mark.parametrize("kind", ["flip", "gone", "exchanged", "about gone", "about changed"])
def test_a_change_of_an_encrypted_segment_is_found(kind: str, log: Path) -> None:
    first, second, *_ = encrypted_of(log)
    if kind == "flip":
        data = bytearray(second.encrypted.read_bytes())
        data[len(data) // 2] ^= 1
        second.encrypted.write_bytes(data)
    elif kind == "gone":
        second.encrypted.unlink()
    elif kind == "exchanged":
        sealed = io.BytesIO()
        pyrage.encrypt_io(io.BytesIO(gzip.compress(b"{}\n")), sealed, [OFFICER.to_public()])
        second.encrypted.write_bytes(sealed.getvalue())
    else:
        # What it says of the first one is in a later one: without it nobody can tell.
        about = next(one.about for one in encrypted_of(log) if one.about.stat().st_size)
        told = about.read_bytes().replace(b'"first":0', b'"first":1')
        about.write_bytes(b"" if kind == "about gone" else told)
    report = _verified(log)
    assert not report.ok
    assert first.encrypted.exists()


def test_a_segment_in_clear_between_encrypted_ones_cannot_go_unseen(log: Path) -> None:
    rolling = Rolling(segment_bytes_max=20_000)
    with open_log(log, rolling=rolling) as more:
        for number in range(400, 600):
            more.append(entry(number))
        for _ in range(40):
            more._round(sign=True)
    _written(log, range(600, 900))
    assert _verified(log).ok
    clear = [one for one in segments_of(log) if one.path.suffix == ".gz"]
    assert clear
    clear[0].path.unlink()
    assert not _verified(log).ok


def test_an_officer_decrypts_a_copy_that_verifies_whole(log: Path, tmp_path: Path) -> None:
    key = tmp_path / "officer.key"
    key.write_text(f"# of the officer\n{OFFICER}\n")
    (log / "policies").mkdir()
    (log / "policies" / "kept").write_text("package a")
    asked = ["decrypt", "--dir", str(log), "--identity", str(key), "--reason", "audit"]
    done = CliRunner().invoke(audit, [*asked, "--to", str(tmp_path / "copy")])
    assert (done.exit_code, "segments decrypted" in done.output) == (0, True), done.output
    assert (tmp_path / "copy" / "policies" / "kept").exists()
    report = _verified(tmp_path / "copy")
    assert (report.damages, report.entries) == ((), verify(log).entries)
    assert not any("encrypted" in note for note in report.notes)
    again = CliRunner().invoke(audit, [*asked, "--to", str(tmp_path / "copy")])
    assert (again.exit_code, "is there already" in again.output) == (2, True)


def test_another_identity_decrypts_nothing_and_leaves_nothing(log: Path, tmp_path: Path) -> None:
    made = CliRunner().invoke(audit, ["new-identity", str(tmp_path / "other.key")])
    assert made.output.startswith("age1")
    assert (tmp_path / "other.key").stat().st_mode & 0o077 == 0
    done = CliRunner().invoke(
        audit,
        ["decrypt", "--dir", str(log), "--identity", str(tmp_path / "other.key"),
         "--reason", "audit", "--to", str(tmp_path / "copy")],
    )  # fmt: skip
    assert done.exit_code == 2
    assert "encrypted for another identity" in done.output
    assert not (tmp_path / "copy").exists()


def test_a_recipient_that_is_none_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="recipient 0 of encrypt_to is no public key"):
        _written(tmp_path / "log", range(1), recipient="AGE-SECRET-KEY-1")


def test_a_query_answers_from_what_is_in_clear_and_says_what_is_not(log: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "guard", "audit", "query", "--dir", str(log), "--limit", "1"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert "segments are encrypted and were not searched" in done.stderr


def test_a_pack_of_a_log_that_is_encrypted_is_refused_with_what_to_do(
    log: Path, tmp_path: Path
) -> None:
    done = CliRunner().invoke(
        audit,
        ["export", "--dir", str(log), "--for", "soc2", "--from", "2020-01-01", "--reason", "r",
         "--out", str(tmp_path / "p.zip")],
    )  # fmt: skip
    assert (done.exit_code, "makes a copy to export from" in done.output) == (2, True)
    assert not (tmp_path / "p.zip").exists()


def test_a_decrypted_copy_follows_no_links_of_the_log(log: Path, tmp_path: Path) -> None:
    key = tmp_path / "officer.key"
    key.write_text(f"{OFFICER}\n")
    (log / "tile" / "a").symlink_to(".")
    asked = ["decrypt", "--dir", str(log), "--identity", str(key), "--reason", "audit", "--to"]
    done = CliRunner().invoke(audit, [*asked, str(tmp_path / "copy")])
    assert done.exit_code == 0, done.output
    assert not (tmp_path / "copy" / "tile" / "a").exists()
    (tmp_path / "secret").write_text("secret")
    (log / "cosigned").symlink_to(tmp_path / "secret")
    refused = CliRunner().invoke(audit, [*asked, str(tmp_path / "other")])
    assert (refused.exit_code, "no regular file" in refused.output) == (2, True)
    assert not (tmp_path / "other").exists()
