"""`guard erase`, `hold`, `expire` and `open`, run as a person runs them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
from support.entries import NOON_NS

from guard.audit import AuditLog
from guard.audit.entry import Entry, timestamp_of
from guard.audit.verify import verify
from guard.evidence import Evidence
from guard.keys import Mac, Signer
from guard.keys.subjects import SubjectKeys
from guard.privacy import Privacy
from guard.request import Context, Point, Request

JANE = "jane.roe@example.com"
WHY = ("--authority", "GDPR art. 17", "--reason", "asked for it")


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """An installation whose log has one entry with a sealed value of Jane's."""
    (tmp_path / "guard.toml").write_text('[audit.readers]\nopen = ["privacy"]\n')
    secrets = tmp_path / ".guard" / "keys"
    keys = SubjectKeys.open(secrets)
    request = Request(
        point=Point.OUTPUT, target={"note": "\u202egout"}, context=Context(subjects=(JANE,))
    )
    told = Privacy(keys, keep=["note"]).protect(
        request, Evidence(is_scanned=True), decision_id="d" * 32, now_ns=NOON_NS
    )
    with AuditLog.open(
        tmp_path / ".guard" / "audit",
        signer=Signer.load_or_create(secrets / "log.key", name="guard/audit"),
        mac=Mac.load_or_create(secrets / "commitment.key"),
    ) as log:
        log.append(
            Entry(
                kind="decision", decision_id="d" * 32, timestamp_ns=NOON_NS,
                timestamp=timestamp_of(NOON_NS), input=told.payload, sealed=told.sealed,
                subjects=told.subjects,
            )
        )  # fmt: skip
    keys.close()
    return tmp_path


def _guard(home: Path, *arguments: str) -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, "-m", "guard", *arguments],
        cwd=home, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert "Traceback" not in done.stderr
    return done.returncode, done.stdout + done.stderr


def _entries(home: Path) -> list[Entry]:
    (records,) = (home / ".guard" / "audit").glob("records-*.jsonl")
    return [msgspec.json.decode(line, type=Entry) for line in records.read_bytes().splitlines()]


def test_what_is_sealed_is_shown_to_a_role_that_may_and_to_no_other(home: Path) -> None:
    code, text = _guard(home, "open", "dddd", "--role", "privacy", "--reason", "ticket 1")
    assert (code, text.strip()) == (0, '/input/note  "\\u202egout"')
    code, text = _guard(home, "open", "dddd", "--role", "intern", "--reason", "curious")
    assert code == 2
    assert "`intern` may not open sealed values" in text
    assert [one.effect for one in _entries(home) if one.kind == "access"] == ["allow", "deny"]


def test_a_person_is_erased_once_a_hold_is_lifted_and_the_log_still_verifies(home: Path) -> None:
    erase = ("erase", "--subject", JANE, *WHY, "--yes")
    hold = ("--authority", "court order 5 O 12/26")
    assert _guard(home, "hold", "place", "case-1", "--subject", JANE, *hold)[0] == 0
    assert "case-1" in _guard(home, "hold", "list")[1]
    code, text = _guard(home, *erase)
    assert code == 1
    assert "the legal hold `case-1` forbids it" in text
    assert _guard(home, "hold", "lift", "case-1", *hold)[0] == 0
    assert _guard(home, "hold", "list")[1] == "no legal hold stands\n"

    code, text = _guard(home, *erase, "--json")
    assert code == 0
    certificate = json.loads(text)["certificate"]
    code, text = _guard(home, "erase", "--subject", certificate["pseudonym"], *WHY, "--yes")
    assert code == 0
    assert "it was erased before" in text
    assert "no key of this data subject is here" in _guard(home, *erase)[1]
    code, text = _guard(home, "open", "dddd", "--role", "privacy", "--reason", "ticket 2")
    assert code == 1
    assert "erased with its data subject" in text
    assert [one.kind for one in _entries(home)] == [
        "decision", "retention", "retention", "erasure", "access",
    ]  # fmt: skip
    signer = Signer.load_or_create(home / ".guard" / "keys" / "log.key")
    assert verify(home / ".guard" / "audit", vkey=signer.verifier).ok
    for path in (home / ".guard").rglob("*"):
        if path.is_file():
            assert JANE.encode() not in path.read_bytes()


def test_nothing_expires_unless_it_is_said(home: Path) -> None:
    code, text = _guard(home, "expire", "--authority", "plan", "--json")
    assert code == 0
    assert json.loads(text) == {
        "done": False, "months": [], "subjects": [], "segments": [], "kept": {},
    }  # fmt: skip
    (home / "guard.toml").write_text("[audit.retention]\ndefault_days = 30\n")
    code, text = _guard(home, "expire", "--authority", "plan")
    assert code == 2
    assert "greater than or equal to 183" in text


def test_erasing_asks_first(home: Path) -> None:
    code, _ = _guard(home, "erase", "--subject", JANE, *WHY)
    assert code == 1
    opened = SubjectKeys.open(home / ".guard" / "keys")
    assert opened.find(JANE) is not None
    opened.close()


def test_nobody_is_erased_where_the_person_or_the_log_is_not(home: Path, tmp_path: Path) -> None:
    code, output = _guard(home, "erase", "--subject", "jane.row@example.com", *WHY, "--yes")
    assert (code, "no key of this data subject is here" in output) == (2, True)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    code, _ = _guard(elsewhere, "erase", "--subject", JANE, *WHY, "--yes")
    assert (code, list(elsewhere.iterdir())) == (2, [])
