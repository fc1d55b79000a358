"""Outcomes in LangGraph's own idiom: what no retry repeats and no fallback answers.

LangGraph, its tool node and LangChain's retry and fallback middlewares pass GraphBubbleUp through
as control flow; any other exception they repeat, replace, or hand to the model as an error text.
"""

from __future__ import annotations

from typing import NoReturn

from langgraph.errors import GraphBubbleUp

from guard import Denied, Interceptor, Outcome, Permit, ReviewPending

__all__ = ["Stopped", "StoppedDenied", "StoppedPending", "failed", "stop", "words"]


class StoppedDenied(Denied, GraphBubbleUp):
    """`guard.Denied` that ends the run of a graph unless its governance answers it."""

    source: object | None = None
    is_before: bool = True


class StoppedPending(ReviewPending, GraphBubbleUp):
    """`guard.ReviewPending` that ends the run of a graph unless its governance answers it."""

    source: object | None = None
    is_before: bool = True


Stopped = StoppedDenied | StoppedPending


def stop(outcome: Outcome, *, source: object | None, is_before: bool) -> Stopped:
    """`outcome` as control flow. `source` is the call that may answer it; None: nobody may."""
    stopped: Stopped
    if isinstance(outcome, ReviewPending):
        stopped = StoppedPending(outcome.decision, outcome.review_ids)
    else:
        stopped = StoppedDenied(outcome.decision)
    stopped.source = source
    stopped.is_before = is_before
    return stopped


def failed(
    interceptor: Interceptor, permit: Permit, error: BaseException, *, source: object | None
) -> NoReturn:
    """Record how a permitted call raised, and raise what may go on instead."""
    if isinstance(error, GraphBubbleUp):
        # A graph inside the call pauses or stops: control flow without a result to decide on.
        withheld = interceptor.finish(permit, items=0, error=type(error).__name__)
        if withheld is None:
            raise error
        raise stop(withheld, source=source, is_before=False)
    raise stop(interceptor.after_error(permit, error), source=source, is_before=False)


def words(outcome: Outcome, *, is_before: bool = True) -> str:
    """What the model and the user are told: reason codes and static messages, never payload."""
    what = "Not done" if is_before else "Done, and its result is withheld"
    return f"{what}, decided by policy: {outcome.decision.summary()}. Do not try it again."
