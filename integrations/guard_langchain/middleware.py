"""`create_agent(model, tools, middleware=[Governance()])`: every model and tool call governed.

It decides nothing. It swaps in governed copies of the model and the tool, which ask where the call
really happens, and carries their outcomes back in LangChain's idiom: a denied tool is an error
message the loop goes on with, a denied model call is an answer, a review is an interrupt.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias

from langchain.agents.middleware import AgentMiddleware, ModelRequest, ModelResponse
from langchain.agents.middleware.types import ExtendedModelResponse
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, ToolMessage
from langgraph.errors import GraphInterrupt
from langgraph.prebuilt.tool_node import ToolCallRequest
from langgraph.types import Command

import guard
from guard import Interceptor, Outcome, Point

from .answer import checked_answer, forms_of, is_answer, is_checked
from .messages import formed, plain
from .model import GovernedChatModel, governed_model
from .outcomes import Stopped, StoppedDenied, StoppedPending, stop, words
from .overriding import overriding
from .review import Questions, Turn, ask
from .tool import HOST
from .toolcall import ToolCall

__all__ = ["Governance"]

ToolAnswer: TypeAlias = ToolMessage | Command[Any]
ModelAnswer: TypeAlias = ModelResponse[Any] | AIMessage | ExtendedModelResponse[Any]


class Governance(AgentMiddleware[Any, Any, Any]):
    """Governs one agent, sync, async and streamed. Put it first: its output check sees the end.

    Enter `guard.session(..., id=...)` around the run, with the same id when it is resumed. With
    `terminal` a deny ends the run as guard.Denied instead of telling the model.
    """

    def __init__(self, interceptor: Interceptor | None = None, *, terminal: bool = False) -> None:
        super().__init__()
        self._given = interceptor
        self._terminal = terminal
        self._tasks: OrderedDict[str, Questions] = OrderedDict()

    # -- tools -------------------------------------------------------------------------------

    def wrap_tool_call(
        self, request: ToolCallRequest, handler: Callable[[ToolCallRequest], ToolAnswer]
    ) -> ToolAnswer:
        """The handler with a governed tool, again after each answered review."""
        call = self._tool_call(request)
        while True:
            try:
                return handler(call.begun())
            except (StoppedDenied, StoppedPending, GraphInterrupt) as stopped:
                answer = call.answered(stopped)
            if answer is not None:
                return answer

    async def awrap_tool_call(
        self, request: ToolCallRequest, handler: Callable[[ToolCallRequest], Awaitable[ToolAnswer]]
    ) -> ToolAnswer:
        """The async twin of `wrap_tool_call`."""
        call = self._tool_call(request)
        while True:
            try:
                return await handler(call.begun())
            except (StoppedDenied, StoppedPending, GraphInterrupt) as stopped:
                answer = call.answered(stopped)
            if answer is not None:
                return answer

    # -- models ------------------------------------------------------------------------------

    def wrap_model_call(
        self, request: ModelRequest[Any], handler: Callable[[ModelRequest[Any]], ModelAnswer]
    ) -> Any:
        """The handler with a governed model, again after each answered review."""
        source = Turn(self._tasks)
        while True:
            try:
                return handler(self._model_request(request, source))
            except (StoppedDenied, StoppedPending) as stopped:
                answer = self._model_answer(stopped, source)
            if answer is not None:
                return answer

    async def awrap_model_call(
        self,
        request: ModelRequest[Any],
        handler: Callable[[ModelRequest[Any]], Awaitable[ModelAnswer]],
    ) -> Any:
        """The async twin of `wrap_model_call`."""
        source = Turn(self._tasks)
        while True:
            try:
                return await handler(self._model_request(request, source))
            except (StoppedDenied, StoppedPending) as stopped:
                answer = self._model_answer(stopped, source)
            if answer is not None:
                return answer

    # -- what goes in and out of the agent ---------------------------------------------------

    def before_agent(self, state: Any, runtime: Any) -> dict[str, Any] | None:
        """Point.INPUT on the user's new messages; what is redacted is redacted in the state."""
        new: list[BaseMessage] = []
        for message in reversed(state["messages"]):
            if isinstance(message, AIMessage):
                break
            if isinstance(message, HumanMessage):
                new.insert(0, message)
        if not new:
            return None
        interceptor = self.interceptor
        turn = Turn(self._tasks)
        request = interceptor.request(Point.INPUT, [plain(message) for message in new], host=HOST)
        while True:
            try:
                forms = interceptor.check(request).target
                break
            except Outcome as outcome:
                stopped = stop(outcome, source=None, is_before=True)
                self._reviewed_or_raise(stopped, turn, "input")
        changed = [formed(m, form) for m, form in zip(new, forms, strict=True) if form != plain(m)]
        return {"messages": changed} if changed else None

    async def abefore_agent(self, state: Any, runtime: Any) -> dict[str, Any] | None:
        """The async twin of `before_agent`."""
        return self.before_agent(state, runtime)

    def after_agent(self, state: Any, runtime: Any) -> dict[str, Any] | None:
        """Point.OUTPUT on the answer, unless exactly this was checked before it was streamed."""
        last = state["messages"][-1] if state["messages"] else None
        if not isinstance(last, AIMessage) or not is_answer(last) or is_checked(last):
            return None
        try:
            return {"messages": [checked_answer(self.interceptor, last, source=self)]}
        except (StoppedDenied, StoppedPending) as stopped:
            if self._terminal:
                raise stop(stopped, source=None, is_before=False) from None
            return {"messages": [AIMessage(words(stopped, is_before=False), id=last.id)]}

    async def aafter_agent(self, state: Any, runtime: Any) -> dict[str, Any] | None:
        """The async twin of `after_agent`."""
        return self.after_agent(state, runtime)

    # -- between them ------------------------------------------------------------------------

    @property
    def interceptor(self) -> Interceptor:
        """The given interceptor, or that of this process."""
        return self._given or guard.interceptor()

    def _tool_call(self, request: ToolCallRequest) -> ToolCall:
        return ToolCall(
            self.interceptor, request, is_terminal=self._terminal, turn=Turn(self._tasks)
        )

    def _model_request(self, request: ModelRequest[Any], source: Turn) -> ModelRequest[Any]:
        forms = forms_of(request.response_format)

        def govern(model: Any) -> GovernedChatModel:
            inner = model.inner if isinstance(model, GovernedChatModel) else model
            return governed_model(
                inner, lambda: self.interceptor, source=source, is_answering=True, forms=forms
            )

        governed: ModelRequest[Any] = overriding(request, "model", govern)
        return governed

    def _model_answer(self, stopped: Stopped, source: Turn) -> AIMessage | None:
        """The answer instead of the model's; None: it is approved, so go on."""
        if stopped.source is not source:
            raise stopped
        if isinstance(stopped, StoppedPending) and stopped.is_before:
            answer = ask(self.interceptor, stopped, source, name="model", can_edit=False)
            return None if answer.is_approved else AIMessage(f"Not done. {answer.message}")
        if self._terminal:
            raise stop(stopped, source=None, is_before=stopped.is_before) from None
        return AIMessage(words(stopped, is_before=stopped.is_before))

    def _reviewed_or_raise(self, stopped: Stopped, turn: Turn, name: str) -> None:
        if isinstance(stopped, StoppedPending):
            answer = ask(self.interceptor, stopped, turn, name=name, can_edit=False)
            if answer.is_approved:
                return
        raise stopped
