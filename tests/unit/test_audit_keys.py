"""Key files: private, created once, and refused with words when something is off."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from guard.errors import ConfigError
from guard.keys import Mac, Signer, Verifier


def test_a_key_is_created_once_and_then_loaded(tmp_path: Path) -> None:
    first = Signer.load_or_create(tmp_path / "keys" / "log.key", name="acme/audit")
    second = Signer.load_or_create(tmp_path / "keys" / "log.key", name="another")
    assert second.vkey == first.vkey
    assert second.name == "acme/audit"
    assert stat.S_IMODE((tmp_path / "keys" / "log.key").stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "keys").stat().st_mode) == 0o700
    assert os.listdir(tmp_path / "keys") == ["log.key"]


def test_a_signature_is_verified_with_the_text_of_the_public_key() -> None:
    signer = Signer("guard/audit", bytes(32))
    verifier = Verifier.from_text(signer.vkey)
    assert verifier.is_signed(b"message", signer.sign(b"message"))
    assert not verifier.is_signed(b"another", signer.sign(b"message"))
    assert verifier == signer.verifier


def test_the_public_key_is_written_as_go_writes_it() -> None:
    # golang.org/x/mod/sumdb/note, the verifier of its example.
    text = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
    assert str(Verifier.from_text(text)) == text


@pytest.mark.parametrize("seed", range(64))
def test_every_key_survives_its_file_whatever_its_base64(seed: int, tmp_path: Path) -> None:
    signer = Signer("k", bytes([seed] * 32))
    assert Verifier.from_text(signer.vkey) == signer.verifier


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620])
@pytest.mark.parametrize("kind", [Signer, Mac])
def test_a_key_that_others_can_reach_is_refused(
    kind: type[Signer] | type[Mac], mode: int, tmp_path: Path
) -> None:
    path = tmp_path / "key"
    kind.load_or_create(path)
    path.chmod(mode)
    with pytest.raises(ConfigError, match=r"so others can reach it: expected 0600; run `chmod"):
        kind.load_or_create(path)


@pytest.mark.parametrize(
    "content", [b"", b"hello\n", b"\xff\xfe", b"PRIVATE+KEY+a+00000000+AAAA\n"]
)
@pytest.mark.parametrize("kind", [Signer, Mac])
def test_a_file_that_is_no_key_is_refused_and_kept(
    kind: type[Signer] | type[Mac], content: bytes, tmp_path: Path
) -> None:
    path = tmp_path / "key"
    path.write_bytes(content)
    path.chmod(0o600)
    with pytest.raises(ConfigError, match="is not a"):
        kind.load_or_create(path)
    assert path.read_bytes() == content


def test_the_message_about_a_bad_key_does_not_quote_it(tmp_path: Path) -> None:
    path = tmp_path / "key"
    Signer.load_or_create(path)
    secret = path.read_text().rsplit("+", 1)[1].strip()
    path.write_text(path.read_text().replace("+KEY+", "+KEX+"))
    with pytest.raises(ConfigError) as caught:
        Signer.load_or_create(path)
    assert secret not in str(caught.value)


def test_a_directory_in_place_of_a_key_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="not a regular file"):
        Signer.load_or_create(tmp_path)


def test_processes_that_create_a_key_together_share_it(tmp_path: Path) -> None:
    code = (
        "import sys; from guard.keys import Signer; print(Signer.load_or_create(sys.argv[1]).vkey)"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "log.key")]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(4)]
    assert len({process.communicate(timeout=30)[0] for process in running}) == 1


def test_commitments_depend_on_key_and_data() -> None:
    one, two = Mac(bytes(32)), Mac(bytes([1] * 32))
    assert one.commit(b"a") == one.commit(b"a")
    assert len({one.commit(b"a"), one.commit(b"b"), two.commit(b"a")}) == 3


@pytest.mark.parametrize("name", ["", "a b", "a+b", "a\nb", "x" * 201])
def test_a_name_that_a_note_cannot_carry_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match="a key name is"):
        Signer(name, bytes(32))
