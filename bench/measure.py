"""Timing one call after another, on a CPU clock or on the wall clock."""

from __future__ import annotations

import gc
import platform
import time
from collections.abc import Callable
from typing import Any, Literal

import msgspec

__all__ = ["Row", "machine", "measure", "row_of"]

# cpu: of the process, all threads; thread: of the one that calls
Clock = Literal["cpu", "thread", "wall"]
_CLOCKS: dict[Clock, Callable[[], int]] = {
    "cpu": time.process_time_ns,
    "thread": time.thread_time_ns,
    "wall": time.perf_counter_ns,
}
NS_PER_US = 1_000


class Row(msgspec.Struct, kw_only=True):
    """One line of the result; times in microseconds, `ratio` is the other's p50 over ours."""

    name: str
    n: int
    clock: Clock
    p50_us: float
    p99_us: float
    per_s: float
    budget_us: float | None = None
    against: str | None = None
    ratio: float | None = None
    figure: str | None = None  # what is no time


def measure(
    name: str, call: Callable[[], Any], *, n: int, clock: Clock = "cpu", warm: int = 50
) -> Row:
    """Time `call` `n` times, one sample each, after `warm` calls that do not count."""
    for _ in range(warm):
        call()
    now = _CLOCKS[clock]
    samples: list[int] = []
    gc.collect()
    for _ in range(n):
        started = now()
        call()
        samples.append(now() - started)
    return row_of(name, samples, clock=clock)


def row_of(name: str, samples_ns: list[int], *, clock: Clock, elapsed_ns: int = 0) -> Row:
    """The row of samples in nanoseconds; with `elapsed_ns`, the rate over that time."""
    ordered = sorted(samples_ns)
    total_ns = elapsed_ns or sum(ordered)
    return Row(
        name=name,
        n=len(ordered),
        clock=clock,
        p50_us=round(ordered[len(ordered) // 2] / NS_PER_US, 2),
        p99_us=round(ordered[min(len(ordered) - 1, len(ordered) * 99 // 100)] / NS_PER_US, 2),
        per_s=round(len(ordered) * 1_000_000_000 / total_ns, 1) if total_ns else 0.0,
    )


def machine() -> str:
    """What the figures were measured on."""
    model = platform.processor() or platform.machine()
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            names = [line.partition(":")[2].strip() for line in file if "model name" in line]
        model = f"{names[0]}, {len(names)} cores" if names else model
    except OSError:
        model = f"{model}, cores unknown"
    return f"{model}, {platform.system()}, Python {platform.python_version()}"
