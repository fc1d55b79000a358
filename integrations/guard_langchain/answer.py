"""What a person sees of a model's turn: Point.OUTPUT, also on words beside a call of a tool.

The valid calls of tools are no words to a person; each is decided for its tool.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any, Final

from langchain.agents.structured_output import AutoStrategy, ProviderStrategy, ToolStrategy
from langchain_core.messages import AIMessage

from guard import Host, Interceptor, Outcome, Point

from .messages import formed, plain
from .outcomes import stop

__all__ = ["checked_answer", "forms_of", "is_answer", "is_checked"]

_CHECKED: Final = "guard_output"
_HOST: Final = Host(framework="langchain")
# Where a provider repeats the valid tool calls as they came.
_CALLS: Final = frozenset({"tool_calls", "function_call"})


def is_answer(message: AIMessage, forms: frozenset[str] = frozenset()) -> bool:
    """Whether a person sees any of it: words, a call that nothing runs, or one of `forms`.

    LangChain asks for a structured answer as the call of a tool that is none, and ends a run at a
    call that is not valid.
    """
    return (
        not message.tool_calls
        or bool(message.content)
        or bool(message.invalid_tool_calls)
        or bool(message.additional_kwargs.keys() - _CALLS)
        or any(call["name"] in forms for call in message.tool_calls)
    )


def is_checked(message: AIMessage) -> bool:
    """Whether exactly this content passed Point.OUTPUT before it was shown."""
    return message.response_metadata.get(_CHECKED) == _digest(message)


def checked_answer(
    interceptor: Interceptor,
    message: AIMessage,
    *,
    source: object | None,
    forms: frozenset[str] = frozenset(),
) -> AIMessage:
    """The turn with what a person sees in its permitted form, its tool calls kept; raises Stopped.

    Unchanged if nobody sees any of it.
    """
    if not is_answer(message, forms):
        return message
    seen, hidden = _parted(plain(message), forms)
    request = interceptor.request(Point.OUTPUT, seen, host=_HOST)
    try:
        form = interceptor.check(request).target
    except Outcome as outcome:
        raise stop(outcome, source=source, is_before=False) from None
    answer: AIMessage = formed(message, _joined(form, hidden))
    answer.response_metadata = {**answer.response_metadata, _CHECKED: _digest(answer)}
    return answer


def _parted(asked: Any, forms: frozenset[str]) -> tuple[Any, dict[int, Any]]:
    """(what a person sees, the calls of tools by their position)."""
    if not isinstance(asked, dict):
        return asked, {}  # it could not be read, and is refused
    calls = asked.get("tool_calls", [])
    hidden = {at: call for at, call in enumerate(calls) if call["name"] not in forms}
    if not hidden:
        return asked, {}
    seen = {**asked, "tool_calls": [call for call in calls if call["name"] in forms]}
    if extras := asked.get("additional_kwargs"):
        # The copy of the calls goes: LangChain has them in `tool_calls`, decided or to be decided.
        seen["additional_kwargs"] = {k: v for k, v in extras.items() if k not in _CALLS}
    return seen, hidden


def _joined(form: Any, hidden: dict[int, Any]) -> Any:
    if not hidden:
        return form
    calls = list(form["tool_calls"])
    for at, call in hidden.items():  # in ascending order, so each finds its place again
        calls.insert(at, call)
    return {**form, "tool_calls": calls}


def _digest(message: AIMessage) -> str:
    return hashlib.sha256(json.dumps(message.content, sort_keys=True).encode()).hexdigest()


def forms_of(asked: Any) -> frozenset[str]:
    """Names of the tools by which LangChain asks for a structured answer."""
    if asked is None:
        return frozenset()
    strategy = asked if isinstance(asked, ToolStrategy) else ToolStrategy(_schema(asked))
    return frozenset(spec.name for spec in strategy.schema_specs)


def _schema(asked: Any) -> Any:
    return asked.schema if isinstance(asked, (AutoStrategy, ProviderStrategy)) else asked
