"""Arguments that nobody wrote: the defaults of a tool's schema, which policy must see too."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from langchain_core.tools import BaseTool, Tool
from pydantic import AliasChoices, BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import to_jsonable_python

__all__ = ["defaults_of", "first_of"]

# Fields that stand for *args and **kwargs: LangChain never passes them on.
_VARIADIC = ("args", "kwargs")


def defaults_of(tool: BaseTool, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """What `tool` takes for arguments that were not given, as plain JSON.

    Not what is injected or has no JSON form, and not what a factory makes: it may make another
    value each time, and no approval would fit the next try.
    """
    schema = _schema(tool)
    if isinstance(schema, dict):
        missing = _described(schema, arguments)
    elif schema is not None:
        missing = dict(
            _key_and_default(name, field)
            for name, field in schema.model_fields.items()
            if name not in _VARIADIC
            and not field.is_required()
            and field.default_factory is None
            and not (_names(name, field) & arguments.keys())
        )
    else:
        missing = {}
    shown = {}
    for key, value in tool._filter_injected_args(missing).items():
        try:
            shown[key] = json.loads(json.dumps(to_jsonable_python(value), allow_nan=False))
        except Exception:  # noqa: BLE001,S112 an object without a JSON form is the tool's own
            continue
    return shown


def first_of(tool: BaseTool) -> str | None:
    """The argument that a tool called with a mere text gets it as; None where nothing says so."""
    schema = _schema(tool)
    if schema is None or isinstance(schema, dict):
        return None
    return next(iter(tool._filter_injected_args(dict(schema.model_fields))), None)


def _schema(tool: BaseTool) -> type[BaseModel] | dict[str, Any] | None:
    schema: Any = tool.args_schema
    if schema is None and not isinstance(tool, Tool):  # a Tool takes one text and nothing else
        schema = tool.get_input_schema()
    is_known = isinstance(schema, dict) or (
        isinstance(schema, type) and issubclass(schema, BaseModel)
    )
    return schema if is_known else None


def _described(schema: dict[str, Any], arguments: Mapping[str, Any]) -> dict[str, Any]:
    properties = schema.get("properties")
    return {
        key: one["default"]
        for key, one in (properties.items() if isinstance(properties, dict) else ())
        if isinstance(one, dict) and "default" in one and key not in arguments
    }


def _names(name: str, field: FieldInfo) -> set[str]:
    """Every name this field may be given by."""
    other = field.validation_alias
    choices = other.choices if isinstance(other, AliasChoices) else (other, field.alias)
    return {name, *(one for one in choices if isinstance(one, str))}


def _key_and_default(name: str, field: FieldInfo) -> tuple[str, Any]:
    return field.alias or name, field.default
