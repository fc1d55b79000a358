"""Arguments by name: what policy sees of a call, and how the call is made again from it.

Positional arguments are bound to the names of the signature, defaults included, so that no rule
can be passed by writing `pay("bob", 5000)`. Keyword arguments of `**kwargs` stand beside the named
ones, because a rule should not need to know how a function collects them.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Mapping
from typing import Any, Final

from .errors import ConfigError
from .plain import Json

__all__ = ["Binding", "check_words"]

_PLAIN: Final = (str, int, float, bool, type(None), list, tuple, dict)
_EMPTY: Final = inspect.Parameter.empty


class Binding:
    """The signature of one function, read once. `injected` parameters are not governed: a database
    session, a logger; `receiver` says that the first one is `self` or `cls`."""

    def __init__(
        self,
        function: Callable[..., Any],
        *,
        injected: Collection[str] = (),
        receiver: bool = False,
    ) -> None:
        self.signature = inspect.signature(function)
        parameters = list(self.signature.parameters.values())
        self.receiver = parameters[0].name if receiver and parameters else None
        self.injected = frozenset(injected) | ({self.receiver} if self.receiver else frozenset())
        unknown = set(injected) - {parameter.name for parameter in parameters}
        if unknown:
            raise ConfigError(
                f"injected parameter `{min(unknown)}` is not in the signature {self.signature}"
            )
        self._kwargs = next((p.name for p in parameters if p.kind is p.VAR_KEYWORD), None)
        simple = all(p.kind is p.POSITIONAL_OR_KEYWORD for p in parameters)
        # The usual signature needs no inspect.bind, which costs 6 us.
        self._names = tuple(p.name for p in parameters) if simple else None
        self._defaults = {
            p.name: p.default
            for p in parameters
            if p.default is not _EMPTY and isinstance(p.default, _PLAIN)
        }
        self._required = frozenset(p.name for p in parameters if p.default is _EMPTY)

    def bind(
        self, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """(governed arguments by name, injected ones); raises TypeError as the function would."""
        bound = self._bind_simple(args, kwargs)
        if bound is None:
            bound = self._bind_any(args, kwargs)
        if not self.injected:
            return bound, {}
        injected = {name: bound.pop(name) for name in self.injected if name in bound}
        return bound, injected

    def arguments(
        self, governed: Json, injected: Mapping[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """`(args, kwargs)` of the call, made from the snapshot and nothing else."""
        values = {**injected, **governed}
        if self._names is not None:
            if self.receiver is not None and self.receiver in values:
                return (values.pop(self.receiver),), values
            return (), values
        args: list[Any] = []
        kwargs: dict[str, Any] = {}
        for parameter in self.signature.parameters.values():
            name = parameter.name
            if parameter.kind is parameter.VAR_POSITIONAL:
                args.extend(values.pop(name, ()))
            elif parameter.kind is parameter.VAR_KEYWORD or name not in values:
                continue
            elif parameter.kind is parameter.KEYWORD_ONLY:
                kwargs[name] = values.pop(name)
            else:
                args.append(values.pop(name))
        return tuple(args), {**kwargs, **values}

    def _bind_simple(
        self, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> dict[str, Any] | None:
        names = self._names
        if names is None or len(args) > len(names):
            return None
        bound = dict(zip(names, args, strict=False))
        for name, value in kwargs.items():
            if name in bound or name not in names:
                return None  # inspect words the TypeError
            bound[name] = value
        if not self._required <= bound.keys():
            return None
        return {**self._defaults, **bound}

    def _bind_any(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
        found = self.signature.bind(*args, **kwargs).arguments
        bound = {**self._defaults, **found}
        if self._kwargs is not None:
            extra = bound.pop(self._kwargs, {})
            clash = bound.keys() & extra.keys()
            if clash:
                raise TypeError(f"got several values for argument `{min(clash)}`")
            bound.update(extra)
        return bound


def check_words(name: str, words: Collection[str], known: Collection[str] | None = None) -> None:
    """Raises ConfigError for one text where several words belong, or for a word not known."""
    if isinstance(words, str):
        raise ConfigError(f"`{name}` takes a list of words such as [{words!r}]")
    for word in words:
        if known is not None and word not in known:
            raise ConfigError(f"unknown word `{word}` in {name}: expected {', '.join(known)}")
