"""One tool call of a model on its way through its reviews."""

from __future__ import annotations

from typing import Any

from langchain_core.messages import ToolMessage
from langgraph.errors import GraphInterrupt
from langgraph.prebuilt.tool_node import ToolCallRequest

from guard import Interceptor, Outcome

from .outcomes import Stopped, StoppedPending, stop, words
from .overriding import overriding
from .review import Turn, ask
from .tool import governed_tool, request_of

__all__ = ["ToolCall"]


class ToolCall:
    """One tool call of the model through its reviews: the arguments as they are now."""

    def __init__(
        self,
        interceptor: Interceptor,
        request: ToolCallRequest,
        *,
        is_terminal: bool,
        turn: Turn,
    ) -> None:
        self.interceptor = interceptor
        self.request = request
        self.is_terminal = is_terminal
        self.turn = turn
        self.name: str = request.tool_call["name"]
        self.call_id: str = request.tool_call["id"] or ""

    def begun(self) -> ToolCallRequest:
        """The request with the governed tool in place, also below other middlewares."""

        def govern(tool: Any) -> Any:
            if tool is None:
                return None
            return governed_tool(tool, self.interceptor, source=self)

        if self.request.tool is None:
            self._decide_unknown()
        governed: ToolCallRequest = overriding(self.request, "tool", govern)
        return governed

    def answered(self, stopped: Stopped | GraphInterrupt) -> ToolMessage | None:
        """The message instead of the tool's; None: approved or edited, so go on."""
        if isinstance(stopped, GraphInterrupt):
            self.turn.paused_inside()
            raise stopped
        if stopped.source is not self:
            raise stopped
        if isinstance(stopped, StoppedPending) and stopped.is_before:
            answer = ask(self.interceptor, stopped, self.turn, name=self.name, can_edit=True)
            if not answer.is_approved:
                return self._message(f"Not done. {answer.message}")
            if answer.arguments is not None:
                asked: Any = {**self.request.tool_call, "args": answer.arguments}
                self.request = self.request.override(tool_call=asked)
            return None
        if self.is_terminal:
            raise stop(stopped, source=None, is_before=stopped.is_before) from None
        return self._message(words(stopped, is_before=stopped.is_before))

    def _decide_unknown(self) -> None:
        """A tool that does not exist is decided and recorded all the same; nothing runs."""
        asked = self.request.tool_call["args"]
        request = request_of(self.interceptor, self.name, asked, self.call_id)
        permit = self.interceptor.before(request)
        if isinstance(permit, Outcome):
            raise stop(permit, source=self, is_before=True)
        self.interceptor.finish(permit, items=0, error="UnknownTool")

    def _message(self, text: str) -> ToolMessage:
        return ToolMessage(text, tool_call_id=self.call_id, name=self.name, status="error")
