"""Secrets in a text: credentials with a known shape, and values that a name declares secret.

Each row of the table is tried only where its keyword stands, so a text without keywords costs a few
substring searches. Whatever else a secret looks like, only its name tells: `password = ...` in a
text (`SECRET_ASSIGNMENT`), or a key such as `api_key` above it (`SECRET_FIELD`, see `scan`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

import msgspec

from .detectors import ENTITIES, Hit

__all__ = ["SECRETS", "SecretShape", "find_secrets", "has_marker", "is_exposed", "is_secret_name"]

VALUE_CHARS_MIN: Final = 6  # shorter values are flags and placeholders
QUOTED_CHARS_MAX: Final = 4_096  # a quote that does not close within this is no quote
NAME_CHARS_MAX: Final = 48


class SecretShape(msgspec.Struct, frozen=True):
    """One credential format. `pattern` is matched where `keyword` begins; group 1 is the secret."""

    name: str
    keyword: str
    pattern: re.Pattern[str]
    source: str


def _shape(name: str, keyword: str, pattern: str, source: str) -> SecretShape:
    return SecretShape(name, keyword, re.compile(f"({pattern})"), source)


_AWS: Final = "https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_identifiers.html"
_GITHUB: Final = "https://github.blog/engineering/platform-security/behind-githubs-new-authentication-token-formats/"
_SLACK: Final = "https://docs.slack.dev/authentication/tokens"
_STRIPE: Final = "https://docs.stripe.com/keys"

# Keywords with a capital in them: the gate of `text` looks for these in every text.
_ALWAYS: Final = (
    _shape("AWS_ACCESS_KEY_ID", "AKIA", r"AKIA[A-Z0-9]{16}", _AWS),
    _shape("AWS_ACCESS_KEY_ID", "ASIA", r"ASIA[A-Z0-9]{16}", _AWS),
    _shape(
        "GOOGLE_API_KEY",
        "AIza",
        r"AIza[A-Za-z0-9_\-]{35}",
        "https://cloud.google.com/docs/authentication/api-keys",
    ),
    # The last part is empty in an unsecured token (RFC 7519, section 6).
    _shape(
        "JWT",
        "eyJ",
        r"eyJ[A-Za-z0-9_\-]{8,}+\.[A-Za-z0-9_\-]{8,}+\.[A-Za-z0-9_\-]*+",
        "https://www.rfc-editor.org/rfc/rfc7519",
    ),
)
_WITH_UNDERSCORE: Final = (
    *(
        _shape("GITHUB_TOKEN", word, word + r"[A-Za-z0-9]{36,255}", _GITHUB)
        for word in ("ghp_", "gho_", "ghu_", "ghs_", "ghr_")
    ),
    _shape("GITHUB_TOKEN", "github_pat_", r"github_pat_[A-Za-z0-9_]{22,255}", _GITHUB),
    *(
        _shape("STRIPE_KEY", word, word + r"[A-Za-z0-9]{10,247}", _STRIPE)
        for word in ("sk_live_", "sk_test_", "rk_live_", "rk_test_")
    ),
)
_WITH_HYPHEN: Final = (
    _shape(
        "ANTHROPIC_API_KEY",
        "sk-ant-",
        r"sk-ant-[A-Za-z0-9_\-]{20,256}",
        "https://docs.anthropic.com/en/api/overview",
    ),
    # A digit must be in it, and no `task-` or `risk-` at its beginning: words are no key.
    _shape(
        "OPENAI_API_KEY",
        "sk-",
        r"(?<![a-z])sk-(?!ant-)(?=[A-Za-z_\-]{0,256}[0-9])[A-Za-z0-9_\-]{20,256}",
        "https://platform.openai.com/docs/api-reference/authentication",
    ),
    _shape("SLACK_TOKEN", "xox", r"xox[abeoprs]-[A-Za-z0-9\-]{10,250}", _SLACK),
    _shape("SLACK_TOKEN", "xapp-", r"xapp-[A-Za-z0-9\-]{10,250}", _SLACK),
    # Without its end the block runs to the end of the text: a cut key is still a key.
    _shape(
        "PRIVATE_KEY",
        "-----BEGIN",
        r"-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----",
        "https://www.rfc-editor.org/rfc/rfc7468",
    ),
)
_WITH_COLON: Final = (
    # Greedy to the last `@` before a slash: a raw `@` in the password leaves no tail.
    SecretShape(
        "CONNECTION_PASSWORD",
        "://",
        re.compile(r"://[^\s/@:\"'<>]{0,128}:([^\s/\"']{1,256})@"),
        "https://www.rfc-editor.org/rfc/rfc3986#section-3.2.1",
    ),
)

SECRETS: Final = (*_ALWAYS, *_WITH_UNDERSCORE, *_WITH_HYPHEN, *_WITH_COLON)

_NAMES: Final = (
    "password passwd pwd passphrase secret token apikey secretkey accesskey privatekey "
    "authorization credential credentials"
).split()
_SECRET_ENDINGS: Final = tuple(_NAMES)
# Cursors and counters are called tokens too.
_HARMLESS_ENDINGS: Final = ("pagetoken", "nexttoken", "continuationtoken", "cancellationtoken")
_NAME_GATE: Final = ("pass", "pwd", "secret", "token", "key", "authoriz", "credential")
_ASSIGN: Final = re.compile(r"[=:]")
_VALUE: Final = re.compile(
    r"[=:>]{0,2}[ \t]{0,8}(?:(?:bearer|basic|token)[ \t]{1,8})?(\\{0,2}[\"'`])?", re.I
)
_BARE: Final = re.compile(r"[^\s\"'`,;&]*+")
# Enough to tell code and prose from a value; looking at all of it for each sign is quadratic.
_BARE_START: Final = re.compile(r"[^\s\"'`,;&]{0,256}+")
_RUN: Final = re.compile(r"[A-Za-z0-9_\-]*+")
# `token = get_token()`, `key=settings.key`: code that names a secret, without holding one.
_CODE: Final = re.compile(r"[A-Za-z_][A-Za-z_.]{0,128}[(\[{]|[A-Za-z_]+\.[A-Za-z_.]{1,128}$|\$|{{")
PLACEHOLDER: Final = re.compile(
    "<(?:"
    + "|".join(
        sorted(ENTITIES | {row.name for row in SECRETS} | {"SECRET_ASSIGNMENT", "SECRET_FIELD"})
    )
    + r"|UNKNOWN|UNSCANNED)(?::[0-9a-f]{16})?>"
)


def has_marker(text: str) -> bool:
    """Whether a keyword occurs that needs no character of the gate of `text`."""
    return "eyJ" in text or "AIza" in text or "AKIA" in text or "ASIA" in text


def is_secret_name(name: str) -> bool:
    """Whether a key or variable of this name holds a secret."""
    plain = name.lower().replace("_", "").replace("-", "").replace(" ", "")
    return plain.endswith(_SECRET_ENDINGS) and not plain.endswith(_HARMLESS_ENDINGS)


def is_exposed(value: str) -> bool:
    """Whether enough of a declared secret is left to be one: not what guard put in its place."""
    if len(value) < VALUE_CHARS_MIN:
        return False
    if "<" in value:
        value = PLACEHOLDER.sub("", value)
    return len(value.strip("*")) >= VALUE_CHARS_MIN


def find_secrets(text: str, kept: bytes) -> list[Hit]:
    """Hits in `text` (ASCII image); `kept` is what the gate of `text` left of it."""
    hits: list[Hit] = []
    if has_marker(text):
        _match_rows(text, _ALWAYS, hits)
    if b"_" in kept:
        _match_rows(text, _WITH_UNDERSCORE, hits)
    if b"-" in kept:
        _match_rows(text, _WITH_HYPHEN, hits)
    if b":" in kept or b"=" in kept:
        if "://" in text and "@" in text:
            _match_rows(text, _WITH_COLON, hits)
        lower = text.lower()
        for word in _NAME_GATE:
            if word in lower:
                hits.extend(_assignments(text))
                break
    return hits


def _match_rows(text: str, rows: tuple[SecretShape, ...], hits: list[Hit]) -> None:
    for row in rows:
        at = text.find(row.keyword)
        while at >= 0:
            match = row.pattern.match(text, at)
            if match is not None:
                start, end = match.span(1)
                if row.name == "PRIVATE_KEY":
                    end = _block_end(text, end)
                if row.name != "CONNECTION_PASSWORD" or PLACEHOLDER.sub("", match.group(1)):
                    hits.append((row.name, start, end, 1.0))
                at = text.find(row.keyword, end)
                continue
            behind = at + len(row.keyword)
            if row.name == "JWT":
                # A start further into this run fails for the same reason; trying each would
                # make `eyJeyJeyJ...` quadratic.
                run = _RUN.match(text, at)
                behind = max(behind, run.end() if run else 0)
            at = text.find(row.keyword, behind)


def _block_end(text: str, start: int) -> int:
    last = text.find("-----END", start)
    if last < 0:
        return len(text)
    closing = text.find("-----", last + 8, last + 80)
    return len(text) if closing < 0 else closing + 5


def _assignments(text: str) -> Iterator[Hit]:
    free_from = 0
    for match in _ASSIGN.finditer(text):
        at = match.start()
        if at < free_from:
            continue
        name = text[max(0, at - NAME_CHARS_MAX) : at].rstrip(" \t\"'`\\]*")
        if not name or not is_secret_name(name[-24:]):
            continue
        opening = _VALUE.match(text, at + 1)
        start = opening.end() if opening else at + 1
        quote = opening.group(1) if opening else None
        end = _quoted_end(text, start, quote[-1]) if quote else -1
        if end < 0:
            end = start + len(_BARE_START.match(text, start).group())  # type: ignore[union-attr]
            if not quote and _is_prose_or_code(text, start, end, match.group()):
                continue
            end += len(_BARE.match(text, end).group())  # type: ignore[union-attr]
        if end - start > 256:
            free_from = end  # each long value is looked at once
        if is_exposed(text[start:end]):
            free_from = end
            yield "SECRET_ASSIGNMENT", start, end, 0.8


def _quoted_end(text: str, start: int, quote: str) -> int:
    end = text.find(quote, start, start + QUOTED_CHARS_MAX)
    # JSON inside JSON escapes its quotes.
    while end > start and text[end - 1] == "\\":
        end -= 1
    return end


def _is_prose_or_code(text: str, start: int, end: int, sign: str) -> bool:
    value = text[start:end]
    if sign == ":" and value.isalpha() and value.islower():
        # `the token: please enter it`: a sentence goes on behind its first word.
        following = text[end : end + 2]
        return (
            len(following) == 2
            and following[0] == " "
            and (following[1].isalpha() or following[1] == "<")
        )
    return _CODE.match(value) is not None or (value.isidentifier() and is_secret_name(value))
