"""`guard demo`: a governed agent over a real mailbox, ledger and customer table, told as a story.

The scenes come from an adapter, by entry point; the records are read back from the log on disk,
as an auditor would, after the agent's process has signed and closed it.
"""

from __future__ import annotations

import importlib.metadata
import json
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import click
import msgspec
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from ..audit.entry import Entry
from ..audit.query import Filters, query
from ..audit.report import Damage, Report
from ..audit.verify import verify
from ..errors import ConfigError

__all__ = ["demo"]

Scene = dict[str, Any]

_GROUP: Final = "guard.demos"
_EFFECTS: Final = ("allow", "redact", "route", "review", "deny")
_COLOURS: Final = {
    "allow": "green", "redact": "cyan", "route": "blue", "review": "yellow", "deny": "bold red",
}  # fmt: skip
_PRE_POINTS: Final = ("pre_model_call", "pre_tool_call")
_ROUTED: Final = "routed_from="
# The record that the forger changes, and one byte of it: EUR 1840 becomes EUR 9840.
_FORGED_TOOL: Final = "pay_invoice"
_TRUE_BYTES: Final = b'"amount":1840'
_FORGED_BYTES: Final = b'"amount":9840'


@click.command()
@click.option("--json", "as_json", is_flag=True, help="One JSON object with the same facts.")
def demo(*, as_json: bool) -> None:
    """Run a governed agent over a real mailbox, ledger and customer table.

    Needs no key and no network: the model follows a script, everything else is real. Shows all five
    effects, and what the log says of them, in a few seconds.

    Exit codes: 0 every claim was checked and is true, 1 one is not, 2 the demo cannot run.
    """
    play = _scenes()
    directory = Path(tempfile.mkdtemp(prefix="guard-demo-"))
    # Wide enough for one line a decision; a terminal of its own width is respected.
    width = None if sys.stdout.isatty() else 116
    console = Console(quiet=as_json, highlight=False, width=width)
    facts: dict[str, bool] = {}
    scenes = []
    console.print()
    for number, scene in enumerate(play(directory), 1):
        _show_scene(console, number, scene, directory)
        facts.update(scene["facts"])
        scenes.append(scene)
    audit = directory / "audit"
    entries = [row.entry for row in query(audit, Filters())]
    seen = {effect: sum(e.effect == effect for e in entries) for effect in _EFFECTS}
    facts.update({f"a decision to {effect} is in the log": seen[effect] > 0 for effect in seen})
    overhead = _overhead(entries)
    _show_log(console, entries, seen, overhead)
    report, damage = verify(audit), _forge(audit, directory / "audit-forged")
    facts["the log verifies"] = report.ok
    facts["the forged copy does not, and its entry is named"] = (
        damage is not None and damage.decision_id == _target(entries).decision_id
    )
    _show_proof(console, report, damage, directory)
    is_true = all(facts.values())
    _show_end(console, facts, directory)
    if as_json:
        result = {
            "ok": is_true, "directory": str(directory), "scenes": scenes, "facts": facts,
            "effects": seen, "entries": len(entries), "overhead_us": overhead,
            "verified": report.ok, "forgery": msgspec.to_builtins(damage),
        }  # fmt: skip
        click.echo(json.dumps(result))
    sys.exit(0 if is_true else 1)


def _scenes() -> Callable[[Path], Iterator[Scene]]:
    found = sorted(importlib.metadata.entry_points(group=_GROUP), key=lambda one: one.name)
    for one in found:
        try:
            play: Callable[[Path], Iterator[Scene]] = one.load()
        except ImportError:
            continue  # its framework is not installed; another may be
        return play
    raise ConfigError("the demo needs LangChain: install the extra [langchain] of stepguard")


# -- showing ---------------------------------------------------------------------------------------


def _show_scene(console: Console, number: int, scene: Scene, directory: Path) -> None:
    console.print(Text(f"{number}. {scene['title']}", style="bold"))
    console.print(Padding(Text(scene["story"]), (0, 0, 0, 3)))
    console.print()
    rows = query(directory / "audit", Filters(session=scene["session"]))
    console.print(Padding(_decisions([row.entry for row in rows]), (0, 0, 0, 3)))
    for fact, is_true in scene["facts"].items():
        mark = Text("true   ", style="green") if is_true else Text("UNTRUE ", style="bold red")
        console.print(Padding(mark + Text(fact), (0, 0, 0, 3)))
    console.print()


def _decisions(entries: list[Entry]) -> Table:
    """One line a decision: when, where, what, the effect, why in plain words, and what it cost."""
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim", expand=True)
    table.add_column("time")
    table.add_column("who")
    table.add_column("point")
    table.add_column("what")
    table.add_column("effect")
    table.add_column("why", ratio=1)
    table.add_column("us", justify="right")
    waiting: set[str] = set()
    for entry in entries:
        is_again = entry.review_id in waiting
        waiting |= {entry.review_id} if entry.review_id else set()
        table.add_row(
            entry.timestamp[11:19],
            entry.approved_by or entry.principal["id"].rpartition(":")[2],
            entry.point.removesuffix("_call").replace("_", " "),
            entry.tool or entry.model or "",
            Text(entry.effect, style=_COLOURS[entry.effect]),
            Text("still waits: the run was resumed with the answer" if is_again else _why(entry)),
            str(entry.metrics["elapsed_ns"] // 1_000),
        )
    return table


def _why(entry: Entry) -> str:
    if entry.approved_by:
        return "approved by a person, and decided again"
    if entry.point not in _PRE_POINTS and entry.effect == "allow":
        return ""  # nothing was found, and nobody asks why
    for note in entry.notes:
        if note.startswith(_ROUTED):
            return f"{note.removeprefix(_ROUTED)} is retired or not yet in use"
    deciding = [r for r in entry.reasons if r["effect"] == entry.effect]
    said = [r["message"] for r in deciding if r["stage"] == "policy"] or [
        r["message"] for r in deciding
    ]
    return "; ".join(said)


def _overhead(entries: list[Entry]) -> dict[str, float]:
    """Time of the decisions, in microseconds, from the records themselves."""
    spent = sorted(
        entry.metrics["elapsed_ns"] / 1_000 for entry in entries if "elapsed_ns" in entry.metrics
    )
    return {
        "total": round(sum(spent), 1),
        "per_decision_mean": round(sum(spent) / len(spent), 1),
        "per_decision_median": round(spent[len(spent) // 2], 1),
        "per_decision_max": round(spent[-1], 1),
    }


def _show_log(
    console: Console, entries: list[Entry], seen: dict[str, int], overhead: dict[str, float]
) -> None:
    console.print(Text("What the log says", style="bold"))
    counts = Text("   ")
    for effect, count in seen.items():
        counts.append(f"{effect} {count}   ", style=_COLOURS[effect])
    console.print(Text(f"   {len(entries)} records, each redacted before it was stored"))
    console.print(counts)
    console.print(
        f"   {overhead['per_decision_median']:.0f} us a decision (median), "
        f"{overhead['total'] / 1_000:.1f} ms for all of them together"
    )
    console.print()


def _show_proof(console: Console, report: Report, damage: Damage | None, directory: Path) -> None:
    console.print(Text("Was it changed?", style="bold"))
    state = "nothing was changed" if report.ok else "DAMAGED"
    console.print(f"   the log: {report.entries} records, {state}")
    if damage is not None:
        console.print("   a copy in which a forger made EUR 1840 into EUR 9840, one byte:")
        console.print(
            Text(
                f"   record {damage.index}, decision {(damage.decision_id or '')[:12]}: "
                f"{damage.detail}",
                style="bold red",
            )
        )
    console.print()


def _show_end(console: Console, facts: dict[str, bool], directory: Path) -> None:
    untrue = [fact for fact, is_true in facts.items() if not is_true]
    if untrue:
        console.print(Text(f"{len(untrue)} of {len(facts)} claims are untrue:", style="bold red"))
        for fact in untrue:
            console.print(f"   {fact}")
    else:
        console.print(Text(f"All {len(facts)} claims were checked and are true.", style="green"))
    console.print("Look around:")
    for verb in ("query --effect deny", "verify"):
        console.print(f"   guard audit {verb} --dir {directory / 'audit'}", soft_wrap=True)


# -- forging ---------------------------------------------------------------------------------------


def _target(entries: list[Entry]) -> Entry:
    """The record of the payment that was made: its intent, with the approval."""
    return next(e for e in entries if e.tool == _FORGED_TOOL and e.approved_by)


def _forge(audit: Path, copy: Path) -> Damage | None:
    """Change one byte of the payment's record in a copy of the log; what verification names."""
    shutil.copytree(audit, copy)
    approved = b'"approved_by":"'
    for path in sorted(path for path in copy.rglob("*") if path.is_file()):
        lines = path.read_bytes().splitlines(keepends=True)
        for index, line in enumerate(lines):
            if _TRUE_BYTES in line and approved in line:
                lines[index] = line.replace(_TRUE_BYTES, _FORGED_BYTES)
                path.write_bytes(b"".join(lines))
                damages = verify(copy).damages
                return next((one for one in damages if one.decision_id), None)
    return None
