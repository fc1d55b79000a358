"""`guard audit query`, `show` and `report`: the log for a person who reads no code."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import click
import msgspec

from ..assemble import bundle_of
from ..audit.files import encrypted_of
from ..audit.query import (
    REPORTS,
    Filters,
    Index,
    Row,
    Table,
    counts,
    follow,
    query,
    run,
    select,
    show,
    write_parquet,
)  # fmt: skip
from ..config import load_config
from ..errors import AuditFault, ConfigError, GuardError
from ..fleet import Fleet
from ..keys.subjects import SubjectKeys
from .shown import (
    DEFAULT_ROWS,
    cells_of,
    progress,
    write_csv,
    write_json,
    write_json_of,
    write_line,
    write_table,
    write_table_of,
)  # fmt: skip
from .terminal import directory_option, json_option, plain, refuse

__all__ = ["query_command", "report_command", "show_command"]

_FOLLOW_S: Final = 0.2
_PROOFS_ON_STDOUT: Final = "-"
_EFFECTS: Final = ("allow", "redact", "route", "review", "deny", "none")
_KINDS: Final = (
    "intent", "outcome", "decision", "item", "release", "review", "recovery", "key_change",
    "erasure", "retention", "seal", "access", "failure",
)  # fmt: skip

_index: Final = click.option(
    "--index", "where", type=click.Path(path_type=Path),
    help="Directory of the index; default: index/ in your own log, or your cache.",
)  # fmt: skip
_rebuild: Final = click.option("--rebuild", is_flag=True, help="Make the index anew first.")
_csv: Final = click.option(
    "--csv", "as_csv", is_flag=True, help="CSV, safe to open in a spreadsheet."
)


def _pairs(_context: Any, _option: Any, values: tuple[str, ...]) -> tuple[tuple[str, str], ...]:
    """KEY=VALUE as pairs."""
    pairs = [value.partition("=") for value in values]
    for key, sign, wanted in pairs:
        if not sign or not key:
            raise click.BadParameter(
                f"expected KEY=VALUE such as integrity=trusted, not `{plain(key + sign + wanted)}`"
            )
    return tuple((key, wanted) for key, _, wanted in pairs)


@click.command("query")
@directory_option
@click.option("--since", help="From then on: 2026-11-21T09:30:00Z, 2026-11-21, today, 7d, 2h.")
@click.option("--until", help="Up to then, written like --since; a date is the whole day.")
@click.option("--tenant", help="Name of the tenant; `*` stands for any text.")
@click.option("--principal", help="Id of the agent; `*` stands for any text.")
@click.option("--on-behalf-of", help="For whom the agent acted; `*` stands for any text.")
@click.option("--tool", help="Name of the tool; `*` stands for any text.")
@click.option("--model", help="Id of the model; `*` stands for any text.")
@click.option("--point", help="Interception point, such as pre_tool_call.")
@click.option("--effect", type=click.Choice(_EFFECTS, case_sensitive=False))
@click.option("--reason", help="Code of a reason, or its start.")
@click.option("--rule", help="Name of a rule that fired.")
@click.option("--control", help="A control that the rule serves, as the policies declare it.")
@click.option("--revision", help="Start of a policy revision.")
@click.option("--label", "labels", callback=_pairs, multiple=True, help="KEY=VALUE; repeatable.")
@click.option("--subject", help="Id or pseudonym of the person whose data it is.")
@click.option("--session", help="Start of a session id.")
@click.option("--trace", help="Start of a trace id.")
@click.option("--kind", type=click.Choice(_KINDS))
@click.option("--decision", "decision_id", help="Start of a decision id; its outcomes come too.")
@click.option("--cost-min", "cost_min_usd", type=float, help="US dollars, at least.")
@click.option("--cost-max", "cost_max_usd", type=float, help="US dollars, at most.")
@click.option("--latency-min", "latency_min_us", type=float, help="Microseconds, at least.")
@click.option("--latency-max", "latency_max_us", type=float, help="Microseconds, at most.")
@click.option("--text", help="Anywhere in the entry, in capitals or not.")
@click.option("--limit", type=click.IntRange(1, 1_000_000), help="Only the newest N entries.")
@click.option("--group-by", help="Count by FIELD[,FIELD]: tool, effect, day, label.KEY, ...")
@click.option("--sql", help="A SELECT over the table `entries`; nothing else is allowed.")
@click.option("--follow", "is_followed", is_flag=True, help="Go on with what comes.")
@click.option(
    "--prove", is_flag=False, flag_value=_PROOFS_ON_STDOUT, metavar="[DIRECTORY]",
    help="The proof of each entry: into a directory, or printed.",
)  # fmt: skip
@json_option
@_csv
@click.option("--parquet", type=click.Path(path_type=Path), help="Into a new Parquet file.")
@_index
@_rebuild
@click.option("--no-index", is_flag=True, help="Read the whole log instead.")
def query_command(
    directory: Path, *, as_json: bool, as_csv: bool, parquet: Path | None, where: Path | None,
    rebuild: bool, no_index: bool, group_by: str | None, sql: str | None, is_followed: bool,
    prove: str | None, rule: str | None, control: str | None, subject: str | None,
    **fields: Any,
) -> None:  # fmt: skip
    """Find entries, newest last.

    A table shows the newest 50 unless --limit says otherwise; --json, --csv and --parquet give all.
    The index makes it fast; every entry that is shown is read from the log and compared with what
    was signed. Counts and --sql are answered by the index alone.

    Example: guard audit query --since 7d --principal 'did:web:*' --effect deny
    """
    outputs = [as_json, as_csv, parquet is not None]
    asked = [group_by is not None, sql is not None, is_followed]
    if sum(outputs) > 1:
        raise click.UsageError("choose --json or --csv or --parquet, not several")
    if sum(asked) > 1 or (any(asked) and (prove or parquet)):
        raise click.UsageError(
            "--group-by, --sql and --follow each stand alone, without --prove and --parquet"
        )
    if sql is not None and (any(fields.values()) or rule or control or subject):
        raise click.UsageError("--sql takes no filters: write them as its WHERE")
    if fields["limit"] is None and not any(outputs) and not group_by:
        fields["limit"] = DEFAULT_ROWS
    try:
        fields["rules"] = _rules(rule, control)
        fields["subjects"] = pseudonyms_of(subject) if subject is not None else None
        filters = Filters(**fields)
        if is_followed:
            _follow(directory, filters, as_json=as_json, as_csv=as_csv)
            return
        is_needed = group_by is not None or sql is not None
        with _indexed(directory, where, rebuild, is_needed, no_index) as index:
            if index is not None and group_by is not None:
                _write_answer(counts(index, filters, group_by.split(",")), as_json, as_csv)
            elif index is not None and sql is not None:
                _write_answer(select(index, sql), as_json, as_csv)
            else:
                _write_rows(directory, filters, index, as_json, as_csv, parquet, prove)
    except (AuditFault, ConfigError) as error:
        refuse(error)


@click.command("show")
@click.argument("decision_id")
@directory_option
@json_option
@_index
def show_command(decision_id: str, directory: Path, *, as_json: bool, where: Path | None) -> None:
    """Show one decision whole: what was asked, why it was answered so, and what came of it.

    The first characters of the id are enough.

    Example: guard audit show 3f9a1c20
    """
    try:
        with _indexed(directory, where) as index:
            _write_whole(show(directory, decision_id, index=index), as_json=as_json)
    except (AuditFault, ConfigError) as error:
        refuse(error)


@click.command("report")
@click.argument("name", required=False)
@click.argument("wanted", required=False, default="")
@directory_option
@click.option("--last", help="The time back from now: 7d, 24h.")
@click.option("--since", help="From then on, as of `guard audit query`.")
@click.option("--until", help="Up to then.")
@json_option
@_csv
@_index
@_rebuild
def report_command(
    name: str | None, wanted: str, directory: Path, *, last: str | None, since: str | None,
    until: str | None, as_json: bool, as_csv: bool, where: Path | None, rebuild: bool,
) -> None:  # fmt: skip
    """Answer a question that is asked of every log. Without a name: which there are.

    Example: guard audit report denials-by-agent --last 7d
    """
    if name is None:
        for known, report in REPORTS.items():
            click.secho(f"{known} {report.takes or ''}".rstrip(), bold=True)
            click.echo(click.wrap_text(report.help, initial_indent="  ", subsequent_indent="  "))
        return
    if last is not None and since is not None:
        raise click.UsageError("choose --last or --since, not both")
    if as_json and as_csv:
        raise click.UsageError("choose --json or --csv, not both")
    try:
        if name == "subject" and wanted:
            (wanted,) = pseudonyms_of(wanted)
        with _indexed(directory, where, rebuild, is_needed=True) as index:
            if index is None:  # it is needed: where there is none, that was said already
                return
            answer = run(index, name, wanted, since=last or since, until=until)
            if isinstance(answer, Table):
                _write_answer(answer, as_json, as_csv)
            elif name == "why" and not as_csv:
                _write_whole(answer, as_json=as_json)
            else:
                _write_all(answer, as_json, as_csv)
    except (AuditFault, ConfigError) as error:
        refuse(error)


@contextmanager
def _indexed(
    directory: Path, where: Path | None, rebuild: bool = False, is_needed: bool = False,
    no_index: bool = False,
) -> Iterator[Index | None]:  # fmt: skip
    """The index, brought up to date; without the extra, and where it is not needed, None."""
    if directory.is_dir() and (hidden := encrypted_of(directory)):
        click.echo(
            f"guard: {len(hidden)} segments are encrypted and were not searched: `guard audit "
            "decrypt` makes a copy to ask",
            err=True,
        )
    if no_index and is_needed:
        raise AuditFault("counts and --sql are answered by the index: leave --no-index out")
    if no_index:
        yield None
        return
    try:
        with progress("indexing") as on_progress:
            index = Index(directory, where=where, on_progress=on_progress, is_anew=rebuild)
    except ConfigError:
        if is_needed:
            raise
        yield None
        return
    if index.changed:
        click.echo(
            f"guard: {index.changed} entries are not as they were signed; run `guard audit verify`",
            err=True,
        )
    try:
        yield index
    finally:
        index.close()


def _write_rows(
    directory: Path, filters: Filters, index: Index | None, as_json: bool, as_csv: bool,
    parquet: Path | None, prove: str | None,
) -> None:  # fmt: skip
    rows = query(directory, filters, index=index)
    if prove is not None:
        found = list(rows)
        proofs = {row.index: rows.signed.proof(row.index, row.line) for row in found}
        if prove != _PROOFS_ON_STDOUT:
            _write_proofs(Path(prove), found, proofs)
        if as_json and prove == _PROOFS_ON_STDOUT:
            write_json(found, proofs)
            return
        _write_all(found, as_json, as_csv)
        if prove == _PROOFS_ON_STDOUT:
            click.echo("\n".join(proofs.values()), nl=False)
    elif parquet is not None:
        click.echo(f"{write_parquet(rows, parquet)} entries", err=True)
    else:
        _write_all(rows if as_json or as_csv else list(rows), as_json, as_csv)
    if rows.skipped:
        click.echo(
            f"guard: {rows.skipped} lines could not be read; run `guard audit verify`", err=True
        )


def _write_all(rows: Any, as_json: bool, as_csv: bool) -> None:
    if as_json:
        write_json(rows)
    elif as_csv:
        write_csv(*cells_of(rows))
    else:
        write_table(rows)


def _write_answer(table: Table, as_json: bool, as_csv: bool) -> None:
    if as_json:
        write_json_of(table)
    elif as_csv:
        write_csv(table.columns, table.rows)
    else:
        write_table_of(table)


def _write_whole(rows: Sequence[Row], *, as_json: bool) -> None:
    if as_json:
        write_json(rows)
        return
    for row in rows:
        state = "signed" if row.is_signed else "not signed yet"
        click.echo(f"{plain(row.entry.kind)} #{row.index}, {state}")
        for name, value in msgspec.to_builtins(row.entry).items():
            if value not in (None, "", [], {}):
                text = value if isinstance(value, str) else msgspec.json.encode(value).decode()
                click.echo(f"  {name:13} {plain(text)}")


def _write_proofs(directory: Path, rows: Sequence[Row], proofs: dict[int, str]) -> None:
    """The bytes of each entry and its proof: enough for any C2SP verifier."""
    try:
        directory.mkdir(parents=True, exist_ok=True)
        for row in rows:
            (directory / f"{row.index}.json").write_bytes(row.line)
            (directory / f"{row.index}.tlog-proof").write_text(proofs[row.index])
        click.echo(
            f"guard: {len(rows)} of them, each with its proof, in {directory}: `guard audit "
            "check-proof` checks one",
            err=True,
        )
    except OSError as error:
        raise AuditFault(
            f"cannot write proofs into {directory}: {error.strerror}; name another directory"
        ) from error


def _follow(directory: Path, filters: Filters, *, as_json: bool, as_csv: bool) -> None:
    def wait() -> bool:
        time.sleep(_FOLLOW_S)
        return True

    rows = follow(directory, filters, wait=wait)
    try:
        if as_csv:
            write_csv(*cells_of(rows))
        elif as_json:
            write_json(rows)
        else:
            for row in rows:
                write_line(row)
    except KeyboardInterrupt:
        return


def _rules(rule: str | None, control: str | None) -> tuple[str, ...] | None:
    """Names of rules of which one must have fired; raises AuditFault for an unknown control."""
    if control is None:
        return (rule,) if rule is not None else None
    config = load_config()
    fleet = Fleet.load(config.path(config.fleet_file)) if config.fleet_file else None
    try:
        rules = bundle_of(config, fleet or Fleet.empty()).rules.values()
    except GuardError as error:
        raise AuditFault(f"the policies that name controls cannot be loaded: {error}") from error
    serving = tuple(one.name for one in rules if control in one.metadata.controls)
    if not serving:
        known = sorted({name for one in rules for name in one.metadata.controls})
        raise AuditFault(
            f"no rule serves the control `{control[:40]}`: expected {', '.join(known) or 'none'}"
        )
    return serving if rule is None else tuple(name for name in serving if name == rule)


def pseudonyms_of(subject: str) -> tuple[str]:
    """What stands in the log for a person: looked up in the key store where there is one."""
    config = load_config()
    directory = config.path(config.keys.directory)
    if not (directory / "subjects.db").exists():  # to ask must not make a store
        return (subject,)
    keys = SubjectKeys.open(directory)
    try:
        return (keys.find(subject) or subject,)
    finally:
        keys.close()
