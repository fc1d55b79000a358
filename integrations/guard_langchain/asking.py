"""Asking for one model call: the request, the permit, the route, the answer."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, NoReturn

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage

from guard import FleetFault, Host, Interceptor, Outcome, Permit, Point

from .answer import checked_answer
from .binding import model_ref, unbound
from .messages import Unreadable, formed, plain
from .outcomes import failed, stop

__all__ = ["Asking", "ModelCall"]


class ModelCall(NamedTuple):
    """One permitted call: exactly this model, with exactly these messages and arguments."""

    permit: Permit
    model: BaseChatModel
    messages: list[BaseMessage]
    arguments: dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Asking:
    """How the calls of one governed model are asked for. `tools` is what was bound to it.

    `source` may answer the outcomes; with `is_answering` the model speaks to the user, in words or
    as one of `forms`, the tools of a structured answer.
    """

    interceptor: Callable[[], Interceptor]
    inner: BaseChatModel
    _: dataclasses.KW_ONLY
    source: object | None = None
    is_answering: bool = False
    forms: frozenset[str] = frozenset()
    tools: tuple[Sequence[Any], dict[str, Any]] | None = None

    def before(self, messages: Sequence[BaseMessage], arguments: dict[str, Any]) -> ModelCall:
        """Leave to make one call, with the messages as they were decided; raises Stopped."""
        interceptor = self.interceptor()
        is_bare = self.tools is None and not {"tools", "functions"} & arguments.keys()
        can_route = bool(interceptor.models) and (self.tools is not None or is_bare)
        request = interceptor.request(
            Point.PRE_MODEL_CALL,
            [plain(message) for message in messages],
            model=model_ref(self.inner, arguments),
            host=Host(framework="langchain", can_route=can_route),
        )
        permit = interceptor.before(request)
        if isinstance(permit, Outcome):
            raise stop(permit, source=self.source, is_before=True)
        call = ModelCall(permit, self.inner, [], arguments)
        try:
            sent = [formed(m, form) for m, form in zip(messages, permit.target, strict=True)]
            if permit.model_id is None:
                return call._replace(messages=sent)
            model, settings = self._routed(interceptor, permit)
            return call._replace(messages=sent, model=model, arguments=settings)
        except BaseException as error:  # noqa: BLE001 a route that fails ends the permitted call
            self.failed(call, error)

    def _routed(
        self, interceptor: Interceptor, permit: Permit
    ) -> tuple[BaseChatModel, dict[str, Any]]:
        """The other model with its own binding of the tools, and nothing meant for this one."""
        model, settings = unbound(interceptor.models[permit.model_id or ""])
        # A governed object here would be decided twice.
        model = getattr(model, "governed_inner", model)
        if self.tools is not None:
            tools, asked = self.tools
            model, bound = unbound(model.bind_tools(tools, **asked))
            settings = {**settings, **bound}
        if model_ref(model, settings) != permit.request.model:
            raise FleetFault(
                f"the model object for `{permit.model_id}` has another id, provider or endpoint "
                "than the fleet says: mend the fleet file or the `models` of the interceptor"
            )
        return model, settings

    def after(self, call: ModelCall, read: Callable[[], list[AIMessage]]) -> list[AIMessage]:
        """The answers that `read` gives, in the form they may go on in; raises Stopped."""
        interceptor = self.interceptor()
        try:
            messages = read()
            asked = [plain(message) for message in messages]
        except Exception:  # noqa: BLE001 the call was made: an answer nobody can read is withheld
            messages, asked = [], [Unreadable()]
        forms = interceptor.after(call.permit, asked[0] if len(asked) == 1 else asked)
        if isinstance(forms, Outcome):
            raise stop(forms, source=self.source, is_before=False)
        forms = [forms] if len(asked) == 1 else forms
        answers = [formed(m, form) for m, form in zip(messages, forms, strict=True)]
        if not self.is_answering:
            return answers
        # What goes to a person is decided before its first token is shown.
        return [self._checked(one) for one in answers]

    def _checked(self, message: AIMessage) -> AIMessage:
        return checked_answer(self.interceptor(), message, source=self.source, forms=self.forms)

    def failed(self, call: ModelCall, error: BaseException) -> NoReturn:
        """Record how the call raised, and raise what may go on instead."""
        failed(self.interceptor(), call.permit, error, source=self.source)
