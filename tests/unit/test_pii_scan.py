"""What the scanner finds, what it leaves alone, and what it does with hostile text."""

from __future__ import annotations

import json
from typing import Any

import pytest

from guard.errors import ConfigError
from guard.evidence import Span
from guard.pii import Scan, Scanner
from guard.plain import Json

SCANNER = Scanner()
CARD = "4111111111111111"
PEM = "-----BEGIN RSA PRIVATE KEY-----\nMIIEow\n-----END RSA PRIVATE KEY-----"
JWT = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.c2lnbmF0dXJl"


def _found(text: str) -> list[tuple[str, str]]:
    scan = SCANNER.scan(text)
    return [(span.entity, text[span.start : span.end]) for span in scan.pii + scan.secrets]


def _places(target: Json) -> list[tuple[str, str]]:
    scan = SCANNER.scan(target)
    return [(span.entity, span.pointer) for span in scan.pii + scan.secrets]


@pytest.mark.parametrize(
    ("entity", "value"),
    [
        ("EMAIL_ADDRESS", "jane.doe+x@mail.example.co.uk"),
        ("EMAIL_ADDRESS", "o'brien@example.com"),
        ("EMAIL_ADDRESS", "a/b#c@example.com"),
        ("EMAIL_ADDRESS", "x@xn--bcher-kva.example"),
        ("EMAIL_ADDRESS", "иван@почта.рф"),
        ("CREDIT_CARD", CARD),
        ("CREDIT_CARD", "4111-1111-1111-1111"),
        ("CREDIT_CARD", "4111 1111 1111 1111"),
        ("CREDIT_CARD", "3782 822463 10005"),
        ("CREDIT_CARD", "4222222222222"),
        ("CREDIT_CARD", "4 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1"),
        ("IBAN_CODE", "GB82WEST12345698765432"),
        ("IBAN_CODE", "GB82 WEST 1234 5698 7654 32"),
        ("IBAN_CODE", "de89 3704 0044 0532 0130 00"),
        ("US_SSN", "536-90-4399"),
        ("US_SSN", "536 90 4399"),
        ("PHONE_NUMBER", "+44 20 7946 0958"),
        ("PHONE_NUMBER", "+1 (212) 555-0187"),
        ("PHONE_NUMBER", "(212) 555-0187"),
        ("PHONE_NUMBER", "212.555.0187"),
        ("IP_ADDRESS", "192.168.10.24"),
        ("IP_ADDRESS", "2001:db8::ff00:42:8329"),
        ("IP_ADDRESS", "::ffff:10.0.0.1"),
        ("AWS_ACCESS_KEY_ID", "AKIAIOSFODNN7EXAMPLE"),
        ("GITHUB_TOKEN", "ghp_" + "a1B2" * 9),
        ("GITHUB_TOKEN", "github_pat_" + "a1B2_" * 8),
        ("OPENAI_API_KEY", "sk-proj-abcdefghij0123456789"),
        ("ANTHROPIC_API_KEY", "sk-ant-api03-abcdefghij-0123456789"),
        ("SLACK_TOKEN", "xoxb-123456789012-abcdefghij"),
        ("GOOGLE_API_KEY", "AIza" + "SyA1-b_" * 5),
        ("STRIPE_KEY", "sk_live_abcdefghij0123456789"),
        ("JWT", JWT),
        ("PRIVATE_KEY", PEM),
    ],
)
def test_a_value_in_a_sentence_is_found_to_the_character(entity: str, value: str) -> None:
    assert (entity, value) in _found(f"Please note: {value}, as agreed.")


@pytest.mark.parametrize(
    ("text", "entity", "value"),
    [
        ("postgres://app:s3cr3t@pw@db.internal/x", "CONNECTION_PASSWORD", "s3cr3t@pw"),
        ("password = hunter2hunter2", "SECRET_ASSIGNMENT", "hunter2hunter2"),
        ("DB_PASSWORD: swordfish\n", "SECRET_ASSIGNMENT", "swordfish"),
        ('{"api_key": "correct horse battery"}', "SECRET_ASSIGNMENT", "correct horse battery"),
        ('{\\"token\\": \\"abcdef123\\"}', "SECRET_ASSIGNMENT", "abcdef123"),
        ("Authorization: Bearer abc.def-123", "SECRET_ASSIGNMENT", "abc.def-123"),
        ("my ssn is 536904399", "US_SSN", "536904399"),
        ("phone number: 020 7946 0958", "PHONE_NUMBER", "020 7946 0958"),
    ],
)
def test_a_value_that_its_neighbours_name_is_found(text: str, entity: str, value: str) -> None:
    assert (entity, value) in _found(text)


@pytest.mark.parametrize(
    "text",
    [
        "the quick brown fox, 12 % of 1,200.50 on 2026-07-01 at 10:30:59",
        "4111111111111112",  # fails Luhn
        "9111111111111111",
        "score 0.4111111111111111",
        "1721000000000",  # milliseconds since 1970
        "000-12-3456 and 666-12-3456 and 900-12-3456 and 536-00-4399 and 536-90-0000",
        "GB82WEST12345698765433",  # fails mod 97
        "300.1.2.3 and 1.2.3",
        "std::vector<int> f :: Int -> Int",
        "logo@2x.png and @decorator and user@localhost",
        "536904399 bytes, order 2125550187",  # bare digits that nothing names
        "task-force-on-very-long-hyphenated-words and risk-adjusted-management-of-2026",
        "the token: please enter it",
        "token = get_token() and api_key=settings.api_key and password=password",
        "next_page_token: abcdefghij",
        "max_tokens = 4096",
        "password = ******** or password=<SECRET_ASSIGNMENT>",
    ],
)
def test_what_only_resembles_a_value_is_left_alone(text: str) -> None:
    assert SCANNER.scan(text) == Scan()


@pytest.mark.parametrize(
    "disguised",
    [
        "4111\u200b1111\u200d1111\u20601111",
        "".join(chr(0xFF10 + int(digit)) for digit in CARD),  # full-width
        "".join(chr(0x0660 + int(digit)) for digit in CARD),  # Arabic-Indic
        "4111\u00a01111\u20091111\u20111111",
        "4111\x001111\x081111\x7f1111",
        "".join(chr(0x1D7CE + int(digit)) for digit in CARD),  # mathematical bold
    ],
)
def test_no_disguise_of_characters_hides_a_card(disguised: str) -> None:
    text = f"é pay {disguised} now"
    scan = SCANNER.scan(text)
    assert [(span.entity, text[span.start : span.end]) for span in scan.pii] == [
        ("CREDIT_CARD", disguised)
    ]


@pytest.mark.parametrize(
    "disguised",
    [
        "jane\u200b@corp.com",
        "".join(chr(0xFEE0 + ord(char)) for char in "jane@corp.com"),  # full-width
        "jané@corp.com",
        "jane@corp\u3002com",
    ],
)
def test_no_disguise_of_characters_hides_an_address(disguised: str) -> None:
    assert _found(f"to {disguised} now") == [("EMAIL_ADDRESS", disguised)]


def test_a_sentence_without_spaces_around_an_address_keeps_its_own_characters() -> None:
    assert _found("请联系jane@corp.com谢谢") == [("EMAIL_ADDRESS", "jane@corp.com")]


def test_a_value_that_the_removal_of_another_would_form_is_found_with_it() -> None:
    assert _found("4111 1111 10.0.0.1 1111 1111") == [
        ("CREDIT_CARD", "4111 1111 10.0.0.1 1111 1111"),
        ("IP_ADDRESS", "10.0.0.1"),
    ]


def test_an_address_survives_digits_behind_it() -> None:
    assert _found("jane@corp.com4111111111111111") == [
        ("EMAIL_ADDRESS", "jane@corp.com"),
        ("CREDIT_CARD", CARD),
    ]


def test_pointers_are_relative_to_the_target_and_escaped() -> None:
    target = {"to": ["x", {"a/b~c": "jane@corp.com"}], "n": (1, CARD)}
    assert SCANNER.scan(target) == Scan(
        pii=(
            Span("EMAIL_ADDRESS", "/to/1/a~1b~0c", 0, 13, 1.0),
            Span("CREDIT_CARD", "/n/1", 0, 16, 1.0),
        )
    )
    assert SCANNER.scan("jane@corp.com") == Scan(pii=(Span("EMAIL_ADDRESS", "", 0, 13, 1.0),))


def test_a_key_is_scanned_like_a_value() -> None:
    assert SCANNER.scan({"mail of jane@corp.com": 1}) == Scan(
        pii=(Span("EMAIL_ADDRESS", "/mail of jane@corp.com", 8, 21, 1.0, True),)
    )


@pytest.mark.parametrize(
    ("target", "places"),
    [
        ({"n": int(CARD)}, [("CREDIT_CARD", "/n")]),
        ({"n": float(CARD)}, [("CREDIT_CARD", "/n")]),
        ({"n": -int(CARD)}, [("CREDIT_CARD", "/n")]),
        ({"ssn": 536904399}, [("US_SSN", "/ssn")]),
        ({"social_security_number": "536904399"}, [("US_SSN", "/social_security_number")]),
        ({"phones": [2125550187]}, []),
        ({"phone": [2125550187]}, [("PHONE_NUMBER", "/phone/0")]),
        ({"mobileNumber": "447911123456"}, [("PHONE_NUMBER", "/mobileNumber")]),
        ({"size_bytes": 536904399, "at": 1721000000, "ok": True, "r": 0.1234567891}, []),
    ],
)
def test_a_number_counts_where_it_proves_itself_or_its_key_names_it(
    target: Json, places: list[tuple[str, str]]
) -> None:
    assert _places(target) == places


def test_the_span_of_a_number_is_the_whole_number() -> None:
    assert SCANNER.scan(-int(CARD)).pii == (Span("CREDIT_CARD", "", 0, 17, 1.0),)


def test_a_key_that_names_a_secret_covers_the_whole_value() -> None:
    target = {
        "password": "hunter2",
        "X-Api-Key": "abcdefgh",
        "Authorization": "Bearer xyz",
        "client_secret": ["abcdef"],
        "private_key": "short",
        "page_token": "abcdefgh",
        "pass\u200bword": "abcdefg",
    }
    assert SCANNER.scan(target).secrets == (
        Span("SECRET_FIELD", "/password", 0, 7, 1.0),
        Span("SECRET_FIELD", "/X-Api-Key", 0, 8, 1.0),
        Span("SECRET_FIELD", "/Authorization", 0, 10, 1.0),
        Span("SECRET_FIELD", "/client_secret/0", 0, 6, 1.0),
        Span("SECRET_FIELD", "/pass\u200bword", 0, 7, 1.0),
    )


def test_media_blocks_are_reported_and_their_captions_are_scanned() -> None:
    image = "A" * 5_000 + "4111111111111111"
    target = [
        {"type": "text", "text": "see below"},
        {"type": "image_url", "image_url": {"url": "https://x.example/a.png"}},
        {"type": "image", "source": {"data": image}, "alt": "of jane@corp.com"},
        {"type": "file", "name": "a.txt", "size": 3},
        {"type": "file", "file": {"file_id": "f-1"}},
    ]
    assert SCANNER.scan(target) == Scan(
        pii=(Span("EMAIL_ADDRESS", "/2/alt", 3, 16, 1.0),),
        unscanned=("/1", "/2", "/2/source/data", "/4"),
    )


def test_data_urls_are_reported_and_readable_ones_are_scanned_too() -> None:
    assert SCANNER.scan("data:image/png;base64,iVBORw0KGgo=") == Scan(unscanned=("",))
    assert SCANNER.scan(["![x](DATA:;base64,AAAA)"]) == Scan(unscanned=("/0",))
    assert SCANNER.scan("data:text/plain,jane@corp.com") == Scan(
        pii=(Span("EMAIL_ADDRESS", "", 16, 29, 1.0),), unscanned=("",)
    )
    assert SCANNER.scan('data: {"delta": "x"}') == Scan()


def test_a_megabyte_of_base64_is_reported_and_readable_text_of_that_size_is_scanned() -> None:
    assert SCANNER.scan({"blob": "QUJD" * 260_000}) == Scan(unscanned=("/blob",))
    text = "word " * 210_000 + "jane@corp.com"
    assert SCANNER.scan([text]).pii == (
        Span("EMAIL_ADDRESS", "/0", len(text) - 13, len(text), 1.0),
    )


def test_what_is_not_plain_json_is_reported() -> None:
    assert SCANNER.scan({"a": b"jane@corp.com"}) == Scan(unscanned=("/a",))


def test_over_the_bound_every_further_leaf_is_one_unknown_span() -> None:
    scanner = Scanner(spans_max=2)
    target = [
        "a@corp.com b@corp.com",
        "c@corp.com",
        {"d@corp.com": "clean text"},
        "short",
        123456789,
        None,
    ]
    unknown = (
        Span("UNKNOWN", "/1", 0, 10, 0.0),
        Span("UNKNOWN", "/2/d@corp.com", 0, 10, 0.0, True),
        Span("UNKNOWN", "/2/d@corp.com", 0, 10, 0.0),
        Span("UNKNOWN", "/4", 0, 9, 0.0),
    )
    assert scanner.scan(target) == Scan(
        pii=(
            Span("EMAIL_ADDRESS", "/0", 0, 10, 1.0),
            Span("EMAIL_ADDRESS", "/0", 11, 21, 1.0),
            *unknown,
        ),
        secrets=unknown,
    )


def test_entities_narrow_the_pii_and_never_the_secrets() -> None:
    scanner = Scanner(entities=frozenset({"US_SSN"}))
    scan = scanner.scan("jane@corp.com 536-90-4399 ghp_" + "a1B2" * 9)
    assert [span.entity for span in scan.pii] == ["US_SSN"]
    assert [span.entity for span in scan.secrets] == ["GITHUB_TOKEN"]


def test_an_unknown_entity_is_refused_with_a_suggestion() -> None:
    with pytest.raises(ConfigError, match="unknown entity `EMAIL_ADRESS`: did you mean `EMAIL_A"):
        Scanner(entities=frozenset({"EMAIL_ADRESS"}))


def test_a_clean_target_gives_an_empty_scan() -> None:
    assert SCANNER.scan({"a": [1, 2.5, None, True, "text"], "b": ()}) == Scan()


def test_json_in_a_string_is_scanned_as_text() -> None:
    inner = json.dumps({"email": "jane@corp.com", "password": "hunter2!"})
    assert _found(inner) == [("EMAIL_ADDRESS", "jane@corp.com"), ("SECRET_ASSIGNMENT", "hunter2!")]


# Each took a naive detector quadratic time: hundreds of thousands of characters would not return.
HOSTILE: dict[str, str] = {
    "labels": "a.a.a." * 40_000,
    "local part": "abc.def+ghi_" * 20_000 + "@",
    "address": "a" * 250_000 + "@b.co",
    "digits": "1" * 250_000,
    "single digits": "1 " * 120_000,
    "groups": "4111 1111 1111 1112 " * 12_000,
    "at signs": "a@" * 120_000,
    "token heads": "eyJ" * 80_000,
    "key heads": "sk-" * 80_000,
    "assignments": "token :" * 35_000,
    "quotes": 'password="' * 25_000,
    "key blocks": "-----BEGIN " * 22_000,
    "urls": "://user:pw" * 25_000,
    "colons": "::" * 120_000,
    "addresses": "1::1 " * 50_000,
    "zero width": "1\u200b" * 120_000,
    "brackets": "(((((" * 50_000,
}


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE.keys())
def test_a_quarter_of_a_megabyte_of_hostile_text_is_scanned_to_its_end(text: str) -> None:
    scan = SCANNER.scan([text, "jane@corp.com"])
    last: Any = scan.pii[-1]
    assert last.pointer == "/1"
