"""One line for a function of one's own: `@guard.tool`, `@guard.step`, `@guard.model`.

    @guard.tool(effects=["pay"], destinations=["to"])
    def wire(to: str, amount: int) -> str: ...

The wrapper keeps name, signature and type, and stays a coroutine function where the original is
one. Functions, methods, classmethods, staticmethods, callables, generators and async generators are
all governed: a generator is decided when it is called, and each of its items when it comes.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Collection, Iterable
from typing import Any, Final, ParamSpec, TypeVar, cast, overload

import msgspec

from .binding import Binding, check_words
from .errors import ConfigError, Outcome
from .interceptor import Interceptor, OnDeny
from .permit import Permit
from .request import (
    CONFIDENTIALITIES,
    TOOL_EFFECTS,
    Host,
    ModelRef,
    Point,
    Request,
    ToolDeclaration,
)
from .streams import aitems, items, later

__all__ = ["Decorators"]

P = ParamSpec("P")
R = TypeVar("R")

# Stands in the record where a model was asked for by something that is not text.
NO_NAME: Final = "(no name)"
_RECEIVERS: Final = ("self", "cls")


class _Target(msgspec.Struct, frozen=True, kw_only=True):
    """What the decorator was told about the function."""

    point: Point
    tool: ToolDeclaration | None = None
    model: ModelRef | None = None
    model_argument: str | None = None
    on_deny: OnDeny | None = None


class Decorators:
    """The decorators, bound to where the interceptor comes from: it is looked up on each call."""

    def __init__(self, interceptor: Callable[[], Interceptor]) -> None:
        self._interceptor = interceptor

    @overload
    def tool(self, function: Callable[P, R], /) -> Callable[P, R]: ...
    @overload
    def tool(
        self,
        function: None = None,
        /,
        *,
        name: str | None = None,
        effects: Collection[str] | None = None,
        destinations: Collection[str] = (),
        payloads: Collection[str] = (),
        returns: str = "untrusted",
        confidentiality: str = "internal",
        injected: Iterable[str] = (),
        on_deny: OnDeny | None = None,
    ) -> Callable[[Callable[P, R]], Callable[P, R]]: ...
    def tool(
        self,
        function: Callable[..., Any] | None = None,
        /,
        *,
        name: str | None = None,
        effects: Collection[str] | None = None,
        destinations: Collection[str] = (),
        payloads: Collection[str] = (),
        returns: str = "untrusted",
        confidentiality: str = "internal",
        injected: Iterable[str] = (),
        on_deny: OnDeny | None = None,
    ) -> Any:
        """Govern a tool. Without `effects` here or in tools.toml it counts as doing everything.

        `returns` is the integrity of its result (`trusted` or `untrusted`), `confidentiality` is
        public, internal, confidential or secret; `injected` parameters are yours, not the model's.
        """
        injected_names = tuple(injected)

        def decorate(inner: Callable[..., Any]) -> Callable[..., Any]:
            check_words("effects", effects or (), TOOL_EFFECTS)
            check_words("destinations", destinations)
            check_words("payloads", payloads)
            check_words("returns", [returns], ("trusted", "untrusted"))
            check_words("confidentiality", [confidentiality], CONFIDENTIALITIES)
            declaration = ToolDeclaration(
                name=name or _name_of(inner),
                effects=tuple(effects or ()),
                destinations=tuple(destinations),
                payloads=tuple(payloads),
                returns=returns,
                confidentiality=confidentiality,
                is_declared=effects is not None,
            )
            target = _Target(point=Point.PRE_TOOL_CALL, tool=declaration, on_deny=on_deny)
            return self._govern(inner, target, injected_names)

        return decorate if function is None else decorate(function)

    @overload
    def step(self, function: Callable[P, R], /) -> Callable[P, R]: ...
    @overload
    def step(
        self,
        function: None = None,
        /,
        *,
        injected: Iterable[str] = (),
        on_deny: OnDeny | None = None,
    ) -> Callable[[Callable[P, R]], Callable[P, R]]: ...
    def step(
        self,
        function: Callable[..., Any] | None = None,
        /,
        *,
        injected: Iterable[str] = (),
        on_deny: OnDeny | None = None,
    ) -> Any:
        """Govern a step of an agent: a node of a graph, a turn, a sub-task."""
        injected_names = tuple(injected)

        def decorate(inner: Callable[..., Any]) -> Callable[..., Any]:
            return self._govern(
                inner, _Target(point=Point.PRE_STEP, on_deny=on_deny), injected_names
            )

        return decorate if function is None else decorate(function)

    def model(
        self,
        id: str,  # noqa: A002 the word of the domain
        *,
        provider: str | None = None,
        endpoint: str | None = None,
        argument: str | None = None,
        injected: Iterable[str] = (),
        on_deny: OnDeny | None = None,
    ) -> Callable[[Callable[P, R]], Callable[P, R]]:
        """Govern a function that calls a model: `@guard.model("large-1", provider="acme")`.

        ROUTE calls `Interceptor.models[other]` with the same arguments, or, with `argument`, this
        function with the other id in that argument.
        """

        if not isinstance(id, str):
            raise ConfigError('write @guard.model("model-id", provider="..."): a model has a name')

        def decorate(inner: Callable[..., Any]) -> Callable[..., Any]:
            target = _Target(
                point=Point.PRE_MODEL_CALL,
                model=ModelRef(id=id, provider=provider, endpoint=endpoint),
                model_argument=argument,
                on_deny=on_deny,
            )
            return self._govern(inner, target, tuple(injected))

        return cast("Callable[[Callable[P, R]], Callable[P, R]]", decorate)

    def _govern(
        self, function: Any, target: _Target, injected: tuple[str, ...]
    ) -> Callable[..., Any]:
        if isinstance(function, (classmethod, staticmethod)):
            kind = type(function)
            return cast(
                "Callable[..., Any]", kind(self._govern(function.__func__, target, injected))
            )
        if not callable(function):
            raise ConfigError(f"expected a function to govern, got `{type(function).__name__}`")
        return _wrap(_Governed(self._interceptor, function, target, injected))


class _Governed:
    """One governed function: from arguments to a request, and from a permit to the call."""

    def __init__(
        self,
        interceptor: Callable[[], Interceptor],
        function: Callable[..., Any],
        target: _Target,
        injected: tuple[str, ...],
    ) -> None:
        self.interceptor = interceptor
        self.function = function
        self.target = target
        self.binding = Binding(function, injected=injected, receiver=_has_receiver(function))

    def asked(
        self, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[Interceptor, Request, dict[str, Any]]:
        governor = self.interceptor()
        governed, injected = self.binding.bind(args, kwargs)
        target = self.target
        model = target.model
        if model is not None and target.model_argument is not None:
            asked = governed.get(target.model_argument)
            # What is no name is no approved model's name either.
            name = str.__str__(asked) if isinstance(asked, str) else NO_NAME
            model = ModelRef(id=name, provider=model.provider, endpoint=model.endpoint)
        can_route = model is not None and (
            target.model_argument is not None or bool(governor.models)
        )
        request = governor.request(
            target.point, governed, tool=target.tool, model=model, host=_HOSTS[can_route]
        )
        return governor, request, injected

    def invoke(self, governor: Interceptor, permit: Permit, injected: dict[str, Any]) -> Any:
        function, governed = self.function, permit.target
        if permit.model_id is not None:
            if self.target.model_argument is not None:
                governed = {**governed, self.target.model_argument: permit.model_id}
            else:
                function = governor.models[permit.model_id]
        args, kwargs = self.binding.arguments(governed, injected)
        return function(*args, **kwargs)


_HOSTS: Final = {False: Host(), True: Host(can_route=True)}


def _wrap(governed: _Governed) -> Callable[..., Any]:
    function, on_deny = governed.function, governed.target.on_deny
    if inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(
        getattr(function, "__call__", None)  # noqa: B004 a callable object may be async
    ):

        @functools.wraps(function, updated=_updated(function))
        async def awrapper(*args: Any, **kwargs: Any) -> Any:
            governor, request, injected = governed.asked(args, kwargs)
            permit = await governor.abefore(request)
            if isinstance(permit, Outcome):
                return governor.deliver(permit, on_deny)
            value, failure = None, None
            try:
                value = await governed.invoke(governor, permit, injected)
            except BaseException as error:  # noqa: BLE001 every end of a call is recorded
                failure = error
            return governor.deliver(governor.ended(permit, value, failure), on_deny)

        return awrapper

    @functools.wraps(function, updated=_updated(function))
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        governor, request, injected = governed.asked(args, kwargs)
        permit = governor.before(request)
        if isinstance(permit, Outcome):
            return governor.deliver(permit, on_deny)
        value, failure = None, None
        try:
            value = governed.invoke(governor, permit, injected)
        except BaseException as error:  # noqa: BLE001 every end of a call is recorded
            failure = error
        # What comes later is governed when it comes, however the function was written.
        if inspect.isgenerator(value):
            return items(governor, permit, value, on_deny)
        if inspect.isasyncgen(value):
            return aitems(governor, permit, value, on_deny)
        if inspect.isawaitable(value):
            return later(governor, permit, value, on_deny)
        return governor.deliver(governor.ended(permit, value, failure), on_deny)

    return wrapper


def _name_of(function: Any) -> str:
    inner = getattr(function, "__func__", function)
    return str(getattr(inner, "__name__", type(inner).__name__))


def _has_receiver(function: Any) -> bool:
    """A plain function whose first parameter is `self` or `cls`: a method in its class body."""
    if inspect.ismethod(function) or not inspect.isfunction(function):
        return False
    first = next(iter(inspect.signature(function).parameters), None)
    return first in _RECEIVERS


def _updated(function: Any) -> tuple[str, ...]:
    # A callable object's __dict__ is its state, not a function's attributes.
    return ("__dict__",) if inspect.isfunction(function) else ()
