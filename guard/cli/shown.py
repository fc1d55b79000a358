"""Entries and tables as a person or a program reads them. An attacker may have written any of it.

No control character, escape sequence, markup or formula of an entry reaches a terminal or a
spreadsheet.
"""

from __future__ import annotations

import csv
import io
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Any, Final

import click
import msgspec

from ..audit.entry import Entry
from ..audit.query import Progress, Row, Table
from .terminal import escaped, plain

__all__ = [
    "DEFAULT_ROWS", "call_of", "cells_of", "progress", "write_csv", "write_json", "write_json_of",
    "write_line", "write_table", "write_table_of",
]  # fmt: skip

DEFAULT_ROWS: Final = 50
# Below this there is no room for ids, sessions, points and seconds.
WIDE_COLUMNS: Final = 140
ID_CHARS: Final = 12
_SHORT_TIME_CHARS: Final = 11  # month, day, hour and minute
_WIDTHS: Final = {
    "time UTC": 11, "kind": 8, "id": 8, "principal": 11, "tool/model": 10, "effect": 6, "call": 8,
}  # fmt: skip
_WIDTHS_WIDE: Final = {
    "time UTC": 19, "kind": 8, "id": ID_CHARS, "principal": 22, "point": 15, "tool/model": 16,
    "effect": 6, "call": 8,
}  # fmt: skip
_COLOURS: Final = {
    "allow": "green", "redact": "cyan", "route": "blue", "review": "yellow", "deny": "bold red",
}  # fmt: skip
_FORMULA: Final = re.compile(r"\s*[=+\-@\uff1d\uff0b\uff0d\uff20]")
_MASKED_SHOWN_MAX: Final = 3
_COLUMNS: Final = (
    "index", "signed", "timestamp", "kind", "decision_id", "session_id", "session_seq", "principal",
    "on_behalf_of", "tenant", "point", "tool", "model", "effect", "call", "reasons", "faults",
    "revision", "ref", "trace_id", "review_id", "approved_by", "error", "masked", "subjects",
    "cost_usd", "tokens", "latency_us", "notes",
)  # fmt: skip


def write_json(rows: Iterable[Row], proofs: dict[int, str] | None = None) -> None:
    """One object a line: the entry, its number, and whether it is signed."""
    for row in rows:
        fields = {"index": row.index, "signed": row.is_signed, **msgspec.to_builtins(row.entry)}
        if proofs is not None:
            fields["proof"] = proofs[row.index]
        click.echo(escaped(msgspec.json.encode(fields).decode()))


def write_csv(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """A header and a row for each; no cell of it is a formula."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow([_cell(column) for column in columns])
    for row in rows:
        writer.writerow([_cell(value) for value in row])
        click.echo(buffer.getvalue(), nl=False)
        buffer.seek(0)
        buffer.truncate()
    click.echo(buffer.getvalue(), nl=False)


def cells_of(rows: Iterable[Row]) -> tuple[Sequence[str], Iterator[list[Any]]]:
    """Columns and rows of entries, for `write_csv`."""
    return _COLUMNS, map(_fields, rows)


def write_table(rows: Sequence[Row]) -> None:
    """A table that fits the terminal: what was asked, what was answered, what came of it, why."""
    # rich takes 50 ms to import: only who sees a table pays.
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table as RichTable
    from rich.text import Text

    if not rows:
        click.echo("no entries fit")
        return
    console = Console(file=sys.stdout)
    widths = _WIDTHS_WIDE if console.width >= WIDE_COLUMNS else _WIDTHS
    table = RichTable(box=SIMPLE_HEAD, padding=0)
    for name, width in widths.items():
        table.add_column(name, no_wrap=True, width=width)
    table.add_column("why", overflow="fold", min_width=12)
    for row in rows:
        cells = _table_cells(row.entry, time_chars=widths["time UTC"], id_chars=widths["id"])
        # INVARIANT: Text, never str: a str would be read as rich markup.
        shown = {name: Text(_short(cells[name], width)) for name, width in widths.items()}
        shown["effect"].stylize(_COLOURS.get(row.entry.effect, ""))
        table.add_row(*shown.values(), Text(plain(_why(row.entry))))
    console.print(table)


def write_line(row: Row) -> None:
    """One line of text, for a log that is followed."""
    cells = _table_cells(row.entry, time_chars=19, id_chars=ID_CHARS)
    words = [*cells.values(), _why(row.entry)]
    click.echo(plain("  ".join(words)))


def write_table_of(table: Table) -> None:
    """An answer that is no entry, as a table that fits the terminal."""
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table as RichTable
    from rich.text import Text

    if not table.rows:
        click.echo("nothing")
        return
    shown = RichTable(box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for column in table.columns:
        shown.add_column(Text(plain(column)), overflow="fold")
    for row in table.rows:
        shown.add_row(*(Text(plain(_text(value))) for value in row))
    Console(file=sys.stdout).print(shown)


def write_json_of(table: Table) -> None:
    """One object a line."""
    for row in table.rows:
        fields = dict(zip(table.columns, map(_plain_json, row), strict=True))
        click.echo(escaped(msgspec.json.encode(fields).decode()))


@contextmanager
def progress(what: str) -> Iterator[Progress]:
    """Says on stderr how far long work is, where somebody sits before a terminal."""
    if not sys.stderr.isatty():
        yield lambda done, whole: None
        return
    from rich.console import Console
    from rich.progress import Progress as Bar

    with Bar(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(what, visible=False)
        yield lambda done, whole: bar.update(task, completed=done, total=whole, visible=True)


def call_of(entry: Entry) -> str:
    """Whether the call was made, as far as this entry can say; empty where it cannot."""
    if entry.kind == "outcome":
        if entry.error:
            return "failed"
        return "made" if entry.happened else "not made"
    if entry.kind == "intent":
        return {"deny": "not made", "review": "waits"}.get(entry.effect, "")
    return ""


def _fields(row: Row) -> list[Any]:
    entry = row.entry
    latency_ns = entry.metrics.get("elapsed_ns")
    return [
        row.index, row.is_signed, entry.timestamp, entry.kind, entry.decision_id, entry.session_id,
        entry.session_seq, entry.principal.get("id"), entry.principal.get("on_behalf_of"),
        entry.tenant, entry.point, entry.tool, entry.model, entry.effect, call_of(entry),
        "; ".join(_codes(entry.reasons)), "; ".join(_codes(entry.faults)), entry.revision,
        entry.ref, entry.trace_id, entry.review_id, entry.approved_by, entry.error,
        "; ".join(entry.masked), "; ".join(entry.subjects), entry.cost_usd, entry.tokens,
        latency_ns / 1_000 if latency_ns is not None else None, "; ".join(entry.notes),
    ]  # fmt: skip


def _cell(value: object) -> str:
    text = plain(_text(value))
    # A spreadsheet runs a cell that begins like a formula; a leading quote makes it text.
    is_text = not isinstance(value, (int, float))
    return f"'{text}" if is_text and _FORMULA.match(text) else text


def _text(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, datetime):
        return f"{value:%Y-%m-%d %H:%M:%S}"
    if isinstance(value, (list, dict, tuple)):
        return msgspec.json.encode(value, enc_hook=str).decode()
    return str(value)


def _plain_json(value: object) -> object:
    return (
        value
        if isinstance(value, (str, int, float, bool, type(None), list, dict))
        else (str(value))
    )


def _codes(items: Sequence[Any]) -> list[str]:
    return [f"{item.get('code')}: {item.get('message')}" for item in _objects(items)]


def _objects(items: Sequence[Any]) -> list[dict[str, Any]]:
    """A line that was tampered with may hold anything that is JSON where reasons should be."""
    return [item for item in items if isinstance(item, dict)]


def _table_cells(entry: Entry, *, time_chars: int, id_chars: int) -> dict[str, str]:
    day_at = 0 if time_chars > _SHORT_TIME_CHARS else len("2026-")
    return {
        "time UTC": entry.timestamp[day_at : day_at + time_chars].replace("T", " "),
        "kind": entry.kind,
        "id": entry.decision_id[:id_chars],
        "principal": str(entry.principal.get("id", "-")),
        "point": entry.point,
        "tool/model": entry.tool or entry.model or "-",
        "effect": entry.effect,
        "call": call_of(entry) or "-",
    }


def _short(text: str, width: int) -> str:
    """Ids and names differ at their end, sessions and the rest at their start."""
    from rich.cells import cell_len, set_cell_size

    text = plain(text)
    if cell_len(text) <= width:
        return text
    if ":" not in text:
        return set_cell_size(text, width - 1).rstrip() + "\N{HORIZONTAL ELLIPSIS}"
    while cell_len(text) > width - 1:
        text = text[1:]
    return "\N{HORIZONTAL ELLIPSIS}" + text


def _why(entry: Entry) -> str:
    """The reasons for the effect in plain words, and what was hidden."""
    reasons = _objects(entry.reasons)
    deciding = [r for r in reasons if r.get("effect") == entry.effect] or reasons
    words = [str(reason.get("message")) for reason in deciding]
    words += [str(fault.get("message")) for fault in _objects(entry.faults)]
    if entry.error:
        words.append(f"raised {entry.error}")
    if entry.kind == "review":
        words.append(str(entry.detail.get("answer", "answered")))
    if entry.approved_by:
        words.append(f"by {entry.approved_by}" if entry.kind == "review" else
                     f"approved by {entry.approved_by}")  # fmt: skip
    if entry.masked:
        more = ", ..." if len(entry.masked) > _MASKED_SHOWN_MAX else ""
        words.append(
            f"{len(entry.masked)} masked: {', '.join(entry.masked[:_MASKED_SHOWN_MAX])}{more}"
        )
    if entry.kind in ("access", "erasure", "retention") and not reasons:
        words += [str(entry.detail[name]) for name in ("what", "reason") if name in entry.detail]
    is_about_log = entry.point == "audit"
    words += [
        note.replace("routed_from=", "in place of ")
        for note in entry.notes
        if is_about_log or note.startswith("routed_from=")
    ]
    return "; ".join(words)
