"""`guard audit export`: an evidence pack for an auditor, or lines for a SIEM; both recorded."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Final

import click
import msgspec

from ..audit.formats import FORMATS
from ..audit.query import moment_of
from ..clock import SYSTEM_CLOCK
from ..errors import AuditFault, ConfigError
from ..ops.pack import Pack
from ..ops.pack import export as export_pack
from ..ops.records import record, words
from ..ops.regimes import REGIMES
from ..ops.siem import lines
from ..policy.kept import POLICIES
from .query import pseudonyms_of
from .recorder import recorder
from .terminal import by_option, directory_option, escaped, json_option, plain, refuse

__all__ = ["export"]

_UNREADABLE_EXIT: Final = 1
_NS_MAX: Final = (1 << 63) - 1


@click.command("export")
@directory_option
@click.option("--for", "regime", type=click.Choice(REGIMES), help="An evidence pack for this.")
@click.option("--format", "name", type=click.Choice(tuple(FORMATS)), help="Lines for a SIEM.")
@click.option("--from", "since", help="2026-11-21T09:30:00Z, 2026-11-21, today, or back: 90d, 2h.")
@click.option("--to", "until", help="Up to then, written alike; a date is the whole day.")
@click.option("--subject", help="Id or pseudonym of the data subject; for gdpr-dsar.")
@click.option("--reason", help="Why; the log keeps it. A pack needs one.")
@by_option
@click.option("--out", type=click.Path(path_type=Path), help="File to write; it must not be there.")
@click.option("--even-if-damaged", is_flag=True, help="A pack of a damaged log, that says so.")
@json_option
def export(
    directory: Path, *, regime: str | None, name: str | None, since: str | None,
    until: str | None, subject: str | None, reason: str | None, by: str, out: Path | None,
    even_if_damaged: bool, as_json: bool,
) -> None:  # fmt: skip
    """Write an evidence pack that an auditor verifies alone, or lines for a SIEM.

    A pack is one ZIP: the entries with proofs, checkpoints and keys, the policies that were in
    force with their tests, a report to read and print, what each requirement is evidenced by, and
    a verifier. The export itself is recorded in the log.

    \b
    guard audit export --for eu-ai-act --from 2026-01-01 --to 2026-06-30 --reason "audit 26-17" \\
      --out evidence.zip
    guard audit export --for gdpr-dsar --subject c-4711 --from 2026-01-01 --reason "art. 15" \\
      --out jane.zip
    guard audit export --format ocsf --from 1d | siem-client
    """
    if (regime is None) == (name is None):
        raise click.UsageError("name one of --for and --format")
    try:
        now_ns = SYSTEM_CLOCK.now_ns()
        since_ns = moment_of(since, now_ns) if since else 0
        until_ns = moment_of(until, now_ns, is_end=True) if until else _NS_MAX
        if since_ns > until_ns:
            raise ConfigError("--from is after --to: nothing lies between")
        if name is not None:
            why = words("reason", reason or "lines for a SIEM")
            with recorder(directory) as log:
                if log is not None:
                    detail = {"what": "export", "format": name, "reason": why}
                    record(log, "access", detail, by=by, clock=SYSTEM_CLOCK)
            _write_lines(directory, name, since_ns, until_ns, out)
            return
        if regime is None or since is None or reason is None or out is None:
            raise click.UsageError("a pack needs --from, --reason and --out")
        if not os.access(out.parent, os.W_OK):
            raise AuditFault(f"cannot write {out}: name a directory that is there and takes files")
        if subject is not None:
            (subject,) = pseudonyms_of(subject)
        with recorder(directory) as log:
            pack = export_pack(
                directory, out, regime=regime, since_ns=since_ns, until_ns=min(until_ns, now_ns),
                by=by, reason=reason, subject_pseudonym=subject,
                policies_directory=directory / POLICIES, log=log,
                even_if_damaged=even_if_damaged,
            )  # fmt: skip
    except (AuditFault, ConfigError) as error:
        refuse(error)
    if as_json:
        shown = msgspec.to_builtins(pack, enc_hook=str)
        click.echo(escaped(msgspec.json.encode(shown).decode()))
    else:
        _write_pack(pack)


def _write_lines(
    directory: Path, name: str, since_ns: int, until_ns: int, out: Path | None
) -> None:
    unreadable: list[int] = []
    found = lines(
        directory, name, since_ns=since_ns, until_ns=until_ns, on_unreadable=unreadable.append
    )
    if out is None:
        for line in found:
            click.echo(escaped(line.decode()))
    else:
        with _created(out) as file:
            for line in found:
                file.write(line + b"\n")
    if unreadable:
        click.echo(
            f"guard: {len(unreadable)} entries cannot be read, the first is {unreadable[0]}: run "
            "`guard audit verify`",
            err=True,
        )
        sys.exit(_UNREADABLE_EXIT)


@contextmanager
def _created(path: Path) -> Iterator[IO[Any]]:
    """A new file, for its owner only; raises AuditFault."""
    try:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        with os.fdopen(os.open(path, flags, 0o600), "wb") as file:
            yield file
    except FileExistsError as error:
        raise AuditFault(f"{path} is there already: name another file, or remove it") from error
    except OSError as error:
        raise AuditFault(f"cannot write {path}: {error.strerror}") from error


def _write_pack(pack: Pack) -> None:
    colour = "red" if pack.is_damaged else "green"
    state = "OF A DAMAGED LOG: " if pack.is_damaged else ""
    click.secho(
        plain(f"{state}{pack.path}: {pack.entries} entries, {pack.proofs} proofs"), fg=colour
    )
    click.echo(f"  sha256 {pack.sha256}")
    click.echo("  tell the auditor this digest, and the public key of the log, by another way")
    for revision in pack.policies_missing:
        click.echo(plain(f"  note: the policies {revision[:80]} were not kept, and are not in it"))
