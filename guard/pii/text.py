"""One text: the gate in front of the detectors, and what they find behind it.

Most texts hold nothing, so the order of work is:
(1) a gate: one `bytes.translate` keeps digits and a few signs; nothing kept, nothing to find;
(2) text outside ASCII, or with control characters, becomes an ASCII image, so that no zero-width
    character, full-width digit or odd space hides a value; offsets are mapped back;
(3) the detectors and the secret table run on the image;
(4) where they found something, the image is judged again as it will read without it: a value must
    not come into being, or into the open, because another was taken away.
"""

from __future__ import annotations

import functools
import re
import unicodedata
from typing import Final

from .detectors import Hit, find_pii
from .secrets import find_secrets, has_marker

__all__ = ["DATA_URL", "Found", "cut", "fold", "look"]

IMAGE_CHARS_MAX: Final = 4  # one character that stands for a longer word is an ornament
ROUNDS_MAX: Final = 2  # of (4); honest text needs one, and each costs two more passes
# Reads like every `<ENTITY>`, and wakes no detector.
_STAND_IN: Final = "<JWT>"

_KEPT: Final = frozenset(b"0123456789@:=_-")
_SPACES: Final = frozenset(b"\t\n\v\f\r")
_CONTROLS: Final = frozenset(range(32)) - _SPACES | {127}
_DROPPED: Final = bytes(byte for byte in range(256) if byte not in _KEPT | _CONTROLS)
_DROPPED_OF_IMAGE: Final = bytes(byte for byte in range(256) if byte not in _KEPT)
_KEPT_BYTES: Final = bytes(sorted(_KEPT))
DATA_URL: Final = re.compile(
    r"data:(?:[a-z0-9.+\-]{1,64}/[a-z0-9.+\-]{1,64}|;[a-z0-9=\-_.]{1,64})"
    r"(?:;[a-z0-9=\-_.]{1,64}){0,4},",
    re.I,
)
# Default-ignorable characters that are letters or marks (Unicode, DerivedCoreProperties).
_INVISIBLE: Final = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u3164\uffa0")
_LOOK_ALIKE: Final = {
    "\u2212": "-",
    "\u3002": ".",
    "\u2018": "'",
    "\u2019": "'",
    "\u201c": '"',
    "\u201d": '"',
    "\u2028": "\n",
    "\u2029": "\n",
}

# PII hits, secret hits, and whether a data URL stands in the text.
Found = tuple[list[Hit], list[Hit], bool]


def look(text: str, hint: int) -> Found | None:
    """Hits of one text, or None: the whole hot path for text that holds nothing."""
    offsets: list[int] | None = None
    image = text
    if text.isascii():
        kept = text.encode("ascii").translate(None, _DROPPED)  # (1)
        if not kept:
            if not has_marker(text):
                return None
        elif kept.translate(None, _KEPT_BYTES):
            image, offsets = fold(text)
            kept = image.encode("ascii").translate(None, _DROPPED_OF_IMAGE)
    else:
        image, offsets = fold(text)  # (2)
        kept = image.encode("ascii").translate(None, _DROPPED_OF_IMAGE)
    pii = find_pii(image, kept, hint)  # (3)
    secrets = find_secrets(image, kept)
    has_data_url = b":" in kept and "data:" in image.lower() and DATA_URL.search(image) is not None
    if pii or secrets:
        _look_again(image, hint, pii, secrets)  # (4)
    elif not has_data_url:
        return None
    if offsets is not None:
        pii = [(name, offsets[start], offsets[end - 1] + 1, sure) for name, start, end, sure in pii]
        secrets = [
            (name, offsets[start], offsets[end - 1] + 1, sure) for name, start, end, sure in secrets
        ]
    return pii, secrets, has_data_url


def cut(text: str, hits: list[Hit], put: str = "") -> str:
    """`text` with `put` in the place of every hit."""
    parts: list[str] = []
    behind = 0
    for start, end in _regions(hits):
        parts.append(text[behind:start])
        behind = end
    parts.append(text[behind:])
    return put.join(parts)


def _look_again(image: str, hint: int, pii: list[Hit], secrets: list[Hit]) -> None:
    for _ in range(ROUNDS_MAX):
        hits = pii + secrets
        rest = cut(image, hits)
        kept = rest.encode("ascii").translate(None, _DROPPED_OF_IMAGE)
        if not kept and not has_marker(rest):
            return
        is_settled = True
        for put in ("", _STAND_IN):  # What the gate keeps is the same for both.
            if put:
                rest = cut(image, hits, put)
            more_pii, more_secrets = find_pii(rest, kept, hint), find_secrets(rest, kept)
            if more_pii or more_secrets:
                is_settled = False
                starts, ends = _places(image, hits, put)
                pii.extend([(n, starts[s], ends[e - 1], sure) for n, s, e, sure in more_pii])
                secrets.extend(
                    [(n, starts[s], ends[e - 1], sure) for n, s, e, sure in more_secrets]
                )
        if is_settled:
            return
    # Whoever nests values this deep hides something: the whole text is masked.
    unknown = ("UNKNOWN", 0, len(image), 0.0)
    pii.append(unknown)
    secrets.append(unknown)


def _regions(hits: list[Hit]) -> list[tuple[int, int]]:
    if len(hits) == 1:
        return [hits[0][1:3]]
    regions: list[tuple[int, int]] = []
    for start, end in sorted([hit[1:3] for hit in hits]):
        if regions and start < regions[-1][1]:
            regions[-1] = regions[-1][0], max(end, regions[-1][1])
        else:
            regions.append((start, end))
    return regions


def _places(text: str, hits: list[Hit], put: str) -> tuple[list[int], list[int]]:
    """For each character of `cut(text, hits, put)`: where it began and ended in `text`."""
    starts: list[int] = []
    ends: list[int] = []
    behind = 0
    for start, end in [*_regions(hits), (len(text), len(text))]:
        starts.extend(range(behind, start))
        ends.extend(range(behind + 1, start + 1))
        starts.extend([start] * len(put))
        ends.extend([end] * len(put))
        behind = end
    return starts, ends


def fold(text: str) -> tuple[str, list[int] | None]:
    """ASCII image of `text`, and for each of its characters the index it came from.

    None for the indices means that nothing moved. Cased letters outside ASCII become \\x7f, which
    the e-mail detector reads as a letter; all else without an ASCII form becomes a space.
    """
    table = {ord(char): _image(char) for char in set(text) if not " " <= char <= "~"}
    image = text.translate(table)
    if len(image) == len(text) and all(len(form) == 1 for form in table.values()):
        return image, None
    offsets: list[int] = []
    for index, char in enumerate(text):
        offsets.extend([index] * len(table.get(ord(char), char)))
    return image, offsets


@functools.lru_cache(maxsize=8_192)
def _image(char: str) -> str:
    if char in "\t\n\v\f\r":
        return char
    if char in _LOOK_ALIKE:
        return _LOOK_ALIKE[char]
    form = ""
    # NFKD is NFKC that also parts the accent from its letter.
    for part in unicodedata.normalize("NFKD", char):
        category = unicodedata.category(part)
        digit = unicodedata.decimal(part, None)
        if category in ("Cf", "Cc", "Mn", "Me") or part in _INVISIBLE:
            continue
        if digit is not None:
            form += str(digit)
        elif category == "Pd":
            form += "-"
        elif part.isascii():
            form += part
        elif part in _LOOK_ALIKE:
            form += _LOOK_ALIKE[part]
        else:
            form += "\x7f" if category in ("Lu", "Ll", "Lt") else " "
    return form if len(form) <= IMAGE_CHARS_MAX else " "
