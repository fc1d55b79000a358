"""The public keys of a log, and for which checkpoints each is good.

A key is good from size 0, or for sizes greater than the index of the `key_change` entry that names
it. See docs/audit-format.md.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from ..errors import ConfigError, LogCorrupt
from ..keys.signing import Verifier
from .files import VKEY, read_small

__all__ = ["keys_of"]

# A log that changes its key every week has this many after twenty years.
KEYS_MAX: Final = 1_024
_KEY_BYTES_MAX: Final = 512


def keys_of(log: Path) -> list[Verifier]:
    """The keys in `log.vkey`, oldest first; raises LogCorrupt."""
    try:
        text = read_small(log / VKEY, KEYS_MAX * _KEY_BYTES_MAX).decode()
        keys = [Verifier.from_text(line) for line in text.splitlines()]
    except FileNotFoundError as error:
        raise LogCorrupt(f"{VKEY} is missing") from error
    except UnicodeDecodeError as error:
        raise LogCorrupt(f"{VKEY} is not text") from error
    except ConfigError as error:
        raise LogCorrupt(f"{VKEY} holds what is no public key: {error}") from error
    if not keys or text != "".join(f"{key}\n" for key in keys):
        raise LogCorrupt(f"{VKEY} holds more than lines of one key each")
    return keys
