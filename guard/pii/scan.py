"""Where personal data and secrets stand in a target: one pass over its strings, keys and numbers.

Pure: no I/O, no lock. The only state is a bounded memo of clean keys, which changes no answer.
"""

from __future__ import annotations

import difflib
from typing import Final

import msgspec

from ..errors import ConfigError
from ..evidence import Span
from ..plain import Json, escape
from .detectors import ENTITIES, Hit, hint_of, number_entity
from .secrets import is_exposed, is_secret_name
from .text import DATA_URL, Found, cut, fold, look

__all__ = ["OPAQUE_CHARS_MIN", "SPANS_MAX", "Scan", "Scanner"]

# More places than this in one target is a list of people, masked leaf by leaf.
SPANS_MAX: Final = 1_000
# `a@b.co` is the shortest value that any detector finds, apart from addresses such as `::1`.
LEAF_CHARS_MIN: Final = 6
# Base64 longer than this is not scanned inside a media block or data URL: it is no caption.
OPAQUE_CHARS_MIN: Final = 4_096
# Outside of them it must be longer: 1 MB of base64 is a file, whatever it is called.
OPAQUE_TEXT_CHARS_MIN: Final = 1_000_000
KEYS_KEPT_MAX: Final = 4_096  # about 0.5 MB; tool schemas have far fewer
KEY_CHARS_KEPT_MAX: Final = 64

HINT_SECRET: Final = 4  # beside HINT_SSN and HINT_PHONE

_BASE64: Final = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/=-_\r\n"
_MEDIA: Final = frozenset(
    "image image_url input_image audio audio_url input_audio video video_url input_video file "
    "input_file document media".split()
)
# A directory listing says `file` and `document` too; a content block carries one of these.
_AMBIGUOUS: Final = frozenset({"file", "document", "media"})
_CARRIERS: Final = frozenset(
    "source data url uri blob file file_id file_data file_url image document base64 bytes "
    "content media".split()
)
# Of a key: what it holds itself, and the hint it gives for what is below it.
_KeyNote = tuple[Found | None, int]


class Scan(msgspec.Struct, frozen=True):
    """What one target holds. Pointers are relative to it: "" is the target itself.

    `unscanned` points to what no scanner could read: media blocks, data URLs, long base64.
    """

    pii: tuple[Span, ...] = ()
    secrets: tuple[Span, ...] = ()
    unscanned: tuple[str, ...] = ()


_CLEAN: Final = Scan()


class Scanner:
    """Finds personal data and secrets. `entities` narrows the PII (default: all of ENTITIES).

    Secrets are always looked for. Over `spans_max` spans every further leaf is one span of the
    entity UNKNOWN, in `pii` and in `secrets`: too much to name is masked, never skipped.
    """

    def __init__(
        self, *, entities: frozenset[str] | None = None, spans_max: int = SPANS_MAX
    ) -> None:
        for name in sorted((entities or ENTITIES) - ENTITIES):
            near = difflib.get_close_matches(name, ENTITIES, n=1)
            hint = f"did you mean `{near[0]}`?" if near else f"one of {', '.join(sorted(ENTITIES))}"
            raise ConfigError(f"unknown entity `{name[:60]}`: {hint}")
        if spans_max < 1:
            raise ConfigError(f"expected spans_max of 1 or more, got {spans_max}")
        self.entities = entities
        self.spans_max = spans_max
        self._keys: dict[str, _KeyNote] = {}

    def scan(self, target: Json) -> Scan:
        """All spans of `target`, in document order; the target is a frozen snapshot."""
        if type(target) is str and len(target) <= OPAQUE_CHARS_MIN:
            found = look(target, 0)
            if found is None:
                return _CLEAN
            walk = _Walk(self)
            walk.add(found, None, len(target))
        else:
            walk = _Walk(self)
            walk.value(target, None, 0)
        if not (walk.pii or walk.secrets or walk.unscanned):
            return _CLEAN
        return Scan(tuple(walk.pii), tuple(walk.secrets), tuple(walk.unscanned))

    def key_note(self, key: str) -> _KeyNote:
        """Hits in a key and its hint; memoised for short clean keys."""
        note = self._keys.get(key)
        if note is None:
            found = look(key, 0) if len(key) >= LEAF_CHARS_MIN else None
            name = key if key.isascii() else fold(key)[0]
            hint = _hint_of(name)
            if found is not None:
                # What is left of the key when its own hits are removed speaks for it too.
                hint |= _hint_of(cut(key, found[0] + found[1]))
            note = found, hint
            if found is None and len(key) <= KEY_CHARS_KEPT_MAX:
                if len(self._keys) >= KEYS_KEPT_MAX:
                    self._keys.clear()
                self._keys[key] = note
        return note


class _Walk:
    """State of one scan: what was found, and the tokens of the pointer we are at."""

    __slots__ = ("is_full", "media_depth", "pii", "scanner", "secrets", "tokens", "unscanned")

    def __init__(self, scanner: Scanner) -> None:
        self.scanner = scanner
        self.pii: list[Span] = []
        self.secrets: list[Span] = []
        self.unscanned: list[str] = []
        self.tokens: list[str | int] = []
        self.media_depth = 0
        self.is_full = False

    def value(self, item: Json, token: str | int | None, hint: int) -> None:
        """One value below the current pointer; `token` None is the target itself."""
        kind = type(item)
        if kind is str:
            if len(item) >= LEAF_CHARS_MIN:
                self.text(item, token, hint)
        elif item is None or kind is bool:
            return
        elif kind is int:
            if not -9_999_999 < item < 9_999_999:
                self.number(item, token, hint)
        elif kind is dict or kind is list or kind is tuple:
            if token is not None:
                self.tokens.append(token)
            if kind is dict:
                self.object(item)
            else:
                for index, element in enumerate(item):
                    self.value(element, index, hint)
            if token is not None:
                self.tokens.pop()
        elif kind is float:
            # 4111111111111111.0 is what some JSON readers make of a number without fraction.
            if item.is_integer() and not -9_999_999 < item < 9_999_999:
                self.number(item, token, hint)
        else:
            self.unscanned.append(self.pointer(token))  # not plain JSON: nobody has frozen it

    def object(self, item: dict[str, Json]) -> None:
        kind = item.get("type")
        is_media = (
            type(kind) is str
            and kind in _MEDIA
            and (kind not in _AMBIGUOUS or not _CARRIERS.isdisjoint(item))
        )
        if is_media:
            self.unscanned.append(self.pointer(None))
            self.media_depth += 1
        notes = self.scanner._keys
        for key, value in item.items():
            found, hint = notes.get(key) or self.scanner.key_note(key)
            if found is not None:
                self.add(found, key, len(key), in_key=True)
            # The two commonest leaves, without the call.
            if type(value) is str and len(value) < LEAF_CHARS_MIN:
                continue
            self.value(value, key, hint)
        if is_media:
            self.media_depth -= 1

    def text(self, text: str, token: str | int | None, hint: int) -> None:
        if len(text) > OPAQUE_CHARS_MIN and self.is_opaque(text):
            self.unscanned.append(self.pointer(token))
            return
        if self.is_full:
            self.unknown(token, len(text))
            return
        found = look(text, hint)
        if hint & HINT_SECRET and is_exposed(text):
            pii, secrets, has_data_url = found or ([], [], False)
            found = pii, [("SECRET_FIELD", 0, len(text), 1.0), *secrets], has_data_url
        if found is not None:
            self.add(found, token, len(text))

    def is_opaque(self, text: str) -> bool:
        start = 0
        if not self.media_depth:
            match = DATA_URL.match(text)
            if match is not None:
                start = match.end()
            elif len(text) <= OPAQUE_TEXT_CHARS_MIN:
                return False
        return text.isascii() and not text[start:].encode("ascii").translate(None, _BASE64)

    def number(self, number: int | float, token: str | int | None, hint: int) -> None:
        text = str(int(number))
        if self.is_full:
            self.unknown(token, len(text))
            return
        entity = number_entity(text.lstrip("-"), hint)
        if entity is not None:
            self.add(([(entity, 0, len(text), 1.0)], [], False), token, len(text))

    def add(
        self, found: Found, token: str | int | None, chars_count: int, *, in_key: bool = False
    ) -> None:
        pii, secrets, has_data_url = found
        entities = self.scanner.entities
        if entities is not None:
            pii = [hit for hit in pii if hit[0] in entities or hit[0] == "UNKNOWN"]
        pointer = self.pointer(token)
        if has_data_url:
            self.unscanned.append(pointer)
        room = self.scanner.spans_max - len(self.pii) - len(self.secrets)
        if len(pii) + len(secrets) > room or self.is_full:
            self.is_full = True
            if pii or secrets or not in_key:
                self.unknown(token, chars_count, in_key=in_key)
            return
        for hits, spans in ((pii, self.pii), (secrets, self.secrets)):
            if len(hits) > 1:
                hits.sort(key=_by_place)
            spans.extend(
                Span(entity, pointer, start, end, score, in_key)
                for entity, start, end, score in hits
            )

    def unknown(self, token: str | int | None, chars_count: int, *, in_key: bool = False) -> None:
        span = Span("UNKNOWN", self.pointer(token), 0, chars_count, 0.0, in_key)
        self.pii.append(span)
        self.secrets.append(span)

    def pointer(self, token: str | int | None) -> str:
        tokens = self.tokens if token is None else [*self.tokens, token]
        return "".join([f"/{escape(str(part))}" for part in tokens])


def _hint_of(name: str) -> int:
    return hint_of(name) | (HINT_SECRET if is_secret_name(name) else 0)


def _by_place(hit: Hit) -> tuple[int, int, str]:
    return hit[1], -hit[2], hit[0]
