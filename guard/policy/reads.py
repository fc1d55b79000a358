"""Which fields of the input a rule reads, so that nothing else is handed to the engine.

A field that no rule in scope can read cannot change the answer, and crossing into native code is
what a decision pays most for: with 25 rules that read the tool and its arguments the whole call
takes 150 us instead of 190. The analysis is conservative: where it cannot follow, the rule is
taken to read everything.

It follows references (`input.tool.name`), and `input` handed whole to a function of the same file
or of an imported library, into that function's parameter.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

import msgspec

from .input import FIELDS
from .syntax import Module, Node, Ref, walk

__all__ = ["EVERYTHING", "Reads", "project", "reads_of", "united"]

# Top key -> the names read below it, or None where all of it is read. None instead of a mapping:
# everything is read.
Reads = Mapping[str, frozenset[str] | None] | None

EVERYTHING: Final[Reads] = None


def reads_of(module: Module, libraries: Mapping[str, Module]) -> Reads:
    """What a rule and the libraries it imports read; `libraries` by package."""
    return _Reader(libraries).of(module)


def united(reads: Iterable[Reads]) -> Reads:
    """What several rules read together."""
    total: dict[str, frozenset[str] | None] = {}
    for one in reads:
        if one is None:
            return EVERYTHING
        for key, names in one.items():
            known = total.get(key, frozenset())
            total[key] = None if names is None or known is None else known | names
    return total


def project(document: Mapping[str, Any], reads: Reads) -> Mapping[str, Any]:
    """The parts of a policy input that are read."""
    if reads is None:
        return document
    part: dict[str, Any] = {}
    for key, names in reads.items():
        if key not in document:
            continue  # the target stands under another key at this point
        value = document[key]
        if names is None or value is None:
            part[key] = value
        elif isinstance(value, msgspec.Struct):
            part[key] = {name: getattr(value, name) for name in names}
        else:
            part[key] = {name: value[name] for name in names}
    return part


class _Unclear(Exception):
    """The analysis cannot follow: the rule reads everything."""


class _Reader:
    def __init__(self, libraries: Mapping[str, Module]) -> None:
        self._libraries = libraries
        self._found: dict[str, frozenset[str] | None] = {}
        self._done: set[tuple[str, str, int]] = set()

    def of(self, module: Module) -> Reads:
        try:
            self._module(module, seen=set())
        except _Unclear:
            return EVERYTHING
        return self._found

    def _module(self, module: Module, *, seen: set[str]) -> None:
        """Everything in a file, and in the libraries it imports."""
        if module.name in seen:
            return
        seen.add(module.name)
        self._reads(module, module.tree["rules"], root="input")
        for path in module.imports.values():
            library = self._libraries.get(".".join(path[1:]))
            if library is not None:
                self._module(library, seen=seen)
            elif path[:2] not in (("data", "settings"), ("data", "fleet")):
                raise _Unclear

    def _reads(self, module: Module, node: Any, *, root: str) -> None:
        """References below `root`, which is `input` or a parameter that holds it."""
        followed = self._handed_over(module, node, root)
        for item in walk(node):
            if not isinstance(item, Ref) or item.parts[:1] != (root,):
                continue
            if len(item.parts) == 1:
                if (item.start, item.end) in followed and item.is_whole:
                    continue
                raise _Unclear
            self._note(item.parts[1:])

    def _note(self, path: tuple[str, ...]) -> None:
        key = path[0]
        if key not in FIELDS:
            raise _Unclear
        known = self._found.get(key, frozenset())
        if len(path) == 1 or not FIELDS[key]:
            self._found[key] = None
        elif known is not None:
            self._found[key] = known | {path[1]}

    def _handed_over(self, module: Module, node: Any, root: str) -> set[tuple[int, int]]:
        """Places where `root` whole is an argument of a function that was followed into."""
        places: set[tuple[int, int]] = set()
        for call in _calls(node):
            for position, parameter in enumerate(call["params"]):
                inner = parameter.get("Var")
                if inner is None or inner["value"] != root:
                    continue
                self._follow(module, _name(call["fcn"]), position)
                places.add((inner["span"]["start"], inner["span"]["end"]))
        return places

    def _follow(self, module: Module, name: tuple[str, ...], position: int) -> None:
        """Read a function's bodies as if its parameter at `position` were the input."""
        home = module
        if len(name) == 2 and name[0] in module.imports:
            path = module.imports[name[0]]
            library = self._libraries.get(".".join(path[1:]))
            if library is None:
                raise _Unclear
            home, name = library, name[1:]
        if len(name) != 1:
            raise _Unclear
        key = (home.name, name[0], position)
        if key in self._done:
            return
        self._done.add(key)
        bodies = [h for h in home.heads if h.name == name[0] and h.form == "Func"]
        if not bodies:
            raise _Unclear  # a built-in that gets the whole input
        for head in bodies:
            arguments = head.node["head"]["Func"]["args"]
            parameter = arguments[position].get("Var") if position < len(arguments) else None
            if parameter is None:
                raise _Unclear
            scope = [head.node["bodies"], head.node["head"]["Func"]["assign"]]
            self._reads(home, scope, root=parameter["value"])


def _calls(node: Any) -> Iterable[Node]:
    if isinstance(node, list):
        for item in node:
            yield from _calls(item)
    elif isinstance(node, dict):
        for kind, inner in node.items():
            if kind == "Call":
                yield inner
            yield from _calls(inner)


def _name(function: Node) -> tuple[str, ...]:
    reference = next(walk(function), None)
    return reference.parts if isinstance(reference, Ref) else ()
