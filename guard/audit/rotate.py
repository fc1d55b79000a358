"""Changing the key of a log: the old one vouches for the new one, in the log itself.

(1) the new key is made beside the old one, as `<key>.next`;
(2) the log names it, and a checkpoint of the old key covers that; then the new one signs;
(3) the old key is kept as `<key>.retired-<id>`, and the new one takes its place.
A crash between the steps is mended by running it again.
"""

from __future__ import annotations

import os
from pathlib import Path

from ..clock import Clock
from ..errors import AuditFault
from ..keys.signing import Signer
from .files import sync_directory
from .keyring import keys_of
from .sequence import Rolling
from .sequencer import Sequencer

__all__ = ["rotate_key"]


def rotate_key(log: Path, key: Path, *, clock: Clock) -> Signer:
    """The new key of the log in `log`, whose old one is in the file `key`.

    Raises AuditFault while another process sequences: entries wait in the spools meanwhile.
    """
    old = Signer.load_or_create(key)
    following = key.with_name(f"{key.name}.next")
    new = Signer.load_or_create(following, name=old.name)  # (1)
    if keys_of(log)[-1] != new.verifier:
        sequencer = Sequencer(
            log, load_signer=lambda: old, origin=None, clock=clock, rolling=Rolling()
        )
        try:
            sequence = sequencer.hold()
            if sequence is None:
                raise AuditFault(
                    f"another process sequences {log}: stop it, change the key and start it; "
                    "entries wait in the spools meanwhile"
                )
            sequence.change_key(new)  # (2)
        finally:
            sequencer.close()
    retired = key.with_name(f"{key.name}.retired-{old.verifier.key_id.hex()}")
    os.replace(key, retired)  # (3)
    os.replace(following, key)
    sync_directory(key.parent)
    return new
