"""One part of the index: a Parquet file made of some consecutive entries of one segment.

Payloads are not in it. Each row says where its line is, and the hash of each line is compared with
the tree while the part is made.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

from ...errors import AuditFault
from ..entry import ENTRY_VERSION, NOT_AN_ENTRY, Entry
from ..files import MEMBER_LINES
from .blocks import blocks_from
from .signed import Signed

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

__all__ = ["FIELDS", "IS_ENTRY", "Piece", "SELECT", "cut", "fill", "literal"]

FIELDS: Final = {
    "v": "INTEGER", "kind": "VARCHAR", "decision_id": "VARCHAR", "timestamp_ns": "BIGINT",
    "ref": "VARCHAR", "session_id": "VARCHAR", "session_seq": "BIGINT", "run_id": "VARCHAR",
    "trace_id": "VARCHAR", "point": "VARCHAR",
    "principal": "STRUCT(id VARCHAR, on_behalf_of VARCHAR, roles VARCHAR[])", "tenant": "VARCHAR",
    "purpose": "VARCHAR", "tool": "VARCHAR", "model": "VARCHAR", "effect": "VARCHAR",
    "reasons": "STRUCT(code VARCHAR, effect VARCHAR)[]", "faults": "STRUCT(code VARCHAR)[]",
    "bundles": "STRUCT(guard STRUCT(revision VARCHAR))", "masked": "VARCHAR[]",
    "sealed": "VARCHAR[]", "subjects": "VARCHAR[]", "labels": "MAP(VARCHAR, VARCHAR)",
    "cost_usd": "DOUBLE", "tokens": "BIGINT", "happened": "BOOLEAN", "error": "VARCHAR",
    "review_id": "VARCHAR", "approved_by": "VARCHAR", "retention": "VARCHAR", "notes": "VARCHAR[]",
    "metrics": "STRUCT(elapsed_ns BIGINT)", "detail": "JSON", "writer": "VARCHAR",
    "writer_seq": "BIGINT",
}  # fmt: skip
# What is not one is a line that was tampered with, and is counted.
IS_ENTRY: Final = f"v = {ENTRY_VERSION} AND kind IS NOT NULL AND timestamp_ns IS NOT NULL"
_COLUMNS: Final = "{" + ", ".join(f"{name}: '{kind}'" for name, kind in FIELDS.items()) + "}"
# Defaults are left out of the log, and stand in the index. `?` are: the first index, where the
# blocks begin, and the file. Hashes stand for whole ids, of which guard makes 128 bits at random:
# to look for one, or to join a million, costs a tenth of what the texts cost.
SELECT: Final = f"""
SELECT ? + n AS index, list_extract(?::BIGINT[], n // {MEMBER_LINES} + 1) AS block,
    (n % {MEMBER_LINES})::USMALLINT AS line,
    make_timestamp(timestamp_ns // 1000) AS timestamp, timestamp_ns, v, kind, decision_id,
    hash(decision_id) AS decision_hash, ref, hash(ref) AS ref_hash, session_id,
    coalesce(session_seq, 0) AS session_seq, run_id, trace_id, coalesce(point, '') AS point,
    principal.id AS principal, principal.on_behalf_of AS on_behalf_of,
    coalesce(principal.roles, []) AS roles, tenant, purpose, tool, model,
    coalesce(effect, 'none') AS effect, coalesce(reasons, []) AS reasons,
    list_transform(coalesce(reasons, []), lambda reason: reason.code) AS codes,
    list_transform(coalesce(faults, []), lambda fault: fault.code) AS faults,
    coalesce(bundles.guard.revision, '') AS revision, coalesce(masked, []) AS masked,
    coalesce(sealed, []) AS sealed, coalesce(subjects, []) AS subjects, labels, cost_usd, tokens,
    happened, error, review_id, approved_by, retention, coalesce(notes, []) AS notes,
    metrics.elapsed_ns AS elapsed_ns, detail::VARCHAR AS detail, writer, writer_seq
FROM (
    SELECT *, row_number() OVER () - 1 AS n
    FROM read_json(?, format = 'newline_delimited', ignore_errors = true, columns = {_COLUMNS})
)
"""


class Piece(msgspec.Struct, frozen=True, kw_only=True):
    """Lines that were taken out of a segment into a file of their own, to be indexed."""

    first: int
    count: int
    end: int  # byte of the segment after the last of them
    blocks: list[int]  # bytes of the segment where each block of them begins
    changed: int  # lines that are not as they were signed


def cut(
    segment: Path, target: Path, *, first: int, begin: int, signed: Signed, below: int | None = None
) -> Piece:
    """Copy whole lines from byte `begin` on, up to the entry `below`, and compare their hashes."""
    count = changed = 0
    end = begin
    starts: list[int] = []
    with target.open("wb") as out:
        for block in blocks_from(segment, begin):
            lines = block.lines
            if below is not None:
                lines = lines[: max(0, below - first - count)]
            if not lines:
                break
            starts.append(block.begin)
            end = block.end if lines is block.lines else block.begin + sum(map(len, lines))
            out.writelines(lines)
            changed += signed.changed(lines, first + count)
            count += len(lines)
    return Piece(first=first, count=count, end=end, blocks=starts, changed=changed)


def fill(connection: DuckDBPyConnection, into: str | Path, source: Path, piece: Piece) -> int:
    """Index the lines of `source` in a table or a Parquet file; how many of them are no entries.

    Raises AuditFault where there are entries of a newer version.
    """
    values = (piece.first, piece.blocks, str(source))
    if isinstance(into, Path):
        made = f"read_parquet({literal(into)})"
        to = f"COPY ({SELECT}) TO {literal(into)} (FORMAT parquet, COMPRESSION zstd)"
    else:
        made, to = into, f"CREATE OR REPLACE TABLE {into} AS {SELECT}"
    connection.execute(to, values)
    ((count, good, newest),) = connection.execute(
        f"SELECT count(*), count(*) FILTER ({IS_ENTRY}), max(v) FROM {made}"
    ).fetchall()
    if newest is not None and newest > ENTRY_VERSION:
        raise AuditFault(
            f"the log holds entries of version {newest}, and this guard reads {ENTRY_VERSION}: "
            "use a newer one"
        )
    if count != piece.count:
        # A line that is empty or not JSON: the numbers of those behind it would be wrong.
        _clean(source)
        return fill(connection, into, source, piece)
    return int(count - good)


def literal(text: str | Path) -> str:
    """A text of ours, such as a path, as SQL."""
    return "'" + str(text).replace("'", "''") + "'"


def _clean(source: Path) -> None:
    """Put `{}` in the place of each line that is no entry."""
    decode = msgspec.json.Decoder(Entry).decode
    lines = source.read_bytes().split(b"\n")[:-1]
    with source.open("wb") as out:
        for line in lines:
            try:
                decode(line)
            except NOT_AN_ENTRY:
                line = b"{}"
            out.write(line + b"\n")
