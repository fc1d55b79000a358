"""Whether anything was done without a decision, or while guard could not keep its promises."""

from __future__ import annotations

from collections import defaultdict
from typing import Any, Final

from .index import Index
from .sql import Table

__all__ = ["ungoverned"]

# A clock that is set back by less is one that was corrected.
CLOCK_STEP_NS_MIN: Final = 1_000_000_000
_FOUND_MAX: Final = 10_000
_RUNS: Final = frozenset(("allow", "redact", "route"))
_COLUMNS: Final = ("what", "index", "timestamp", "agent", "tool", "decision", "note")
_WITHIN: Final = "timestamp_ns BETWEEN $since AND $until"

# One pass over hashes finds which decisions may be odd, and they are few; the texts are compared
# afterwards, for those only.
_ODD: Final = f"""
SELECT CASE WHEN kind = 'outcome' THEN ref_hash ELSE decision_hash END AS id, min(index),
    max(index), bool_or(kind <> 'outcome') FROM entries
WHERE kind IN ('intent', 'decision', 'outcome') AND timestamp_ns >= $since
GROUP BY id
HAVING (bool_or(kind = 'intent' AND effect IN ('allow', 'redact', 'route'))
        AND NOT bool_or(kind = 'outcome'))
    OR (bool_or(kind = 'outcome') AND NOT bool_or(kind <> 'outcome'))
    OR (bool_or(effect = 'deny' AND kind = 'intent') AND bool_or(happened))
LIMIT {_FOUND_MAX}"""
# An outcome of the period may belong to an intent before it.
_EARLIER: Final = """
SELECT index FROM entries
WHERE timestamp_ns < $since AND list_contains($ids::UBIGINT[], decision_hash)"""
_STORY: Final = f"""
SELECT index, timestamp, principal, coalesce(tool, model), decision_id, ref, kind, effect,
    happened, {_WITHIN} FROM entries
WHERE kind IN ('intent', 'decision', 'outcome') AND index IN (SELECT unnest($places::BIGINT[]))"""
_NOTES: Final = f"""
SELECT CASE WHEN kind IN ('failure', 'recovery') THEN kind ELSE 'failing open' END, index,
    timestamp, principal, coalesce(tool, model), decision_id, array_to_string(notes, ', ')
FROM entries WHERE len(notes) > 0 AND {_WITHIN} AND (kind IN ('failure', 'recovery')
    OR len(list_filter(notes, lambda note: starts_with(note, 'audit.on_failure='))) > 0)
LIMIT {_FOUND_MAX}"""
_STEPS: Final = f"""
SELECT place, back_ns FROM (
    SELECT index AS place,
        lag(timestamp_ns) OVER (PARTITION BY writer ORDER BY index) - timestamp_ns AS back_ns
    FROM entries WHERE {_WITHIN}
) WHERE back_ns > {CLOCK_STEP_NS_MIN} LIMIT {_FOUND_MAX}"""
_STEPPED: Final = """
SELECT 'clock set back', index, timestamp, principal, NULL, decision_id, NULL FROM entries
WHERE index IN (SELECT unnest($places::BIGINT[]))"""


def ungoverned(index: Index, since_ns: int, until_ns: int) -> Table:
    """What is odd in a period, in the order of the log."""

    def rows(sql: str, **values: Any) -> list[tuple[Any, ...]]:
        return index.connection.cursor().execute(sql, values).fetchall()

    period = {"since": since_ns, "until": until_ns}
    found = rows(_NOTES, **period)
    if steps := dict(rows(_STEPS, **period)):
        stepped = rows(_STEPPED, places=list(steps))
        found += [(*row[:-1], f"{steps[row[1]] / 1e9:.3f} s") for row in stepped]
    odd = rows(_ODD, since=since_ns)
    places = {place for _, first, last, _ in odd for place in (first, last)}
    if strays := [key for key, _, _, is_asked in odd if not is_asked and key is not None]:
        places |= {row[0] for row in rows(_EARLIER, since=since_ns, ids=strays)}
    if places:
        found += _odd(rows(_STORY, **period, places=sorted(places)))
    return Table(_COLUMNS, sorted(found, key=lambda row: row[1])[:_FOUND_MAX])


def _odd(story: list[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    """What is odd of these decisions and their outcomes."""
    asked = {row[4]: (row[6], row[7]) for row in story if row[6] != "outcome"}
    outcomes: dict[str | None, int] = defaultdict(int)
    for row in story:
        if row[6] == "outcome":
            outcomes[row[5]] += 1
    found = []
    for number, moment, agent, tool, own, ref, kind, effect, happened, is_within in story:
        what = None
        if kind == "intent" and effect in _RUNS and own not in outcomes:
            what = "no outcome"
        elif kind == "outcome" and ref not in asked:
            what = "no decision"
        elif kind == "outcome" and happened and asked[ref] == ("intent", "deny"):
            what = "made although denied"
        if what is not None and is_within:
            found.append((what, number, moment, agent, tool, own, ref))
    return found
