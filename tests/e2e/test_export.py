"""`guard audit export`, and what an auditor does with the pack in a place where guard is not."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from pathlib import Path
from zipfile import ZipFile

import pytest
from support.entries import entries_of, entry

from guard.audit import AuditLog
from guard.audit.verify import verify
from guard.keys import Mac, Signer
from guard.policy import builtin_directory, load_bundle
from guard.policy.kept import keep_policies

BUNDLE = load_bundle([builtin_directory()])
DAY = ("--from", "2025-01-15", "--to", "2025-01-15")
# The verifier of the pack, in a Python that cannot import guard even where it is installed.
ALONE = (
    "import runpy, sys; sys.modules['guard'] = None; sys.argv = ['verify_log.py', *sys.argv[1:]]; "
    "runpy.run_path('verify_log.py', run_name='__main__')"
)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """An installation whose log has 300 entries, a sealed segment's worth of them of Jane."""
    home = tmp_path / "home"
    home.mkdir()
    (home / "guard.toml").write_text("")
    keys, audit = home / ".guard" / "keys", home / ".guard" / "audit"
    keep_policies(audit / "policies", BUNDLE)
    with AuditLog.open(
        audit,
        signer=Signer.load_or_create(keys / "log.key", name="guard/audit"),
        mac=Mac.load_or_create(keys / "commitment.key"),
    ) as log:
        for number in range(300):
            log.append(
                entry(
                    number, subjects=["jane"] if number % 50 < 2 else [],
                    bundles={"guard": {"revision": BUNDLE.revision}},
                )
            )  # fmt: skip
    return home


def _guard(home: Path, *arguments: str) -> tuple[int, str, str]:
    done = subprocess.run(
        [sys.executable, "-m", "guard", "audit", *arguments],
        cwd=home, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert "Traceback" not in done.stderr
    return done.returncode, done.stdout, done.stderr


def _pack(home: Path, *asked: str) -> Path:
    """A pack, unpacked in an empty directory."""
    archive, place = home.parent / "p.zip", home.parent / "auditor"
    code, text, error = _guard(
        home, "export", *asked, *DAY, "--reason", "audit 26-17", "--out", str(archive)
    )
    assert (code, error) == (0, "")
    assert hashlib.sha256(archive.read_bytes()).hexdigest() in text
    with ZipFile(archive) as opened:
        opened.extractall(place)
    return place


def _verified_alone(place: Path, *arguments: str) -> int:
    done = subprocess.run(
        [sys.executable, "-I", "-c", ALONE, "log", "--excerpt", *arguments],
        cwd=place, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert "Traceback" not in done.stderr
    assert done.stdout  # it ran
    return done.returncode


def _agrees(place: Path) -> bool:
    """What `sha256sum --check SHA256SUMS` says."""
    done = subprocess.run(
        ["sha256sum", "--check", "--quiet", "--strict", "SHA256SUMS"],
        cwd=place, capture_output=True, check=False,
    )  # fmt: skip
    return done.returncode == 0


@pytest.mark.parametrize(
    ("asked", "count"),
    [(("--for", "eu-ai-act"), 300), (("--for", "gdpr-dsar", "--subject", "jane"), 12)],
)
def test_an_auditor_verifies_a_pack_alone_and_with_guard(
    asked: tuple[str, ...], count: int, home: Path
) -> None:
    place = _pack(home, *asked)
    key = home / ".guard" / "audit" / "log.vkey"
    assert _agrees(place)
    assert _verified_alone(place) == 0
    assert _verified_alone(place, "--key", str(key)) == 0
    code, text, _ = _guard(place, "verify", "--excerpt", "--dir", "log", "--key", str(key))
    assert code == 0
    assert text.startswith("EXCERPT, whole: 300 entries")
    assert len(entries_of(place / "log")) == count
    assert (place / "policies" / BUNDLE.revision / "main.rego").is_file()


def test_a_changed_byte_in_any_file_of_a_pack_is_found(home: Path) -> None:
    place = _pack(home, "--for", "gdpr-dsar", "--subject", "jane")
    unseen, seen_by_log = [], set()
    paths = [path for path in place.rglob("*") if path.is_file()]
    for path in paths:
        whole = path.read_bytes()
        for position in {0, len(whole) // 2, len(whole) - 1}:
            path.write_bytes(
                whole[:position] + bytes([whole[position] ^ 1]) + whole[position + 1 :]
            )
            is_log = path.is_relative_to(place / "log") and path.name != "excerpt"
            if is_log and not verify(place / "log").ok:
                seen_by_log.add(path)
            elif is_log or _agrees(place):
                unseen.append((path.relative_to(place), position))
        path.write_bytes(whole)
    assert unseen == []
    assert len(seen_by_log) == len(list((place / "log").glob("records-*"))) + 6
    records = min((place / "log").glob("records-*"))
    records.write_bytes(records.read_bytes().replace(b"search", b"Search", 1))
    assert _verified_alone(place) == 1
    assert _agrees(place) is False


def test_an_export_is_in_the_log_that_was_exported(home: Path) -> None:
    _pack(home, "--for", "soc2")
    code, lines, error = _guard(home, "export", "--format", "ocsf", "--reason", "nightly")
    assert (code, error) == (0, "")
    found = [one for one in entries_of(home / ".guard" / "audit") if one.kind == "access"]
    assert [one.detail.get("regime") or one.detail["format"] for one in found] == ["soc2", "ocsf"]
    assert [one.detail["reason"] for one in found] == ["audit 26-17", "nightly"]
    assert verify(home / ".guard" / "audit").ok
    # Lines are for everything that is there: the record of this export too.
    ids = [json.loads(line)["metadata"]["uid"] for line in lines.splitlines()]
    assert found[1].decision_id in ids


@pytest.mark.parametrize("name", ["ocsf", "ecs", "cloudevents", "otlp"])
def test_lines_of_a_time_go_to_a_new_file_of_ones_own(name: str, home: Path) -> None:
    to = home / "lines.jsonl"
    asked = ("export", "--format", name, "--from", "2025-01-15T12:00:05Z", "--to",
             "2025-01-15T12:00:09Z", "--out", str(to))  # fmt: skip
    assert _guard(home, *asked)[0] == 0
    assert len([json.loads(line) for line in to.read_text().splitlines()]) == 5
    assert to.stat().st_mode & 0o777 == 0o600
    code, _, error = _guard(home, *asked)
    assert code == 2
    assert "is there already: name another file" in error


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        (("--for", "gdpr", *DAY), "'gdpr' is not one of 'eu-ai-act'"),
        (("--format", "cef"), "'cef' is not one of 'ocsf'"),
        ((), "name one of --for and --format"),
        (("--for", "soc2", *DAY), "a pack needs --from, --reason and --out"),
        (("--for", "soc2", "--from", "noon", "--reason", "r", "--out", "o"), "unknown time `noon`"),
        (("--format", "ecs", "--from", "1d", "--to", "2d"), "--from is after --to"),
        (
            ("--for", "soc2", "--from", "1999-01-01", "--to", "1999-01-02", "--reason", "r",
             "--out", "o"),
            "nothing that is signed from 1999-01-01",
        ),
        (("--for", "soc2", *DAY, "--reason", "r", "--out", "guard.toml"), "is there already"),
        (("--for", "soc2", *DAY, "--reason", "r", "--out", "no/o.zip"), "cannot write no/o.zip"),
        (("--format", "ecs", "--dir", "."), "no audit log in ."),
    ],
)  # fmt: skip
def test_a_bad_question_is_refused_with_what_to_ask_instead(
    asked: tuple[str, ...], says: str, home: Path
) -> None:
    code, _, error = _guard(home, "export", *asked)
    assert code == 2
    assert says in error
    assert not (home / "o").exists()


def test_a_copy_of_a_log_is_exported_without_a_record_and_says_so(home: Path) -> None:
    copy = home.parent / "copy"
    (home / ".guard" / "audit").rename(copy)
    (home / ".guard" / "audit").mkdir()
    before = sorted(path.name for path in copy.iterdir())
    code, lines, error = _guard(home, "export", "--format", "ecs", "--dir", str(copy))
    assert (code, len(lines.splitlines())) == (0, len(entries_of(copy)))
    assert "not recorded: this is not the log of this installation" in error
    assert sorted(path.name for path in copy.iterdir()) == before


def test_a_damaged_log_is_refused_and_named_in_the_pack_that_is_made_all_the_same(
    home: Path,
) -> None:
    copy = home.parent / "copy"
    (home / ".guard" / "audit").rename(copy)
    (home / ".guard" / "audit").mkdir()
    records = min(copy.glob("records-*"))
    records.write_bytes(records.read_bytes().replace(b"search", b"Search", 1))
    asked = ("export", "--dir", str(copy), "--for", "soc2", *DAY, "--reason", "r", "--out", "p.zip")
    code, _, error = _guard(home, *asked)
    assert code == 2
    assert "run `guard audit verify`; --even-if-damaged" in error
    code, text, _ = _guard(home, *asked, "--even-if-damaged")
    assert code == 0
    assert text.startswith("OF A DAMAGED LOG: p.zip")
    with ZipFile(home / "p.zip") as archive:
        manifest = json.loads(archive.read("manifest.json"))
    assert manifest["log_when_exported"]["is_whole"] is False
