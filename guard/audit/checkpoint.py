"""Signed checkpoints: how large the log was and which root it had, said under a key.

The text is a C2SP tlog-checkpoint in a signed note, without extension lines:

    guard/audit/log-00
    1042
    <base64 of the root>

    — guard/audit <base64 of key id || Ed25519 signature over the text above the blank line>

https://c2sp.org/tlog-checkpoint, https://c2sp.org/signed-note
"""

from __future__ import annotations

import base64
import binascii
import re
from typing import Final

import msgspec

from ..errors import LogCorrupt
from ..keys.signing import KEY_ID_BYTES, Signer, Verifier
from .merkle import HASH_BYTES

__all__ = ["Checkpoint", "NOTE_BYTES_MAX", "key_ids", "parse", "sign", "split_notes"]

# Three lines and signatures: ours and those of witnesses.
NOTE_BYTES_MAX: Final = 16_384
SIGNATURES_MAX: Final = 16
_DASH: Final = "— "
_SIZE: Final = re.compile(r"0|[1-9][0-9]{0,17}")


class Checkpoint(msgspec.Struct, frozen=True):
    """What a checkpoint says. That it was signed is for `parse` to find out."""

    origin: str
    size: int
    root: bytes

    def text(self) -> str:
        """The signed part."""
        return f"{self.origin}\n{self.size}\n{base64.b64encode(self.root).decode()}\n"


def sign(checkpoint: Checkpoint, signer: Signer) -> bytes:
    """The signed note."""
    text = checkpoint.text()
    signature = base64.b64encode(signer.verifier.key_id + signer.sign(text.encode())).decode()
    return f"{text}\n{_DASH}{signer.name} {signature}\n".encode()


def parse(note: bytes, verifier: Verifier) -> Checkpoint:
    """The checkpoint that `verifier` signed; raises LogCorrupt saying what is wrong with the note.

    (1) the note is bounded UTF-8, ends in a newline and holds a blank line before its signatures;
    (2) its text is exactly origin, size and root, each in the only way to write it;
    (3) every signature line is well formed, and those of other keys are passed over;
    (4) exactly one line is by this key, and its signature holds.
    """
    try:
        whole = note.decode()
    except UnicodeDecodeError as error:
        raise LogCorrupt("it is not UTF-8") from error
    body, blank, signatures = whole.rpartition("\n\n")
    if len(note) > NOTE_BYTES_MAX or not blank or not whole.endswith("\n"):  # (1)
        raise LogCorrupt("it is not a signed note: expected text, a blank line and signatures")
    checkpoint = _parse_text(body)  # (2)
    lines = signatures[:-1].split("\n")
    if len(lines) > SIGNATURES_MAX:
        raise LogCorrupt(f"it has more than {SIGNATURES_MAX} signatures")
    ours = [raw for name, raw in map(_parse_signature, lines)  # (3)
            if name == verifier.name and raw[:KEY_ID_BYTES] == verifier.key_id]  # fmt: skip
    if not ours:
        raise LogCorrupt(
            f"it has no signature of the key {verifier.name}+{verifier.key_id.hex()}: it is of the "
            f"log `{checkpoint.origin}`, or of another key"
        )
    if len(ours) > 1:
        raise LogCorrupt("it has more than one signature of the key of the log")
    message = checkpoint.text().encode()
    if not all(verifier.is_signed(message, raw[KEY_ID_BYTES:]) for raw in ours):  # (4)
        raise LogCorrupt("its signature does not hold: the text or the signature was changed")
    return checkpoint


def key_ids(note: bytes) -> list[tuple[str, bytes]]:
    """Name and key id of each signature of a note; none where it is malformed."""
    _, _, signatures = note.decode(errors="replace").rpartition("\n\n")
    try:
        lines = map(_parse_signature, signatures.removesuffix("\n").split("\n"))
        return [(name, raw[:KEY_ID_BYTES]) for name, raw in lines]
    except LogCorrupt:
        return []


def split_notes(history: bytes) -> tuple[list[bytes], bytes]:
    """The notes of a `checkpoints` file, each followed there by a blank line, and a torn rest."""
    notes = []
    start = 0
    while (blank := history.find(b"\n\n", start)) >= 0:
        end = history.find(b"\n\n", blank + 2)
        if end < 0:
            break
        notes.append(history[start : end + 1])
        start = end + 2
    return notes, history[start:]


def _parse_text(body: str) -> Checkpoint:
    lines = body.split("\n")
    if len(lines) != 3 or not lines[0] or any(c.isspace() for c in lines[0]):
        raise LogCorrupt("its text is not three lines: origin, size and root")
    origin, size, encoded = lines
    if not _SIZE.fullmatch(size):
        raise LogCorrupt("its size is not a decimal number")
    return Checkpoint(origin, int(size), _decode(encoded, HASH_BYTES, what="root"))


def _parse_signature(line: str) -> tuple[str, bytes]:
    name, _, encoded = line.removeprefix(_DASH).partition(" ")
    if not line.startswith(_DASH) or not name or not encoded:
        raise LogCorrupt("it has a malformed signature line")
    raw = _decode(encoded, None, what="signature")
    if len(raw) <= KEY_ID_BYTES:
        raise LogCorrupt("it has a malformed signature line")
    return name, raw


def _decode(encoded: str, size_bytes: int | None, *, what: str) -> bytes:
    try:
        raw = base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError) as error:
        raise LogCorrupt(f"its {what} is not base64") from error
    # Base64 has spare bits: a changed letter must not mean the same bytes.
    if base64.b64encode(raw).decode() != encoded or (size_bytes and len(raw) != size_bytes):
        raise LogCorrupt(f"its {what} is not canonical base64 of the right length")
    return raw
