"""Personal data in a text: a small set of value shapes, each with a validator, all linear.

Entities carry Presidio's names. The text is an ASCII image (see `text.fold`). No pattern nests a
repetition, every quantifier is bounded or possessive, and the work per candidate is constant, so
hostile text costs the same per character as honest text.

How numbers are found: a *cluster* is a run of digits and number punctuation; its digit groups are
judged together. Cards, IBANs and addresses prove themselves by checksum or syntax. Bare digits
prove nothing: nine of them are a US_SSN, seven to fifteen a PHONE_NUMBER, only where the words
before them or the key above them say so. Without that, every byte count would be a person.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator
from typing import Final

__all__ = ["ENTITIES", "HINT_PHONE", "HINT_SSN", "Hit", "find_pii", "hint_of", "number_entity"]

# (entity, start, end, score), in characters of the scanned text.
Hit = tuple[str, int, int, float]

ENTITIES: Final = frozenset(
    {"EMAIL_ADDRESS", "CREDIT_CARD", "IBAN_CODE", "US_SSN", "PHONE_NUMBER", "IP_ADDRESS"}
)

# What the nearest key above a leaf says of it.
HINT_SSN: Final = 1
HINT_PHONE: Final = 2

CARD_DIGITS: Final = range(13, 20)  # ISO/IEC 7812-1
PHONE_DIGITS_MAX: Final = 15  # ITU-T E.164
IPV6_CHARS_MAX: Final = 45
CONTEXT_CHARS: Final = 40  # where a word that explains bare digits may stand, before them
GROUP_GAP_MAX: Final = 3  # characters between two groups of one number, such as `) ` or ` - `

_CARD_GAPS: Final = frozenset({" ", "-", "  ", " - ", "--"})
_CLUSTER: Final = re.compile(r"[0-9][0-9 ()./\-]*+")
_GROUP: Final = re.compile(r"[0-9]++")
# \x7f stands for a cased letter outside ASCII: see `text.fold`.
_DOMAIN: Final = re.compile(r"[A-Za-z0-9.\-\x7f]{1,254}+")
_TOP_LABEL: Final = re.compile(r"xn--[A-Za-z0-9\-]{2,59}|[A-Za-z\x7f]{2,63}")
# RFC 5322 atext without `=&?` (an address in a query string) and the dot.
_LOCAL: Final = (
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._%+-!#$'*/^`{|}~\x7f"
)
_LOCAL_EDGE: Final = "'`{|}*/#!$^~."
# `logo@2x.png` is no address: these are no top-level domains.
_FILE_ENDINGS: Final = frozenset({"png", "jpg", "jpeg", "gif", "svg", "webp"})
_IPV4: Final = re.compile(
    r"(?<![0-9])(?<![0-9]\.)[0-9]{1,3}\.[0-9]{1,3}\.[0-9]{1,3}\.[0-9]{1,3}(?!\.?[0-9])"
)
_IPV6_RUN: Final = re.compile(r"[0-9A-Fa-f:][0-9A-Fa-f:.]++")
# Areas 000, 666 and 900-999, group 00 and serial 0000 were never issued (SSA POMS RM 10201.035).
_SSN: Final = re.compile(
    r"(?<![0-9])(?!000|666|9)[0-9]{3}([\-. ])(?!00)[0-9]{2}\1(?!0000)[0-9]{4}(?![0-9])"
)
_SSN_BARE: Final = re.compile(r"(?!000|666|9)[0-9]{3}(?!00)[0-9]{2}(?!0000)[0-9]{4}")
_NANP: Final = re.compile(
    r"(?<![0-9])(?:\([2-9][0-9]{2}\)[\-. ]{0,2}[2-9][0-9]{2}[\-. ]?|"
    r"[2-9][0-9]{2}(?:\) ?|[\-. /])[2-9][0-9]{2}[\-. ])[0-9]{4}(?![0-9])"
)
_PHONE_WORDS: Final = ("phone", "mobile", "cell", "fax", "tel", "whatsapp", "sms")
_PHONE_WORD: Final = re.compile(
    r"(?<!<)(?:phone|mobile|cell|fax|(?<![a-z])tel|whatsapp|sms)(?!s)", re.I
)
_SSN_WORD: Final = re.compile(r"(?<![a-z])ssn|social[ _\-]?sec", re.I)
_WORD_GAP: Final = r"(?:[ _\-]?(?:number|no|nr|num))?[^A-Za-z0-9]{0,4}(?:is:? )?$"
_PHONE_BEFORE: Final = re.compile(_PHONE_WORD.pattern + _WORD_GAP, re.I)
_SSN_BEFORE: Final = re.compile(
    r"(?:(?<![a-z])ssn|social[ _\-]?security)" + _WORD_GAP,
    re.I,
)

_DOUBLED: Final = (0, 2, 4, 6, 8, 1, 3, 5, 7, 9)  # twice the digit, its own digits summed
_DIGITS: Final = bytes(byte - 48 if 48 <= byte <= 57 else 0 for byte in range(256))

# Length of an IBAN by country: SWIFT IBAN registry, release 99.
_IBAN_CHARS: Final = {
    word[:2]: int(word[2:])
    for word in (
        "AD24 AE23 AL28 AT20 AZ28 BA20 BE16 BG22 BH22 BI27 BR29 BY28 CH21 CR22 CY28 CZ24 DE22 "
        "DJ27 DK18 DO28 EE20 EG29 ES24 FI18 FK18 FO18 FR27 GB22 GE22 GI23 GL18 GR27 GT28 HN28 "
        "HR21 HU28 IE22 IL23 IQ23 IS26 IT27 JO30 KW30 KZ20 LB28 LC32 LI21 LT20 LU20 LV21 LY25 "
        "MC27 MD24 ME22 MK19 MN20 MR27 MT31 MU30 NI28 NL18 NO15 OM23 PK24 PL28 PS29 PT25 QA29 "
        "RO24 RS22 RU33 SA24 SC31 SD18 SE24 SI19 SK24 SM27 SO23 ST25 SV28 TL23 TN24 TR26 UA29 "
        "VA22 VG24 XK20 YE30"
    ).split()
}


def find_pii(text: str, kept: bytes, hint: int) -> list[Hit]:
    """Hits in `text` (ASCII image); `kept` is what the gate of `text` left of it.

    Hits of one entity do not overlap; hits of two entities may.
    """
    hits: list[Hit] = []
    if b"@" in kept:
        hits.extend(_emails(text))
    if b":" in kept and ("::" in text or kept.count(b":") >= 7):
        hits.extend(_ipv6(text))
    digits_count = len(kept.translate(None, b"@:=_-"))
    if digits_count >= 4:
        words = _words_in(text.lower()) if digits_count >= 7 else 0
        for match in _CLUSTER.finditer(text):
            start, end = match.span()
            if end - start >= 7:
                _judge_cluster(text, start, end, (hint, words), hits)
            elif start >= 2 and end - start >= 2:
                _judge_iban(text, start, hits)
    return hits


def _words_in(lower: str) -> int:
    # Asked once for a text, so that the patterns for context run only where they can match.
    words = HINT_SSN if "ssn" in lower or "social" in lower else 0
    for word in _PHONE_WORDS:
        if word in lower:
            return words | HINT_PHONE
    return words


def hint_of(key: str) -> int:
    """What a key says of the bare digits below it: HINT_SSN, HINT_PHONE, both or 0."""
    hint = HINT_SSN if _SSN_WORD.search(key) else 0
    return hint | HINT_PHONE if _PHONE_WORD.search(key) else hint


def number_entity(digits: str, hint: int) -> str | None:
    """Entity that a whole number is, given by its decimal digits without sign; None if none."""
    if _is_card(digits, 0, len(digits)):
        return "CREDIT_CARD"
    if hint & HINT_SSN and _SSN_BARE.fullmatch(digits):
        return "US_SSN"
    if hint & HINT_PHONE and 7 <= len(digits) <= PHONE_DIGITS_MAX:
        return "PHONE_NUMBER"
    return None


def _emails(text: str) -> Iterator[Hit]:
    at = text.find("@")
    # Behind the last hit and the last `@`: two hits share no character, and no character is
    # looked at twice. RFC 5321 ends a local part at 64; a longer one is covered all the same.
    free_from = 0
    while at >= 0:
        head = text[free_from:at]
        local = head[len(head.rstrip(_LOCAL)) :].lstrip(_LOCAL_EDGE)
        free_from = at + 1
        domain = _DOMAIN.match(text, free_from) if local else None
        if domain is not None:
            size = _domain_size(domain.group())
            if size:
                yield "EMAIL_ADDRESS", at - len(local), at + 1 + size, 1.0
                free_from = at + 1 + size
        at = text.find("@", at + 1)


def _domain_size(name: str) -> int:
    """How many characters of `name` are a domain with a top label, or 0.

    What follows the top label (`corp.com.2`, `corp.com4111`) does not save the address.
    """
    if name[0] == ".":
        return 0
    dot = name.rfind(".")
    while dot > 0:
        label = _TOP_LABEL.match(name, dot + 1)
        if label is not None:
            return 0 if label.group().lower() in _FILE_ENDINGS else label.end()
        dot = name.rfind(".", 0, dot)
    return 0


def _ipv6(text: str) -> Iterator[Hit]:
    for match in _IPV6_RUN.finditer(text):
        run = match.group()
        colons = run.count(":")
        if colons < 2 or len(run) > IPV6_CHARS_MAX + 2 or not ("::" in run or colons >= 7):
            continue
        start, end = match.span()
        # In `std::vector` or `f :: Int` the run is a piece of a word, or no address at all.
        if text[start - 1 : start].isalnum() or text[end : end + 1].isalnum():
            continue
        run = run.rstrip(".")
        if not run.endswith("::"):
            run = run.rstrip(":")
        if colons < 3 and run.isascii() and not any(char in "0123456789" for char in run):
            continue
        try:
            ipaddress.IPv6Address(run)
        except ValueError:
            continue
        if run != "::":
            yield "IP_ADDRESS", start, start + len(run), 0.9


def _judge_iban(text: str, start: int, hits: list[Hit]) -> int:
    """End of the IBAN whose check digits begin at `start`, or 0; a hit is added."""
    if not (text[start - 1].isalpha() and text[start - 2].isalpha()):
        return 0
    end = _iban_end(text, start - 2)
    if end:
        hits.append(("IBAN_CODE", start - 2, end, 1.0))
    return end


def _judge_cluster(
    text: str, start: int, end: int, context: tuple[int, int], hits: list[Hit]
) -> None:
    # (1) What proves itself by its own check: IBAN, IPv4, SSN with separators, cards.
    if start >= 2 and _judge_iban(text, start, hits) >= end:
        return
    cluster = text[start:end]
    digits_count = len(cluster.encode("ascii").translate(None, b" ()./-"))
    before = len(hits)
    if cluster.count(".") >= 3:
        for match in _IPV4.finditer(text, start, end):
            if all(int(part) <= 255 for part in match.group().split(".")):
                hits.append(("IP_ADDRESS", *match.span(), 0.9))
    if digits_count < 7:
        return
    groups: list[tuple[int, int]] = []
    if digits_count >= 9:
        hits.extend(("US_SSN", *match.span(), 0.9) for match in _SSN.finditer(text, start, end))
        if digits_count >= CARD_DIGITS.start:
            groups = [match.span() for match in _GROUP.finditer(text, start, end)]
            hits.extend(_cards(text, groups))
    # (2) Phone numbers, where nothing of the above has claimed the cluster.
    if len(hits) > before:
        return
    lead = text[start - 1 : start]
    hint, words = context
    if not (lead == "+" or digits_count >= 10 or hint or words):
        return
    groups = groups or [match.span() for match in _GROUP.finditer(text, start, end)]
    if lead == "+" and cluster[0] != "0":
        stop = _phone_end(text, groups, 8)
        if stop:
            hits.append(("PHONE_NUMBER", start - 1, stop, 0.9))
            return
    # A bracket before the area code stands outside the cluster.
    outside = 1 if lead == "(" else 0
    if digits_count >= 10:
        hits.extend(
            ("PHONE_NUMBER", *match.span(), 0.7)
            for match in _NANP.finditer(text, start - outside, end)
        )
        if len(hits) > before:
            return
    _judge_bare(text, groups, start - outside, context, hits)


def _judge_bare(
    text: str,
    groups: list[tuple[int, int]],
    start: int,
    context: tuple[int, int],
    hits: list[Hit],
) -> None:
    # (3) Bare digits, where a word before them or a key above them says what they are.
    hint, words = context
    said = text[max(0, start - CONTEXT_CHARS) : start]
    if hint & HINT_SSN or (words & HINT_SSN and _SSN_BEFORE.search(said)):
        digits = "".join([text[begin:stop] for begin, stop in groups])
        if _SSN_BARE.fullmatch(digits):
            hits.append(("US_SSN", start, groups[-1][1], 0.85))
            return
    if hint & HINT_PHONE or (words & HINT_PHONE and _PHONE_BEFORE.search(said)):
        stop = _phone_end(text, groups, 7)
        if stop:
            hits.append(("PHONE_NUMBER", start, stop, 0.7))


def _cards(text: str, groups: list[tuple[int, int]]) -> Iterator[Hit]:
    """Cards in one cluster: windows of whole digit groups, 13 to 19 digits, that pass Luhn.

    The groups of a card have three digits or more, or all have one, or all two; the last may be
    shorter. Between them stand spaces and dashes only.
    """
    digits = "".join([text[begin:stop] for begin, stop in groups])
    sums = _luhn_sums(digits)
    reach = _card_reach(text, groups)
    last_at: dict[int, int] = {}  # from the count of digits so far to the group that ends there
    offsets = [0]  # of the first digit of each group
    for index, (begin, stop) in enumerate(groups):
        offsets.append(offsets[-1] + stop - begin)
        last_at[offsets[-1]] = index
    first = 0
    while first < len(groups):
        offset = offsets[first]
        found = -1
        # The cheapest refusal first: too few digits in reach, or no issuer's digit.
        if offsets[reach[first] + 1] - offset >= CARD_DIGITS.start and digits[offset] in "123456":
            for size in CARD_DIGITS:
                last = last_at.get(offset + size, -1)
                if first <= last <= reach[first] and _is_card(digits, offset, offset + size, sums):
                    found = last
        if found >= 0 and not _is_fraction(text, groups[first][0]):
            yield "CREDIT_CARD", groups[first][0], groups[found][1], 1.0
            first = found
        first += 1


def _card_reach(text: str, groups: list[tuple[int, int]]) -> list[int]:
    """For each group the last one that may stand in one card with it."""
    count = len(groups)
    sizes = [min(stop - begin, 3) for begin, stop in groups]
    reach = list(range(count))
    for index in range(count - 2, -1, -1):
        stop, begin = groups[index][1], groups[index + 1][0]
        if text[stop:begin] in _CARD_GAPS:
            # A group of another kind can only be the last.
            is_like = sizes[index] == sizes[index + 1]
            reach[index] = reach[index + 1] if is_like else index + 1
    return reach


def _luhn_sums(digits: str) -> tuple[list[int], list[int]]:
    # Prefix sums with every even and every odd index doubled: a window is checked in two look-ups.
    sums: tuple[list[int], list[int]] = ([0], [0])
    even = odd = 0
    for index, plain in enumerate(digits.encode("ascii").translate(_DIGITS)):
        if index & 1:
            even += plain
            odd += _DOUBLED[plain]
        else:
            even += _DOUBLED[plain]
            odd += plain
        sums[0].append(even)
        sums[1].append(odd)
    return sums


def _is_card(
    digits: str, start: int, stop: int, sums: tuple[list[int], list[int]] | None = None
) -> bool:
    """Luhn (ISO/IEC 7812-1, annex B) and an issuer prefix in use."""
    if stop - start not in CARD_DIGITS:
        return False
    lead = digits[start]
    if lead == "1":
        # UATP has 15 digits; 13, 16 and 19 digits from 1 are milli-, micro- and nanoseconds.
        if stop - start != 15:
            return False
    elif lead == "2":
        # Mastercard; other numbers from 2 are mostly dates.
        if not "2221" <= digits[start : start + 4] <= "2720":
            return False
    elif lead not in "3456":
        return False
    # The digit before the last is doubled, so the doubled indices have the parity of `stop`.
    doubled = (sums or _luhn_sums(digits))[stop % 2]
    return (doubled[stop] - doubled[start]) % 10 == 0


def _is_fraction(text: str, start: int) -> bool:
    # `0.4111111111111111` is a score or a coordinate: one in ten passes Luhn.
    return start >= 2 and text[start - 1] == "." and text[start - 2].isdigit()


def _is_joined(text: str, stop: int, begin: int, gap: str) -> bool:
    return begin - stop <= GROUP_GAP_MAX and not text[stop:begin].strip(gap)


def _phone_end(text: str, groups: list[tuple[int, int]], digits_min: int) -> int:
    """End of the longest joined run of groups with `digits_min` to 15 digits, or 0."""
    digits_count = 0
    found = 0
    for index, (begin, stop) in enumerate(groups):
        if index and not _is_joined(text, groups[index - 1][1], begin, " -.()/"):
            break
        digits_count += stop - begin
        if digits_count > PHONE_DIGITS_MAX:
            break
        if digits_count >= digits_min:
            found = stop
    return found


def _iban_end(text: str, start: int) -> int:
    """End of the IBAN that begins at `start`, or 0 (ISO 13616-1, ISO 7064 mod 97-10)."""
    chars_count = _IBAN_CHARS.get(text[start : start + 2].upper())
    if chars_count is None:
        return 0
    piece = text[start : start + 2 * chars_count]
    compact = piece.replace(" ", "").replace("-", "")[:chars_count]
    if len(compact) < chars_count or not compact.isalnum():
        return 0
    turned = compact[4:] + compact[:4]
    if int("".join([str(int(char, 36)) for char in turned])) % 97 != 1:
        return 0
    left = chars_count
    for index, char in enumerate(piece):
        left -= char not in " -"
        if not left:
            return start + index + 1
    return 0
