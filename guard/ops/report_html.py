"""The report of an evidence pack: one HTML page for people, with charts, that prints well.

INVARIANT: nothing of an entry gets onto the page but through `_text`: entries are written by
whoever attacks the agent. The page has no script and loads nothing, and says so to the browser.
"""

from __future__ import annotations

import html
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from .survey import Survey
from .svg import columns, rows

__all__ = ["page"]

_SHOWN_MAX: Final = 15  # names in a chart or a list; the rest is one line
_CHARS_MAX: Final = 200
# C0 but tab and newline, DEL, C1, line separators, and the marks that turn text around.
_CONTROLS: Final = re.compile(
    r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
)
_EFFECTS: Final = ("allow", "redact", "route", "review", "deny", "other")
_S_UNITS: Final = ((86_400, "d"), (3_600, "h"), (60, "min"), (1, "s"))
_STYLE: Final = """
:root{--allow:#4a7f5c;--redact:#8a9a3b;--route:#4b7ea8;--review:#c98a1b;--deny:#b23a3a;--other:#888}
body{font:15px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}
h1{font-size:1.6rem}h2{font-size:1.2rem;margin-top:2.2rem;border-bottom:1px solid #ccc}
table{border-collapse:collapse;width:100%;margin:.6rem 0}
th,td{text-align:left;vertical-align:top;padding:.25rem .5rem;border-bottom:1px solid #ddd}
td,th,p{overflow-wrap:anywhere}td.n{text-align:right;white-space:nowrap}
svg{width:100%;height:auto;font:11px system-ui,sans-serif}svg text{fill:#333}
.allow{fill:var(--allow)}.redact{fill:var(--redact)}.route{fill:var(--route)}
.review{fill:var(--review)}.deny{fill:var(--deny)}.other{fill:var(--other)}
.damaged{border:3px solid var(--deny);padding:.5rem 1rem}.none{color:#777}.small{font-size:.85em}
@page{margin:18mm}
@media print{body{max-width:none;margin:0;font-size:10pt}h2{break-after:avoid}
tr,svg,.keep{break-inside:avoid}thead{display:table-header-group}*{print-color-adjust:exact}}
"""


def page(manifest: Mapping[str, Any], survey: Survey) -> str:
    """The whole page."""
    title = f"Evidence: {survey.regime.title}"
    parts = [
        f"<h1>{_text(title)}</h1>",
        _state(manifest["log_when_exported"]),
        _about(manifest),
        f"<p>{_text(survey.regime.note, _CHARS_MAX * 10)}</p>",
        "<h2>Requirements</h2>",
        _requirements(survey),
        *_charts(survey, with_reasons=manifest["subject"] is None),
        "<h2>Policies in force</h2>",
        _policies(manifest["policies"], survey.revisions),
        "<h2>Kinds of entries</h2>",
        _table(("kind", "entries"), _top(survey.kinds)),
        "<p class=small>How to verify what is said here: README.txt beside this page.</p>",
    ]
    body = "\n".join(parts)
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta http-equiv="Content-Security-Policy" '
        "content=\"default-src 'none'; style-src 'unsafe-inline'\">"
        '<meta name="viewport" content="width=device-width">'
        f"<title>{_text(title)}</title><style>{_STYLE}</style></head>\n<body>\n{body}\n</body></html>\n"
    )


def _state(found: Mapping[str, Any]) -> str:
    notes = "".join(f"<p class=small>{_text(note, _CHARS_MAX * 5)}</p>" for note in found["notes"])
    if found["is_whole"]:
        return f"<p>The log was verified when this pack was made, and is whole.</p>{notes}"
    damages = [(damage["kind"], damage["entry"]) for damage in found["damages"]]
    return (
        "<div class=damaged><p><strong>The log was damaged when this pack was made.</strong> "
        "What these findings concern proves nothing.</p>"
        f"{_table(('damage', 'entry'), damages)}{notes}</div>"
    )


def _about(manifest: Mapping[str, Any]) -> str:
    entries, log, found = manifest["entries"], manifest["log"], manifest["log_when_exported"]
    lines = [
        ("Time (UTC)", f"{manifest['since']} to {manifest['until']}"),
        ("Entries", f"{entries['count']}, numbers {entries['first']} to {entries['last']}"),
        ("First and last", f"{entries['first_at']}, {entries['last_at']}"),
        ("Data subject", manifest["subject"]),
        ("Made", f"{manifest['exported_at']} by {manifest['by']}: {manifest['reason']}"),
        ("Log", f"{log['origin']}, {log['size']} entries signed, root {log['root']}"),
        ("Key", "; ".join(log["keys"])),
        ("Witnessed", f"{found['witnessed_below']} of {log['size']} entries"),
        ("Intents without outcome", found["intents_without_outcome"]),
    ]  # fmt: skip
    return _table(None, [line for line in lines if line[1] is not None])


def _requirements(survey: Survey) -> str:
    found = zip(survey.regime.requirements, survey.evidence, strict=True)
    return _table(
        ("requirement", "asks", "entries", "they show", "they do not show"),
        [
            (one.id, one.asks, count or "none", one.shows if count else "", one.lacks)
            for one, (count, _) in found
        ],
    )


def _charts(survey: Survey, *, with_reasons: bool) -> Iterable[str]:
    yield "<h2>Effects per day</h2>"
    yield columns(_days(survey.effects_by_day), _EFFECTS, escape=_text)
    yield "<h2>Denials by agent</h2>"
    yield rows(_top(survey.denials_by_agent), "deny", escape=_text)
    if with_reasons:
        yield "<h2>Denials by reason</h2>"
        yield rows(_top(survey.denials_by_reason), "deny", escape=_text)
    yield "<h2>Steps by tool or model</h2>"
    yield rows(_top(survey.steps_by_tool), "route", escape=_text)
    yield "<h2>Reviews and their delay</h2>"
    answers = ", ".join(f"{_text(name)}: {count}" for name, count in _top(survey.answers))
    yield (
        f"<p>{survey.reviews_opened} opened, {survey.reviews_unanswered} without an answer in this "
        f"pack. Answers: {answers or 'none'}.</p>"
    )
    yield rows(_buckets(survey.review_delays_s, _seconds), "review", escape=_text)
    yield "<h2>How long decisions took</h2>"
    yield rows(_buckets(survey.latencies_us, _microseconds), "allow", escape=_text)


def _days(effects_by_day: Mapping[str, Counter[str]]) -> list[tuple[str, dict[str, int]]]:
    """Effects by day, or by as many days together as fit into one chart."""
    days = sorted(effects_by_day)
    together = -(-len(days) // 60) or 1
    bars = []
    for start in range(0, len(days), together):
        counts: Counter[str] = Counter()
        for day in days[start : start + together]:
            for effect, count in effects_by_day[day].items():
                counts[effect if effect in _EFFECTS else "other"] += count
        bars.append((days[start], dict(counts)))
    return bars


def _top(counter: Counter[str]) -> list[tuple[str, int]]:
    ranked = sorted(counter.items(), key=lambda item: (-item[1], item[0]))
    rest = sum(count for _, count in ranked[_SHOWN_MAX:])
    return ranked[:_SHOWN_MAX] + ([(f"{len(ranked) - _SHOWN_MAX} others", rest)] if rest else [])


def _buckets(counter: Counter[int], unit: Any) -> list[tuple[str, int]]:
    if not counter:
        return []
    return [
        (f"up to {unit(1 << number)}", counter[number])
        for number in range(min(counter), max(counter) + 1)
    ]


def _seconds(seconds: int) -> str:
    size, unit = next((size, unit) for size, unit in _S_UNITS if seconds >= size)
    return f"{seconds / size:.3g} {unit}"


def _microseconds(us: int) -> str:
    return f"{us} us" if us < 1_000 else f"{us / 1_000:.3g} ms"


def _policies(policies: Mapping[str, Sequence[str]], revisions: Counter[str]) -> str:
    decided: Counter[str] = Counter()
    for revision, count in revisions.items():
        decided[revision.removeprefix("sha256:")] += count
    lines = [
        (revision, decided[revision.removeprefix("sha256:")], where)
        for state, where in (("kept", "in policies/"), ("missing", "NOT KEPT: not in this pack"))
        for revision in policies[state]
    ]
    return _table(("revision", "entries", "sources and tests"), lines)


def _table(head: Sequence[str] | None, lines: Iterable[Sequence[Any]]) -> str:
    body = "".join(f"<tr>{''.join(map(_cell, line))}</tr>" for line in lines)
    if not body:
        return "<p class=none>none</p>"
    names = "".join(f"<th>{name}</th>" for name in head or ())
    return f"<table><thead><tr>{names}</tr></thead><tbody>{body}</tbody></table>"


def _cell(value: Any) -> str:
    if isinstance(value, int):
        return f"<td class=n>{value}</td>"
    return f"<td>{_text(value, _CHARS_MAX * 5)}</td>"


def _text(value: Any, chars_max: int = _CHARS_MAX) -> str:
    """Anything, as text of a page: bounded, without control characters, escaped."""
    text = str(value)
    if len(text) > chars_max:
        text = text[: chars_max - 1] + "\N{HORIZONTAL ELLIPSIS}"
    return html.escape(_CONTROLS.sub("\N{REPLACEMENT CHARACTER}", text), quote=True)
