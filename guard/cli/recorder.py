"""The log of this installation, for a verb that has to be recorded there."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ..assemble import open_log
from ..audit import AuditLog
from ..audit.files import CHECKPOINT
from ..config import load_config
from ..errors import AuditFault
from ..keys import Mac

if TYPE_CHECKING:
    from ..audit.postgres import PostgresLog

__all__ = ["recorder"]


@contextmanager
def recorder(directory: Path) -> Iterator[AuditLog | PostgresLog | None]:
    """The log to record in, with all that was handed over until now signed; None for a copy."""
    if not (directory / CHECKPOINT).exists():
        raise AuditFault(f"no audit log in {directory}: name its directory with --dir")
    config = load_config()
    if directory.resolve() != config.path(config.audit.directory).resolve():
        click.echo("guard: not recorded: this is not the log of this installation", err=True)
        yield None
        return
    mac = Mac.load_or_create(config.path(config.keys.directory) / "commitment.key")
    with open_log(config, mac, durability="group") as log:
        log.checkpoint()
        yield log
