"""Settings laid over a bundle's own: only what a rule has, in the kind of value that it has.

A setting that no rule reads, or that is text where a number was, would leave the old limit in force
without a word.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import Any

from ..errors import PolicyLoadError

__all__ = ["check_settings"]


def check_settings(known: Mapping[str, Any], laid_over: Mapping[str, Any]) -> None:
    """Raises PolicyLoadError naming the first setting that is wrong, and what was meant."""
    for rule, settings in laid_over.items():
        if rule not in known:
            raise PolicyLoadError(f"settings of unknown rule `{rule}`{_near(rule, known)}")
        if not isinstance(settings, Mapping):
            raise PolicyLoadError(f"settings of `{rule}`: expected a table of its settings")
        for key, value in settings.items():
            if key not in known[rule]:
                raise PolicyLoadError(f"unknown setting `{rule}.{key}`{_near(key, known[rule])}")
            expected, came = _kind(known[rule][key]), _kind(value)
            if expected not in (came, "nothing"):
                raise PolicyLoadError(f"setting `{rule}.{key}`: expected {expected}, got {came}")


def _kind(value: Any) -> str:
    if isinstance(value, bool):
        return "true or false"
    if isinstance(value, (int, float)):
        return "a number"
    if isinstance(value, str):
        return "text"
    if isinstance(value, Mapping):
        return "a table"
    return "nothing" if value is None else "a list"


def _near(word: str, known: Iterable[str]) -> str:
    names = sorted(known)
    near = difflib.get_close_matches(word, names, 1)
    return f": did you mean `{near[0]}`" if near else f": expected one of {', '.join(names)}"
