"""Asking the log: filters, the index, reports, SQL, proofs, and following what comes."""

from __future__ import annotations

from .filters import Filters, moment_of
from .follow import follow
from .index import Index, Progress
from .parquet import write_parquet
from .reports import REPORTS, Report, run
from .rows import Row, Rows, query, show
from .signed import Signed
from .sql import GROUPS, Table, counts, select

__all__ = [
    "Filters", "GROUPS", "Index", "Progress", "REPORTS", "Report", "Row", "Rows", "Signed", "Table",
    "counts", "follow", "moment_of", "query", "run",
    "select", "show", "write_parquet",
]  # fmt: skip
