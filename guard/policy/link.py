"""Linking: the rules in scope become one package, so that one evaluation answers for all of them.

`main.rego` walks `data.guard.rules[_]`: right, and slow in an engine without a rule index (about
4 us a rule). The embedded engine evaluates the same rules moved into package `guard` itself, where
each costs about 1.2 us. Three things change in a file and nothing else:

(1) the package clause;
(2) the names of its helpers, which get the rule's name as a suffix so that two rules may both have
    a helper `limit`. Every occurrence of such a name is renamed, locals included, which keeps each
    reference bound to what it was bound to;
(3) a reference into `data.settings` that names a scalar or a short list becomes that value, because
    data cannot change while a bundle lives and each look-up costs more than a rule (3.5 us).

A differential test holds the result to `main.rego` in a real OPA.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

from ..errors import PolicyLoadError
from .syntax import Module, Ref, bare_locals, variables, walk

__all__ = ["LINKED_PACKAGE", "link"]

LINKED_PACKAGE: Final = "guard"
# A longer list costs more to build on each evaluation than to look up.
INLINED_ITEMS_MAX: Final = 16
_KEPT: Final = ("verdicts", "facts")

# Byte offset -> (end, replacement); offsets never overlap, since references are outermost first.
_Edits = dict[int, tuple[int, bytes]]


def link(module: Module, rule: str, data: Mapping[str, Any]) -> str:
    """Source of `module` as part of package `guard`; raises PolicyLoadError on a clash of names."""
    source = module.source.encode()
    edits: _Edits = {}
    package = module.tree["package"]["refr"]
    ((_, inner),) = package.items()
    edits[inner["span"]["start"]] = (inner["span"]["end"], LINKED_PACKAGE.encode())  # (1)
    _rename(module, rule, source, edits)  # (2)
    _inline(module, data, source, edits)  # (3)
    return _apply(source, edits).decode()


def _rename(module: Module, rule: str, source: bytes, edits: _Edits) -> None:
    helpers = {head.name for head in module.heads if head.name not in _KEPT}
    clash = helpers & module.imports.keys()
    if clash:
        raise PolicyLoadError(
            f"{module.name}:1: import `{min(clash)}` has the name of a rule of this file: rename it"
        )
    for name, line in bare_locals(module.tree["rules"], source):
        if name in helpers:
            raise PolicyLoadError(
                f"{module.name}:{line}: local `{name}` has the name of a rule in this file: "
                "rename it"
            )
    for node in variables(module.tree["rules"]):
        name = node["value"]
        if name not in helpers:
            continue
        start, end = node["span"]["start"], node["span"]["end"]
        if source[start:end] != name.encode():
            raise PolicyLoadError(
                f"{module.name}: cannot rename `{name}` safely: call it otherwise"
            )
        edits[start] = (end, f"{name}__{rule}".encode())


def _inline(module: Module, data: Mapping[str, Any], source: bytes, edits: _Edits) -> None:
    for item in walk(module.tree["rules"]):
        if not isinstance(item, Ref) or item.parts[:2] != ("data", "settings"):
            continue
        value: Any = data
        for part in item.parts[1:]:
            if not isinstance(value, Mapping) or part not in value:
                # An undefined setting would switch the rule off without a word.
                raise PolicyLoadError(
                    f"{module.name}:{item.line}: setting `{'.'.join(item.parts)}` has no value: "
                    "add it to data.json"
                )
            value = value[part]
        text = source[item.start : item.end].decode()
        if item.is_whole and text == ".".join(item.parts) and _is_small(value):
            edits[item.start] = (item.end, json.dumps(value).encode())


def _is_small(value: Any) -> bool:
    if isinstance(value, (list, tuple)):
        return len(value) <= INLINED_ITEMS_MAX and not any(
            isinstance(item, (dict, list, tuple)) for item in value
        )
    return not isinstance(value, dict)


def _apply(source: bytes, edits: _Edits) -> bytes:
    pieces: list[bytes] = []
    done = 0
    for start in sorted(edits):
        end, text = edits[start]
        pieces += [source[done:start], text]
        done = end
    return b"".join([*pieces, source[done:]])
