"""Checkpoints that go out, and what comes back of them: the notes that witnesses signed too."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..clock import Clock
from .files import COSIGNED, write_whole

if TYPE_CHECKING:
    from .anchors import Anchor, Publisher

__all__ = ["publisher_of"]


def publisher_of(log: Path, anchors: Sequence[Anchor], clock: Clock) -> Publisher | None:
    """What publishes the checkpoints of a log to its anchors; None without anchors."""
    if not anchors:
        return None
    from .anchors import Publisher  # HTTP clients: tens of ms that others do not spend

    return Publisher(anchors, on_cosigned=lambda note: _keep(log, note), clock=clock)


def _keep(log: Path, note: bytes) -> None:
    """Append a note to `cosigned`; raises OSError, and then the witness is asked again."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
    descriptor = os.open(log / COSIGNED, flags, 0o600)
    try:
        write_whole(descriptor, note + b"\n")
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
