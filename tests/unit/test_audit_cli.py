"""`guard audit` for people: a table that fits, safe against what an attacker wrote into the log."""

from __future__ import annotations

import csv
import io
import json
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from support.entries import SIGNER, entry, open_log, written

from guard.cli.audit import audit
from guard.keys.subjects import SubjectKeys

DENIAL = {
    "effect": "deny", "code": "email.external", "message": "mail may not leave the company",
    "stage": "policy", "pointers": [],
}  # fmt: skip


def _run(*arguments: str, columns: int = 80, **environment: str) -> Result:
    runner = CliRunner(env={"COLUMNS": str(columns), **environment})
    return runner.invoke(audit, list(arguments), catch_exceptions=False)


@pytest.fixture(autouse=True)
def _cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    with open_log(tmp_path) as log:
        log.append(entry(0))
        log.append(entry(1, happened=True))
        log.append(
            entry(2, effect="deny", tool="send_email", reasons=[DENIAL], masked=["/input/to"])
        )
    return tmp_path


@pytest.mark.parametrize("columns", [80, 120, 200])
def test_the_table_fits_the_terminal(columns: int, directory: Path) -> None:
    result = _run("query", "--dir", str(directory), columns=columns)
    assert result.exit_code == 0
    assert max(map(len, result.stdout.splitlines())) <= columns
    for shown in (
        "01-15 12:00",
        "00000002",
        "send_em",
        "deny",
        "not made",
        "made",
        "intent",
        "outcome",
    ):
        assert shown in result.stdout


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
    assert [(row["index"], row["signed"], row["effect"]) for row in rows] == [
        (0, True, "allow"), (1, True, "allow"), (2, True, "deny"),
    ]  # fmt: skip
    assert rows[2]["reasons"] == [DENIAL]


def test_csv_has_a_header_and_a_row_an_entry(directory: Path) -> None:
    result = _run("query", "--csv", "--dir", str(directory))
    rows = list(csv.DictReader(io.StringIO(result.stdout)))
    assert [row["tool"] for row in rows] == ["search", "search", "send_email"]
    assert rows[2]["reasons"] == "email.external: mail may not leave the company"
    assert [row["call"] for row in rows] == ["", "made", "not made"]
    assert rows[2]["masked"] == "/input/to"


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


@pytest.mark.parametrize(
    "output", [(), ("--csv",), ("--json",), ("--rule", "email"), ("--no-index",)]
)
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
        file.write(b"noise\n")
    result = _run("query", "--dir", str(tmp_path))
    assert result.stderr == "guard: 1 lines could not be read; run `guard audit verify`\n"


def test_show_prints_the_fields_of_a_decision_and_its_outcome(directory: Path) -> None:
    result = _run("show", "00000000", "--dir", str(directory))
    assert result.stdout.startswith("intent #0, signed\n")
    assert "\noutcome #1, signed\n" in result.stdout
    assert "did:web:acme:support" in result.stdout


def test_verify_of_a_whole_log_ends_with_0(directory: Path) -> None:
    key = directory / "kept.vkey"
    key.write_text(SIGNER.vkey + "\n")
    result = _run("verify", "--dir", str(directory), "--key", str(key))
    assert result.exit_code == 0
    assert result.stdout.startswith("whole: 3 entries, 3 signed, 0 witnessed\n")
    assert "not who wrote it" not in result.stdout


def test_verify_of_a_damaged_log_ends_with_1_and_names_the_entry(directory: Path) -> None:
    records = next(directory.glob("records-*"))
    records.write_bytes(records.read_bytes().replace(b"send_email", b"read_email"))
    result = _run("verify", "--dir", str(directory))
    assert result.exit_code == 1
    assert result.stdout.startswith("NOT WHOLE: 3 entries")
    assert "entry 2 decision 00000002: not as it was signed" in result.stdout


def test_verify_as_json_is_the_report(directory: Path) -> None:
    result = _run("verify", "--json", "--dir", str(directory))
    report = json.loads(result.stdout)
    assert (report["ok"], report["entries"], report["is_key_independent"]) == (True, 3, False)


def test_verify_with_a_checkpoint_kept_outside(directory: Path) -> None:
    checkpoint = directory / "kept"
    checkpoint.write_text((directory / "checkpoint").read_text())
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
        (["query", "--dir", ".", "--label", "trusted"], "expected KEY=VALUE"),
        (["query", "--dir", ".", "--cost-min", "cheap"], "'cheap' is not a valid float"),
        (["query", "--dir", ".", "--nonsense", "x"], "No such option"),
        (["query", "--dir", ".", "--sql", "select 1", "--tool", "x"], "--sql takes no filters"),
        (["query", "--dir", ".", "--sql", "select 1", "--follow"], "each stand alone"),
        (["query", "--dir", ".", "--control", "none-such"], "no rule serves the control"),
        (["report", "nonsense", "--dir", "{log}"], "no report `nonsense`: expected trace"),
        (["report", "why", "--dir", "{log}"], "the report why needs DECISION"),
        (["query", "--dir", "{log}", "--sql", "drop view entries"], "expected one SELECT"),
        (["query", "--dir", "{log}", "--sql", "from read_csv('/etc/passwd')"], "the SQL was"),
        (["query", "--dir", "{log}", "--group-by", "mood"], "unknown field `mood` to count by"),
        (["query", "--dir", "{log}", "--group-by", "tool", "--no-index"], "leave --no-index out"),
    ],
)
def test_a_wrong_question_ends_with_2_and_a_sentence(
    arguments: list[str], complaint: str, directory: Path
) -> None:
    result = _run(*(argument.replace("{log}", str(directory)) for argument in arguments))
    assert result.exit_code == 2
    assert complaint in result.stderr
    assert "Traceback" not in result.output


def test_counts_and_sql_are_tables_or_lines(directory: Path) -> None:
    place = ("--dir", str(directory))
    result = _run("query", *place, "--group-by", "tool,effect", "--json")
    assert [json.loads(line) for line in result.stdout.splitlines()] == [
        {"tool": "search", "effect": "allow", "count": 2},
        {"tool": "send_email", "effect": "deny", "count": 1},
    ]
    result = _run("query", *place, "--csv", "--sql", "select tool from entries where index = 2")
    assert result.stdout == "tool\nsend_email\n"
    assert "send_email" in _run("query", *place, "--group-by", "tool").stdout


def test_proofs_are_printed_or_written(directory: Path, tmp_path: Path) -> None:
    asked = ("query", "--dir", str(directory), "--effect", "deny", "--prove")
    checkpoint = (directory / "checkpoint").read_text()
    printed = _run(*asked).stdout
    assert "c2sp.org/tlog-proof@v1\nindex 2\n" in printed
    assert printed.endswith(checkpoint)
    assert json.loads(_run(*asked, "--json").stdout)["proof"].endswith(checkpoint)
    _run(*asked, str(tmp_path / "proofs"))
    line = (tmp_path / "proofs" / "2.json").read_bytes()
    assert line in next(directory.glob("records-*")).read_bytes().splitlines()
    assert (tmp_path / "proofs" / "2.tlog-proof").read_text().endswith(checkpoint)


def test_one_entry_is_checked_by_its_proof_without_the_log(directory: Path, tmp_path: Path) -> None:
    proofs = tmp_path / "proofs"
    _run("query", "--dir", str(directory), "--effect", "deny", "--prove", str(proofs))
    asked = ("check-proof", str(proofs / "2.tlog-proof"), str(proofs / "2.json"))
    key = ("--key", str(directory / "log.vkey"))
    found = _run(*asked, *key)
    assert (found.exit_code, found.stdout) == (0, "entry 2 of the 3 of guard/audit\n")
    text = (proofs / "2.tlog-proof").read_text()
    for bad in (
        text.replace("index 2", "index 1"), text.replace("\n3\n", "\n4\n"), "c2sp.org", "",
        text.replace("index 2\n", "index 2\nAAAA\n"),
    ):  # fmt: skip
        (proofs / "2.tlog-proof").write_text(bad)
        assert _run(*asked, *key).exit_code == 1
    (proofs / "2.tlog-proof").write_text(text)
    (proofs / "2.json").write_bytes((proofs / "2.json").read_bytes() + b" ")
    changed = _run(*asked, *key)
    assert (changed.exit_code, "it was changed" in changed.stdout) == (1, True)
    assert _run(*asked, "--key", str(tmp_path / "no")).exit_code == 2


def test_a_proof_of_the_only_entry_has_no_hashes(tmp_path: Path) -> None:
    log = written(tmp_path / "one", 1)
    proofs = tmp_path / "proofs"
    _run("query", "--dir", str(log), "--prove", str(proofs))
    names = (str(proofs / "0.tlog-proof"), str(proofs / "0.json"))
    assert _run("check-proof", *names, "--key", str(log / "log.vkey")).exit_code == 0


def test_parquet_is_a_new_file(directory: Path, tmp_path: Path) -> None:
    target = tmp_path / "out.parquet"
    asked = ("query", "--dir", str(directory), "--parquet", str(target))
    assert _run(*asked).stderr == "3 entries\n"
    assert target.read_bytes().startswith(b"PAR1")
    assert _run(*asked).exit_code == 2


def test_a_report_is_a_table_and_without_a_name_they_are_listed(directory: Path) -> None:
    listed = _run("report").stdout
    assert all(name in listed for name in ("trace", "why", "denials-by-agent", "gaps"))
    result = _run("report", "denials-by-agent", "--dir", str(directory), "--csv")
    assert "did:web:acme:support,deny,email.external,1,1,2025-01-15 12:00:02" in result.stdout
    assert "send_email" in _run("report", "why", "00000002", "--dir", str(directory)).stdout
    assert "nothing" in _run("report", "gaps", "--dir", str(directory), "--last", "7d").stdout


def test_the_index_is_kept_where_it_is_wanted(directory: Path, tmp_path: Path) -> None:
    place = tmp_path / "elsewhere"
    result = _run("query", "--dir", str(directory), "--index", str(place), "--rebuild")
    assert result.exit_code == 0
    assert (place / "manifest").exists()
    assert not (directory / "index").exists()


def test_without_the_extra_filters_still_answer_and_counts_name_it(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "duckdb", None)
    result = _run("query", "--dir", str(directory), "--effect", "deny", "--json")
    assert json.loads(result.stdout)["tool"] == "send_email"
    for asked in (("query", "--group-by", "tool"), ("query", "--sql", "select 1"),
                  ("report", "latency")):  # fmt: skip
        result = _run(*asked, "--dir", str(directory))
        assert result.exit_code == 2
        assert "pip install 'stepguard[audit]'" in result.stderr


def test_a_person_is_found_by_id_or_pseudonym(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    keys = SubjectKeys.open(tmp_path / ".guard" / "keys")
    pseudonym = keys.pseudonym("customer-17")
    keys.close()
    with open_log(tmp_path / "log") as log:
        log.append(entry(0, subjects=[pseudonym]))
        log.append(entry(2))
    for subject in ("customer-17", pseudonym):
        result = _run("query", "--dir", "log", "--subject", subject, "--json")
        assert [json.loads(line)["index"] for line in result.stdout.splitlines()] == [0]
        result = _run("report", "subject", subject, "--dir", "log", "--json")
        assert [json.loads(line)["index"] for line in result.stdout.splitlines()] == [0]


def test_a_control_stands_for_the_rules_that_serve_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    reason = {"effect": "allow", "code": "baseline.identified", "message": "m", "stage": "policy"}
    with open_log(tmp_path / "log") as log:
        log.append(entry(0))
        log.append(entry(2, reasons=[reason]))
    for control, expected in (("OWASP-ASI03", [1]), ("GDPR-44", [])):
        result = _run("query", "--dir", "log", "--control", control, "--json")
        assert [json.loads(line)["index"] for line in result.stdout.splitlines()] == expected


@pytest.mark.parametrize("verb", ["query", "show", "report", "verify"])
def test_the_help_of_every_verb_has_an_example(verb: str) -> None:
    assert f"Example: guard audit {verb}" in _run(verb, "--help").stdout
