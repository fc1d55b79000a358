"""Checkpoints: the text of C2SP, parsed in exactly one way."""

from __future__ import annotations

import pytest
from support.entries import SIGNER

from guard.audit.checkpoint import Checkpoint, parse, sign, split_notes
from guard.errors import LogCorrupt
from guard.keys import Signer

CHECKPOINT = Checkpoint("guard/audit/log-00", 1042, bytes(range(32)))
NOTE = sign(CHECKPOINT, SIGNER)


def test_a_checkpoint_is_three_lines_a_blank_and_a_signature() -> None:
    lines = NOTE.decode().split("\n")
    assert lines[:4] == [
        "guard/audit/log-00",
        "1042",
        "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=",
        "",
    ]
    assert lines[4].startswith("— guard/audit ")
    assert lines[5:] == [""]


def test_what_was_signed_is_parsed_again() -> None:
    assert parse(NOTE, SIGNER.verifier) == CHECKPOINT


@pytest.mark.parametrize("position", range(len(NOTE)))
def test_every_changed_byte_is_refused(position: int) -> None:
    for bit in range(8):
        changed = bytearray(NOTE)
        changed[position] ^= 1 << bit
        with pytest.raises(LogCorrupt):
            parse(bytes(changed), SIGNER.verifier)


def test_signatures_of_witnesses_are_passed_over() -> None:
    witness = sign(CHECKPOINT, Signer("witness", bytes(32))).split(b"\n\n")[1]
    assert parse(NOTE + witness, SIGNER.verifier) == CHECKPOINT


def test_a_signature_of_another_key_alone_is_refused() -> None:
    other = Signer(SIGNER.name, bytes(32))
    with pytest.raises(LogCorrupt, match="no signature of the key guard/audit"):
        parse(sign(CHECKPOINT, other), SIGNER.verifier)


BAD_TEXTS = {
    "extension_line": "a\n1\nAAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=\nmore\n",
    "leading_zero": "a\n01\nAAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=\n",
    "negative": "a\n-1\nAAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=\n",
    "size_in_other_digits": "a\n\u0661\nAAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=\n",
    "short_root": "a\n1\nAAEC\n",
    "spare_bits_in_root": "a\n1\nAAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh9=\n",
    "no_origin": "\n1\nAAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=\n",
    "space_in_origin": "a b\n1\nAAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=\n",
}


@pytest.mark.parametrize("name", BAD_TEXTS)
def test_a_malformed_text_is_refused_though_it_is_signed(name: str) -> None:
    _, _, signature = NOTE.partition(b"\n\n")
    with pytest.raises(LogCorrupt, match=r"its (text|size|root) is"):
        parse(BAD_TEXTS[name].encode() + b"\n" + signature, SIGNER.verifier)


def test_a_note_without_signature_or_without_end_is_refused() -> None:
    for bad in (b"", CHECKPOINT.text().encode(), NOTE[:-1], NOTE + b"\n", NOTE * 2, b"\xff" + NOTE):
        with pytest.raises(LogCorrupt):
            parse(bad, SIGNER.verifier)


def test_a_history_is_split_into_its_notes_and_a_torn_rest() -> None:
    assert split_notes((NOTE + b"\n") * 3) == ([NOTE] * 3, b"")
    assert split_notes(NOTE + b"\n" + NOTE[:50]) == ([NOTE], NOTE[:50])
    assert split_notes(b"") == ([], b"")
