"""python -m bench [--json] [--only NAME] [--check] [--short]"""

from __future__ import annotations

import argparse
import sys
import tomllib
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import msgspec

from . import peer
from .measure import Row, machine
from .rows import ROWS

SAMPLES = 2_000
SAMPLES_SHORT = 60


def main() -> int:
    """Measure, print, and with --check compare with the floors of budgets.toml."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--only", default="", help="one row, or a room such as audit")
    parser.add_argument("--check", action="store_true", help="exit 1 if a row is over its floor")
    parser.add_argument("--short", action="store_true", help="few samples: only that it runs")
    options = parser.parse_args()
    budgets = tomllib.loads((Path(__file__).parent / "budgets.toml").read_text())
    rows: list[Row] = []
    if not options.json:
        print(machine())
        print(f"peer: {peer.NAME} {peer.version() or 'not installed, see the extra [bench]'}")
        print(f"{'row':28}{'clock':>7}{'n':>7}{'p50 us':>10}{'p99 us':>10}{'per s':>11}"
              f"{'floor':>8}  beside")  # fmt: skip
    chosen = [measure for measure, names in ROWS.items() if _is_asked(options.only, names)]
    if not chosen:
        known = ", ".join(name for names in ROWS.values() for name in names)
        print(f"no row `{options.only}`: expected one of {known}", file=sys.stderr)
        return 2
    for measure in chosen:
        for row in measure(SAMPLES_SHORT if options.short else SAMPLES):
            if not _is_asked(options.only, (row.name,)):
                continue
            budget = budgets.get(row.name, {})
            row.budget_us = budget.get("floor_p50_us") if _is_bounded(row, budget) else None
            rows.append(row)
            if not options.json:
                _print(row)
    over = _over(rows, budgets)
    if options.json:
        document = {"machine": machine(), "rows": rows}
        print(msgspec.json.encode(document).decode())
    for complaint in over if options.check else ():
        print(complaint, file=sys.stderr)
    return 1 if options.check and over else 0


def _is_asked(only: str, names: tuple[str, ...]) -> bool:
    """Whether `only` is one of these rows, or the room of one such as `audit` of `audit/append`."""
    return not only or any(
        only == name or name.startswith(f"{only}/") or fnmatchcase(only, name) for name in names
    )


def _is_bounded(row: Row, budget: dict[str, Any]) -> bool:
    return bool(row.clock == budget.get("clock", "cpu"))


def _over(rows: list[Row], budgets: dict[str, Any]) -> list[str]:
    complaints = []
    for row in rows:
        budget = budgets.get(row.name, {})
        if not _is_bounded(row, budget):
            continue
        for key, value in (("floor_p50_us", row.p50_us), ("floor_p99_us", row.p99_us)):
            if key in budget and value > budget[key]:
                complaints.append(f"{row.name}: {value} us is over {key} = {budget[key]}")
    by_name = {row.name: row for row in rows if row.clock == "cpu"}
    for name, base, most in (
        ("call/rules-1000", "call/rules-1", budgets["ratios"]["rules_1000_floor"]),
        ("call/path-10000", "call/path-10", budgets["ratios"]["path_10000_floor"]),
    ):
        if name in by_name and base in by_name:
            ratio = by_name[name].p50_us / by_name[base].p50_us
            if ratio > most:
                complaints.append(f"{name} is {ratio:.2f} x {base}: expected at most {most}")
    return complaints


def _print(row: Row) -> None:
    beside = f"{row.against}: {row.ratio} x" if row.against else row.figure or ""
    floor = f"{row.budget_us:.0f}" if row.budget_us else ""
    print(
        f"{row.name:28}{row.clock:>7}{row.n:>7}{row.p50_us:>10.1f}{row.p99_us:>10.1f}"
        f"{row.per_s:>11.0f}{floor:>8}  {beside}",
        flush=True,
    )


if __name__ == "__main__":
    sys.exit(main())
