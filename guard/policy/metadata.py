"""A rule's METADATA: what it is called and where it can concern a call.

The form is OPA's (https://www.openpolicyagent.org/docs/policy-language#metadata): a comment block
that starts with `# METADATA` and holds YAML. `custom.points` is required, `custom.tools` narrows
to exact tool names, `custom.controls` names what the rule serves.
"""

from __future__ import annotations

import difflib
import re
from typing import Any, Final

import msgspec

from ..errors import PolicyLoadError
from ..request import Point

__all__ = ["Metadata", "read_metadata"]

_BLOCK: Final = re.compile(r"^# METADATA[ \t]*\n(?P<yaml>(?:#[^\n]*\n)+)", re.MULTILINE)
_CUSTOM_KEYS: Final = ("points", "tools", "controls")


class Metadata(msgspec.Struct, frozen=True, kw_only=True):
    """What a rule declares about itself. `tools` None: every tool, and points without one."""

    title: str
    description: str
    points: tuple[str, ...]
    tools: tuple[str, ...] | None = None
    controls: tuple[str, ...] = ()


def read_metadata(name: str, source: str) -> Metadata:
    """The first METADATA block of a module; raises PolicyLoadError naming what to write."""
    block = _BLOCK.search(source)
    if block is None:
        raise PolicyLoadError(
            f"{name}:1: expected a `# METADATA` block with title, description and "
            "custom.points before the package"
        )
    line = source.count("\n", 0, block.start()) + 1
    return _read(f"{name}:{line}", _yaml(f"{name}:{line}", block["yaml"]))


def _yaml(where: str, block: str) -> dict[str, Any]:
    import yaml  # only needed when a bundle loads

    text = "\n".join(row[1:] for row in block.splitlines())
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise PolicyLoadError(f"{where}: METADATA is not YAML: {_first_line(error)}") from None
    if not isinstance(value, dict):
        raise PolicyLoadError(f"{where}: METADATA must be a mapping with title and custom")
    return value


def _read(where: str, value: dict[str, Any]) -> Metadata:
    custom = value.get("custom")
    if not isinstance(custom, dict):
        raise PolicyLoadError(f"{where}: METADATA has no `custom` mapping: add custom.points")
    for key in custom:
        if key not in _CUSTOM_KEYS:
            raise PolicyLoadError(
                f"{where}: unknown key `custom.{key}`: expected {', '.join(_CUSTOM_KEYS)}"
            )
    points = _words(where, "points", custom.get("points"))
    known = [point.value for point in Point]
    for point in points:
        if point not in known:
            near = difflib.get_close_matches(point, known, 1) or known
            raise PolicyLoadError(
                f"{where}: unknown point `{point}`: did you mean {' or '.join(near)}"
            )
    return Metadata(
        title=_text(where, "title", value),
        description=_text(where, "description", value),
        points=points,
        tools=_words(where, "tools", custom["tools"]) if "tools" in custom else None,
        controls=_words(where, "controls", custom["controls"]) if "controls" in custom else (),
    )


def _text(where: str, key: str, value: dict[str, Any]) -> str:
    text = value.get(key)
    if not isinstance(text, str) or not text.strip():
        raise PolicyLoadError(f"{where}: METADATA has no {key}: add one sentence")
    return text.strip()


def _words(where: str, key: str, value: Any) -> tuple[str, ...]:
    if not isinstance(value, list) or not value or not all(isinstance(v, str) for v in value):
        raise PolicyLoadError(f"{where}: custom.{key} must be a list of one or more names")
    return tuple(value)


def _first_line(error: BaseException) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__
