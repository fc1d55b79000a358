"""The README is true: every file it shows is written, every command run, every output compared.

`python tests/test_docs.py --write` puts today's outputs into the README. What changes from run to
run (times, ids, hashes) is compared as its kind.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from bench.rows import ROWS

ROOT = Path(__file__).resolve().parent.parent
README = ROOT / "README.md"

_BLOCK = re.compile(
    r"(?:<!-- file: (?P<file>\S+) -->\n)?^```(?P<kind>\w+)\n(?P<body>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)
_VOLATILE = [
    (re.compile(r"\d{4}-\d\d-\d\d( \d\d:\d\d)?(?!T)"), "TIME"),
    (re.compile(r"\d\d:\d\d:\d\d(?!\.)"), "TIME"),
    (re.compile(r"\d{4}-\d\d-\d\dT[\d:.]+Z"), "TIME"),
    (re.compile(r"\b[0-9a-f]{7,64}\b"), "HEX"),
    (re.compile(r"\d+ checkpoints"), "N checkpoints"),
    (re.compile(r"\b\d\d-\d\d \d\d:\d\d\b"), "MONTH-DAY TIME"),
    (re.compile(r"\b\d+\.\d+\b"), "N"),
]


def _same(text: str) -> str:
    for pattern, word in _VOLATILE:
        text = pattern.sub(word, text)
    return "\n".join(line.rstrip() for line in text.strip().splitlines())


def _run(command: str, directory: Path) -> str:
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "COLUMNS": "100",
        "NO_COLOR": "1",
    }
    done = subprocess.run(
        command, shell=True, cwd=directory, env=environment, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    return done.stdout + done.stderr


def rewritten(text: str, directory: Path) -> str:
    """The README with the outputs that its commands have now."""

    def block(match: re.Match[str]) -> str:
        if match["file"]:
            (directory / match["file"]).write_text(match["body"])
        if match["kind"] != "console":
            return match[0]
        lines = []
        for command in re.findall(r"^\$ (.*)$", match["body"], re.MULTILINE):
            lines.append(f"$ {command}\n")
            output = _run(command, directory)
            rows = "\n".join(row.rstrip() for row in output.splitlines()).strip("\n")
            lines.append(f"{rows}\n" if rows else "")
        return f"```console\n{''.join(lines)}```"

    return _BLOCK.sub(block, text)


@pytest.fixture(scope="module")
def readme() -> str:
    return README.read_text()


def test_every_command_of_the_readme_prints_what_it_says(readme: str, tmp_path: Path) -> None:
    assert _same(rewritten(readme, tmp_path)) == _same(readme)


def test_every_link_of_the_documents_leads_somewhere() -> None:
    broken = []
    for path in [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")]:
        for target in re.findall(r"\]\((?!https?:)([^)#]+)", path.read_text()):
            if not (path.parent / target).exists():
                broken.append(f"{path.name}: {target}")
    assert broken == []


def test_every_row_of_the_numbers_is_a_row_of_the_benchmark(readme: str) -> None:
    numbers = readme.partition("## Numbers")[2].partition("\n## ")[0]
    named = re.findall(r"^\| `([^`]+)`", numbers, re.MULTILINE)
    known = {name for names in ROWS.values() for name in names}
    assert named
    assert [name for name in named if name not in known] == []


def test_no_document_names_a_path_of_one_machine() -> None:
    for path in [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")]:
        assert not re.search(r"(?<![\w.])/(?:work|root|home)/\w", path.read_text()), path


if __name__ == "__main__" and "--write" in sys.argv:
    with tempfile.TemporaryDirectory() as scratch:
        README.write_text(rewritten(README.read_text(), Path(scratch)))
