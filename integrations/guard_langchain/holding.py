"""Holding an answer back: the chunks of a stream until they are one message that can be decided."""

from __future__ import annotations

from typing import Final, cast

from langchain_core.messages import AIMessage, message_chunk_to_message
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult

from guard import SnapshotFault

from .messages import chunk_of

__all__ = ["as_chunk", "as_messages", "as_result", "hold", "merged"]

# Of one answer: held back until it is decided, so it has a bound. A chunk is about a token.
CHUNKS_MAX: Final = 200_000


def hold(held: list[ChatGenerationChunk], chunk: ChatGenerationChunk) -> None:
    if len(held) >= CHUNKS_MAX:
        raise SnapshotFault("snapshot.too_many_chunks", f"an answer has over {CHUNKS_MAX} chunks")
    held.append(chunk)


def merged(held: list[ChatGenerationChunk]) -> list[AIMessage]:
    if not held:
        return []
    whole = held[0] + held[1:] if len(held) > 1 else held[0]
    message = message_chunk_to_message(whole.message)
    return as_messages(
        ChatResult(
            generations=[ChatGeneration(message=message, generation_info=whole.generation_info)]
        )
    )


def as_messages(result: ChatResult) -> list[AIMessage]:
    """The answers, each with what the provider says of it: one place to scan."""
    answers = []
    for generation in result.generations:
        said = {**(result.llm_output or {}), **(generation.generation_info or {})}
        message = generation.message
        metadata = {**said, **message.response_metadata}
        answers.append(
            cast("AIMessage", message.model_copy(update={"response_metadata": metadata}))
        )
    return answers


def as_result(messages: list[AIMessage]) -> ChatResult:
    return ChatResult(generations=[ChatGeneration(message=message) for message in messages])


def as_chunk(message: AIMessage) -> ChatGenerationChunk:
    return ChatGenerationChunk(message=chunk_of(message))
