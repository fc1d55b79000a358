"""`guard audit` for people: a table that fits, safe against what an attacker wrote into the log."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from support.entries import SIGNER, entry, open_log, written

from guard.cli.audit import audit

DENIAL = {
    "effect": "deny", "code": "email.external", "message": "mail may not leave the company",
    "stage": "policy", "pointers": [],
}  # fmt: skip


def _run(*arguments: str, columns: int = 80, **environment: str) -> Result:
    runner = CliRunner(env={"COLUMNS": str(columns), **environment})
    return runner.invoke(audit, list(arguments), catch_exceptions=False)


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    with open_log(tmp_path) as log:
        log.append(entry(0))
        log.append(entry(1))
        log.append(entry(2, kind="decision", effect="deny", tool="send_email", reasons=[DENIAL]))
    return tmp_path


@pytest.mark.parametrize("columns", [80, 120, 200])
def test_the_table_fits_the_terminal(columns: int, directory: Path) -> None:
    result = _run("query", "--dir", str(directory), columns=columns)
    assert result.exit_code == 0
    assert max(map(len, result.stdout.splitlines())) <= columns
    assert "send_email" in result.stdout
    assert "deny" in result.stdout


def test_the_table_gives_the_reason_in_plain_words(directory: Path) -> None:
    result = _run("query", "--effect", "deny", "--dir", str(directory), columns=160)
    assert "mail may not leave the company" in result.stdout
    assert "search" not in result.stdout


def test_the_directory_comes_from_the_environment(directory: Path) -> None:
    result = _run("query", GUARD_AUDIT__DIRECTORY=str(directory))
    assert "send_email" in result.stdout


def test_json_is_one_object_a_line_and_holds_all_fields(directory: Path) -> None:
    result = _run("query", "--json", "--dir", str(directory))
    rows = [json.loads(line) for line in result.stdout.splitlines()]
    assert [(row["log"], row["index"], row["effect"]) for row in rows] == [
        ("log-00", 0, "allow"), ("log-00", 1, "allow"), ("log-00", 2, "deny"),
    ]  # fmt: skip
    assert rows[2]["reasons"] == [DENIAL]


def test_csv_has_a_header_and_a_row_an_entry(directory: Path) -> None:
    result = _run("query", "--csv", "--dir", str(directory))
    rows = list(csv.DictReader(io.StringIO(result.stdout)))
    assert [row["tool"] for row in rows] == ["search", "search", "send_email"]
    assert rows[2]["reasons"] == "email.external: mail may not leave the company"


HOSTILE = [
    "=HYPERLINK(1)", "+1", "-1", "@SUM(1)", " =1", "\t=1", "\r=1", "\uff1d1",
    "\x1b[31mred", "\x9b31m", "a\u202eb", "[bold]b[/bold]", "[/]", "a\nb",
]  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE, ids=ascii)
def test_csv_cells_are_no_formulas(name: str, tmp_path: Path) -> None:
    with open_log(tmp_path) as log:
        log.append(entry(0, tool=name))
    result = _run("query", "--csv", "--dir", str(tmp_path))
    rows = list(csv.DictReader(io.StringIO(result.stdout)))
    cell = rows[0]["tool"]
    assert cell.lstrip()[0] not in "=+-@\uff1d\uff0b\uff0d\uff20"


@pytest.mark.parametrize("output", ["table", "csv", "json", "show", "verify"])
@pytest.mark.parametrize("name", HOSTILE, ids=ascii)
def test_no_control_character_of_an_entry_reaches_the_terminal(
    name: str, output: str, tmp_path: Path
) -> None:
    with open_log(tmp_path) as log:
        log.append(
            entry(
                0, tool=name, point=name, session_id=name, decision_id=f"{name}xxxxxx", effect=name,
                principal={"id": name}, reasons=[{"code": name, "message": name}],
            )
        )  # fmt: skip
    place = ("--dir", str(tmp_path))
    command = {
        "table": ("query", *place),
        "csv": ("query", "--csv", *place),
        "json": ("query", "--json", *place),
        "show": ("show", *place, "--", f"{name}xxxxxx"),
        "verify": ("verify", *place),
    }[output]
    result = _run(*command, columns=200)
    assert result.exit_code == 0
    shown = result.stdout
    assert not set(shown) & {"\x1b", "\x9b", "\u202e", "\r", "\t"}


@pytest.mark.parametrize("output", [(), ("--csv",), ("--json",), ("--policy", "email")])
def test_reasons_of_another_shape_are_passed_over(output: tuple[str, ...], tmp_path: Path) -> None:
    with open_log(tmp_path) as log:
        log.append(entry(0, reasons=["odd", 1], faults=[None]))
    assert _run("query", "--dir", str(tmp_path), *output).exit_code == 0


def test_markup_of_an_entry_is_shown_as_it_is(tmp_path: Path) -> None:
    with open_log(tmp_path) as log:
        log.append(entry(0, tool="[b]x[/b][/]"))
    assert "[b]x[/b][/]" in _run("query", "--dir", str(tmp_path), columns=160).stdout


def test_lines_that_cannot_be_read_are_mentioned(tmp_path: Path) -> None:
    log = written(tmp_path, 1)
    with next(log.glob("records-*")).open("ab") as file:
        file.write(b"torn")
    result = _run("query", "--dir", str(tmp_path))
    assert result.stderr == "guard: 1 lines could not be read; run `guard audit verify`\n"


def test_show_prints_the_fields_of_a_decision_and_its_outcome(directory: Path) -> None:
    result = _run("show", "00000000", "--dir", str(directory))
    assert result.stdout.startswith("intent log-00 #0\n")
    assert "\noutcome log-00 #1\n" in result.stdout
    assert "did:web:acme:support" in result.stdout


def test_verify_of_a_whole_log_ends_with_0(directory: Path) -> None:
    key = directory / "kept.vkey"
    key.write_text(SIGNER.vkey + "\n")
    result = _run("verify", "--dir", str(directory), "--key", str(key))
    assert result.exit_code == 0
    assert result.stdout.startswith("whole: 3 entries, 3 signed, in 1 logs\n")
    assert "not who wrote it" not in result.stdout


def test_verify_of_a_damaged_log_ends_with_1_and_names_the_entry(directory: Path) -> None:
    records = next((directory / "log-00").glob("records-*"))
    records.write_bytes(records.read_bytes().replace(b"send_email", b"read_email"))
    result = _run("verify", "--dir", str(directory))
    assert result.exit_code == 1
    assert result.stdout.startswith("DAMAGED: 3 entries")
    assert "entry 2 decision 00000002: not as it was signed" in result.stdout


def test_verify_as_json_is_the_report(directory: Path) -> None:
    result = _run("verify", "--json", "--dir", str(directory))
    report = json.loads(result.stdout)
    assert (report["ok"], report["entries"], report["is_key_independent"]) == (True, 3, False)


def test_verify_with_a_checkpoint_kept_outside(directory: Path) -> None:
    checkpoint = directory / "kept"
    checkpoint.write_text((directory / "log-00" / "checkpoint").read_text())
    arguments = ("verify", "--dir", str(directory), "--checkpoint", str(checkpoint))
    assert _run(*arguments).exit_code == 0
    with open_log(directory) as log:
        log.append(entry(3))
    assert _run(*arguments).exit_code == 0


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["query", "--dir", "nowhere"], "no audit log at nowhere (No such file or directory)"),
        (["show", "abcdefgh", "--dir", "nowhere"], "no audit log at nowhere"),
        (["verify", "--dir", "nowhere"], "no audit log at nowhere"),
        (["verify", "--dir", ".", "--key", "nowhere"], "cannot read nowhere"),
        (["query", "--dir", ".", "--since", "soon"], "unknown time `soon`"),
        (["query", "--dir", ".", "--effect", "maybe"], "'maybe' is not one of"),
        (["query", "--dir", ".", "--json", "--csv"], "choose --json or --csv"),
    ],
)
def test_a_wrong_question_ends_with_2_and_a_sentence(arguments: list[str], complaint: str) -> None:
    result = _run(*arguments)
    assert result.exit_code == 2
    assert complaint in result.stderr
    assert "Traceback" not in result.output


@pytest.mark.parametrize("verb", ["query", "show", "verify"])
def test_the_help_of_every_verb_has_an_example(verb: str) -> None:
    assert f"Example: guard audit {verb}" in _run(verb, "--help").stdout
