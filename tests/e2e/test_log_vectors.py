"""Small logs with one thing wrong, kept as files: both verifiers say what the file beside says."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from support.entries import SIGNER
from support.log_vectors import LOGS, write

from guard.audit import standalone_verify
from guard.audit.verify import verify
from guard.errors import AuditFault

VECTORS = sorted(path.stem for path in LOGS.glob("*.json"))
EXIT_CODES = {"whole": 0, "not whole": 1, "cannot be checked": 2}


def _expected(name: str) -> dict[str, str]:
    expected: dict[str, str] = json.loads((LOGS / f"{name}.json").read_text())
    return expected


@pytest.mark.parametrize("name", VECTORS)
def test_the_verifier_says_of_a_log_what_is_written_beside_it(name: str) -> None:
    expected = _expected(name)
    kept = [expected["kept"]] if "kept" in expected else []
    try:
        is_whole = verify(LOGS / name, vkey=SIGNER.verifier, checkpoints=kept).ok
        verdict = "whole" if is_whole else "not whole"
    except AuditFault:
        verdict = "cannot be checked"
    assert verdict == expected["verdict"]


@pytest.mark.parametrize("name", VECTORS)
def test_the_stand_alone_verifier_says_the_same(name: str) -> None:
    expected = _expected(name)
    kept = [expected["kept"]] if "kept" in expected else []
    try:
        damage = standalone_verify.check(LOGS / name, key=SIGNER.vkey, checkpoints=kept)
        verdict = "not whole" if damage else "whole"
    except standalone_verify.CannotCheckError:
        verdict = "cannot be checked"
    assert verdict == expected["verdict"]


@pytest.mark.parametrize("name", ["plain", "entry_changed", "newer_version"])
def test_the_stand_alone_file_runs_without_guard(name: str, tmp_path: Path) -> None:
    program = shutil.copy(standalone_verify.__file__, tmp_path / "check.py")
    (tmp_path / "key").write_text(f"{SIGNER.vkey}\n")
    command = [sys.executable, "-I", program, LOGS / name, "--key", tmp_path / "key", "--json"]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert ended.returncode == EXIT_CODES[_expected(name)["verdict"]]
    assert json.loads(ended.stdout)["exit_code"] == ended.returncode
    assert "guard" not in {line.split()[1] for line in _imports()}


def test_the_stand_alone_file_names_segment_bytes_and_entry() -> None:
    damage = standalone_verify.check(LOGS / "entry_changed", key=SIGNER.vkey, checkpoints=[])
    line = (LOGS / "entry_changed" / f"records-{0:020}.jsonl").read_bytes().split(b"\n")[0]
    assert damage == [
        {
            "step": 3,
            "file": f"records-{0:020}.jsonl",
            "entry": 0,
            "bytes": (0, len(line) + 1),
            "kind": "changed",
            "what": "",
        }
    ]


def test_the_vectors_are_those_that_the_generator_writes(tmp_path: Path) -> None:
    write(tmp_path / "logs")
    assert _files(tmp_path / "logs") == _files(LOGS)


def _files(folder: Path) -> dict[str, bytes]:
    found = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in found}


def _imports() -> list[str]:
    text = Path(standalone_verify.__file__).read_text()
    return [line for line in text.splitlines() if line.startswith(("import ", "from "))]
