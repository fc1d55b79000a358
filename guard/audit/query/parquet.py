"""Entries as a Parquet file, made from the log itself and not from the index."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

import msgspec

from ...errors import AuditFault
from .index import connect
from .part import FIELDS, literal
from .rows import Row

__all__ = ["write_parquet"]


def write_parquet(rows: Iterable[Row], path: Path) -> int:
    """Write entries to a new file; how many they were. Payloads are JSON text. Raises AuditFault.

    What is there is not overwritten.
    """
    columns = {"index": "BIGINT", "signed": "BOOLEAN", **FIELDS, "input": "JSON", "result": "JSON"}
    named = ", ".join(f"{name}: '{kind}'" for name, kind in columns.items())
    lines = path.with_name(f".{path.name}.lines")
    count = 0
    try:
        # Whoever else would make the same file now meets this one.
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    except OSError as error:
        raise AuditFault(f"cannot write {path}: {error.strerror}; name a new file") from error
    try:
        with lines.open("wb") as out:
            for row in rows:
                whole = {**msgspec.to_builtins(row.entry), "index": row.index,
                         "signed": row.is_signed}  # fmt: skip
                out.write(msgspec.json.encode(whole) + b"\n")
                count += 1
        with connect() as connection:
            connection.execute(
                f"COPY (SELECT * FROM read_json(?, format = 'newline_delimited', "
                f"columns = {{{named}}})) TO {literal(path)} (FORMAT parquet, COMPRESSION zstd)",
                [str(lines)],
            )
    except BaseException:
        path.unlink(missing_ok=True)
        raise
    finally:
        lines.unlink(missing_ok=True)
    return count
