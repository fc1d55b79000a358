"""A sequencer in a process of its own: it alone needs the key, and no other thread delays it."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from ..clock import Clock
from ..errors import AuditFault
from ..keys.signing import Signer
from .anchors import Anchor
from .cosigned import publisher_of
from .files import make_directory
from .sequence import Rolling
from .sequencer import Sequencer

__all__ = ["sequence_until", "use_real_time_class"]

# Relaxed entries are synced within this and the time of a sync.
TICK_MS: Final = 5
_FIFO_PRIORITY: Final = 1


def sequence_until(
    stop: threading.Event, log: Path, *, load_signer: Callable[[], Signer], origin: str | None,
    clock: Clock, rolling: Rolling, anchors: Sequence[Anchor],
    on_state: Callable[[str], None] = lambda state: None,
) -> None:  # fmt: skip
    """Sequence the log until `stop` is set. A fault is said once, and tried again every round.

    Raises LogCorrupt at the start when what was signed is not there.
    """
    make_directory(log)
    publisher = publisher_of(log, anchors, clock)
    sequencer = Sequencer(
        log, load_signer=load_signer, origin=origin, clock=clock, rolling=rolling,
        on_checkpoint=publisher.submit if publisher is not None else None,
    )  # fmt: skip
    said = ""
    try:
        sequencer.hold()
        while not stop.wait(TICK_MS / 1_000):
            try:
                state = "sequencing" if sequencer.round() else "another process sequences: waiting"
            except AuditFault as fault:
                state = str(fault)
            if state != said:
                on_state(state)
                said = state
        sequencer.round(sign=True)
    finally:
        sequencer.close()
        if publisher is not None:
            publisher.close()


def use_real_time_class() -> bool:
    """Run before ordinary processes, where this user may; on a busy machine a sync otherwise waits
    for a tick of the scheduler, 4 ms."""
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(_FIFO_PRIORITY))
    except (OSError, AttributeError):
        return False
    return True
