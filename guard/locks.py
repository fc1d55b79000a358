"""Locks that a forked child does not inherit held: the thread that held them is not there.

They are re-entrant, because a signal handler may make a governed call in the middle of one.
"""

from __future__ import annotations

import os
import threading
import weakref
from typing import Final, Protocol

__all__ = ["Locked", "renew_after_fork"]


class Locked(Protocol):
    """Something with one lock, named `lock`."""

    lock: threading.RLock


def renew_after_fork(owner: Locked) -> None:
    """Give `owner` a fresh lock now, and again in every forked child."""
    owner.lock = threading.RLock()
    _OWNERS.add(owner)


_OWNERS: Final[weakref.WeakSet[Locked]] = weakref.WeakSet()


def _renew_all() -> None:
    for owner in list(_OWNERS):
        owner.lock = threading.RLock()


os.register_at_fork(after_in_child=_renew_all)
