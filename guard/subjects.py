"""Whom a request concerns: by declared key names, by the user's resolver, and by the session.

Key names are compared without case, `_` and `-`: `customer_id` also declares `customerId`. The ids
of all keys are one space: where customer 17 and patient 17 are two persons, use a resolver.
JSON inside of text, such as the arguments in a model's message, is not looked into.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import islice
from typing import Final

from .errors import PrivacyFault
from .evidence import Span
from .keys.subjects import SUBJECT_ID_CHARS_MAX
from .plain import Json, escape
from .request import Request

__all__ = ["Resolver", "SUBJECTS_MAX", "Subjects", "folded", "spans_of"]

# Of one request: 256 pseudonyms are 5 KB of an entry. What concerns more keeps its commitment only.
SUBJECTS_MAX: Final = 256
# A shorter id stands in too many words and amounts: it is hidden under its declared key only.
MENTION_CHARS_MIN: Final = 4
# Texts times ids that are compared for one request; it takes about 0.1 s.
MENTIONS_LOOKED_FOR_MAX: Final = 1_000_000

Resolver = Callable[[Request], Iterable[str]]


class Subjects:
    """Finds the data subjects of a request. `keys` are names such as `customer_id`."""

    def __init__(self, *, keys: Iterable[str] = (), resolver: Resolver | None = None) -> None:
        self.keys = frozenset(folded(key) for key in keys)
        self.resolver = resolver

    @property
    def is_configured(self) -> bool:
        """Whether subjects can be found without a session that names them."""
        return bool(self.keys) or self.resolver is not None

    def of(self, request: Request) -> tuple[str, ...]:
        """Their ids, each once, sorted; raises PrivacyFault where they cannot be known."""
        found = set(request.context.subjects)
        if self.keys:
            for _, value in self.declared(request.target):
                found.add(value)
                if len(found) > SUBJECTS_MAX:
                    break
        if self.resolver is not None:
            found.update(_resolved(self.resolver, request))
        if len(found) > SUBJECTS_MAX:
            raise PrivacyFault(f"a request concerns more than {SUBJECTS_MAX} data subjects")
        for subject_id in found:
            if type(subject_id) is not str or not 0 < len(subject_id) <= SUBJECT_ID_CHARS_MAX:
                raise PrivacyFault(
                    f"the id of a data subject is a text of 1 to {SUBJECT_ID_CHARS_MAX} characters"
                )
        return tuple(sorted(found))

    def declared(self, target: Json) -> Iterator[tuple[str, str]]:
        """Pointer and id of every text or number below a declared key, also in a list there."""
        waiting: list[tuple[str, Json, bool]] = [("", target, False)]
        while waiting:
            pointer, item, is_declared = waiting.pop()
            kind = type(item)
            if kind is dict:
                for key, value in item.items():
                    waiting.append((f"{pointer}/{escape(key)}", value, folded(key) in self.keys))
            elif kind is list or kind is tuple:
                for index, value in enumerate(item):
                    waiting.append((f"{pointer}/{index}", value, is_declared))
            elif is_declared:
                subject_id = _id_of(item)
                if subject_id:
                    yield pointer, subject_id


def _resolved(resolver: Resolver, request: Request) -> list[str]:
    try:
        named = resolver(request)
        if isinstance(named, str):
            raise TypeError  # its letters would be taken for ids
        return list(islice(named, SUBJECTS_MAX + 1))
    except Exception as error:  # noqa: BLE001 the user's code; its text may hold the id
        raise PrivacyFault(
            f"the resolver of data subjects failed with {type(error).__name__}: it returns a list "
            "of ids; until it is mended no payload is stored"
        ) from None


def spans_of(subjects: Subjects, target: Json, names: Mapping[str, str]) -> tuple[Span, ...]:
    """Where ids stand in `target`: at declared keys, and as a word of any text or key.

    `names` maps an id to what is to stand there. Raises PrivacyFault when there is too much to
    look through.
    """
    spans = [
        Span(names[subject_id], pointer, 0, len(subject_id))
        for pointer, subject_id in (subjects.declared(target) if subjects.keys else ())
        if subject_id in names
    ]
    mentioned = {name: text for name, text in names.items() if len(name) >= MENTION_CHARS_MIN}
    left = MENTIONS_LOOKED_FOR_MAX
    waiting: list[tuple[str, Json]] = [("", target)]
    while waiting:
        pointer, item = waiting.pop()
        kind = type(item)
        if kind is dict:
            left -= len(item) * len(mentioned)
            for key, value in item.items():
                below = f"{pointer}/{escape(key)}"
                spans += _mentions(key, below, mentioned, in_key=True)
                waiting.append((below, value))
        elif kind is list or kind is tuple:
            waiting += [(f"{pointer}/{index}", value) for index, value in enumerate(item)]
        elif kind is str or kind is int or kind is float:
            left -= len(mentioned)
            text = item if kind is str else _id_of(item)
            spans += _mentions(text, pointer, mentioned, in_key=False)
        if left < 0:
            raise PrivacyFault("a payload is too large to look for the ids of its data subjects")
    return tuple(dict.fromkeys(spans))


def _mentions(text: str, pointer: str, names: Mapping[str, str], *, in_key: bool) -> list[Span]:
    spans: list[Span] = []
    for subject_id, name in names.items():
        start = text.find(subject_id)
        while start >= 0:
            end = start + len(subject_id)
            # A word of its own: `C-10` is not in `C-101`.
            if not (text[start - 1 : start].isalnum() or text[end : end + 1].isalnum()):
                spans.append(Span(name, pointer, start, end, 1.0, in_key))
            start = text.find(subject_id, end)
    return spans


def _id_of(value: Json) -> str:
    """A text or whole number as an id; nothing else names anybody."""
    kind = type(value)
    if kind is str:
        return str(value)
    if kind is int or (kind is float and value.is_integer()):
        return str(int(value))
    return ""


def folded(name: str) -> str:
    """A key name as it is compared."""
    return name.casefold().replace("_", "").replace("-", "")
