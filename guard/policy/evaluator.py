"""One thread that evaluates for threads which are too new to have engines of their own.

A hand-over costs two switches of thread, about 50 us; making the engines of a scope costs 3 ms.
The thread starts when it is first needed, and again in a forked child.
"""

from __future__ import annotations

import os
import queue
import threading
from collections.abc import Callable
from typing import Any, Final, TypeVar

from ..errors import PolicyFault

__all__ = ["EVALUATOR", "Evaluator"]

T = TypeVar("T")

# How long a caller waits for its answer. Far over the bound of one evaluation, for many callers.
ANSWER_S_MAX: Final = 10.0


class _Job:
    """One evaluation: `done` is held until the result or the error is there."""

    __slots__ = ("done", "error", "run", "value")

    def __init__(self, run: Callable[[], Any]) -> None:
        self.run = run
        self.done = threading.Lock()
        self.done.acquire()
        self.value: Any = None
        self.error: BaseException | None = None


class Evaluator:
    """Runs functions in a thread of its own, one after another."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._jobs: queue.SimpleQueue[_Job] | None = None

    @property
    def is_running(self) -> bool:
        """Whether anything was ever run in this process."""
        return self._jobs is not None

    def run(self, function: Callable[[], T]) -> T:
        """What `function` gives or raises, in the evaluator's thread; PolicyFault if too late."""
        jobs = self._jobs or self._start()
        job = _Job(function)
        jobs.put(job)
        if not job.done.acquire(timeout=ANSWER_S_MAX):
            raise PolicyFault(f"the policies gave no answer within {ANSWER_S_MAX:.0f} s")
        if job.error is not None:
            raise job.error
        value: T = job.value
        return value

    def forget(self) -> None:
        """Start anew when next asked: in a forked child the thread is gone."""
        self._lock = threading.Lock()
        self._jobs = None

    def _start(self) -> queue.SimpleQueue[_Job]:
        with self._lock:
            if self._jobs is None:
                self._jobs = queue.SimpleQueue()
                threading.Thread(
                    target=_work, args=(self._jobs,), name="guard-evaluator", daemon=True
                ).start()
            return self._jobs


def _work(jobs: queue.SimpleQueue[_Job]) -> None:
    while True:
        job = jobs.get()
        try:
            job.value = job.run()
        except BaseException as error:  # noqa: BLE001 a panic belongs to the caller, not to us
            job.error = error
        job.done.release()


EVALUATOR: Final = Evaluator()
os.register_at_fork(after_in_child=EVALUATOR.forget)
