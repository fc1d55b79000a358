"""Counts, and questions in the user's own SQL: read-only, and no file but the index is seen."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import msgspec

from ...clock import SYSTEM_CLOCK, Clock
from ...errors import AuditFault
from .filters import Filters, terms_of
from .index import Index

__all__ = ["GROUPS", "Table", "counts", "select"]

# What can be counted by: name, and how the index says it. `label.KEY` comes on top.
GROUPS: Final = {
    "day": "strftime(timestamp, '%Y-%m-%d')", "hour": "strftime(timestamp, '%Y-%m-%d %H:00')",
    "month": "strftime(timestamp, '%Y-%m')", "tenant": "tenant", "principal": "principal",
    "on_behalf_of": "on_behalf_of", "purpose": "purpose", "tool": "tool", "model": "model",
    "point": "point", "effect": "effect", "kind": "kind", "reason": "unnest(codes)",
    "rule": "regexp_extract(unnest(codes), '^(.*)\\.', 1)", "subject": "unnest(subjects)",
    "revision": "revision", "session": "session_id", "trace": "trace_id", "happened": "happened",
    "error": "error", "approved_by": "approved_by", "masked": "len(masked)",
    "retention": "retention",
}  # fmt: skip
_LABEL: Final = "label."
GROUPS_MAX: Final = 8
ROWS_MAX: Final = 1_000_000
_SQL_CHARS_MAX: Final = 100_000


class Table(msgspec.Struct, frozen=True):
    """An answer that is no entry."""

    columns: tuple[str, ...]
    rows: list[tuple[Any, ...]]


def counts(
    index: Index, filters: Filters, fields: Sequence[str], *, clock: Clock = SYSTEM_CLOCK
) -> Table:
    """How many entries fit, by each combination of `fields`, the most first; raises AuditFault."""
    terms = terms_of(filters, clock.now_ns())
    if any(term.sql is None for term in terms):
        raise AuditFault("a text cannot be counted: the index holds no payloads; leave one out")
    if not 0 < len(fields) <= GROUPS_MAX:
        raise AuditFault(f"expected 1 to {GROUPS_MAX} fields to count by, not {len(fields)}")
    values: list[Any] = []
    chosen = []
    for number, field in enumerate(fields):
        if field.startswith(_LABEL):
            values.append(field.removeprefix(_LABEL))
            chosen.append(f"labels[?] AS g{number}")
        elif field in GROUPS:
            chosen.append(f"{GROUPS[field]} AS g{number}")
        else:
            raise AuditFault(
                f"unknown field `{field[:40]}` to count by: expected {', '.join(GROUPS)} "
                "or label.KEY"
            )
    where = " AND ".join(f"({term.sql})" for term in terms) or "true"
    values += [value for term in terms for value in term.values]
    names = ", ".join(f"g{number}" for number in range(len(fields)))
    most = f"LIMIT {int(filters.limit)}" if filters.limit is not None else ""
    rows = index.rows(
        f"SELECT {names}, count(*) AS count FROM (SELECT {', '.join(chosen)} FROM entries "
        f"WHERE {where}) GROUP BY {names} ORDER BY count DESC, {names} {most}",
        values,
    )
    return Table((*fields, "count"), rows)


def select(index: Index, sql: str, *, rows_max: int = ROWS_MAX) -> Table:
    """The answer to one SELECT (or WITH) over the table `entries`; raises AuditFault.

    (1) one statement that DuckDB's own parser calls a SELECT;
    (2) on a connection that sees no file but the index, and whose settings are locked;
    (3) in a transaction that may only read.
    """
    import duckdb

    if len(sql) > _SQL_CHARS_MAX:
        raise AuditFault(f"the SQL has {len(sql)} characters: expected {_SQL_CHARS_MAX} at most")
    try:
        statements = duckdb.extract_statements(sql)
        if len(statements) != 1 or statements[0].type != duckdb.StatementType.SELECT:  # (1)
            raise AuditFault(
                "expected one SELECT over the table `entries`, and nothing that writes, loads or "
                'sets: such as --sql "select tool, count(*) from entries group by tool"'
            )
        connection = index.connection.cursor()  # (2)
        connection.execute("BEGIN TRANSACTION READ ONLY")  # (3)
        answer = connection.execute(statements[0])
        columns = tuple(column[0] for column in answer.description or ())
        rows = answer.fetchmany(rows_max + 1)
    except duckdb.Error as error:
        # The first line only: the others repeat the question with a mark under it.
        raise AuditFault(f"the SQL was refused: {str(error).splitlines()[0]}") from error
    if len(rows) > rows_max:
        raise AuditFault(f"the answer has more than {rows_max} rows: add a LIMIT")
    return Table(columns, rows)
