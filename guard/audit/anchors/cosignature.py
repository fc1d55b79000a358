"""Cosignatures: a witness says that it saw this checkpoint, when, and that nothing was taken back.

The signature line of a witness stands below that of the log, in the same note. What it signs is

    cosignature/v1
    time 1679315147
    <the text of the checkpoint, three lines>

and its signature is the time (8 bytes, big-endian, seconds) and the Ed25519 signature. A key of a
witness has the algorithm byte 0x04, in its text, in its file and in its id, so that it is never
taken for the key of a log. https://c2sp.org/tlog-cosignature
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable
from typing import Final

import msgspec

from ...errors import LogCorrupt
from ...keys.signing import KEY_ID_BYTES, Signer, Verifier
from ..checkpoint import NOTE_BYTES_MAX

__all__ = [
    "Cosignature",
    "SignatureLine",
    "WitnessKey",
    "WitnessSigner",
    "cosignatures_of",
    "open_note",
    "with_signatures",
]

TIMESTAMP_BYTES: Final = 8
COSIGNATURE_BYTES: Final = TIMESTAMP_BYTES + 64
TIMESTAMP_S_MAX: Final = 2**63 - 1
SIGNATURES_MAX: Final = 16  # what a verifier must accept at least, and ours at most
_DASH: Final = "— "


class WitnessKey(Verifier):
    """The public key of a witness. Its signatures carry their time: 72 bytes."""

    __slots__ = ()
    algorithm = b"\x04"

    def is_signed(self, message: bytes, signature: bytes) -> bool:
        """Whether this witness cosigned the checkpoint with this text."""
        if len(signature) != COSIGNATURE_BYTES:
            return False
        timestamp_s = int.from_bytes(signature[:TIMESTAMP_BYTES], "big")
        return timestamp_s <= TIMESTAMP_S_MAX and super().is_signed(
            _statement(message, timestamp_s), signature[TIMESTAMP_BYTES:]
        )


class WitnessSigner(Signer):
    """The private key of a witness; its file is like that of a log, and not exchangeable."""

    __slots__ = ()
    verifier_type = WitnessKey

    def cosign(self, text: bytes, timestamp_s: int) -> str:
        """The signature line, with its newline, for the checkpoint with this text."""
        stamp = timestamp_s.to_bytes(TIMESTAMP_BYTES, "big")
        signature = stamp + self.sign(_statement(text, timestamp_s))
        encoded = base64.b64encode(self.verifier.key_id + signature).decode()
        return f"{_DASH}{self.name} {encoded}\n"


class SignatureLine(msgspec.Struct, frozen=True):
    """One line below a note: who signed, and the line itself with its newline."""

    name: str
    key_id: bytes
    signature: bytes
    line: str

    def is_by(self, key: Verifier) -> bool:
        """Whether it names this key. That the signature holds is another question."""
        return (self.name, self.key_id) == (key.name, key.key_id)


class Cosignature(msgspec.Struct, frozen=True):
    """Who cosigned, by its configured name, and when."""

    witness: str
    timestamp_s: int
    line: str


def open_note(note: bytes) -> tuple[bytes, list[SignatureLine]]:
    """The signed text and the signatures, none of them checked; raises LogCorrupt."""
    try:
        whole = note.decode()
    except UnicodeDecodeError as error:
        raise LogCorrupt("it is not UTF-8") from error
    text, blank, signatures = whole.rpartition("\n\n")
    if len(note) > NOTE_BYTES_MAX or not blank or not whole.endswith("\n"):
        raise LogCorrupt("it is not a signed note: expected text, a blank line and signatures")
    lines = signatures[:-1].split("\n")
    if len(lines) > SIGNATURES_MAX:
        raise LogCorrupt(f"it has more than {SIGNATURES_MAX} signatures")
    return f"{text}\n".encode(), [_signature_line(line) for line in lines]


def cosignatures_of(note: bytes, trusted: Iterable[WitnessKey]) -> list[Cosignature]:
    """The cosignatures of witnesses that are trusted, in their order, each of them verified.

    Those of other keys are passed over. Raises LogCorrupt when one that names a trusted key does
    not hold, or the note is malformed. The signature of the log is for `checkpoint.parse`.
    """
    keys = {(key.name, key.key_id): key for key in trusted}
    text, lines = open_note(note)
    found = []
    for line in lines:
        key = keys.get((line.name, line.key_id))
        if key is None:
            continue
        if not key.is_signed(text, line.signature):
            raise LogCorrupt(f"its cosignature of `{key.name}` does not hold")
        timestamp_s = int.from_bytes(line.signature[:TIMESTAMP_BYTES], "big")
        found.append(Cosignature(key.name, timestamp_s, line.line))
    return found


def with_signatures(note: bytes, lines: Iterable[str]) -> bytes:
    """`note` with these signature lines below its own; raises LogCorrupt when they are too many."""
    signed = note + "".join(lines).encode()
    open_note(signed)
    return signed


def _statement(text: bytes, timestamp_s: int) -> bytes:
    return b"cosignature/v1\ntime %d\n" % timestamp_s + text


def _signature_line(line: str) -> SignatureLine:
    name, _, encoded = line.removeprefix(_DASH).partition(" ")
    try:
        raw = base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError) as error:
        raise LogCorrupt("its signature is not base64") from error
    is_canonical = base64.b64encode(raw).decode() == encoded
    if not line.startswith(_DASH) or not name or not is_canonical or len(raw) <= KEY_ID_BYTES:
        raise LogCorrupt("it has a malformed signature line")
    return SignatureLine(name, raw[:KEY_ID_BYTES], raw[KEY_ID_BYTES:], f"{line}\n")
