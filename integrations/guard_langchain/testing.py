"""A chat model that says what a script says: for tests of agents, and for the demo.

ScriptedChatModel(script=[call("search", q="x"), "the answer"])
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage
from langchain_core.messages.tool import tool_call_chunk
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from langchain_core.runnables import Runnable
from pydantic import Field

__all__ = ["ScriptedChatModel", "call", "calls"]

CHUNK_CHARS = 3  # short enough that anything worth redacting is split over several chunks


def call(name: str, id: str = "", /, **arguments: Any) -> AIMessage:  # noqa: A002 as in a tool call
    """A turn of the model that calls one tool."""
    return calls((name, id or f"call_{name}", arguments))


def calls(*asked: tuple[str, str, dict[str, Any]]) -> AIMessage:
    """A turn that calls several tools at once: (name, call id, arguments) each."""
    return AIMessage("", tool_calls=[{"name": n, "args": a, "id": i} for n, i, a in asked])


class ScriptedChatModel(BaseChatModel):
    """Says the turn of `script` that has as many answers before it in the history.

    So it survives a resume, and the same history always gets the same turn. A script may also be
    several, by what the user said first. `seen` keeps what it
    was sent, `options` what was bound to the call.
    """

    script: Sequence[str | AIMessage] | Mapping[str, Sequence[str | AIMessage]]
    model: str = "scripted-1"
    provider: str = "scripted"
    base_url: str | None = None
    seen: list[list[BaseMessage]] = Field(default_factory=list)
    options: list[dict[str, Any]] = Field(default_factory=list)

    @property
    def _llm_type(self) -> str:
        return "scripted"

    def bind_tools(self, tools: Sequence[Any], **kwargs: Any) -> Runnable[Any, AIMessage]:
        """Keeps the names of the tools, as a provider's binding keeps their schemas."""
        names = [getattr(tool, "name", str(tool)) for tool in tools]
        return self.bind(tools=[f"{self.provider}:{name}" for name in names], **kwargs)

    def _turn(self, messages: list[BaseMessage], options: dict[str, Any]) -> AIMessage:
        self.seen.append(list(messages))
        self.options.append(options)
        position = sum(isinstance(message, AIMessage) for message in messages)
        script = self.script
        if isinstance(script, Mapping):
            script = script[next(str(m.content) for m in messages if m.type == "human")]
        turn = script[min(position, len(script) - 1)]
        message = AIMessage(turn) if isinstance(turn, str) else turn.model_copy(deep=True)
        message.response_metadata = {"model_name": self.model}
        return message

    def _generate(
        self, messages: Any, stop: Any = None, run_manager: Any = None, **kwargs: Any
    ) -> ChatResult:
        return ChatResult(generations=[ChatGeneration(message=self._turn(messages, kwargs))])

    def _stream(
        self, messages: Any, stop: Any = None, run_manager: Any = None, **kwargs: Any
    ) -> Iterator[ChatGenerationChunk]:
        message = self._turn(messages, kwargs)
        text = str(message.content)
        for start in range(0, len(text), CHUNK_CHARS):
            yield _token(run_manager, AIMessageChunk(content=text[start : start + CHUNK_CHARS]))
        for index, asked in enumerate(message.tool_calls):
            arguments = json.dumps(asked["args"])
            for start in range(0, len(arguments), CHUNK_CHARS):
                piece = tool_call_chunk(
                    name=asked["name"] if start == 0 else None,
                    args=arguments[start : start + CHUNK_CHARS],
                    id=asked["id"] if start == 0 else None,
                    index=index,
                )
                yield _token(run_manager, AIMessageChunk(content="", tool_call_chunks=[piece]))


def _token(run_manager: Any, message: AIMessageChunk) -> ChatGenerationChunk:
    chunk = ChatGenerationChunk(message=message)
    if run_manager is not None:  # as real providers do, by which tokens escape ahead of the stream
        run_manager.on_llm_new_token(str(message.content), chunk=chunk)
    return chunk
