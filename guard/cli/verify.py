"""`guard audit verify`: whether anything was changed since it was signed, for who trusts nobody."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Final

import click

from ..audit.anchors import WitnessKey
from ..audit.proof import check_proof as check_entry
from ..audit.report import Damage, Report
from ..audit.verify import verify as verify_log
from ..errors import AuditFault, ConfigError, LogCorrupt
from ..keys import Verifier
from .terminal import directory_option, escaped, json_option, plain, refuse, text_of

__all__ = ["check_proof", "verify"]

_DAMAGED_EXIT: Final = 1
_SHOWN_MAX: Final = 5  # ids in a note; all of them are in the JSON


@click.command("verify")
@directory_option
@click.option("--key", type=click.Path(path_type=Path), help="Public key you kept elsewhere.")
@click.option(
    "--checkpoint", "checkpoints", type=click.Path(path_type=Path), multiple=True,
    help="Checkpoint you kept elsewhere; may be given several times.",
)  # fmt: skip
@click.option("--witness", "witnesses", multiple=True, help="Public key of a witness you trust.")
@click.option("--excerpt", "expects_excerpt", is_flag=True, help="It is of an evidence pack.")
@json_option
def verify(
    directory: Path, *, key: Path | None, checkpoints: tuple[Path, ...],
    witnesses: tuple[str, ...], expects_excerpt: bool, as_json: bool,
) -> None:  # fmt: skip
    """Check that no entry was changed, removed or put in since it was signed.

    Without --key the key in the directory is used, and whoever rewrote the log could have replaced
    it. With --checkpoint, or --witness, a log that was cut off or rewritten since is found as well.
    An excerpt is whole with --excerpt only: whoever deletes entries could call the rest one.
    Exit codes: 0 whole, 1 not whole, 2 there is nothing to check.

    Example: guard audit verify --key /mnt/safe/log.vkey --checkpoint /mnt/safe/checkpoint
    """
    try:
        report = verify_log(
            directory,
            vkey=_first_key(key) if key is not None else None,
            checkpoints=[text_of(path) for path in checkpoints],
            witnesses=[WitnessKey.from_text(text) for text in witnesses],
        )
    except (AuditFault, ConfigError) as error:
        refuse(error)
    if as_json:
        click.echo(escaped(report.to_json()))
    else:
        _write(report)
    if report.is_excerpt and not expects_excerpt:
        # Whoever deletes entries of a log could call the rest an excerpt.
        click.echo("guard: only an excerpt: of an evidence pack, verify with --excerpt", err=True)
    is_what_was_asked = report.ok and report.is_excerpt <= expects_excerpt
    sys.exit(0 if is_what_was_asked else _DAMAGED_EXIT)


@click.command("check-proof")
@click.argument("proof", type=click.Path(path_type=Path))
@click.argument("entry", type=click.Path(path_type=Path))
@click.option("--key", type=click.Path(path_type=Path), required=True, help="Public keys.")
def check_proof(proof: Path, entry: Path, *, key: Path) -> None:
    """Check that one entry is in the log, by its proof: the log itself is not needed.

    PROOF and ENTRY are the files that `guard audit query --prove DIRECTORY` writes, or those of an
    evidence pack. Exit codes: 0 it is, 1 it is not, 2 there is nothing to check.

    Example: guard audit check-proof proofs/17.tlog-proof proofs/17.json --key kept.vkey
    """
    try:
        keys = [Verifier.from_text(line) for line in text_of(key).splitlines()]
        text, line = text_of(proof), text_of(entry).removesuffix("\n").encode()
    except (AuditFault, ConfigError) as error:
        refuse(error)
    fault: LogCorrupt | None = None
    for verifier in keys:
        try:
            index, checkpoint = check_entry(text, line, verifier)
        except LogCorrupt as error:
            fault = fault or error
        else:
            click.secho(
                plain(f"entry {index} of the {checkpoint.size} of {checkpoint.origin}"), fg="green"
            )
            return
    click.secho(plain(f"not proven: {fault or 'there is no key'}"), fg="red")
    sys.exit(_DAMAGED_EXIT)


def _first_key(path: Path) -> Verifier:
    """The oldest key of the file: it vouches for those that came after it."""
    return Verifier.from_text(text_of(path).split("\n", 1)[0])


def _write(report: Report) -> None:
    verdict = "whole" if report.ok else "NOT WHOLE"
    if report.is_excerpt:
        verdict = f"EXCERPT, {verdict}"
    click.secho(
        f"{verdict}: {report.entries} entries, {report.signed} signed, "
        f"{report.witnessed} witnessed",
        fg="green" if report.ok else "red",
    )
    click.echo(
        plain(
            f"  {report.origin or 'no log'}  {report.segments} segments  "
            f"{report.checkpoints} checkpoints  root {report.root[:16] or 'unknown'}"
        )
    )
    for damage in report.damages:
        click.echo(plain(f"  {damage.kind}: {_place(damage)}{damage.detail}"))
    if report.damages_omitted:
        click.echo(f"  and {report.damages_omitted} more")
    _write_ids(
        "intents have no outcome, so whether they happened is not known",
        report.orphans, report.orphans_omitted,
    )  # fmt: skip
    _write_ids("outcomes name an intent that is not here", report.strays, report.strays_omitted)
    for note in report.notes:
        click.echo(plain(f"  note: {note}"))


def _place(damage: Damage) -> str:
    words = []
    if damage.segment:
        words.append(damage.segment)
    if damage.start is not None:
        words.append(f"bytes {damage.start}-{damage.end}")
    if damage.index is not None:
        words.append(f"entry {damage.index}")
    if damage.field:
        words.append(f"field {damage.field}")
    if damage.decision_id:
        words.append(f"decision {damage.decision_id}")
    return f"{' '.join(words)}: " if words else ""


def _write_ids(what: str, ids: tuple[str, ...], omitted: int) -> None:
    if ids:
        click.echo(plain(f"  note: {len(ids) + omitted} {what}: {', '.join(ids[:_SHOWN_MAX])}"))
