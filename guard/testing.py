"""For tests of governed programs: a clock that stands still, a log in memory, an interceptor.

interceptor, log = guard.testing.interceptor()
with guard.session("did:web:test", grants=["search"]): ...
assert log.effects() == ["allow", "allow"]
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

from .audit.entry import Entry
from .audit.log import Durability
from .errors import AuditFault
from .fleet import Fleet
from .interceptor import Interceptor
from .policy import EmbeddedEngine, builtin_directory, load_bundle
from .request import ToolDeclaration
from .session import forget_runs

__all__ = ["FakeClock", "MemoryLog", "interceptor"]

# Wednesday, 2025-01-15 12:00 UTC: within the working hours of the default policies.
NOON_NS: Final = 1_736_942_400_000_000_000
_KEY: Final = b"a key of tests only, 32 bytes!!!"


class FakeClock:
    """A clock that moves only when it is told to."""

    def __init__(self, now_ns: int = NOON_NS) -> None:
        self._now_ns = now_ns

    def now_ns(self) -> int:
        """Wall clock, nanoseconds since 1970."""
        return self._now_ns

    def monotonic_ns(self) -> int:
        """The same number: nothing steps here."""
        return self._now_ns

    def advance_s(self, seconds: float) -> None:
        """Let time pass."""
        self._now_ns += int(seconds * 1_000_000_000)


class MemoryLog:
    """A log that keeps its entries in a list. With `is_broken` every append raises AuditFault."""

    def __init__(self) -> None:
        self.entries: list[Entry] = []
        self.is_broken = False
        self._lock = threading.Lock()

    def append(self, entry: Entry) -> int:
        """Index of the entry."""
        with self._lock:
            if self.is_broken:
                raise AuditFault("the log is set to fail")
            self.entries.append(entry)
            return len(self.entries) - 1

    def wait(self, number: int, durability: Durability) -> None:
        """Memory is as durable as it gets. With `is_broken` raises AuditFault."""
        if self.is_broken:
            raise AuditFault("the log is set to fail")

    async def wait_async(self, number: int, durability: Durability) -> None:
        """The same."""
        self.wait(number, durability)

    def checkpoint(self) -> str:
        """Memory signs nothing."""
        return ""

    def close(self) -> None:
        """Nothing is open."""

    def effects(self) -> list[str]:
        """Effects in the order they were recorded."""
        return [entry.effect for entry in self.entries]


def interceptor(
    *,
    policies: Iterable[Path] = (),
    settings: Mapping[str, Any] | None = None,
    fleet: Fleet | None = None,
    clock: FakeClock | None = None,
    tools: Iterable[ToolDeclaration] = (),
    **options: Any,
) -> tuple[Interceptor, MemoryLog]:
    """An interceptor with the default policies (and `policies`), a memory log and a fake clock.

    Runs of earlier tests are forgotten: an id that two tests use names two runs.
    """
    forget_runs()
    fleet = fleet if fleet is not None else Fleet.empty()
    bundle = load_bundle(
        [builtin_directory(), *policies],
        data={"settings": dict(settings or {}), "fleet": fleet.as_data()},
    )
    log = MemoryLog()
    made = Interceptor(
        engine=EmbeddedEngine(bundle),
        sink=log,
        key=_KEY,
        fleet=fleet,
        clock=clock if clock is not None else FakeClock(),
        tools={tool.name: tool for tool in tools},
        **options,
    )
    return made, log
