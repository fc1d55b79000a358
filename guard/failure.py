"""Exceptions of a governed call: a result like any other, so their text is redacted too."""

from __future__ import annotations

from typing import Any

from .errors import ToolFailed
from .plain import Json

__all__ = ["governed_error", "text_of"]


def governed_error(error: BaseException, text: Json, formed: Json) -> BaseException:
    """The exception to raise: the original, or one that no longer holds what was redacted.

    The type is kept where a plain copy with the redacted text shows nothing else; otherwise it is
    ToolFailed. The chain of causes is cut, because it quotes the same text.
    """
    if formed == text:
        return error
    redacted = str(formed)
    clean: BaseException
    try:
        clean = type(error)(redacted)
        is_clean = str(clean) == redacted and _holds_only(clean, redacted)
    except Exception:  # noqa: BLE001 a foreign constructor may do anything; then our own type serves
        is_clean = False
    if not is_clean:
        clean = ToolFailed(f"{type(error).__name__}: {redacted}")
    clean.__cause__ = None
    clean.__suppress_context__ = True
    return clean


def _holds_only(error: BaseException, text: str) -> bool:
    state: dict[str, Any] = getattr(error, "__dict__", {})
    return error.args == (text,) and not state


def text_of(error: BaseException) -> str:
    """The text of an exception; one that cannot be read has none to redact."""
    try:
        return str(error)
    except Exception:  # noqa: BLE001 a foreign __str__ may do anything
        return ""
