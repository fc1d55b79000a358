"""`guard audit pull`: the log of a PostgreSQL database as a directory, to verify and to ask."""

from __future__ import annotations

import json
from pathlib import Path

import click

from ..audit.postgres import pull as pull_log
from ..errors import AuditFault, ConfigError
from ..keys import Verifier
from .terminal import json_option, refuse, text_of

__all__ = ["pull"]


@click.command("pull")
@click.option(
    "--from", "dsn", required=True, metavar="DSN|env:NAME",
    help="Database of the log, or the variable that holds its DSN: passwords show in `ps`.",
)  # fmt: skip
@click.option("--to", "directory", required=True, type=click.Path(path_type=Path))
@click.option("--key", type=click.Path(path_type=Path), help="Public key you kept elsewhere.")
@json_option
def pull(dsn: str, directory: Path, *, key: Path | None, as_json: bool) -> None:
    """Write the log of a PostgreSQL database as a directory, or go on with one.

    `guard audit verify --dir` and all questions work on it. A database that was cut back, or has
    forked, since the last pull is refused, and the directory stays as it was.
    Exit codes: 0 pulled, 2 refused or not reached.

    Example: guard audit pull --from env:AUDIT_DSN --to /srv/audit
    """
    try:
        vkey = Verifier.from_text(text_of(key).split("\n", 1)[0]) if key is not None else None
        pulled = pull_log(dsn, directory, vkey=vkey)
    except (AuditFault, ConfigError) as error:
        refuse(error)
    if as_json:
        click.echo(json.dumps({"entries": pulled.size, "new": pulled.size - pulled.before}))
    else:
        click.echo(
            f"{pulled.size} entries in {directory}, {pulled.size - pulled.before} of them new"
        )
