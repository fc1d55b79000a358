"""REVIEW as LangGraph's interrupt: before the call, never after it.

The value has the shape of LangChain's HumanInTheLoopMiddleware, and names the review:

    {"action_requests": [{"name", "args", "description"}],
     "review_configs": [{"action_name", "allowed_decisions"}],
     "review_id": "...", "queue": "finance"}

It is resumed with the decision and the person, and without a person it counts as a no:

    Command(resume={"decisions": [{"type": "approve"}], "by": "ann@finance"})

LangGraph runs the hook again on resume and gives it all answers so far, so the call is decided
again first (the session must have the same `id`), and each answer is used for the review that it
was given for. Without a checkpointer the run ends at the interrupt and cannot go on.
"""

from __future__ import annotations

import dataclasses
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from langgraph.config import get_config
from langgraph.types import interrupt

from guard import Interceptor, ReviewFault, ReviewPending

__all__ = ["Answer", "Questions", "Turn", "ask"]

# Tasks whose questions are remembered, oldest forgotten first: those ask once more.
TASKS_MAX: Final = 10_000


@dataclasses.dataclass
class Questions:
    """What one task of a graph has asked: review ids in order, "" where nobody knows."""

    review_ids: list[str] = dataclasses.field(default_factory=list)
    # It paused once more inside the call, after its approval was used up.
    has_paused_inside: bool = False


class Turn:
    """One pass of a task through its questions, from the first again after each resume."""

    def __init__(self, tasks: OrderedDict[str, Questions]) -> None:
        self._tasks = tasks
        self._position = 0

    def paused_inside(self) -> None:
        """The governed call itself has paused: its approval holds when it is made again."""
        self._questions().has_paused_inside = True

    def answer_to(self, review_id: str, question: Any, *, is_new: bool) -> Any:
        """The answer that was given for this review; pauses while there is none."""
        questions = self._questions()
        ids = questions.review_ids
        while True:
            position, self._position = self._position, self._position + 1
            is_asked = position < len(ids)
            if not is_asked:
                ids.append(review_id)
            given = interrupt(question)
            if not is_asked:
                ids[position] = ""  # an answer to a question that another process asked
            elif ids[position] == review_id:
                return given
            elif is_new and questions.has_paused_inside:
                ids[position] = review_id
                return given

    def _questions(self) -> Questions:
        where = get_config().get("configurable", {})
        key = f"{where.get('thread_id')}|{where.get('checkpoint_ns')}"
        found = self._tasks.setdefault(key, Questions())
        while len(self._tasks) > TASKS_MAX:
            self._tasks.popitem(last=False)
        return found


class Answer(NamedTuple):
    """What the people said. `arguments` is set where one of them edited the call."""

    is_approved: bool
    message: str = ""
    arguments: Any = None


def ask(
    interceptor: Interceptor, pending: ReviewPending, turn: Turn, *, name: str, can_edit: bool
) -> Answer:
    """Pause for every review of `pending`, one after the other, and carry the answers back."""
    reviews = {item.id: item for item in interceptor.reviews.pending(interceptor.clock.now_ns())}
    said: list[tuple[str, str]] = []
    for review_id in pending.review_ids:
        item = reviews.get(review_id)
        kinds = ["approve", "edit", "reject"] if can_edit else ["approve", "reject"]
        summary = item.summary if item is not None else None
        value = {
            "action_requests": [
                {
                    "name": name,
                    "args": summary if isinstance(summary, dict) else {"value": summary},
                    "description": pending.decision.summary(),
                }
            ],
            "review_configs": [{"action_name": name, "allowed_decisions": kinds}],
            "review_id": review_id,
            "queue": item.queue if item is not None else None,
        }
        # An id begins with its decision's: this one was opened in this very pass.
        is_new = review_id.startswith(pending.decision.id[:16])
        kind, by, decision = _read(turn.answer_to(review_id, value, is_new=is_new))
        if kind not in kinds or not by:
            return Answer(False, "The answer names no person, or is none that is allowed.")
        if kind == "reject":
            _rejected(interceptor, review_id, by)
            return Answer(False, str(decision.get("message") or "A reviewer rejected it."))
        if kind == "edit":
            return _edited(decision, name)
        said.append((review_id, by))
    try:
        for review_id, by in said:
            interceptor.approve(review_id, by=by)
    except ReviewFault as fault:
        return Answer(False, f"The approval does not count: {fault}.")
    return Answer(True)


def _read(given: Any) -> tuple[str, str, Mapping[str, Any]]:
    """(kind of decision, who, the decision) of a resume value; empty where it is malformed."""
    if not isinstance(given, Mapping):
        return "", "", {}
    decisions = given.get("decisions", [given])
    if not isinstance(decisions, list) or len(decisions) != 1:
        return "", "", {}
    decision = decisions[0]
    if not isinstance(decision, Mapping):
        return "", "", {}
    by = given.get("by", decision.get("by"))
    return str(decision.get("type", "")), by if isinstance(by, str) else "", decision


def _edited(decision: Mapping[str, Any], name: str) -> Answer:
    action = decision.get("edited_action")
    if not isinstance(action, Mapping) or not isinstance(action.get("args"), dict):
        return Answer(False, "The edit has no arguments.")
    if action.get("name", name) != name:
        return Answer(False, "An edit changes the arguments of a call, never its tool.")
    return Answer(True, arguments=action["args"])


def _rejected(interceptor: Interceptor, review_id: str, by: str) -> None:
    try:
        interceptor.reject(review_id, by=by)
    except ReviewFault:
        # Expired meanwhile: a no stays a no without its review.
        return
