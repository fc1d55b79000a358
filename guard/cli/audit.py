"""`guard audit`: ask, verify and run the log. Each verb is in a file of its own."""

from __future__ import annotations

import click

from .away import fetch, ship, stream
from .encryption import decrypt_command, new_identity_command
from .export import export
from .postgres import pull
from .query import query_command, report_command, show_command
from .sequence import anchors, publish, rotate_key, sequence
from .verify import check_proof, verify
from .witness import witness

__all__ = ["audit"]


@click.group()
def audit() -> None:
    """Query, verify and run the audit log.

    \b
    guard audit query --since 1d --effect deny     what was denied today, and why
    guard audit show 3f9a1c20                      one decision, whole
    guard audit report denials-by-agent --last 7d  who is denied how often
    guard audit verify --key log.vkey              was anything changed?
    guard audit export --for soc2 --from 90d ...   evidence for an auditor, in one file
    """


for _command in (
    query_command, show_command, report_command, verify, check_proof, export, sequence, publish,
    rotate_key, anchors, witness, new_identity_command, decrypt_command, stream, ship, fetch, pull,
):  # fmt: skip
    audit.add_command(_command)
