"""Requests of LangChain whose model or tool stays governed, whatever a middleware puts in place."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

__all__ = ["overriding"]


def overriding(request: Any, field: str, govern: Callable[[Any], Any]) -> Any:
    """A copy of `request` with `govern(request.<field>)`, and the same for each later override."""
    made = object.__new__(_governed(request.__class__))
    made.__dict__.update(request.__dict__, _guard=(field, govern))
    return made.override(**{field: getattr(request, field)})


@functools.cache
def _governed(kind: Any) -> Any:
    class Governed(kind):  # type: ignore[misc]
        def override(self, **changes: Any) -> Any:
            field, govern = self.__dict__["_guard"]
            if field in changes:
                changes[field] = govern(changes[field])
            changed = super().override(**changes)
            changed.__dict__["_guard"] = (field, govern)
            return changed

    return Governed
