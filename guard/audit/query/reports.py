"""Reports by name: what a person who answers for the agents really asks, in plain words."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import msgspec

from ...clock import SYSTEM_CLOCK, Clock
from ...errors import AuditFault
from ..entry import SEQUENCER
from .filters import Filters, moment_of
from .index import Index
from .rows import Row, query, show
from .sql import Table
from .ungoverned import ungoverned

__all__ = ["REPORTS", "Report", "report_named", "run"]

_NS_MAX: Final = (1 << 63) - 1
_ROWS_MAX: Final = 10_000  # of a report; the most telling come first
_WITHIN: Final = "timestamp_ns BETWEEN $since AND $until"


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """A question: in plain words, with what it has to be given, and how it is answered.

    `sql` or `table` makes a table, `find` gives entries. `takes` names the argument, in brackets
    where it may be left out.
    """

    help: str
    takes: str | None = None
    sql: str = ""
    table: Callable[[Index, int, int], Table] | None = None
    find: Callable[[Index, Filters, str], list[Row]] | None = None


def _traced(index: Index, filters: Filters, wanted: str) -> list[Row]:
    found = query(index.log, msgspec.structs.replace(filters, trace=wanted), index=index)
    rows = list(found)
    if not rows:
        rows = list(query(index.log, msgspec.structs.replace(filters, session=wanted), index=index))
    return rows


def _why(index: Index, filters: Filters, wanted: str) -> list[Row]:
    return show(index.log, wanted, index=index)


def _concerned(index: Index, filters: Filters, wanted: str) -> list[Row]:
    asked = msgspec.structs.replace(filters, subjects=(wanted,))
    return list(query(index.log, asked, index=index))


# What lacks within the period is looked for outside of it too, before it is called a gap.
_GAPS: Final = f"""
WITH entries_then AS (
    SELECT index, session_id, session_seq, writer, writer_seq FROM entries WHERE {_WITHIN}
), odd AS (
    SELECT session_id FROM entries_then WHERE session_id IS NOT NULL
    GROUP BY session_id HAVING count(DISTINCT session_seq) <> max(session_seq) + 1
), sessions AS (
    SELECT session_id, count(DISTINCT session_seq) AS found, max(session_seq) AS high
    FROM entries WHERE session_id IN (SELECT session_id FROM odd) GROUP BY session_id
), writers AS (
    SELECT index, writer, writer_seq, writer_seq - 1 - lag(writer_seq)
        OVER (PARTITION BY writer ORDER BY index) AS missing
    FROM entries_then WHERE writer <> '{SEQUENCER}'
), log AS (
    SELECT min(index) AS low, max(index) AS high, max(index) - min(index) + 1 - count(*) AS missing
    FROM entries_then
)
SELECT 'session' AS what, session_id AS who, high + 1 - found AS missing,
    'between 0 and ' || high AS place
FROM sessions WHERE high + 1 <> found
UNION ALL
SELECT 'writer', writer, missing, 'before ' || writer_seq || ', entry ' || index
FROM writers WHERE missing <> 0
UNION ALL
SELECT 'log', 'entries that expired, or cannot be read', missing, 'from ' || low || ' to ' || high
FROM log WHERE missing <> 0
ORDER BY what, missing DESC, who"""
REPORTS: Final[dict[str, Report]] = {
    "trace": Report(
        takes="TRACE_OR_SESSION",
        help="Every step of one trace or one session, in order, with the reasons: what the agent "
        "asked for, what was answered, and what came of it. Give the id, or its start.",
        find=_traced,
    ),
    "why": Report(
        takes="DECISION",
        help="Why one action was allowed or denied: the decision whole, with the policies that "
        "were in force, the review if there was one, and what happened then. Give the decision "
        "id, or its first characters.",
        find=_why,
    ),
    "denials-by-agent": Report(
        takes="[AGENT]",
        help="Which agents were denied or had something redacted, how often and for which "
        "reason, the most first. With the id of an agent only that one.",
        sql=f"""
SELECT principal AS agent, effect, code AS reason, count(*) AS count,
    count(DISTINCT session_id) AS sessions, min(timestamp) AS first, max(timestamp) AS last
FROM (SELECT *, unnest(CASE WHEN len(codes) > 0 THEN list_transform(list_filter(
          reasons, lambda reason: reason.effect = effect), lambda reason: reason.code)
          ELSE ['(none)'] END) AS code
      FROM entries WHERE effect IN ('deny', 'redact') AND {_WITHIN}
          AND ($wanted = '' OR principal = $wanted))
GROUP BY ALL ORDER BY count DESC, agent, effect, reason""",
    ),
    "effects": Report(
        takes="[TENANT]",
        help="How many steps were allowed, redacted, routed, sent to review and denied, by day, "
        "tenant, tool or model, and by the version of the policies; a result that was not plainly "
        "allowed counts once more. When the policies change, "
        "the two versions stand below each other: that is what the change did.",
        sql=f"""
SELECT strftime(timestamp, '%Y-%m-%d') AS day, tenant, coalesce(tool, model) AS tool,
    replace(revision, 'sha256:', '')[:12] AS policies,
    count(*) FILTER (effect = 'allow') AS allow, count(*) FILTER (effect = 'redact') AS redact,
    count(*) FILTER (effect = 'route') AS route, count(*) FILTER (effect = 'review') AS review,
    count(*) FILTER (effect = 'deny') AS deny
FROM entries WHERE (kind IN ('intent', 'decision') OR (kind = 'outcome' AND effect <> 'allow'))
    AND {_WITHIN} AND ($wanted = '' OR tenant = $wanted)
GROUP BY ALL ORDER BY day DESC, tenant, tool, policies""",
    ),
    "subject": Report(
        takes="PSEUDONYM_OR_ID",
        help="Everything in the log that concerns one person whose data it is, with proof of "
        "erasure if the person was erased: the answer to a request for information.",
        find=_concerned,
    ),
    "reviews": Report(
        takes="[REVIEWER]",
        help="Which reviews were opened, who decided each of them, how, and how long it took. "
        "Those that nobody has answered come first.",
        sql=f"""
WITH asked AS (
    SELECT review_id, min(timestamp) AS opened, any_value(principal) AS agent,
        any_value(coalesce(tool, model)) AS tool
    FROM entries WHERE review_id IS NOT NULL AND effect = 'review' AND {_WITHIN} GROUP BY review_id
), answered AS (
    SELECT review_id, min(timestamp) AS closed, any_value(approved_by) AS reviewer,
        any_value(json_extract_string(detail, '$.answer')) AS answer
    FROM entries WHERE review_id IS NOT NULL AND kind = 'review' GROUP BY review_id
)
SELECT review_id AS review, opened, agent, tool, answer, reviewer,
    round(epoch(closed - opened), 1) AS waited_s
FROM asked LEFT JOIN answered USING (review_id)
WHERE $wanted = '' OR reviewer = $wanted
ORDER BY answer IS NOT NULL, waited_s DESC, opened""",
    ),
    "rules": Report(
        takes="[RULE]",
        help="Which rules fired, how often, and how often a person then let the step go after "
        "all: rules that are overturned again and again are too strict.",
        sql=f"""
WITH fired AS (
    SELECT unnest(reasons) AS reason, review_id, principal, timestamp FROM entries
    WHERE kind IN ('intent', 'decision') AND {_WITHIN}
), approved AS (
    SELECT DISTINCT review_id FROM entries WHERE kind = 'review'
        AND json_extract_string(detail, '$.answer') = 'approved'
)
SELECT reason.code AS rule, reason.effect AS effect, count(*) AS fired,
    count(approved.review_id) AS overturned, count(DISTINCT principal) AS agents,
    min(timestamp) AS first, max(timestamp) AS last
FROM fired LEFT JOIN approved USING (review_id)
WHERE $wanted = '' OR contains('.' || reason.code || '.', '.' || $wanted || '.')
GROUP BY reason.code, reason.effect ORDER BY fired DESC, rule""",
    ),
    "new-tools": Report(
        takes="[AGENT]",
        help="Which agents used a tool or a model for the first time, and how often they were "
        "denied it. A new tool is where an agent begins to do something else.",
        sql="""
SELECT principal AS agent, coalesce(tool, model) AS tool, min(timestamp) AS first,
    count(*) AS asked, count(*) FILTER (effect = 'deny') AS denied
FROM entries WHERE kind IN ('intent', 'decision') AND coalesce(tool, model) IS NOT NULL
    AND ($wanted = '' OR principal = $wanted) AND timestamp_ns <= $until
GROUP BY ALL HAVING min(timestamp_ns) >= $since ORDER BY denied DESC, first DESC""",
    ),
    "ungoverned": Report(
        help="Whether anything was done without a decision, or while guard could not keep its "
        "promises: effects without an outcome, outcomes without a decision, effects although "
        "denied, entries that were lost, and clocks that were set back. An empty report is good.",
        table=ungoverned,
    ),
    "integrity": Report(
        help="Who read or exported the log, opened sealed values, changed keys, erased a person "
        "or removed entries, and what was repaired after a crash. Whether the log is whole is "
        "for `guard audit verify` to say.",
        sql=f"""
SELECT index, timestamp, kind AS what, principal AS who, effect AS answer,
    array_to_string(notes, ', ') AS note, detail
FROM entries WHERE kind IN ('access', 'key_change', 'seal', 'retention', 'erasure', 'recovery',
    'failure') AND {_WITHIN} ORDER BY index""",
    ),
    "latency": Report(
        help="How long decisions took, hour by hour: half of them were faster than p50, and one "
        "in a hundred was slower than p99. Millionths of a second.",
        sql=f"""
SELECT strftime(timestamp, '%Y-%m-%d %H:00') AS hour, count(elapsed_ns) AS decisions,
    round(quantile_cont(elapsed_ns, 0.5) / 1000, 1) AS p50_us,
    round(quantile_cont(elapsed_ns, 0.99) / 1000, 1) AS p99_us,
    round(max(elapsed_ns) / 1000, 1) AS most_us
FROM entries WHERE {_WITHIN} AND elapsed_ns IS NOT NULL GROUP BY hour ORDER BY hour DESC""",
    ),
    "gaps": Report(
        help="Whether a number is missing: of the log, of a session, or of a process that writes. "
        "A missing number is a missing entry. An empty report is good.",
        sql=_GAPS,
    ),
}


def report_named(name: str) -> Report:
    """A report; raises AuditFault."""
    report = REPORTS.get(name)
    if report is None:
        raise AuditFault(f"no report `{name[:40]}`: expected {', '.join(REPORTS)}")
    return report


def run(
    index: Index, name: str, wanted: str = "", *, since: str | None = None,
    until: str | None = None, clock: Clock = SYSTEM_CLOCK,
) -> Table | list[Row]:  # fmt: skip
    """The answer of a report over a period: a table, or entries; raises AuditFault.

    Tables are counted in the index; entries are read from the log.
    """
    report = report_named(name)
    if report.takes is None and wanted:
        raise AuditFault(f"the report {name} takes no `{wanted[:40]}`: leave it out")
    if report.takes is not None and not report.takes.startswith("[") and not wanted:
        raise AuditFault(f"the report {name} needs {report.takes}: guard audit report {name} ...")
    if report.find is not None:
        return report.find(index, Filters(since=since, until=until), wanted)
    now_ns = clock.now_ns()
    since_ns = moment_of(since, now_ns) if since else 0
    until_ns = moment_of(until, now_ns, is_end=True) if until else _NS_MAX
    if report.table is not None:
        return report.table(index, since_ns, until_ns)
    values: dict[str, Any] = {"since": since_ns, "until": until_ns, "wanted": wanted}
    used = {key: value for key, value in values.items() if f"${key}" in report.sql}
    answer = index.connection.cursor().execute(f"{report.sql} LIMIT {_ROWS_MAX}", used)
    columns = tuple(column[0] for column in answer.description or ())
    return Table(columns, answer.fetchall())
