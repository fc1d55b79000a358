"""`guard audit`: query, show and verify the log. An attacker may have written anything in it.

No control character, escape sequence, markup or formula of an entry reaches a terminal or a
spreadsheet.
"""

from __future__ import annotations

import csv
import io
import json
import re
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Final, NoReturn

import click
import msgspec

from ..audit.entry import Entry
from ..audit.query import Filters, Row, query, show
from ..audit.report import Report
from ..audit.verify import verify
from ..config import load_config
from ..errors import AuditFault, ConfigError
from ..keys import Verifier

__all__ = ["audit"]

DEFAULT_ROWS: Final = 50
# A key or a checkpoint is a few lines; whatever is longer is another file named by mistake.
FILE_BYTES_MAX: Final = 65_536
# Columns of the table; below WIDE_COLUMNS there is no room for ids and seconds.
WIDE_COLUMNS: Final = 116
ID_CHARS: Final = 12
SESSION_CHARS: Final = 7
_WIDTHS: Final = {
    "time UTC": 11, "session": SESSION_CHARS, "principal": 12, "point": 14, "tool/model": 11,
    "effect": 6,
}  # fmt: skip
_WIDTHS_WIDE: Final = {
    "time UTC": 14, "id": ID_CHARS, "session": SESSION_CHARS, "principal": 18, "point": 15,
    "tool/model": 16, "effect": 6,
}  # fmt: skip
_BAD_EXIT: Final = 1
_USAGE_EXIT: Final = 2
_COLOURS: Final = {
    "allow": "green", "redact": "cyan", "route": "blue", "review": "yellow", "deny": "bold red",
}  # fmt: skip
# C0, DEL, C1, line separators, and the marks that turn the direction of text around.
_CONTROLS: Final = re.compile(
    r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u200e\u200f\u202a-\u202e\u2066-\u2069]"
)
_FORMULA: Final = re.compile(r"\s*[=+\-@\uff1d\uff0b\uff0d\uff20]")
_COLUMNS: Final = (
    "timestamp", "kind", "decision_id", "session_id", "session_seq", "principal", "tenant", "point",
    "tool", "model", "effect", "happened", "reasons", "faults", "revision", "log", "index",
    "ref", "review_id", "approved_by", "error", "masked", "notes",
)  # fmt: skip

Command = Callable[..., Any]

_directory: Final = click.option(
    "--dir", "directory", type=click.Path(path_type=Path),
    callback=lambda _ctx, _option, value: value or _configured(),
    help="Directory of the audit log; default: that of guard.toml here, or .guard/audit.",
)  # fmt: skip
_json: Final = click.option("--json", "as_json", is_flag=True, help="JSON instead of a table.")


def _configured() -> Path:
    """Where this installation logs, by guard.toml and GUARD_AUDIT__DIRECTORY."""
    config = load_config()
    return config.path(config.audit.directory)


@click.group()
def audit() -> None:
    """Query, show and verify the audit log.

    \b
    guard audit query --since 1d --effect deny     what was denied today, and why
    guard audit show 3f9a1c20                      one decision, whole
    guard audit verify --key log.vkey              was anything changed?
    """


@audit.command("query")
@_directory
@click.option("--since", help="From this time on: 2026-11-21T09:30:00Z, 2026-11-21, 7d, 2h, 30m.")
@click.option("--until", help="Up to this time; written like --since.")
@click.option("--principal", help="Id of the agent; `*` stands for any text.")
@click.option("--tool", help="Name of the tool; `*` stands for any text.")
@click.option("--model", help="Id of the model; `*` stands for any text.")
@click.option("--point", help="Interception point, such as pre_tool_call.")
@click.option("--effect", type=click.Choice(list(_COLOURS), case_sensitive=False))
@click.option("--policy", help="Rule, start of a reason's code, or start of a policy revision.")
@click.option("--session", help="Start of a session id.")
@click.option(
    "--kind", type=click.Choice(["intent", "outcome", "decision", "item", "release", "recovery"])
)
@click.option("--decision", "decision_id", help="Decision id; its outcomes are found too.")
@click.option("--limit", type=click.IntRange(1, 1_000_000), help="Only the newest N entries.")
@_json
@click.option("--csv", "as_csv", is_flag=True, help="CSV, safe to open in a spreadsheet.")
def query_command(directory: Path, *, as_json: bool, as_csv: bool, **filters: Any) -> None:
    """Find entries, newest last.

    A table shows the newest 50 unless --limit says otherwise; --json and --csv give all.

    Example: guard audit query --since 7d --principal 'did:web:*' --effect deny
    """
    if as_json and as_csv:
        raise click.UsageError("choose --json or --csv, not both")
    if filters["limit"] is None and not (as_json or as_csv):
        filters["limit"] = DEFAULT_ROWS
    try:
        rows = query(directory, Filters(**filters))
        if as_json:
            _write_json(rows)
        elif as_csv:
            _write_csv(rows)
        else:
            _write_table(list(rows))
    except AuditFault as error:
        _refuse(error)
    if rows.skipped:
        click.echo(
            f"guard: {rows.skipped} lines could not be read; run `guard audit verify`", err=True
        )


@audit.command("show")
@click.argument("decision_id")
@_directory
@_json
def show_command(decision_id: str, directory: Path, *, as_json: bool) -> None:
    """Show one decision whole: what was asked, why it was answered so, and what came of it.

    The first characters of the id are enough.

    Example: guard audit show 3f9a1c20
    """
    try:
        rows = show(directory, decision_id)
    except AuditFault as error:
        _refuse(error)
    if as_json:
        _write_json(rows)
        return
    for row in rows:
        click.echo(f"{row.entry.kind} {_plain(row.log)} #{row.index}")
        for name, value in msgspec.to_builtins(row.entry).items():
            if value not in (None, "", [], {}):
                text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
                click.echo(f"  {name:13} {_plain(text)}")


@audit.command("verify")
@_directory
@click.option("--key", type=click.Path(path_type=Path), help="Public key you kept elsewhere.")
@click.option(
    "--checkpoint",
    type=click.Path(path_type=Path),
    help="Checkpoint you kept elsewhere.",
)
@_json
def verify_command(
    directory: Path, *, key: Path | None, checkpoint: Path | None, as_json: bool
) -> None:
    """Check that no entry was changed, removed or put in since it was signed.

    Without --key the key in the directory is used, and whoever rewrote the log could have replaced
    it. With --checkpoint a log that was cut off or rewritten since is found as well. Exit codes:
    0 whole, 1 damaged, 2 there is nothing to check.

    Example: guard audit verify --key /mnt/safe/log.vkey --checkpoint /mnt/safe/checkpoint
    """
    try:
        verifier = Verifier.from_text(_text_of(key)) if key is not None else None
        trusted = _text_of(checkpoint) if checkpoint is not None else None
        report = verify(directory, vkey=verifier, checkpoint=trusted)
    except (AuditFault, ConfigError) as error:
        _refuse(error)
    if as_json:
        click.echo(_escaped(report.to_json()))
    else:
        _write_report(report)
    sys.exit(0 if report.ok else _BAD_EXIT)


def _refuse(error: Exception) -> NoReturn:
    click.echo(f"guard: {_plain(str(error))}", err=True)
    sys.exit(_USAGE_EXIT)


def _text_of(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return file.read(FILE_BYTES_MAX).decode()
    except OSError as error:
        raise AuditFault(f"cannot read {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise AuditFault(f"{path} is not text: expected a file of a log, as it was") from error


def _plain(text: str) -> str:
    """Text without anything a terminal would act on; the mark shows that something was there."""
    return _CONTROLS.sub("\N{REPLACEMENT CHARACTER}", text)


def _escaped(document: str) -> str:
    """The same JSON, with the characters that JSON allows and a terminal acts on as escapes."""
    return _CONTROLS.sub(lambda found: f"\\u{ord(found[0]):04x}", document)


def _write_json(rows: Iterable[Row]) -> None:
    for row in rows:
        fields = {"log": row.log, "index": row.index, **msgspec.to_builtins(row.entry)}
        click.echo(_escaped(msgspec.json.encode(fields).decode()))


def _write_csv(rows: Iterable[Row]) -> None:
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(_COLUMNS)
    for row in rows:
        writer.writerow([_cell(value) for value in _fields(row)])
        click.echo(buffer.getvalue(), nl=False)
        buffer.seek(0)
        buffer.truncate()
    click.echo(buffer.getvalue(), nl=False)


def _fields(row: Row) -> list[Any]:
    entry = row.entry
    return [
        entry.timestamp, entry.kind, entry.decision_id, entry.session_id, entry.session_seq,
        entry.principal.get("id"), entry.tenant, entry.point, entry.tool, entry.model, entry.effect,
        entry.happened, "; ".join(_codes(entry.reasons)), "; ".join(_codes(entry.faults)),
        entry.revision, row.log, row.index, entry.ref, entry.review_id, entry.approved_by,
        entry.error, len(entry.masked), "; ".join(entry.notes),
    ]  # fmt: skip


def _cell(value: object) -> str:
    text = _plain("" if value is None else str(value))
    # A spreadsheet runs a cell that begins like a formula; a leading quote makes it text.
    return f"'{text}" if _FORMULA.match(text) else text


def _codes(items: Sequence[Any]) -> list[str]:
    return [f"{item.get('code')}: {item.get('message')}" for item in _objects(items)]


def _objects(items: Sequence[Any]) -> list[dict[str, Any]]:
    """A line that was tampered with may hold anything that is JSON where reasons should be."""
    return [item for item in items if isinstance(item, dict)]


def _write_table(rows: list[Row]) -> None:
    # rich takes 50 ms to import: only who sees a table pays.
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    if not rows:
        click.echo("no entries fit")
        return
    console = Console(file=sys.stdout)
    is_wide = console.width >= WIDE_COLUMNS
    widths = _WIDTHS_WIDE if is_wide else _WIDTHS
    table = Table(box=SIMPLE_HEAD, padding=0)
    for name, width in widths.items():
        table.add_column(name, no_wrap=True, width=width)
    table.add_column("why", overflow="fold", min_width=12)
    for row in rows:
        cells = _table_cells(row.entry, time_chars=widths["time UTC"])
        # INVARIANT: Text, never str: a str would be read as rich markup.
        shown = [Text(_short(cells[name], width)) for name, width in widths.items()]
        shown[-1].stylize(_COLOURS.get(row.entry.effect, ""))
        table.add_row(*shown, Text(_plain(_why(row.entry))))
    console.print(table)
    if not is_wide:
        click.echo(f"ids for `guard audit show`: a terminal of {WIDE_COLUMNS} columns, or --json")


def _table_cells(entry: Entry, *, time_chars: int) -> dict[str, str]:
    return {
        "time UTC": entry.timestamp[5 : 5 + time_chars].replace("T", " "),
        "id": entry.decision_id[:ID_CHARS],
        "session": (entry.session_id or "-")[:SESSION_CHARS],
        "principal": str(entry.principal.get("id", "-")),
        "point": entry.point,
        "tool/model": entry.tool or entry.model or "-",
        "effect": entry.effect,
    }


def _short(text: str, width: int) -> str:
    """Ids and names differ at their end, sessions and the rest at their start."""
    from rich.cells import cell_len, set_cell_size

    text = _plain(text)
    if cell_len(text) <= width:
        return text
    if ":" not in text:
        return set_cell_size(text, width - 1).rstrip() + "\N{HORIZONTAL ELLIPSIS}"
    while cell_len(text) > width - 1:
        text = text[1:]
    return "\N{HORIZONTAL ELLIPSIS}" + text


def _why(entry: Entry) -> str:
    """The reasons for the effect in plain words."""
    reasons = _objects(entry.reasons)
    deciding = [r for r in reasons if r.get("effect") == entry.effect] or reasons
    words = [str(reason.get("message")) for reason in deciding]
    words += [str(fault.get("message")) for fault in _objects(entry.faults)]
    if entry.kind == "outcome" and entry.happened is not None:
        words.append("it happened" if entry.happened else "it did not happen")
    if entry.error:
        words.append(f"raised {entry.error}")
    if entry.approved_by:
        words.append(f"approved by {entry.approved_by}")
    words += [
        note.replace("routed_from=", "in place of ")
        for note in entry.notes
        if entry.kind == "recovery" or note.startswith("routed_from=")
    ]
    return "; ".join(words)


def _write_report(report: Report) -> None:
    verdict = "whole" if report.ok else "DAMAGED"
    signed = sum(state.signed for state in report.logs)
    click.secho(
        f"{verdict}: {report.entries} entries, {signed} signed, in {len(report.logs)} logs",
        fg="green" if report.ok else "red",
    )
    for state in report.logs:
        click.echo(
            f"  {state.log}  {state.entries} entries  {state.checkpoints} checkpoints  "
            f"root {state.root[:16] or 'unknown'}"
        )
    for damage in report.damages:
        place = f" {damage.segment}" if damage.segment else ""
        if damage.start is not None:
            place += f" bytes {damage.start}-{damage.end}"
        if damage.index is not None:
            place += f" entry {damage.index}"
        if damage.decision_id:
            place += f" decision {damage.decision_id}"
        click.echo(_plain(f"  {damage.kind}: {damage.log}{place}: {damage.detail}"))
    if report.damages_omitted:
        click.echo(f"  and {report.damages_omitted} more")
    if report.orphans:
        count = len(report.orphans) + report.orphans_omitted
        click.echo(
            f"  note: {count} intents have no outcome, so whether they happened is not known: "
            + _plain(", ".join(report.orphans[:5]))
        )
    for note in report.notes:
        click.echo(_plain(f"  note: {note}"))
