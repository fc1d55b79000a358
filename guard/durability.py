"""How durable an intent is in the log before its effect happens, by point and by tool."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

import msgspec

from .audit.log import Durability
from .request import Request

__all__ = ["Durabilities"]

_NO_POINTS: Final[Mapping[str, Durability]] = MappingProxyType({})
_READS: Final = ("read",)


class Durabilities(msgspec.Struct, frozen=True):
    """How durable an intent is before its effect: `points` first, then by what the tool does.

    By default the intents of tools that do more than read are on the disk before the tool runs.
    """

    default: Durability = "relaxed"
    side_effects: Durability = "group"
    points: Mapping[str, Durability] = _NO_POINTS

    def of(self, request: Request) -> Durability:
        """For the intent of one request."""
        chosen = self.points.get(request.point.value)
        if chosen is not None:
            return chosen
        tool = request.tool
        return self.default if tool is None or tool.effects == _READS else self.side_effects
