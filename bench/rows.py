"""The rows: each a function that measures and returns some of them."""

from __future__ import annotations

import asyncio
import functools
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

from guard import Interceptor, Permit
from guard.durability import Durabilities
from guard.plain import freeze

from . import audit, audit_query, peer, work
from .measure import Row, measure, row_of

__all__ = ["ROWS"]

OTHERS = (1, 10, 100, 1_000)


def imports(n: int) -> Iterator[Row]:
    """CPU time of `import guard` in a fresh interpreter."""
    code = (
        "import time; a = time.process_time_ns(); import guard; print(time.process_time_ns() - a)"
    )
    samples = [
        int(subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout)
        for _ in range(max(3, min(n, 15)))
    ]
    yield row_of("import", samples, clock="cpu")


def stages(n: int) -> Iterator[Row]:
    """Every stage alone, on the same request."""
    with work.place() as name, work.agent():
        made = work.interceptor(name, 0)
        request = work.request(made)
        evidence = made.explain(request).evidence
        yield measure("stage/freeze", lambda: freeze(work.ARGUMENTS), n=n)
        for stage_name, stage in made.stages:
            run = functools.partial(stage, request, evidence)
            yield measure(f"stage/{stage_name}", run, n=n)


def decisions(n: int) -> Iterator[Row]:
    """The decision alone, without call and record."""
    with work.place() as name, work.agent():
        made = work.interceptor(name, 0)
        full = made.stages
        made.stages = ()
        yield measure("decide/empty", lambda: made.decide(work.request(made)), n=n)
        made.stages = full
        request = work.request(made)
        yield measure("decide/rules-25", lambda: made.decide(request), n=n)
        from guard.policy import EmbeddedEngine, builtin_directory, load_bundle

        data: dict[str, Any] = {"fleet": {"models": {}}}
        made.engine = EmbeddedEngine(load_bundle([builtin_directory()], data=data))
        yield measure("decide/default-policies", lambda: made.decide(request), n=n)


def calls(n: int) -> Iterator[Row]:
    """Whole calls: decided before and after, intent and outcome on disk; beside the peer."""
    for others in OTHERS:
        with work.place() as name, work.agent():
            made = work.interceptor(name, others)
            row = measure(f"call/rules-{others}", _call(made), n=n)
            rival = peer.govern(others)
            if rival is not None:
                other = measure(row.name, rival, n=max(20, min(n, 20_000 // (others + 25))))
                row.against, row.ratio = peer.NAME, round(other.p50_us / row.p50_us, 1)
            yield row
            if others in (1, 1_000):
                yield measure(f"call/rules-{others}", _call(made), n=n, clock="wall")


def apart(n: int) -> Iterator[Row]:
    """The same call where another process sequences and signs the log."""
    with work.place() as name, work.agent():
        process = audit.sequencer(name / "audit")
        made = work.interceptor(name, 1, is_sequencer=False)
        yield measure("call/rules-1-apart", _call(made), n=n)
        process.communicate()


def durable(n: int) -> Iterator[Row]:
    """A whole call whose intent is on the disk before the tool runs."""
    with work.place() as name, work.agent():
        made = work.interceptor(name, 0, Durabilities())
        yield measure("call/durable", _call(made), n=n, clock="wall")


def paths(n: int) -> Iterator[Row]:
    """The same call early and late on a path."""
    for steps in (10, 10_000):
        with work.place() as name, work.agent() as session:
            made = work.interceptor(name, 0)
            for _ in range(steps):
                session.path.claim("tool:earlier")
                session.path.settle("tool:earlier", happened=True)
            yield measure(f"call/path-{steps}", _call(made), n=n)


def threads(n: int) -> Iterator[Row]:
    """Wall time of a call, and calls a second, with 1 and 8 threads on one interceptor."""
    for count in (1, 8):
        with work.place() as name, work.agent() as session:
            made = work.interceptor(name, 0)
            samples: list[int] = []

            def work_on(
                made: Interceptor = made, samples: list[int] = samples, count: int = count
            ) -> None:
                call = _call(made)
                with session:
                    for _ in range(max(10, n // count)):
                        started = time.perf_counter_ns()
                        call()
                        samples.append(time.perf_counter_ns() - started)

            started = time.perf_counter_ns()
            workers = [threading.Thread(target=work_on) for _ in range(count)]
            for worker in workers:
                worker.start()
            for worker in workers:
                worker.join()
            elapsed_ns = time.perf_counter_ns() - started
            yield row_of(f"call/threads-{count}", samples, clock="wall", elapsed_ns=elapsed_ns)


def tasks(n: int) -> Iterator[Row]:
    """CPU time of a call, and calls a second, with 64 tasks on one event loop."""
    with work.place() as name, work.agent():
        made = work.interceptor(name, 0)
        samples: list[int] = []

        async def run(permit: Permit) -> str:
            return work.run(permit)

        async def agent() -> None:
            for _ in range(max(2, n // 64)):
                # The tool gives no turn away, so between these two readings only this call ran.
                started = time.process_time_ns()
                await made.acall(work.request(made), run)
                samples.append(time.process_time_ns() - started)
                await asyncio.sleep(0)

        async def all_agents() -> int:
            started = time.perf_counter_ns()
            await asyncio.gather(*(agent() for _ in range(64)))
            return time.perf_counter_ns() - started

        elapsed_ns = asyncio.run(all_agents())
        yield row_of("call/asyncio-64", samples, clock="cpu", elapsed_ns=elapsed_ns)


def _call(made: Interceptor) -> Callable[[], object]:
    return lambda: made.call(work.request(made), work.run)


ROWS: dict[Callable[[int], Iterator[Row]], tuple[str, ...]] = {
    imports: ("import",),
    stages: ("stage/*",),
    decisions: ("decide/empty", "decide/rules-25", "decide/default-policies"),
    calls: tuple(f"call/rules-{others}" for others in OTHERS),
    apart: ("call/rules-1-apart",),
    durable: ("call/durable",),
    paths: ("call/path-10", "call/path-10000"),
    threads: ("call/threads-1", "call/threads-8"),
    tasks: ("call/asyncio-64",),
    **audit.ROWS,
    **audit_query.ROWS,
}
