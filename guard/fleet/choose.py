"""Choosing a model: the cheapest approved one that is at hand and has room."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import msgspec

from .registry import Fleet

__all__ = ["Choice", "choose"]


class Choice(msgspec.Struct, frozen=True):
    """The model to call, or None. `why` is a stable word.

    "cheapest", or what the last candidates failed: "not_approved", "not_available",
    "context_too_small".
    """

    model_id: str | None
    why: str


def choose(
    fleet: Fleet, allowed: Sequence[str], *, tokens_needed: int, available: Collection[str]
) -> Choice:
    """Cheapest of the `allowed` ids; `available` are those that there is a model object for.

    Price is that of one million tokens in and one million out; the id breaks ties, so the same
    question has the same answer whatever the order of `allowed`.
    """
    models = [fleet.models[name] for name in set(allowed) if name in fleet.models]
    models = [model for model in models if model.is_approved]
    if not models:
        return Choice(None, "not_approved")
    models = [model for model in models if model.id in available]
    if not models:
        return Choice(None, "not_available")
    models = [model for model in models if model.context_window_tokens >= tokens_needed]
    if not models:
        return Choice(None, "context_too_small")
    cheapest = min(
        models,
        key=lambda one: (one.price_in_micros_per_mtok + one.price_out_micros_per_mtok, one.id),
    )
    return Choice(cheapest.id, "cheapest")
