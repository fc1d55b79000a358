"""Exceptions of a governed call: a result like any other, so their text is redacted too."""

from __future__ import annotations

from typing import Any, Final

from .errors import ToolFailed
from .pii.redact import mask_text
from .plain import Json

__all__ = ["governed_error", "text_of"]

ERRORS_MAX: Final = 32  # exceptions that hang on one; a longer chain is cut off
CARRIED_CHARS_MAX: Final = 100_000


def governed_error(error: BaseException, text: Json, formed: Json) -> BaseException:
    """The exception to raise: the original, or one that holds nothing but the governed text.

    The original goes on only where its text was left as it is and nothing that it carries besides
    (notes, arguments, attributes, members of a group, causes) holds anything sensitive. The type
    is kept where a plain copy shows nothing else than the text; otherwise it is ToolFailed.
    """
    if formed == text and not _hides_something(error):
        return error
    shown = str(formed)
    clean: BaseException
    try:
        clean = type(error)(shown)
        is_clean = str(clean) == shown and _holds_only(clean, shown)
    except Exception:  # noqa: BLE001 a foreign constructor may do anything; then our own type serves
        is_clean = False
    if not is_clean:
        clean = ToolFailed(f"{type(error).__name__}: {shown}")
    clean.__cause__ = clean.__context__ = None
    clean.__suppress_context__ = True
    return clean


def _hides_something(error: BaseException) -> bool:
    """Whether anything that the exception carries besides its text would be masked in a record."""
    carried: list[str] = []
    waiting, seen = [error], set[int]()
    while waiting:
        one = waiting.pop()
        if id(one) in seen:
            continue
        seen.add(id(one))
        if len(seen) > ERRORS_MAX:
            return True
        state = getattr(one, "__dict__", {})
        try:
            carried.append(repr((one.args, state)))
        except Exception:  # noqa: BLE001 what cannot be read cannot be shown to be clean
            return True
        if one is not error:
            carried.append(text_of(one))
        waiting += [e for e in (one.__cause__, one.__context__) if e is not None]
        if isinstance(one, BaseExceptionGroup):
            waiting += one.exceptions
    text = "\n".join(carried)
    return len(text) > CARRIED_CHARS_MAX or mask_text(text) != text


def _holds_only(error: BaseException, text: str) -> bool:
    state: dict[str, Any] = getattr(error, "__dict__", {})
    return error.args == (text,) and not state


def text_of(error: BaseException) -> str:
    """The text of an exception; one that cannot be read has none to redact."""
    try:
        return str(error)
    except Exception:  # noqa: BLE001 a foreign __str__ may do anything
        return ""
