"""The answer to the user: Point.OUTPUT on the last message of a run."""

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


def is_answer(message: AIMessage, forms: frozenset[str] = frozenset()) -> bool:
    """Whether this is what the user gets: it calls no tool, or one of `forms`.

    LangChain asks for a structured answer as the call of a tool that is none.
    """
    asked = {call["name"] for call in (*message.tool_calls, *message.invalid_tool_calls)}
    return asked <= forms


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
    """The answer in its permitted form, or unchanged if it calls tools; raises Stopped."""
    if not is_answer(message, forms):
        return message
    request = interceptor.request(Point.OUTPUT, plain(message), host=_HOST)
    try:
        form = interceptor.check(request).target
    except Outcome as outcome:
        raise stop(outcome, source=source, is_before=False) from None
    answer: AIMessage = formed(message, form)
    answer.response_metadata = {**answer.response_metadata, _CHECKED: _digest(answer)}
    return answer


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
