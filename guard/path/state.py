"""One path: what a session has done, kept as counters and facts, never as a growing list."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterable
from typing import Final

from ..errors import PolicyFault
from ..evidence import PathView
from ..locks import renew_after_fork

__all__ = ["Path"]

FACTS_MAX: Final = 4_096  # each is part of every later policy input
FACT_CHARS_MAX: Final = 128
NAMES_MAX: Final = 1_024  # an agent with more tools than this has a naming problem
NAME_CHARS_MAX: Final = 128
RECENT_MAX: Final = 8  # as many steps as a rule about the order of calls looks back
OTHER: Final = "other"
DENIED: Final = "denied"


class Path:
    """State of one path; safe to share between threads, never larger than its bounds.

    Names over NAMES_MAX, or longer than NAME_CHARS_MAX, count together under "other". A name keeps
    its own count for the life of the path, so that a claim is settled where it was made.
    """

    lock: threading.RLock

    def __init__(self) -> None:
        renew_after_fork(self)
        self._length = 0
        self._facts: dict[str, bool] = {}
        self._counts: dict[str, int] = {}
        self._pending: dict[str, int] = {}
        self._recent: deque[str] = deque(maxlen=RECENT_MAX)
        self._view: PathView | None = PathView()

    def view(self) -> PathView:
        """The path as it is now; the same object until something changes."""
        view = self._view
        if view is None:
            with self.lock:
                view = self._view
                if view is None:
                    # INVARIANT: a view shares no container with the path; a decision that holds
                    # it sees one moment.
                    view = self._view = PathView(
                        self._length,
                        self._facts.copy(),
                        self._pending.copy(),
                        self._counts.copy(),
                        tuple(self._recent),
                    )
        return view

    def claim(self, name: str) -> int:
        """Count one more step of `name`, in flight until it is settled; gives the new length."""
        with self.lock:
            bucket = self._bucket(name)
            self._length += 1
            self._counts[bucket] = self._counts.get(bucket, 0) + 1
            self._pending[bucket] = self._pending.get(bucket, 0) + 1
            self._recent.append(name if len(name) <= NAME_CHARS_MAX else OTHER)
            self._view = None
            return self._length

    def settle(self, claim_name: str, *, happened: bool) -> None:
        """End one claim; if the step did not happen its count is taken back, its length stays.

        Raises PolicyFault when no such claim is in flight: a count taken back twice would loosen.
        """
        with self.lock:
            bucket = self._bucket(claim_name)
            pending = self._pending.get(bucket, 0)
            if pending == 0:
                raise PolicyFault("a step was settled that is not in flight on this path")
            if pending == 1:
                del self._pending[bucket]
            else:
                self._pending[bucket] = pending - 1
            if not happened:
                self._counts[bucket] -= 1
            self._view = None

    def add_facts(self, names: Iterable[str]) -> None:
        """Add facts; raises PolicyFault over the bounds, after adding every one that fits.

        A fact that cannot be kept must never be lost silently: later rules depend on it.
        """
        with self.lock:
            is_refused = False
            for name in names:
                if name in self._facts:
                    continue
                if not 0 < len(name) <= FACT_CHARS_MAX or len(self._facts) >= FACTS_MAX:
                    is_refused = True
                    continue
                self._facts[name] = True
                self._view = None
            if is_refused:
                raise PolicyFault(
                    f"a fact cannot be kept: expected at most {FACTS_MAX} facts on a path, "
                    f"of 1 to {FACT_CHARS_MAX} characters"
                )

    def deny(self) -> None:
        """Count one denial, under "denied": a step as well, so that trying has an end too."""
        with self.lock:
            self._length += 1
            self._counts[DENIED] = self._counts.get(DENIED, 0) + 1
            self._view = None

    def _bucket(self, name: str) -> str:
        if name in self._counts:
            return name
        # "other" and "denied" are always there to be used, beside the names.
        reserved = (OTHER in self._counts) + (DENIED in self._counts)
        if len(name) > NAME_CHARS_MAX or len(self._counts) - reserved >= NAMES_MAX:
            return OTHER
        return name
