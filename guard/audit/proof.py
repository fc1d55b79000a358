"""Checking one entry by its proof (https://c2sp.org/tlog-proof): no log is needed, only the key."""

from __future__ import annotations

import base64
import binascii
import re
from typing import Final

from ..errors import LogCorrupt
from ..keys.signing import Verifier
from .checkpoint import Checkpoint, parse
from .merkle import HASH_BYTES, is_included, leaf_hash

__all__ = ["check_proof"]

_HEAD: Final = re.compile(r"c2sp\.org/tlog-proof@v1\nindex (0|[1-9][0-9]{0,17})\n")
# A tree of 2^64 entries has no longer one.
_HASHES_MAX: Final = 64


def check_proof(proof: str, line: bytes, key: Verifier) -> tuple[int, Checkpoint]:
    """Index of the entry and the checkpoint that covers it; raises LogCorrupt.

    `line` is the entry as it stands in the log, without its newline.
    """
    head = _HEAD.match(proof)
    body, blank, note = proof[head.end() :].partition("\n\n") if head else ("", "", "")
    if head is None or not (blank or body.startswith("\n")):
        raise LogCorrupt("it is not a proof: expected `c2sp.org/tlog-proof@v1` and an index")
    if body.startswith("\n"):  # a tree of one entry: no hashes
        body, note = "", proof[head.end() + 1 :]
    checkpoint = parse(note.encode(), key)
    index = int(head[1])
    hashes = [_decoded(text) for text in body.split("\n")] if body else []
    if len(hashes) > _HASHES_MAX or not is_included(
        leaf_hash(line), index, checkpoint.size, proof=hashes, root=checkpoint.root
    ):
        raise LogCorrupt(
            f"the entry is not entry {index} of what the checkpoint signs: it was changed, or "
            "it is the proof of another one"
        )
    return index, checkpoint


def _decoded(text: str) -> bytes:
    try:
        raw = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise LogCorrupt("a hash of the proof is not base64") from error
    if len(raw) != HASH_BYTES:
        raise LogCorrupt(f"a hash of the proof has {len(raw)} bytes, expected {HASH_BYTES}")
    return raw
