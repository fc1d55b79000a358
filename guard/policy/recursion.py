"""No rule may lead back to itself. OPA refuses recursion; the embedded engine would recurse until
the process dies, so it is refused before anything is evaluated.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from ..errors import PolicyLoadError
from .syntax import Call, Module, Node, Ref, walk

__all__ = ["refuse_recursion"]

# (package, rule name)
_Name = tuple[str, str]
DATA: Final = "data"


def refuse_recursion(modules: Iterable[Module]) -> None:
    """Raises PolicyLoadError with file and line for the first rule that refers back to itself."""
    graph: dict[_Name, set[_Name]] = {}
    places: dict[_Name, str] = {}
    for module in modules:
        for head in module.heads:
            name = (module.package, head.name)
            places.setdefault(name, f"{module.name}:{head.line}")
            graph.setdefault(name, set()).update(_uses(module, head.node))
    done: set[_Name] = set()
    for start in graph:
        looped = _loop(start, graph, done)
        if looped is not None:
            raise PolicyLoadError(
                f"{places[looped]}: rule `{looped[1]}` refers back to itself: "
                "recursion is not possible in Rego"
            )


def _uses(module: Module, node: Node) -> Iterator[_Name]:
    own = {head.name for head in module.heads}
    parts_list: list[tuple[str, ...]] = []
    # The name in the head is the rule itself, not a use of it.
    ((_, head),) = node["head"].items() if "head" in node else (("", node),)
    inside = [value for key, value in head.items() if key != "refr"]
    for item in walk([inside, node.get("bodies", [])]):
        if isinstance(item, Ref):
            parts_list.append(item.parts)
        elif isinstance(item, Call):
            parts_list.append(tuple(item.name.split(".")))
    for parts in parts_list:
        if parts and parts[0] in own:
            yield module.package, parts[0]
        if len(parts) > 1 and parts[0] in module.imports:
            yield _absolute((*module.imports[parts[0]], *parts[1:]))
        elif parts[:1] == (DATA,) and len(parts) > 2:
            yield _absolute(parts)


def _absolute(parts: tuple[str, ...]) -> _Name:
    # data.guard.lib.<library>.<rule>: deeper parts look into the rule's value.
    return ".".join(parts[1:4]), parts[4] if len(parts) > 4 else ""


def _loop(start: _Name, graph: Mapping[_Name, set[_Name]], done: set[_Name]) -> _Name | None:
    """A rule on a cycle reachable from `start`; a walk with a stack of its own, never recursing."""
    path: list[tuple[_Name, Iterator[_Name]]] = [(start, iter(graph[start]))]
    inside = {start}
    while path:
        name, rest = path[-1]
        for other in rest:
            if other in inside:
                return other
            if other in graph and other not in done:
                path.append((other, iter(graph[other])))
                inside.add(other)
                break
        else:
            path.pop()
            inside.discard(name)
            done.add(name)
    return None
