"""Running a log: anchors and witnesses as configured, a sequencer of its own, the command line."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from support.entries import MAC, SIGNER, entries_of, entry, open_log, written

from guard.assemble import assemble, signer_of
from guard.audit import AuditLog
from guard.audit.anchors import DirectoryAnchor, WitnessKey, WitnessSigner, anchors_from
from guard.audit.anchors.server import WitnessServer
from guard.audit.anchors.witness import Witness
from guard.audit.tiles import Tiles
from guard.audit.verify import verify
from guard.cli.sequence import anchors as anchors_command
from guard.cli.sequence import publish as publish_command
from guard.cli.sequence import rotate_key as rotate_key_command
from guard.cli.verify import verify as verify_command
from guard.clock import SYSTEM_CLOCK
from guard.config import load_config

WAIT_S_MAX = 20


def _until(done: Any) -> None:
    deadline = time.monotonic() + WAIT_S_MAX
    while not done():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.01)


def test_a_log_cut_back_is_found_by_what_an_anchor_kept(tmp_path: Path) -> None:
    anchor = DirectoryAnchor(directory=tmp_path / "worm", interval_s=0)
    (tmp_path / "worm").mkdir()
    with open_log(tmp_path / "audit", anchors=[anchor]) as log:
        for number in range(5):
            log.append(entry(number))
    kept = [path.read_text() for path in (tmp_path / "worm").rglob("*") if path.is_file()]
    report = verify(tmp_path / "audit", vkey=SIGNER.verifier, checkpoints=kept)
    assert (report.damages, report.witnessed) == ((), 5)
    for path in (tmp_path / "audit").glob("records-*"):
        path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:3]))
    damages = verify(tmp_path / "audit", vkey=SIGNER.verifier, checkpoints=kept).damages
    assert damages[0].kind == "truncated"


@pytest.fixture
def witness(tmp_path: Path) -> Any:
    signer = WitnessSigner("witness.example", bytes(range(1, 33)))
    state = tmp_path / "witness"
    one = Witness(
        signer, logs=[("guard/audit", SIGNER.verifier)], directory=state, clock=SYSTEM_CLOCK
    )
    server = WitnessServer(one, ("127.0.0.1", 0))
    import threading

    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}", signer
    server.shutdown()
    server.server_close()
    one.close()


def test_what_a_witness_signed_counts_as_witnessed(witness: Any, tmp_path: Path) -> None:
    url, signer = witness
    directory = tmp_path / "audit"
    anchors = anchors_from(
        [{"kind": "witness", "url": url, "key": str(signer.verifier)}],
        consistency=Tiles(directory).consistency,
    )
    with open_log(directory, anchors=anchors) as log:
        for number in range(3):
            log.append(entry(number))
            log.checkpoint()
        _until(lambda: (directory / "cosigned").exists())
    key = WitnessKey.from_text(str(signer.verifier))
    report = verify(directory, vkey=SIGNER.verifier, witnesses=[key])
    assert (report.damages, report.witnessed, report.entries) == ((), 3, 3)
    assert verify(directory, vkey=SIGNER.verifier).witnessed == 0
    cosigned = (directory / "cosigned").read_bytes()
    broken = cosigned.replace(b"witness.example ", b"witness.example A", 1)
    (directory / "cosigned").write_bytes(broken)
    kinds = [d.kind for d in verify(directory, vkey=SIGNER.verifier, witnesses=[key]).damages]
    assert kinds == ["history"]


def _configured(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "guard.toml"
    path.write_text(text)
    return path


def test_anchors_origin_and_durability_come_from_the_configuration(tmp_path: Path) -> None:
    (tmp_path / "worm").mkdir()
    path = _configured(
        tmp_path,
        '[audit]\ndirectory = "audit"\norigin = "acme/agents"\n'
        '[audit.durability]\nside_effects = "sync"\npoints = {pre_handoff = "group"}\n'
        '[[audit.anchors]]\nkind = "directory"\ndirectory = "worm"\ninterval_s = 0\n',
    )
    governor = assemble(path)
    assert governor.durability.side_effects == "sync"
    assert governor.durability.points == {"pre_handoff": "group"}
    governor.recorder.write(entry(0))
    governor.close()
    notes = [file.read_text() for file in (tmp_path / "worm").rglob("*") if file.is_file()]
    assert any(note.startswith("acme/agents\n1\n") for note in notes)


def test_without_a_configured_origin_a_log_has_one_of_its_own(tmp_path: Path) -> None:
    origins = []
    for name in ("one", "two"):
        path = tmp_path / name
        path.mkdir()
        assemble(_configured(path, "")).close()
        origins.append((path / ".guard/audit/checkpoint").read_text().split("\n", 1)[0])
    assert len(set(origins)) == 2
    assert all(origin.startswith("guard/audit/") for origin in origins)


def test_a_sequencer_of_its_own_takes_what_workers_hand_over(tmp_path: Path) -> None:
    path = _configured(tmp_path, '[audit]\ndirectory = "audit"\nsequencer = "process"\n')
    process = subprocess.Popen(
        [sys.executable, "-m", "guard", "audit", "sequence", "--config", str(path)],
        stderr=subprocess.PIPE,
    )
    try:
        worker = AuditLog.open(tmp_path / "audit", signer=None, mac=MAC, spool_bytes=1 << 16)
        for number in range(10):
            worker.append(entry(number))
        assert "\n10\n" in worker.checkpoint()
        worker.close()
    finally:
        process.send_signal(signal.SIGTERM)
        said = process.communicate(timeout=WAIT_S_MAX)[1].decode()
    assert process.returncode == 0
    assert "guard: sequencing" in said
    signer = signer_of(load_config(path))()
    report = verify(tmp_path / "audit", vkey=signer.verifier)
    assert (report.damages, report.entries) == ((), 10)


def test_two_sequencers_do_not_get_into_each_others_way(tmp_path: Path) -> None:
    with open_log(tmp_path) as one, open_log(tmp_path) as two:
        for number in range(100):
            (one if number % 2 else two).append(entry(number))
            if number % 10 == 0:
                two._round(sign=True)
                one._round(sign=True)
    assert len(entries_of(tmp_path)) == 100
    assert verify(tmp_path, vkey=SIGNER.verifier).damages == ()


@pytest.fixture
def cli(tmp_path: Path) -> Any:
    """A log of six entries, its configuration, and what asks the command line."""
    path = _configured(tmp_path, '[audit]\ndirectory = "audit"\n')
    governor = assemble(path)
    for number in range(6):
        governor.recorder.write(entry(number))
    governor.close()

    def ask(command: Any, *arguments: object) -> Any:
        return CliRunner().invoke(command, [str(argument) for argument in arguments])

    return ask, tmp_path, path


def test_verify_says_whole_or_what_is_wrong_and_where(cli: Any) -> None:
    ask, place, _ = cli
    (place / "kept.vkey").write_bytes((place / "audit/log.vkey").read_bytes())
    (place / "kept").write_bytes((place / "audit/checkpoint").read_bytes())
    about = ("--dir", place / "audit", "--key", place / "kept.vkey", "--checkpoint", place / "kept")
    result = ask(verify_command, *about)
    assert result.exit_code == 0
    assert result.output.startswith("whole: 6 entries, 6 signed, 6 witnessed\n")
    records = next((place / "audit").glob("records-*"))
    records.write_bytes(records.read_bytes().replace(b"00000002", b"00000009", 1))
    result = ask(verify_command, *about)
    assert result.exit_code == 1
    assert result.output.startswith("NOT WHOLE: 6 entries, 6 signed, 6 witnessed\n")
    assert "record: records-00000000000000000000.jsonl bytes " in result.output
    assert "entry 2 decision 00000009: not as it was signed" in result.output
    found = json.loads(ask(verify_command, *about, "--json").output)
    assert (found["ok"], found["damages"][0]["index"]) == (False, 2)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--dir", "nowhere"), "no audit log at"),
        (("--key", "nothing"), "cannot read nothing"),
        (("--checkpoint", "guard.toml"), "is not one: expected the text"),
        (("--witness", "nobody"), "malformed public key"),
    ],
)
def test_verify_refuses_what_it_cannot_use(
    arguments: tuple[str, ...], words: str, cli: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    ask, place, _ = cli
    monkeypatch.chdir(place)
    result = ask(verify_command, *arguments)
    assert (result.exit_code, words in result.output) == (2, True), result.output


def test_the_key_changes_from_the_command_line(cli: Any) -> None:
    ask, place, config = cli
    (place / "kept.vkey").write_bytes((place / "audit/log.vkey").read_bytes())
    result = ask(rotate_key_command, "--config", config, "--json")
    assert result.exit_code == 0
    new = json.loads(result.output)["vkey"]
    assert (place / "audit/log.vkey").read_text().splitlines()[-1] == new
    about = ("--dir", place / "audit", "--key", place / "kept.vkey")
    assert ask(verify_command, *about).exit_code == 0


def test_publish_writes_tiles_for_any_web_server(cli: Any) -> None:
    ask, place, _ = cli
    result = ask(publish_command, "--dir", place / "audit", "--to", place / "www")
    assert result.output == f"6 entries in {place / 'www'}\n"
    assert (place / "www/tile/entries/000.p/6").exists()


def test_anchors_are_tried_now_and_say_how_they_stand(cli: Any) -> None:
    ask, place, config = cli
    assert ask(anchors_command, "--config", config).exit_code == 2
    (place / "worm").mkdir()
    config.write_text(
        config.read_text()
        + '[[audit.anchors]]\nkind = "directory"\nname = "worm"\ndirectory = "worm"\n'
    )
    result = ask(anchors_command, "--config", config)
    assert (result.exit_code, result.output) == (0, "worm: has 6 entries\n")
    os.rename(place / "worm", place / "gone")
    result = ask(anchors_command, "--config", config)
    assert result.exit_code == 1
    assert result.output.startswith("worm: FAILED")


def test_a_log_of_an_earlier_version_is_told_apart(tmp_path: Path) -> None:
    (tmp_path / "log-00").mkdir(parents=True)
    result = CliRunner().invoke(verify_command, ["--dir", str(tmp_path)])
    assert result.exit_code == 2
    assert "logs of an earlier version" in result.output


def test_a_log_verifies_from_a_read_only_copy(tmp_path: Path) -> None:
    log = written(tmp_path / "audit", 5)
    for path in sorted(log.rglob("*"), reverse=True):
        path.chmod(0o500 if path.is_dir() else 0o400)
    log.chmod(0o500)
    try:
        assert verify(log, vkey=SIGNER.verifier).ok
    finally:
        for path in (log, *log.rglob("*")):
            if path.is_dir():
                path.chmod(0o700)
