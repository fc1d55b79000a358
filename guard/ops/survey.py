"""What the entries of a pack say together: counts for people, and evidence for requirements.

Everything is bounded, however many entries there are and whatever they hold.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from typing import Any, Final

from ..audit.entry import Entry
from .regimes import Regime

__all__ = ["BUCKETS", "CITED_MAX", "NAMES_MAX", "Survey"]

# Entries that a requirement names; the rest is counted.
CITED_MAX: Final = 100
# Names, days and revisions that are told apart; those after them count as one.
NAMES_MAX: Final = 1_000
NAME_CHARS_MAX: Final = 120
OTHERS: Final = "(others)"
# Reviews without an answer that are remembered, to find its delay.
_OPEN_MAX: Final = 10_000
# Bucket n is for up to 2**n microseconds (of latency: 8 s) or seconds (of delay: 97 days).
BUCKETS: Final = 24
_NS_PER_US: Final = 1_000
_NS_PER_S: Final = 1_000_000_000
_DAY_CHARS: Final = len("2026-11-21")


class Survey:
    """Takes entries in their order with `add`."""

    def __init__(self, regime: Regime, *, cited_max: int = CITED_MAX) -> None:
        self.regime = regime
        self.count = 0
        self.ends: list[tuple[int, int]] = []  # index and time of the first and of the last
        self.effects_by_day: dict[str, Counter[str]] = {}
        self.kinds: Counter[str] = Counter()
        self.denials_by_agent: Counter[str] = Counter()
        self.denials_by_reason: Counter[str] = Counter()
        self.steps_by_tool: Counter[str] = Counter()
        self.revisions: Counter[str] = Counter()
        self.answers: Counter[str] = Counter()
        self.review_delays_s: Counter[int] = Counter()  # by bucket
        self.latencies_us: Counter[int] = Counter()  # by bucket
        self.evidence: list[tuple[int, list[int]]] = [(0, []) for _ in regime.requirements]
        self._cited_max = cited_max
        self._opened_ns: OrderedDict[str, int] = OrderedDict()
        self.reviews_opened = 0

    def add(self, index: int, entry: Entry) -> None:
        """One more entry."""
        self.count += 1
        place = (index, entry.timestamp_ns)
        self.ends = [self.ends[0] if self.ends else place, place]
        _count(self.kinds, entry.kind)
        for number, requirement in enumerate(self.regime.requirements):
            if requirement.is_shown_by(entry):
                count, cited = self.evidence[number]
                if len(cited) < self._cited_max:
                    cited.append(index)
                self.evidence[number] = (count + 1, cited)
        if entry.revision:
            _count(self.revisions, entry.revision)
        if entry.kind in ("intent", "decision"):
            self._decided(entry)
        elif entry.kind == "outcome" and entry.effect != "allow":
            self._effect(entry)  # a result that was redacted, held or withheld
        if entry.kind == "review":
            self._answered(entry)
        elif entry.effect == "review" and entry.review_id is not None:
            self._opened(entry.review_id, entry.timestamp_ns)

    @property
    def cited(self) -> set[int]:
        """Entries that a requirement names."""
        return {index for _, cited in self.evidence for index in cited}

    @property
    def reviews_unanswered(self) -> int:
        """Reviews that were opened among these entries, and not answered among them."""
        return self.reviews_opened - self.review_delays_s.total()

    def _decided(self, entry: Entry) -> None:
        self._effect(entry)
        if (name := entry.tool or entry.model) is not None:
            _count(self.steps_by_tool, name)
        if entry.effect == "deny":
            _count(self.denials_by_agent, entry.principal.get("id"))
            for reason in entry.reasons:
                if isinstance(reason, dict) and reason.get("effect") == "deny":
                    _count(self.denials_by_reason, reason.get("code"))
        elapsed_ns = entry.metrics.get("elapsed_ns")
        if elapsed_ns is not None:
            self.latencies_us[_bucket(elapsed_ns, _NS_PER_US)] += 1

    def _effect(self, entry: Entry) -> None:
        day = entry.timestamp[:_DAY_CHARS]
        if day not in self.effects_by_day and len(self.effects_by_day) >= NAMES_MAX:
            day = OTHERS
        _count(self.effects_by_day.setdefault(day, Counter()), entry.effect)

    def _opened(self, review_id: str, moment_ns: int) -> None:
        if review_id not in self._opened_ns:
            self.reviews_opened += 1
            self._opened_ns[review_id] = moment_ns
            if len(self._opened_ns) > _OPEN_MAX:
                self._opened_ns.popitem(last=False)

    def _answered(self, entry: Entry) -> None:
        _count(self.answers, entry.detail.get("answer"))
        opened_ns = self._opened_ns.pop(entry.review_id or "", None)
        if opened_ns is not None:
            self.review_delays_s[_bucket(entry.timestamp_ns - opened_ns, _NS_PER_S)] += 1


def _bucket(duration_ns: int, unit_ns: int) -> int:
    return min((max(0, duration_ns - 1) // unit_ns).bit_length(), BUCKETS - 1)


def _count(counter: Counter[str], name: Any) -> None:
    """Count a name as it stands in an entry: anything, from anybody."""
    text = str(name)[:NAME_CHARS_MAX] if name is not None else "(none)"
    if text not in counter and len(counter) >= NAMES_MAX:
        text = OTHERS
    counter[text] += 1
