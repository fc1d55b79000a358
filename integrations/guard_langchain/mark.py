"""The mark by which the backstop knows runs of governed objects: they are decided already."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from typing import Any, Final

__all__ = ["MARK", "is_governed"]

_KEY: Final = "guard_governed"
# Unguessable, because a run's metadata may also come from a caller's configuration.
MARK: Final = {_KEY: secrets.token_hex(16)}


def is_governed(metadata: Mapping[str, Any] | None) -> bool:
    """Whether this run belongs to an object that governs itself."""
    return metadata is not None and metadata.get(_KEY) == MARK[_KEY]
