"""The backstop: a gate for models and tools that nobody has governed, in the whole process.

A callback can only let a call happen or stop it. It cannot rewrite, route or pause, and it sees a
streamed answer when it is out: so whatever policy wants but ALLOW is a deny. Governed objects are
not asked twice.
"""

from __future__ import annotations

from collections import OrderedDict
from contextvars import ContextVar
from typing import Any, Final
from uuid import UUID

from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.messages import BaseMessage
from langchain_core.outputs import LLMResult
from langchain_core.tracers.context import register_configure_hook

import guard
from guard import Denied, Host, Interceptor, ModelRef, Outcome, Permit, Point

from .binding import model_ref
from .mark import is_governed
from .messages import plain

__all__ = ["GovernanceCallback", "install_backstop"]

HOST: Final = Host(framework="langchain", can_rewrite=False, can_route=False, can_pause=False)
# Calls in flight; LangChain does not call back for the end of a run that another handler stopped.
PERMITS_MAX: Final = 10_000


class GovernanceCallback(BaseCallbackHandler):
    """Asks at every model and tool start, and raises guard.Denied unless the answer is ALLOW."""

    raise_error = True
    run_inline = True

    def __init__(self, interceptor: Interceptor | None = None) -> None:
        self._given = interceptor
        self._permits: OrderedDict[UUID, Permit] = OrderedDict()

    def on_chat_model_start(
        self, serialized: Any, messages: list[list[BaseMessage]], *, run_id: UUID, **said: Any
    ) -> None:
        """Point.PRE_MODEL_CALL."""
        if not is_governed(said.get("metadata")):
            target = [[plain(message) for message in batch] for batch in messages]
            self._model(serialized, target[0] if len(target) == 1 else target, run_id, said)

    def on_llm_start(
        self, serialized: Any, prompts: list[str], *, run_id: UUID, **said: Any
    ) -> None:
        """Point.PRE_MODEL_CALL of a text model."""
        if not is_governed(said.get("metadata")):
            target = [{"role": "user", "content": prompt} for prompt in prompts]
            self._model(serialized, target, run_id, said)

    def on_tool_start(self, serialized: Any, input_str: str, *, run_id: UUID, **said: Any) -> None:
        """Point.PRE_TOOL_CALL."""
        if is_governed(said.get("metadata")):
            return
        arguments = said.get("inputs")
        target = plain(arguments) if arguments is not None else {"input": input_str}
        name = str((serialized or {}).get("name") or said.get("name") or "unnamed")
        request = self._interceptor.request(
            Point.PRE_TOOL_CALL,
            target,
            tool=name,
            host=HOST,
            call_id=said.get("tool_call_id") or "",
        )
        self._begin(request, run_id)

    def on_llm_end(self, response: LLMResult, *, run_id: UUID, **said: Any) -> None:
        """Point.POST_MODEL_CALL; the tokens of a stream are out by now."""
        answers = [
            plain(getattr(one, "message", one.text)) for row in response.generations for one in row
        ]
        self._end(answers, run_id)

    def on_tool_end(self, output: Any, *, run_id: UUID, **said: Any) -> None:
        """Point.POST_TOOL_CALL."""
        self._end(plain(output), run_id)

    def on_llm_error(self, error: BaseException, *, run_id: UUID, **said: Any) -> None:
        """Records the error; LangChain raises its own."""
        self._error(error, run_id)

    def on_tool_error(self, error: BaseException, *, run_id: UUID, **said: Any) -> None:
        """Records the error; LangChain raises its own."""
        self._error(error, run_id)

    @property
    def _interceptor(self) -> Interceptor:
        return self._given or guard.interceptor()

    def _model(self, serialized: Any, target: Any, run_id: UUID, said: dict[str, Any]) -> None:
        ref = _ref(serialized, said)
        request = self._interceptor.request(
            Point.PRE_MODEL_CALL, target, model=ref, host=HOST, run_id=str(run_id)
        )
        self._begin(request, run_id)

    def _begin(self, request: guard.Request, run_id: UUID) -> None:
        permit = self._interceptor.before(request)
        if isinstance(permit, Outcome):
            raise Denied(permit.decision)
        self._permits[run_id] = permit
        while len(self._permits) > PERMITS_MAX:
            self._permits.popitem(last=False)

    def _end(self, value: Any, run_id: UUID) -> None:
        permit = self._permits.pop(run_id, None)
        if permit is None:
            return
        formed = self._interceptor.after(permit, value)
        if isinstance(formed, Outcome):
            raise Denied(formed.decision)

    def _error(self, error: BaseException, run_id: UUID) -> None:
        permit = self._permits.pop(run_id, None)
        if permit is None:
            return
        try:
            outcome = self._interceptor.after_error(permit, error)
        except BaseException:  # noqa: BLE001 recorded; the original is on its way, unmasked
            return
        raise Denied(outcome.decision)


def install_backstop(interceptor: Interceptor | None = None) -> GovernanceCallback:
    """Put the gate before every model and tool of this process, also in threads of their own.

    There is no way to take it out again. Call it once, after guard.init().
    """
    backstop = GovernanceCallback(interceptor)
    variable: ContextVar[BaseCallbackHandler | None] = ContextVar(
        "guard_backstop", default=backstop
    )
    register_configure_hook(variable, inheritable=True)
    return backstop


class _Told:
    """A model as its callbacks describe it: arguments of its constructor and of this call."""

    def __init__(self, serialized: Any, said: dict[str, Any]) -> None:
        metadata = said.get("metadata") or {}
        parameters = said.get("invocation_params") or {}
        self.__dict__.update((serialized or {}).get("kwargs") or {})
        self.model_name = metadata.get("ls_model_name") or getattr(self, "model_name", None)
        self._llm_type = parameters.get("_type") or metadata.get("ls_provider") or "unknown"


def _ref(serialized: Any, said: dict[str, Any]) -> ModelRef:
    return model_ref(_Told(serialized, said), said.get("invocation_params") or {})
