"""Waiting until an entry is on the disk, with one sync for all who wait at the same time.

There is no thread of its own: whoever comes first makes the sync, and it covers everything that
was handed over before it began. Those who come meanwhile wait for the next one. Under asyncio a
task waits for a future, and the sync runs beside the loop.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from ..errors import AuditFault

if TYPE_CHECKING:
    import asyncio
    from concurrent.futures import ThreadPoolExecutor

__all__ = ["Commits"]

# A disk that takes longer for one sync is as good as dead; the caller gets a fault, not a hang.
WAIT_S_MAX: Final = 30.0


class Commits:
    """Group commit over `sync`, which returns how many entries are durable."""

    def __init__(self, sync: Callable[[], int]) -> None:
        self._sync = sync
        self._durable = 0
        self._changed = threading.Condition(threading.Lock())
        self._is_syncing = False
        self._waiting: dict[asyncio.AbstractEventLoop, list[asyncio.Future[None]]] = {}
        self._flying: set[asyncio.AbstractEventLoop] = set()
        self._executor: ThreadPoolExecutor | None = None

    def wait(self, number: int) -> None:
        """Return when entry `number` is durable; raises AuditFault when it cannot be."""
        while True:
            with self._changed:
                if self._durable > number:
                    return
                if not self._is_syncing:
                    self._is_syncing = True
                    break
                if not self._changed.wait(WAIT_S_MAX):
                    raise AuditFault(
                        f"the disk of the audit log took more than {WAIT_S_MAX:.0f} s for one "
                        "sync: look at it; the entry is handed over and not known to be durable"
                    )
        durable = 0
        try:
            durable = self._sync()
        finally:
            with self._changed:
                self._is_syncing = False
                self._durable = max(self._durable, durable)
                self._changed.notify_all()

    async def wait_async(self, number: int) -> None:
        """The same for a task: all tasks of a loop that wait share one sync."""
        if self._durable > number:
            return
        import asyncio  # 30 ms that a program without tasks does not spend

        loop = asyncio.get_running_loop()
        future: asyncio.Future[None] = loop.create_future()
        self._waiting.setdefault(loop, []).append(future)
        if loop not in self._flying:
            self._flying.add(loop)
            # The tasks that are ready now hand over theirs first, and share the sync.
            loop.call_soon(self._flush, loop)
        await future

    def close(self) -> None:
        """Let the thread beside the loop go."""
        if self._executor is not None:
            self._executor.shutdown(wait=False)
            self._executor = None

    def _flush(self, loop: asyncio.AbstractEventLoop) -> None:
        if self._executor is None:
            from concurrent.futures import ThreadPoolExecutor

            self._executor = ThreadPoolExecutor(1, thread_name_prefix="guard-audit-sync")
        waiting = self._waiting.pop(loop, [])
        done = loop.run_in_executor(self._executor, self._sync)
        done.add_done_callback(lambda done: self._settle(loop, done, waiting))

    def _settle(
        self,
        loop: asyncio.AbstractEventLoop,
        done: asyncio.Future[int],
        waiting: list[asyncio.Future[None]],
    ) -> None:
        error = done.exception()
        if error is None:
            self._durable = max(self._durable, done.result())
        for future in waiting:
            if future.done():  # its task was cancelled
                continue
            if error is not None:
                future.set_exception(error)
            else:
                future.set_result(None)
        if self._waiting.get(loop):
            self._flush(loop)  # those who came meanwhile share the next one
        else:
            self._flying.discard(loop)
