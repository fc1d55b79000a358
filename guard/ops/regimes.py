"""What regimes ask of a log, and the facts of an entry that answer it.

The texts are in regimes.toml, for people who know the law; here is what their `facts` mean.
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Mapping
from functools import cache
from importlib.resources import files
from typing import Final

import msgspec

from ..audit.entry import Entry
from ..errors import ConfigError

__all__ = ["FACTS", "REGIMES", "Regime", "Requirement", "regime_named"]

REGIMES: Final = ("eu-ai-act", "soc2", "hipaa", "iso-42001", "gdpr-dsar")


class Requirement(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One thing a regime asks. `shows` is what the entries evidence of it, `lacks` what not."""

    id: str
    asks: str
    facts: tuple[str, ...]
    shows: str
    lacks: str

    def is_shown_by(self, entry: Entry) -> bool:
        """Whether the entry is evidence of it."""
        return any(FACTS[name](entry) for name in self.facts)


class Regime(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A law or a standard."""

    title: str
    note: str
    requirements: tuple[Requirement, ...]


def _is_hold(entry: Entry) -> bool:
    return entry.kind == "retention" and str(entry.detail.get("what", "")).startswith("hold_")


_DECIDED: Final = frozenset(("intent", "decision", "item", "release"))
FACTS: Final[Mapping[str, Callable[[Entry], bool]]] = {
    "every_entry": lambda entry: True,
    "decisions": lambda entry: entry.kind in ("intent", "decision"),
    "outcomes": lambda entry: entry.kind == "outcome",
    "stream_items": lambda entry: entry.kind in ("item", "release"),
    "denials": lambda entry: entry.effect == "deny" and entry.kind in _DECIDED,
    "redactions": lambda entry: entry.effect == "redact" or bool(entry.masked),
    "sealings": lambda entry: bool(entry.sealed),
    "commitments": lambda entry: entry.commitment is not None,
    "reviews": lambda entry: entry.effect == "review" or entry.review_id is not None,
    "answers": lambda entry: entry.kind == "review",
    "model_calls": lambda entry: entry.model is not None,
    "delegations": lambda entry: bool(
        entry.principal.get("on_behalf_of") or entry.principal.get("delegation")
    ),
    "policies_in_force": lambda entry: bool(entry.revision),
    "labelled": lambda entry: bool(entry.labels),
    "data_subjects": lambda entry: bool(entry.subjects),
    "faults": lambda entry: bool(entry.faults),
    "failures": lambda entry: entry.kind == "failure",
    "recoveries": lambda entry: entry.kind == "recovery",
    "seals": lambda entry: entry.kind == "seal",
    "key_changes": lambda entry: entry.kind == "key_change",
    "log_access": lambda entry: entry.kind == "access",
    "erasures": lambda entry: entry.kind == "erasure",
    "retention_acts": lambda entry: entry.kind == "retention" and not _is_hold(entry),
    "holds": _is_hold,
}


def regime_named(name: str) -> Regime:
    """The regime of that name; raises ConfigError."""
    if name not in REGIMES:
        raise ConfigError(f"unknown regime `{name[:40]}`: expected {', '.join(REGIMES)}")
    return _regimes()[name]


@cache
def _regimes() -> dict[str, Regime]:
    text = files(__package__).joinpath("regimes.toml").read_text(encoding="utf-8")
    return msgspec.convert(tomllib.loads(text), dict[str, Regime])
