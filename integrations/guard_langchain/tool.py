"""A tool that asks before it runs and hands out its result only as it was decided.

The copy decides on the arguments that really reach it, after every middleware, and forms the
result before the tool's own callbacks see it. What ToolNode injects is not a model's argument.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from contextvars import ContextVar
from typing import Any, Final, NoReturn

from langchain_core.tools import BaseTool

from guard import Host, Interceptor, Outcome, Permit, Point

from .defaults import defaults_of, first_of
from .mark import MARK
from .messages import formed, plain
from .outcomes import failed, stop

__all__ = ["HOST", "governed_tool", "request_of"]

HOST: Final = Host(framework="langchain")
_ATTEMPT: Final[ContextVar[_Attempt | None]] = ContextVar("guard_langchain_attempt", default=None)


def governed_tool(tool: BaseTool, interceptor: Interceptor, *, source: object | None) -> BaseTool:
    """A copy of `tool`, with its schema, whose every invocation is one governed call.

    Its outcomes are raised as Stopped; `source` may answer them.
    """
    governed = tool.model_copy(update={"metadata": {**(tool.metadata or {}), **MARK}})
    kind = type(tool)

    def invoke(given: Any, config: Any = None, **kwargs: Any) -> Any:
        running = _ATTEMPT.get()
        if running is not None and running.governed is governed:
            # A tool that is not async comes by here from its own `ainvoke`.
            return kind.invoke(governed, given, config, **kwargs)
        attempt = _Attempt(interceptor, governed, source, given)
        attempt.granted(interceptor.before(attempt.request))
        before = _ATTEMPT.set(attempt)
        try:
            output = kind.invoke(governed, attempt.given, config, **kwargs)
        except BaseException as error:  # noqa: BLE001 every end of a call is recorded
            attempt.failed(error)
        finally:
            _ATTEMPT.reset(before)
        return attempt.formed(output)

    async def ainvoke(given: Any, config: Any = None, **kwargs: Any) -> Any:
        attempt = _Attempt(interceptor, governed, source, given)
        attempt.granted(await interceptor.abefore(attempt.request))
        before = _ATTEMPT.set(attempt)
        try:
            output = await kind.ainvoke(governed, attempt.given, config, **kwargs)
        except BaseException as error:  # noqa: BLE001 every end of a call is recorded
            attempt.failed(error)
        finally:
            _ATTEMPT.reset(before)
        return attempt.formed(output)

    @functools.wraps(tool._run)
    def _run(*args: Any, **kwargs: Any) -> Any:
        attempt = _attempt_of(governed)
        try:
            value = tool._run(*args, **kwargs)
        except BaseException as error:  # noqa: BLE001 every end of a call is recorded
            attempt.failed(error)
        return attempt.formed(value)

    @functools.wraps(tool._arun)
    async def _arun(*args: Any, **kwargs: Any) -> Any:
        attempt = _attempt_of(governed)
        try:
            value = await tool._arun(*args, **kwargs)
        except BaseException as error:  # noqa: BLE001 every end of a call is recorded
            attempt.failed(error)
        return attempt.formed(value)

    for name, method in (
        ("invoke", invoke),
        ("ainvoke", ainvoke),
        ("_run", _run),
        ("_arun", _arun),
    ):
        # A tool is a pydantic object of any class: methods of the instance come before the class's.
        object.__setattr__(governed, name, method)
    return governed


def request_of(interceptor: Interceptor, name: str, arguments: Any, call_id: str | None) -> Any:
    """The request of one tool call."""
    return interceptor.request(
        Point.PRE_TOOL_CALL, arguments, tool=name, host=HOST, call_id=call_id or ""
    )


class _Attempt:
    """One invocation: the permit it runs under, and whether its end was recorded."""

    def __init__(
        self, interceptor: Interceptor, governed: BaseTool, source: object | None, given: Any
    ) -> None:
        self.interceptor = interceptor
        self.governed = governed
        self.source = source
        self.is_ended = False
        self.given = given
        self.is_call = isinstance(given, Mapping) and given.get("type") == "tool_call"
        self.arguments = given["args"] if self.is_call else given
        self.visible, self.defaults = _visible(governed, self.arguments)
        call_id = given.get("id") if self.is_call else None
        self.request = request_of(interceptor, governed.name, self.visible, call_id)

    def granted(self, permit: Permit | Outcome) -> None:
        """Go on under this permit; raises Stopped where it is none."""
        if isinstance(permit, Outcome):
            raise stop(permit, source=self.source, is_before=True)
        self.permit: Permit = permit
        # INVARIANT: what the tool gets is the snapshot that was decided, and what was injected.
        sent = permit.target
        if isinstance(self.visible, dict):
            # A default that stays as it is, the tool fills in: its schema need not accept it.
            same = self.defaults
            kept = {k: v for k, v in sent.items() if k not in same or v != same[k]}
            given = self.arguments if isinstance(self.arguments, dict) else {}
            sent = {**{k: v for k, v in given.items() if k not in self.visible}, **kept}
        self.given = {**self.given, "args": sent} if self.is_call else sent

    def formed(self, value: Any) -> Any:
        """The result as it may go on; raises Stopped where it is withheld."""
        if self.is_ended:
            return value
        self.is_ended = True
        form = self.interceptor.after(self.permit, plain(value))
        if isinstance(form, Outcome):
            raise stop(form, source=self.source, is_before=False)
        return formed(value, form)

    def failed(self, error: BaseException) -> NoReturn:
        """Record how the call raised, and raise what may go on instead."""
        if self.is_ended:
            raise error
        self.is_ended = True
        failed(self.interceptor, self.permit, error, source=self.source)


def _visible(governed: BaseTool, arguments: Any) -> tuple[Any, dict[str, Any]]:
    """(the arguments that are decided: those given and the defaults, those defaults alone)."""
    if isinstance(arguments, dict):
        given = governed._filter_injected_args(arguments)
    else:
        first = first_of(governed) if isinstance(arguments, str) else None
        if first is None or len(defaults_of(governed, {first: arguments})) == 0:
            return arguments, {}
        given = {first: arguments}
    defaults = defaults_of(governed, given)
    return {**given, **defaults}, defaults


def _attempt_of(governed: BaseTool) -> _Attempt:
    attempt = _ATTEMPT.get()
    if attempt is None or attempt.governed is not governed:
        raise RuntimeError("a governed tool was run without being invoked")
    return attempt
