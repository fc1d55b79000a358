"""Reading Rego: the parts of a module's syntax tree that loading, linting and linking need.

The tree comes from the engine itself (`Engine.get_ast_as_json`), so what is linted is what runs.
A node is a dict with one capitalised key (`{"Var": {...}}`); spans are byte offsets.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Final

import msgspec
import regorus

from ..errors import PolicyLoadError

__all__ = [
    "Call",
    "Module",
    "Node",
    "Ref",
    "RuleHead",
    "bare_locals",
    "parse",
    "reason_of",
    "text_of",
    "variables",
    "walk",
    "with_line",
]

MODULE_BYTES_MAX: Final = 256 * 1024  # a rule is about 40 lines; this is 100 times a large one
_LOCATION: Final = re.compile(r"--> (?P<file>.*):(?P<line>\d+):(?P<column>\d+)")
_REF_KINDS: Final = ("Var", "RefDot", "RefBrack")

Node = dict[str, Any]


class Ref(msgspec.Struct, frozen=True):
    """A reference such as `input.tool.name`: its static parts, up to the first dynamic index."""

    parts: tuple[str, ...]
    line: int
    is_whole: bool  # False when a dynamic index follows the static parts
    start: int  # byte offsets of the whole reference
    end: int


class Call(msgspec.Struct, frozen=True):
    """A call of a function, local, imported or built in, by its dotted name."""

    name: str
    line: int


class RuleHead(msgspec.Struct, frozen=True):
    """A rule of a module: its name, how it is defined, and where."""

    name: str
    form: str  # Set (`contains`), Compr (value), Func, Default
    line: int
    node: Node


class Module(msgspec.Struct, frozen=True):
    """One parsed file: `name` is its path inside the bundle, `package` without `data.`."""

    name: str
    source: str
    package: str
    imports: dict[str, tuple[str, ...]]  # alias -> path
    heads: tuple[RuleHead, ...]
    tree: Node


def parse(name: str, source: str) -> Module:
    """Parse one file; raises PolicyLoadError with file and line."""
    if len(source.encode()) > MODULE_BYTES_MAX:
        raise PolicyLoadError(f"{name}: a module is at most {MODULE_BYTES_MAX} bytes: split it")
    engine = regorus.Engine()
    try:
        engine.add_policy(name, source)
        trees = msgspec.json.decode(engine.get_ast_as_json())
    except (RuntimeError, ValueError) as error:
        raise PolicyLoadError(reason_of(error, name)) from None
    tree = trees[0]["ast"]
    return Module(
        name=name,
        source=source,
        package=".".join(_parts(tree["package"]["refr"])[0]),
        imports=_imports(tree, source.encode()),
        heads=tuple(_heads(tree)),
        tree=tree,
    )


def reason_of(error: BaseException, name: str) -> str:
    """The engine's complaint as one line `file:line: reason`, without its stack trace."""
    text = str(error).partition("Stack backtrace")[0]
    place = _LOCATION.search(text)
    where = f"{place['file']}:{place['line']}" if place else name
    complaint = text.rpartition("error:")[2].strip() if "error:" in text else text.strip()
    return f"{where}: {complaint.splitlines()[0] if complaint else 'does not compile'}"


def walk(node: Any) -> Iterator[Ref | Call | tuple[str, Node]]:
    """All references, calls and other nodes below `node`, outermost first."""
    if isinstance(node, list):
        for item in node:
            yield from walk(item)
        return
    if not isinstance(node, dict):
        return
    for kind, inner in node.items():
        if kind in _REF_KINDS:
            parts, dynamic, is_whole = _static(node)
            span = inner["span"]
            yield Ref(parts, span["line"], is_whole, span["start"], span["end"])
            for index in dynamic:
                yield from walk(index)
        elif kind == "Call":
            yield Call(".".join(_parts(inner["fcn"])[0]), inner["span"]["line"])
            yield from walk(inner["params"])
        else:
            if kind[0].isupper() and isinstance(inner, dict):
                yield kind, inner
            yield from walk(inner)


def variables(node: Any) -> Iterator[Node]:
    """Every `Var` node below `node`, also those at the base of references and calls."""
    if isinstance(node, list):
        for item in node:
            yield from variables(item)
    elif isinstance(node, dict):
        for kind, inner in node.items():
            if kind == "Var":
                yield inner
            else:
                yield from variables(inner)


def bare_locals(node: Any, source: bytes) -> Iterator[tuple[str, int]]:
    """Names bound by `some x` and `every k, v in`, which the tree holds as spans only."""
    for item in walk(node):
        if isinstance(item, tuple):
            kind, inner = item
            spans: list[Any] = []
            if kind == "SomeVars":
                spans = inner["vars"]
            elif kind == "Every":
                spans = [inner["key"], inner["value"]]
            for span in spans:
                if span:
                    yield source[span["start"] : span["end"]].decode(), span["line"]


def with_line(node: Any) -> int | None:
    """The line of the first statement with a `with` modifier, or None."""
    if isinstance(node, dict) and node.get("with_mods"):
        return int(node["span"]["line"])
    inner = node.values() if isinstance(node, dict) else node if isinstance(node, list) else ()
    return next((line for item in inner if (line := with_line(item)) is not None), None)


def text_of(node: Node) -> str | None:
    """The value of a string literal, or None when the node is anything else."""
    literal = node.get("String") or node.get("RawString")
    return None if literal is None else str(literal["value"])


def _heads(tree: Node) -> Iterator[RuleHead]:
    for rule in tree["rules"]:
        if "Default" in rule:
            inner = rule["Default"]
            yield RuleHead(_base(inner["refr"]), "Default", inner["span"]["line"], inner)
            continue
        spec = rule["Spec"]
        ((form, head),) = spec["head"].items()
        yield RuleHead(_base(head["refr"]), form, head["span"]["line"], spec)


def _base(refr: Node) -> str:
    return _parts(refr)[0][0]


def _imports(tree: Node, source: bytes) -> dict[str, tuple[str, ...]]:
    found: dict[str, tuple[str, ...]] = {}
    for item in tree["imports"]:
        path = _parts(item["refr"])[0]
        if path[:1] == ("rego",) or path[:1] == ("future",):
            continue
        alias = item.get("as")
        # The tree holds the alias as a span only.
        found[source[alias["start"] : alias["end"]].decode() if alias else path[-1]] = path
    return found


def _parts(refr: Node) -> tuple[tuple[str, ...], bool]:
    parts, _, is_whole = _static(refr)
    return parts, is_whole


def _static(node: Node) -> tuple[tuple[str, ...], list[Node], bool]:
    """(static parts, dynamic indexes, whether no dynamic index cuts the parts short)."""
    ((kind, inner),) = node.items()
    if kind == "Var":
        return (inner["value"],), [], True
    if kind == "RefDot":
        parts, dynamic, is_whole = _static(inner["refr"])
        return ((*parts, inner["field"][1]) if is_whole else parts), dynamic, is_whole
    if kind == "RefBrack":
        parts, dynamic, is_whole = _static(inner["refr"])
        key = text_of(inner["index"])
        if key is not None and is_whole:
            return (*parts, key), dynamic, True
        return parts, [*dynamic, inner["index"]], False
    # A reference on a call or a literal: nothing static to say.
    return (), [node], False
