"""Whether a grant covers a call, and reading grants from a table of the configuration."""

from __future__ import annotations

import datetime
import difflib
from collections.abc import Iterable, Mapping
from typing import Any, Final

from ..errors import CapabilityFault
from ..evidence import CapabilityView
from ..plain import Json
from ..request import Grant, Request

__all__ = ["check", "from_table"]

ANY_TOOL: Final = "*"
GRANTS_MAX: Final = 1_000  # every call walks them
VALUES_MAX: Final = 1_000  # of one argument; more is a rule, not a list
_FIELDS: Final = ("tool", "arguments", "expires_ns", "expires_at")

_GRANTED: Final = CapabilityView(True, "granted")
_REFUSED: Final = {
    why: CapabilityView(False, why)
    for why in ("no_tool", "no_grant", "expired", "argument_not_allowed")
}


def check(request: Request) -> CapabilityView:
    """Whether one grant of the session covers the call, and if none does, why.

    (1) The grant names the tool, or "*".
    (2) It has not expired: it ends at `expires_ns`, and that moment is outside.
    (3) Each argument it constrains is there and is, in type and value, one that it allows.
    `why` is the reason of the grant that came furthest. At a post point the target is the result,
    so (3) is not asked again: it was answered before the call.
    """
    tool = request.tool
    if tool is None:
        return _REFUSED["no_tool"]
    why = "no_grant"
    for grant in request.grants:
        if grant.tool != tool.name and grant.tool != ANY_TOOL:  # (1)
            continue
        if grant.expires_ns is not None and request.now_ns >= grant.expires_ns:  # (2)
            if why == "no_grant":
                why = "expired"
            continue
        if request.point.is_post or _allows(grant, request.target):  # (3)
            return _GRANTED
        why = "argument_not_allowed"
    return _REFUSED[why]


def _allows(grant: Grant, arguments: Json) -> bool:
    if not grant.arguments:
        return True
    if type(arguments) is not dict:
        return False
    for name, allowed in grant.arguments.items():
        if name not in arguments:
            return False
        value = arguments[name]
        # True == 1 == 1.0 in Python; for a tool they are three different arguments.
        if not any(type(value) is type(one) and value == one for one in allowed):
            return False
    return True


def from_table(rows: Iterable[Mapping[str, Any]]) -> tuple[Grant, ...]:
    """Grants from tables with `tool`, `arguments`, and `expires_ns` or `expires_at`.

    `arguments` maps a name to its allowed value or list of values; `expires_at` is a date-time
    with an offset. Raises CapabilityFault on anything else.
    """
    grants = tuple(_grant(row, number) for number, row in enumerate(rows, start=1))
    if len(grants) > GRANTS_MAX:
        raise CapabilityFault(f"expected at most {GRANTS_MAX} grants, got {len(grants)}")
    return grants


def _grant(row: Mapping[str, Any], number: int) -> Grant:
    if not isinstance(row, Mapping):
        raise CapabilityFault(f"grant {number}: expected a table, got {_kind(row)}")
    for field in row:
        if field not in _FIELDS:
            near = difflib.get_close_matches(str(field), _FIELDS, n=1)
            mend = f"did you mean `{near[0]}`?" if near else f"expected {', '.join(_FIELDS)}"
            raise CapabilityFault(f"grant {number}: unknown key `{str(field)[:60]}`: {mend}")
    tool = row.get("tool")
    if type(tool) is not str or not tool:
        raise CapabilityFault(f'grant {number}: expected `tool` with the name of a tool, or "*"')
    arguments = row.get("arguments", {})
    if not isinstance(arguments, Mapping):
        raise CapabilityFault(
            f"grant {number}: expected `arguments` to be a table, got {_kind(arguments)}"
        )
    return Grant(
        tool=tool,
        arguments={
            _argument_name(name, number): _values(name, values, number)
            for name, values in arguments.items()
        },
        expires_ns=_expires_ns(row, number),
    )


def _argument_name(name: object, number: int) -> str:
    if type(name) is not str or not name:
        raise CapabilityFault(
            f"grant {number}: expected the name of an argument, got {_kind(name)}"
        )
    return name


def _values(name: object, values: Any, number: int) -> tuple[str | int | float | bool | None, ...]:
    listed = tuple(values) if isinstance(values, (list, tuple)) else (values,)
    if not 0 < len(listed) <= VALUES_MAX:
        raise CapabilityFault(
            f"grant {number}: expected 1 to {VALUES_MAX} values for `{str(name)[:60]}`, "
            f"got {len(listed)}"
        )
    for value in listed:
        # Exact types: NaN is equal to nothing and would allow nothing.
        if type(value) not in (str, int, float, bool, type(None)) or value != value:
            raise CapabilityFault(
                f"grant {number}: expected text, numbers, true, false or null for "
                f"`{str(name)[:60]}`, got {_kind(value)}"
            )
    return listed


def _expires_ns(row: Mapping[str, Any], number: int) -> int | None:
    if "expires_ns" in row and "expires_at" in row:
        raise CapabilityFault(f"grant {number}: expected `expires_ns` or `expires_at`, got both")
    if "expires_at" in row:
        moment = row["expires_at"]
        if not isinstance(moment, datetime.datetime) or moment.utcoffset() is None:
            raise CapabilityFault(
                f"grant {number}: expected `expires_at` as a date-time with an offset, "
                "such as 2026-12-31T23:59:59Z"
            )
        # In whole microseconds: a float of seconds would lose the last digits.
        since = moment - datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
        return since // datetime.timedelta(microseconds=1) * 1_000
    expires_ns = row.get("expires_ns")
    if expires_ns is not None and (type(expires_ns) is not int or expires_ns < 0):
        raise CapabilityFault(
            f"grant {number}: expected `expires_ns` in nanoseconds since 1970, "
            f"got {_kind(expires_ns)}"
        )
    return expires_ns


def _kind(value: object) -> str:
    return f"`{type(value).__name__[:60]}`"
