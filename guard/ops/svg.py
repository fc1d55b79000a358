"""Two small charts as inline SVG: columns of several parts, and rows. No script, font or link."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final

__all__ = ["columns", "rows"]

_WIDTH: Final = 720
_HEIGHT: Final = 180
_LEFT: Final = 260  # room for the name of a row
_ROW: Final = 18
_LABELS_MAX: Final = 10  # below columns
_NAME_CHARS_MAX: Final = 40
_NONE: Final = "<p class=none>none</p>"

Escape = Callable[[str], str]


def columns(
    bars: Sequence[tuple[str, Mapping[str, int]]], parts: Sequence[str], *, escape: Escape
) -> str:
    """A column for each bar, its parts on one another; a part is also the class that colours it."""
    highest = max((sum(counts.values()) for _, counts in bars), default=0)
    if not highest:
        return _NONE
    step = _WIDTH / len(bars)
    shapes = []
    for number, (label, counts) in enumerate(bars):
        top = float(_HEIGHT)
        for part in parts:
            if count := counts.get(part, 0):
                height = count / highest * (_HEIGHT - 20)
                top -= height
                shapes.append(
                    f'<rect class="{part}" x="{number * step:.1f}" y="{top:.1f}" '
                    f'width="{min(step * 0.8, 60):.1f}" height="{height:.2f}">'
                    f"<title>{escape(label)}: {part} {count}</title></rect>"
                )
        if number % (-(-len(bars) // _LABELS_MAX)) == 0:
            shapes.append(
                f'<text x="{number * step:.1f}" y="{_HEIGHT + 14}">{escape(label)}</text>'
            )
    used = [part for part in parts if any(counts.get(part) for _, counts in bars)]
    for number, part in enumerate(used):
        x = number * 80
        shapes.append(
            f'<rect class="{part}" x="{x}" y="{_HEIGHT + 24}" width="10" height="10"/>'
            f'<text x="{x + 14}" y="{_HEIGHT + 33}">{part}</text>'
        )
    shapes.append(f'<text x="{_WIDTH}" y="10" text-anchor="end">highest: {highest}</text>')
    return _svg(_HEIGHT + 40, shapes)


def rows(bars: Sequence[tuple[str, int]], style: str, *, escape: Escape) -> str:
    """A row for each bar, with its name and its number; `style` is the class that colours them."""
    if not bars:
        return _NONE
    longest = max(count for _, count in bars) or 1
    shapes = []
    for number, (name, count) in enumerate(bars):
        y = number * _ROW
        shown = name if len(name) <= _NAME_CHARS_MAX else f"{name[: _NAME_CHARS_MAX - 1]}…"
        length = count / longest * (_WIDTH - _LEFT - 70)
        shapes.append(
            f'<text x="{_LEFT - 6}" y="{y + 13}" text-anchor="end">{escape(shown)}'
            f"<title>{escape(name)}</title></text>"
            f'<rect class="{style}" x="{_LEFT}" y="{y + 3}" width="{length:.1f}" height="12"/>'
            f'<text x="{_LEFT + length + 6:.1f}" y="{y + 13}">{count}</text>'
        )
    return _svg(len(bars) * _ROW + 4, shapes)


def _svg(height: int, shapes: Sequence[str]) -> str:
    # No xmlns: within HTML it is not needed, and a page that names no address loads none.
    return f'<svg viewBox="0 0 {_WIDTH} {height}" role="img">{"".join(shapes)}</svg>'
