"""A chat model that asks before it calls and holds its answer back until that is decided.

Wrapping the model object is the one place that every way to call it goes through: invoke, batch,
stream, events, sync and async, also below retries, fallbacks and nested agents.
"""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from functools import partial
from typing import Any, Final, cast

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage
from langchain_core.outputs import ChatGenerationChunk, ChatResult
from langchain_core.runnables import Runnable
from pydantic import Field, PrivateAttr

import guard
from guard import Interceptor

from .asking import Asking
from .binding import model_ref, unbound
from .holding import as_chunk, as_messages, as_result, hold, merged
from .mark import MARK

__all__ = ["GovernedChatModel", "govern"]

_COPIED: Final = (
    "rate_limiter", "disable_streaming", "output_version", "profile", "verbose", "tags",
)  # fmt: skip


def govern(model: Any, interceptor: Interceptor | None = None) -> Any:
    """`model` governed, for chains and graphs of your own; raises ConfigError if it cannot be.

    A call raises guard.Denied or guard.ReviewPending instead of going ahead. Bind tools to what
    comes back, not before: tools that are bound already cannot follow a ROUTE to another model.
    """
    inner, settings = unbound(model)
    if isinstance(inner, GovernedChatModel):
        return model
    governed = governed_model(inner, lambda: interceptor or guard.interceptor())
    return governed.bind(**settings) if settings else governed


def governed_model(
    inner: BaseChatModel,
    interceptor: Callable[[], Interceptor],
    *,
    source: object | None = None,
    is_answering: bool = False,
    forms: frozenset[str] = frozenset(),
) -> GovernedChatModel:
    """The wrapper itself; see Asking for what the rest says."""
    settings = {name: getattr(inner, name, None) for name in _COPIED}
    governed = GovernedChatModel(
        inner=inner,
        # A cached answer would be one that nobody decided on.
        cache=False,
        metadata={**(inner.metadata or {}), **MARK},
        **{name: value for name, value in settings.items() if value is not None},
    )
    governed._asking = Asking(
        interceptor, inner, source=source, is_answering=is_answering, forms=forms
    )
    return governed


class GovernedChatModel(BaseChatModel):
    """Delegates to `inner`. Raw tokens reach nobody: the inner model gets no callbacks."""

    inner: Any = Field(repr=False, exclude=True)
    _asking: Asking = PrivateAttr()

    @property
    def _llm_type(self) -> str:
        return str(self.inner._llm_type)

    @property
    def _identifying_params(self) -> dict[str, Any]:
        return dict(self.inner._identifying_params)

    @property
    def governed_inner(self) -> BaseChatModel:
        """The model itself, for whoever governs the call already."""
        return cast("BaseChatModel", self.inner)

    @property
    def model_name(self) -> str:
        """Id of the model that is asked for."""
        return model_ref(self.inner, {}).id

    def _get_ls_params(self, stop: list[str] | None = None, **kwargs: Any) -> Any:
        return self.inner._get_ls_params(stop=stop, **kwargs)

    def get_token_ids(self, text: str) -> list[int]:
        """As the inner model counts."""
        return cast("list[int]", self.inner.get_token_ids(text))

    def bind_tools(
        self, tools: Sequence[Any], *, tool_choice: Any = None, **kwargs: Any
    ) -> Runnable[Any, AIMessage]:
        """The inner model's binding, with the wrapper kept outermost."""
        asked = {"tool_choice": tool_choice, **kwargs}
        inner, settings = unbound(self.inner.bind_tools(tools, **asked))
        bound = self.model_copy(update={"inner": inner})
        bound._asking = dataclasses.replace(self._asking, inner=inner, tools=(tools, asked))
        return cast("Runnable[Any, AIMessage]", bound.bind(**settings))

    # -- the four ways in --------------------------------------------------------------------

    def _generate(
        self, messages: Any, stop: Any = None, run_manager: Any = None, **kwargs: Any
    ) -> ChatResult:
        call = self._asking.before(messages, kwargs)
        try:
            result = call.model._generate(call.messages, stop=stop, **call.arguments)
        except BaseException as error:  # noqa: BLE001 every end of a call is recorded
            self._asking.failed(call, error)
        return as_result(self._asking.after(call, partial(as_messages, result)))

    async def _agenerate(
        self, messages: Any, stop: Any = None, run_manager: Any = None, **kwargs: Any
    ) -> ChatResult:
        call = self._asking.before(messages, kwargs)
        try:
            result = await call.model._agenerate(call.messages, stop=stop, **call.arguments)
        except BaseException as error:  # noqa: BLE001 every end of a call is recorded
            self._asking.failed(call, error)
        return as_result(self._asking.after(call, partial(as_messages, result)))

    def _stream(
        self, messages: Any, stop: Any = None, run_manager: Any = None, **kwargs: Any
    ) -> Iterator[ChatGenerationChunk]:
        call = self._asking.before(messages, kwargs)
        answers: Callable[[], list[AIMessage]]
        try:
            if type(call.model)._stream is BaseChatModel._stream:
                result = call.model._generate(call.messages, stop=stop, **call.arguments)
                answers = partial(as_messages, result)
            else:
                held: list[ChatGenerationChunk] = []
                for chunk in call.model._stream(call.messages, stop=stop, **call.arguments):
                    hold(held, chunk)
                answers = partial(merged, held)
        except BaseException as error:  # noqa: BLE001 every end of a call is recorded
            self._asking.failed(call, error)
        yield from map(as_chunk, self._asking.after(call, answers))

    async def _astream(
        self, messages: Any, stop: Any = None, run_manager: Any = None, **kwargs: Any
    ) -> AsyncIterator[ChatGenerationChunk]:
        call = self._asking.before(messages, kwargs)
        kind = type(call.model)
        answers: Callable[[], list[AIMessage]]
        try:
            if kind._stream is BaseChatModel._stream and kind._astream is BaseChatModel._astream:
                result = await call.model._agenerate(call.messages, stop=stop, **call.arguments)
                answers = partial(as_messages, result)
            else:
                held: list[ChatGenerationChunk] = []
                async for chunk in call.model._astream(call.messages, stop=stop, **call.arguments):
                    hold(held, chunk)
                answers = partial(merged, held)
        except BaseException as error:  # noqa: BLE001 every end of a call is recorded
            self._asking.failed(call, error)
        for message in self._asking.after(call, answers):
            yield as_chunk(message)
