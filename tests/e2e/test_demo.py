"""The demo as a user starts it: every claim true, exit code 0, and a person can read it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

EFFECTS = {"allow", "redact", "route", "review", "deny"}


def _demo(tmp_path: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", "from guard.cli import main; main()", "demo", *arguments],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
        env={**os.environ, "TMPDIR": str(tmp_path), "COLUMNS": "120", **variables},
    )


@pytest.fixture
def told(tmp_path: Path) -> dict[str, Any]:
    done = _demo(tmp_path, "--json")
    assert done.returncode == 0, done.stderr + done.stdout
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def test_all_five_effects_happen_and_every_claim_is_true(told: dict[str, Any]) -> None:
    assert [fact for fact, is_true in told["facts"].items() if not is_true] == []
    assert {effect for effect, count in told["effects"].items() if count} == EFFECTS
    assert told["ok"]


def test_the_log_verifies_and_the_forged_copy_names_its_entry(told: dict[str, Any]) -> None:
    assert told["verified"]
    assert told["forgery"]["decision_id"]


def test_no_card_or_account_number_is_in_the_log(told: dict[str, Any]) -> None:
    audit = Path(told["directory"]) / "audit"
    stored = b"".join(path.read_bytes() for path in audit.rglob("*") if path.is_file())
    assert b"pay_invoice" in stored
    for number in (b"4111111111111111", b"5555555555554444", b"DE89370400440532013000"):
        assert number not in stored


def test_told_to_a_person_it_is_a_story_without_the_secrets(tmp_path: Path) -> None:
    done = _demo(tmp_path)
    assert done.returncode == 0, done.stderr + done.stdout
    for words in (
        "A payment over the limit waits for a person",
        "ann@finance",
        "the ledger shows exactly one payment",
        "claims were checked and are true",
    ):
        assert words in done.stdout
    assert "UNTRUE" not in done.stdout
    assert "4111111111111111" not in done.stdout


def test_the_demo_leaves_nothing_in_the_directory_it_is_started_in(tmp_path: Path) -> None:
    here = tmp_path / "here"
    here.mkdir()
    done = subprocess.run(
        [sys.executable, "-c", "from guard.cli import main; main()", "demo", "--json"],
        capture_output=True,
        text=True,
        check=False,
        cwd=here,
        env={**os.environ, "TMPDIR": str(tmp_path)},
    )
    assert done.returncode == 0, done.stderr
    assert list(here.iterdir()) == []
