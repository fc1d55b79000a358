"""LangChain values as plain JSON, and a decided form back onto copies of them.

Per message and field, never joined; the caller's objects are never changed. A field that is in
neither direction here does not leave: it was not scanned.
"""

from __future__ import annotations

import copy
import dataclasses
import json
from collections.abc import Mapping
from typing import Any, Final

from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage, ToolMessage
from langchain_core.messages.tool import tool_call_chunk
from langchain_core.utils.json import parse_partial_json
from langgraph.types import Command, Send
from pydantic import BaseModel

__all__ = ["Unreadable", "chunk_of", "formed", "plain"]

_ROLES: Final = {"human": "user", "ai": "assistant", "AIMessageChunk": "assistant"}
# Of the provider's metadata, numbers and these words. Log probabilities quote the text token by
# token, where no scanner finds it, so they do not pass.
_METADATA_WORDS: Final = (
    "finish_reason", "id", "model", "model_name", "model_provider", "output_version",
    "service_tier", "stop_reason", "system_fingerprint", "guard_output",
)  # fmt: skip
_CALL_FIELDS: Final = ("name", "args", "id", "error")


class Unreadable:
    """Stands for what has no plain form: no snapshot takes it, so what holds it is denied."""


def plain(value: Any) -> Any:
    """Plain JSON of a tool result, a message, or anything that holds some.

    A pydantic object or dataclass is its fields; any other object is its text. It never raises:
    what cannot be read is Unreadable, which the decision it is meant for refuses and records.
    """
    try:
        return _plain(value)
    except Exception:  # noqa: BLE001 an object's own code runs here, and may nest without end
        return Unreadable()


def _plain(value: Any) -> Any:
    if value is None or isinstance(value, (str, int, float)):
        return value
    if isinstance(value, BaseMessage):
        return _plain_message(value)
    if isinstance(value, Command):
        return {field: _plain(getattr(value, field)) for field in _sent_fields(value)}
    if isinstance(value, Send):
        return {"node": value.node, "arg": _plain(value.arg)}
    if isinstance(value, Mapping):
        items = {str(key): _plain(item) for key, item in value.items()}
        # Two keys that are one as text would hide one item behind the other.
        return items if len(items) == len(value) else Unreadable()
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, BaseModel):
        return _plain(value.model_dump(mode="json"))
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: _plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    return str(value)


def formed(value: Any, form: Any) -> Any:
    """`value` in the form that was decided for `plain(value)`, as new objects.

    Any other object is replaced by its plain form: it may hold, or say, what was not scanned.
    """
    if isinstance(value, BaseMessage):
        return _formed_message(value, form)
    if isinstance(value, Command):
        sent = {field: formed(getattr(value, field), new) for field, new in form.items()}
        return dataclasses.replace(value, **sent)
    if isinstance(value, Send):
        send = copy.copy(value)  # with its timeout
        send.node, send.arg = form["node"], formed(value.arg, form["arg"])
        return send
    if isinstance(value, Mapping) and form.keys() == {str(key) for key in value}:
        return {key: formed(item, form[str(key)]) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        items = [formed(item, new) for item, new in zip(value, form, strict=True)]
        return items if isinstance(value, list) else tuple(items)
    return form


def chunk_of(message: AIMessage) -> AIMessageChunk:
    """The whole message as the one chunk of a stream."""
    calls = [
        tool_call_chunk(
            name=call["name"], args=json.dumps(call["args"]), id=call["id"], index=index
        )
        for index, call in enumerate(message.tool_calls)
    ]
    calls += [
        tool_call_chunk(
            name=call["name"], args=_still_invalid(call["args"]), id=call["id"], index=index
        )
        for index, call in enumerate(message.invalid_tool_calls, len(calls))
    ]
    return AIMessageChunk(
        content=message.content,
        id=message.id,
        name=message.name,
        tool_call_chunks=calls,
        additional_kwargs=message.additional_kwargs,
        response_metadata=message.response_metadata,
        usage_metadata=message.usage_metadata,
        chunk_position="last",
    )


def _still_invalid(args: str | None) -> str:
    """Arguments that stay text when LangChain reads the chunk, and mends what it reads."""
    try:
        is_mended = not args or isinstance(parse_partial_json(args), dict)
    except Exception:  # noqa: BLE001 LangChain takes every exception here as invalid
        is_mended = False
    # What was decided as text would become the arguments of a call that nobody decided on.
    return json.dumps(args or "") if is_mended else str(args)


def _plain_message(message: BaseMessage) -> dict[str, Any]:
    result: dict[str, Any] = {
        "role": _ROLES.get(message.type, message.type),
        "content": _plain(message.content),
    }
    for field in ("name", "id", "tool_call_id"):
        if (value := getattr(message, field, None)) is not None:
            result[field] = value
    for field in ("tool_calls", "invalid_tool_calls"):
        if calls := getattr(message, field, None):
            result[field] = [{k: _plain(c[k]) for k in _CALL_FIELDS if k in c} for c in calls]
    if message.additional_kwargs:
        result["additional_kwargs"] = _plain(message.additional_kwargs)
    if metadata := _metadata(message.response_metadata):
        result["response_metadata"] = metadata
    if isinstance(message, ToolMessage) and message.artifact is not None:
        result["artifact"] = _plain(message.artifact)
    return result


def _formed_message(message: BaseMessage, form: Mapping[str, Any]) -> BaseMessage:
    update: dict[str, Any] = {
        "content": form["content"],
        "name": form.get("name"),
        "additional_kwargs": form.get("additional_kwargs", {}),
        "response_metadata": form.get("response_metadata", {}),
    }
    if isinstance(message, AIMessage):
        for field, kind in (
            ("tool_calls", "tool_call"),
            ("invalid_tool_calls", "invalid_tool_call"),
        ):
            update[field] = [{**call, "type": kind} for call in form.get(field, ())]
    if isinstance(message, ToolMessage):
        artifact = message.artifact
        update["artifact"] = None if artifact is None else formed(artifact, form["artifact"])
    return message.model_copy(update=update)


def _sent_fields(command: Command[Any]) -> list[str]:
    given = [field for field in ("goto", "resume") if getattr(command, field) not in (None, ())]
    return ["update", *given]


def _metadata(given: Mapping[str, Any]) -> dict[str, Any]:
    kept: dict[str, Any] = {}
    for key, value in given.items():
        if isinstance(value, Mapping):
            if inner := _metadata(value):
                kept[key] = inner
        elif isinstance(value, (bool, int, float)) or (
            isinstance(value, str) and key in _METADATA_WORDS
        ):
            kept[key] = value
    return kept
