"""The run so far, at constant size: facts, counters, claims in flight, the last few steps."""

from .state import Path

__all__ = ["Path"]
