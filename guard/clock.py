"""Time that tests can hold still."""

from __future__ import annotations

import time
from typing import Protocol

__all__ = ["Clock", "SystemClock", "SYSTEM_CLOCK"]


class Clock(Protocol):
    """Where guard reads time. `guard.testing.FakeClock` is the other implementation."""

    def now_ns(self) -> int:
        """Wall clock, nanoseconds since 1970 (UTC)."""
        ...

    def monotonic_ns(self) -> int:
        """Nanoseconds that never step back; only differences have a meaning."""
        ...


class SystemClock:
    """The clock of the machine."""

    def now_ns(self) -> int:
        """Wall clock, nanoseconds since 1970 (UTC)."""
        return time.time_ns()

    def monotonic_ns(self) -> int:
        """Nanoseconds that never step back."""
        return time.perf_counter_ns()


SYSTEM_CLOCK = SystemClock()
