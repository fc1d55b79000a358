"""Verification finds every changed byte, names it, and says what it cannot know."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import msgspec
import pytest
from support.entries import MAC, SIGNER, entry, open_log, written

from guard.audit import standalone_verify
from guard.audit.checkpoint import Checkpoint, sign, split_notes
from guard.audit.entry import encode, stamp
from guard.audit.merkle import EMPTY_ROOT, Tree, leaf_hash
from guard.audit.report import Report, SessionGap
from guard.audit.verify import verify
from guard.errors import AuditFault
from guard.keys import Signer

RECORDS = f"records-{0:020}.jsonl"


def _verify(log: Path, *kept: str) -> Report:
    return verify(log, vkey=SIGNER.verifier, checkpoints=kept)


def _tile(log: Path) -> Path:
    (tile,) = (log / "tile/0/000.p").iterdir()
    return tile


def _found(report: Report) -> list[tuple[str, int | None]]:
    return [(damage.kind, damage.index) for damage in report.damages]


def _lines(log: Path) -> list[bytes]:
    return (log / RECORDS).read_bytes().splitlines(keepends=True)


def test_a_whole_log_is_ok_and_its_root_is_the_signed_one(tmp_path: Path) -> None:
    log = written(tmp_path, 6)
    report = _verify(log)
    assert (report.ok, report.damages, report.spooled) == (True, (), 0)
    assert (report.entries, report.signed, report.root) == (6, 6, report.signed_root)
    assert [note[:31] for note in report.notes] == ["entries from 0 on are not witness"[:31]]


@pytest.mark.parametrize(
    "name", ["records-0", "records-2", "tile-0", "tile-1", "checkpoint", "checkpoints", "log"]
)
def test_every_flipped_byte_of_every_file_is_found(name: str, tmp_path: Path) -> None:
    log = written(tmp_path, 260, signed_every=130, segment_bytes_max=1_600)
    path = {
        "records-0": sorted(log.glob("records-*"))[0],
        "records-2": sorted(log.glob("records-*"))[1],
        "tile-0": log / "tile/0/000",
        "tile-1": log / "tile/1/000.p/1",
        "checkpoint": log / "checkpoint",
        "checkpoints": log / "checkpoints",
        "log": log / "log.vkey",
    }[name]
    whole = path.read_bytes()
    unseen = []
    for position in range(0, len(whole), max(1, len(whole) // 300)):
        data = bytearray(whole)
        data[position] ^= 1 << position % 8
        path.write_bytes(data)
        if _verify(log).ok:
            unseen.append(position)
    path.write_bytes(whole)
    assert unseen == []
    assert _verify(log).ok


def test_a_flipped_byte_of_a_record_names_its_entry(tmp_path: Path) -> None:
    log = written(tmp_path, 5)
    whole = (log / RECORDS).read_bytes()
    wrong = []
    for position in range(len(whole)):
        data = bytearray(whole)
        data[position] ^= 1
        (log / RECORDS).write_bytes(data)
        index = whole[:position].count(b"\n")
        damage = _verify(log).damages[0]
        if damage.index != index or not (damage.start or 0) <= position < (damage.end or 0):
            wrong.append((position, damage))
    assert wrong == []


def test_a_changed_record_is_told_from_a_changed_hash(tmp_path: Path) -> None:
    log = written(tmp_path, 5)
    good = (log / RECORDS).read_bytes()
    (log / RECORDS).write_bytes(good.replace(b'"00000002"', b'"00000009"', 1))
    report = _verify(log)
    line = _lines(log)
    start = sum(map(len, line[:2]))
    assert [msgspec.to_builtins(damage) for damage in report.damages][:1] == [
        {
            "kind": "record",
            "detail": "not as it was signed",
            "segment": RECORDS,
            "start": start,
            "end": start + len(line[2]),
            "index": 2,
            "field": None,
            "decision_id": "00000009",
        }
    ]
    (log / RECORDS).write_bytes(good)
    hashes = bytearray(_tile(log).read_bytes())
    hashes[3 * 32] ^= 1
    _tile(log).write_bytes(hashes)
    assert _found(_verify(log)) == [("tile", 3)]


def test_damage_in_two_files_is_told_apart_when_a_checkpoint_lies_between(tmp_path: Path) -> None:
    log = written(tmp_path, 8, signed_every=2)
    records = (log / RECORDS).read_bytes()
    (log / RECORDS).write_bytes(records.replace(b'"00000001"', b'"00000009"', 1))
    hashes = bytearray(_tile(log).read_bytes())
    hashes[5 * 32] ^= 1
    _tile(log).write_bytes(hashes)
    assert _found(_verify(log)) == [("record", 1), ("tile", 5)]


def _delete_line(lines: list[bytes]) -> list[bytes]:
    return lines[:2] + lines[3:]


def _insert_line(lines: list[bytes]) -> list[bytes]:
    return [*lines[:2], lines[5].replace(b"00000005", b"00000055"), *lines[2:]]


def _swap_lines(lines: list[bytes]) -> list[bytes]:
    return [*lines[:2], lines[3], lines[2], *lines[4:]]


def _duplicate_line(lines: list[bytes]) -> list[bytes]:
    return [*lines[:3], lines[2], *lines[3:]]


def _cut_lines(lines: list[bytes]) -> list[bytes]:
    return lines[:2]


def _join_lines(lines: list[bytes]) -> list[bytes]:
    return [*lines[:2], lines[2][:-1], *lines[3:]]


def _replace_all(lines: list[bytes]) -> list[bytes]:
    return [line.replace(b"search", b"delete") for line in lines]


@pytest.mark.parametrize(
    ("change", "index"),
    [
        (_delete_line, 2), (_insert_line, 2), (_swap_lines, 2), (_duplicate_line, 3),
        (_cut_lines, 2), (_join_lines, 2), (_replace_all, 0),
    ],
)  # fmt: skip
def test_lines_that_were_moved_are_found_where_it_begins(
    change: Callable[[list[bytes]], list[bytes]], index: int, tmp_path: Path
) -> None:
    log = written(tmp_path, 6)
    (log / RECORDS).write_bytes(b"".join(change(_lines(log))))
    report = _verify(log)
    assert not report.ok
    assert report.damages[0].index == index


def test_a_log_rewritten_without_the_key_is_found(tmp_path: Path) -> None:
    log = written(tmp_path, 6)
    lines = _replace_all(_lines(log))
    (log / RECORDS).write_bytes(b"".join(lines))
    _tile(log).write_bytes(b"".join(leaf_hash(line[:-1]) for line in lines))
    report = _verify(log)
    assert _found(report) == [("tree", 6)]
    assert "do not have the root" in report.damages[0].detail


def test_a_log_rewritten_with_a_new_key_is_found_with_the_old_one(tmp_path: Path) -> None:
    log = written(tmp_path / "audit", 4)
    shutil.rmtree(log)
    thief = Signer("guard/audit", bytes(32))
    with open_log(tmp_path / "audit", signer=thief) as forged:
        forged.append(entry(0))
    assert verify(tmp_path / "audit").ok
    assert {damage.kind for damage in _verify(log).damages} == {"key", "history", "checkpoint"}


def _cut_back(log: Path, entries: int) -> None:
    """What a thief of the key and the disk would do: the log as it was some entries ago."""
    lines = _lines(log)[:entries]
    tree = Tree()
    for line in lines:
        tree.append(leaf_hash(line[:-1]))
    note = sign(Checkpoint("guard/audit", entries, tree.root()), SIGNER)
    (log / RECORDS).write_bytes(b"".join(lines))
    hashes = b"".join(leaf_hash(line[:-1]) for line in lines)
    _tile(log).unlink()
    (log / f"tile/0/000.p/{entries}").write_bytes(hashes)
    (log / "checkpoint").write_bytes(note)
    start = sign(Checkpoint("guard/audit", 0, EMPTY_ROOT), SIGNER)
    (log / "checkpoints").write_bytes(start + b"\n" + note + b"\n")


def test_a_log_that_was_cut_back_is_found_with_a_checkpoint_kept_outside(tmp_path: Path) -> None:
    log = written(tmp_path, 6)
    outside = (log / "checkpoint").read_text()
    _cut_back(log, 4)
    assert _verify(log).ok
    report = _verify(log, outside)
    assert _found(report) == [("truncated", 4)]
    assert report.damages[0].detail == (
        "a checkpoint kept outside signs 6 entries and 4 are here: the end was cut off"
    )


def test_a_log_that_was_rewritten_with_the_key_is_found_with_a_checkpoint_kept_outside(
    tmp_path: Path,
) -> None:
    log = written(tmp_path, 6)
    outside = (log / "checkpoint").read_text()
    (log / RECORDS).write_bytes(b"".join(_replace_all(_lines(log))))
    _cut_back(log, 6)
    assert _verify(log).ok
    report = _verify(log, outside)
    assert _found(report) == [("tree", 6)]
    assert "the log was rewritten since" in report.damages[0].detail


def test_an_older_checkpoint_kept_outside_fits_a_log_that_grew(tmp_path: Path) -> None:
    outside = (written(tmp_path, 3) / "checkpoint").read_text()
    with open_log(tmp_path) as log:
        log.append(entry(3))
    assert verify(tmp_path, vkey=SIGNER.verifier, checkpoints=[outside]).ok


def test_each_of_several_checkpoints_kept_outside_must_hold(tmp_path: Path) -> None:
    log = written(tmp_path, 6, signed_every=2)
    notes, _ = split_notes((log / "checkpoints").read_bytes())
    kept = [note.decode() for note in notes]
    assert _verify(log, *kept).ok
    foreign = sign(Checkpoint("guard/audit", 3, bytes(32)), SIGNER).decode()
    assert _found(_verify(log, foreign, *kept)) == [("tree", 3)]


def test_a_checkpoint_of_a_log_that_is_gone_is_told(tmp_path: Path) -> None:
    outside = (written(tmp_path / "audit", 3) / "checkpoint").read_text()
    (tmp_path / "empty").mkdir()
    report = _verify(tmp_path / "empty", outside)
    assert (report.ok, [damage.kind for damage in report.damages]) == (False, ["log_missing"])


def test_the_checkpoints_of_another_log_do_not_pass_as_of_this_one(tmp_path: Path) -> None:
    log = written(tmp_path / "one", 3)
    with open_log(tmp_path / "two", origin="other/audit") as other:
        other.append(entry(0))
        outside = other.checkpoint()
    report = _verify(log, outside)
    assert [damage.kind for damage in report.damages] == ["checkpoint", "tree"]


@pytest.mark.parametrize(
    ("name", "kind"),
    [("checkpoint", "checkpoint"), ("checkpoints", "history"), ("log.vkey", "key")],
)
def test_a_file_that_is_missing_is_named(name: str, kind: str, tmp_path: Path) -> None:
    log = written(tmp_path, 3)
    (log / name).unlink()
    damage = _verify(log).damages[0]
    assert damage.kind == kind
    assert "missing" in damage.detail


@pytest.mark.parametrize("position", [0, 1, -1])
def test_a_segment_that_is_missing_is_named(position: int, tmp_path: Path) -> None:
    log = written(tmp_path, 12, signed_every=3, segment_bytes_max=1_000)
    segments = [path for path in sorted(log.glob("records-*")) if path.stat().st_size]
    gone = segments[position]
    gone.unlink()
    first = int(gone.name[8:28])
    assert _found(_verify(log))[0] in [("segment_missing", first), ("truncated", first)]


def test_a_corrupt_checkpoint_says_which_file_and_why(tmp_path: Path) -> None:
    log = written(tmp_path, 3)
    (log / "checkpoint").write_text("guard/audit\n3\nnothing\n")
    damage = _verify(log).damages[0]
    assert damage.detail == (
        "`checkpoint` is not valid: it is not a signed note: "
        "expected text, a blank line and signatures"
    )


def test_without_a_key_the_report_says_that_the_key_is_not_independent(tmp_path: Path) -> None:
    written(tmp_path, 2)
    report = verify(tmp_path)
    assert (report.ok, report.is_key_independent) == (True, False)
    assert "the key came from the directory itself" in report.notes[-1]
    assert verify(tmp_path, vkey=SIGNER.verifier).is_key_independent


def test_entries_after_the_last_checkpoint_are_told_but_are_no_damage(tmp_path: Path) -> None:
    with open_log(tmp_path) as log:
        log.append(entry(0))
        log.checkpoint()
        log.append(entry(1))
        log._round()
        report = verify(tmp_path, vkey=SIGNER.verifier)
    assert (report.ok, report.entries, report.signed) == (True, 2, 1)
    assert "the last 1 entries are not signed yet" in report.notes[0]


def test_a_number_missing_in_a_session_is_found(tmp_path: Path) -> None:
    with open_log(tmp_path) as log:
        for number in (0, 1, 4, 3, 8):
            log.append(entry(number))
    report = verify(tmp_path, vkey=SIGNER.verifier)
    assert report.session_gaps == (SessionGap("session-1", 2, 2), SessionGap("session-1", 5, 7))
    assert [damage.detail for damage in report.damages] == [
        "session session-1 lacks entries 2 to 2",
        "session session-1 lacks entries 5 to 7",
    ]


def test_a_session_may_go_on_in_another_process(tmp_path: Path) -> None:
    with open_log(tmp_path) as first, open_log(tmp_path) as second:
        first.append(entry(0))
        second.append(entry(1))
        first.append(entry(2))
    assert verify(tmp_path, vkey=SIGNER.verifier).ok


def test_an_intent_without_outcome_is_listed_and_is_no_damage(tmp_path: Path) -> None:
    with open_log(tmp_path) as log:
        for number in range(5):
            log.append(entry(number))
        log.append(entry(5, ref="00000009"))
        log.append(entry(6, effect="deny"))
    report = verify(tmp_path, vkey=SIGNER.verifier)
    assert (report.ok, report.orphans, report.strays) == (True, ("00000004",), ("00000009",))


def test_an_effect_that_happened_although_it_was_denied_is_damage(tmp_path: Path) -> None:
    with open_log(tmp_path) as log:
        log.append(entry(0, effect="deny"))
        log.append(entry(1, happened=True))
    (damage,) = verify(tmp_path, vkey=SIGNER.verifier).damages
    assert (damage.kind, damage.index, damage.field) == ("outcome", 1, "happened")


def test_a_number_missing_of_a_writer_is_found(tmp_path: Path) -> None:
    with open_log(tmp_path) as log:
        log.append(entry(0))
        log.checkpoint()
        lines = [stamp(encode(entry(1, session_id=None), MAC.commit), log.writer, 4)]
        assert log._rounds._sequencer is not None
        assert log._rounds._sequencer.sequence is not None
        log._rounds._sequencer.sequence.append(lines)
    assert _found(_verify(tmp_path)) == [("writer_gap", 1)]


def test_an_entry_of_a_newer_version_cannot_be_checked(tmp_path: Path) -> None:
    with open_log(tmp_path) as log:
        log.append(entry(0))
        log.checkpoint()
        assert log._rounds._sequencer is not None
        assert log._rounds._sequencer.sequence is not None
        line = stamp(encode(entry(1), MAC.commit), log.writer, 1)
        log._rounds._sequencer.sequence.append([line.replace(b'"v":2', b'"v":3', 1)])
    with pytest.raises(AuditFault, match=r"version 3.*newer guard"):
        _verify(tmp_path)


def test_a_report_is_one_json_object(tmp_path: Path) -> None:
    report = verify(written(tmp_path, 2))
    assert json.loads(report.to_json())["ok"] is True


def test_a_directory_without_logs_is_a_fault(tmp_path: Path) -> None:
    with pytest.raises(AuditFault, match="expected `checkpoint` there"):
        verify(tmp_path)
    with pytest.raises(AuditFault, match="no audit log at"):
        verify(tmp_path / "nowhere")


def test_a_file_that_is_no_checkpoint_is_a_fault(tmp_path: Path) -> None:
    written(tmp_path, 1)
    with pytest.raises(AuditFault, match="a checkpoint kept outside is not one"):
        verify(tmp_path, checkpoints=["hello"])


def test_a_log_that_is_compressed_while_it_is_verified_is_no_damaged_one(tmp_path: Path) -> None:
    """Neither verifier cries wolf over a live log that rolls its segments all the time."""
    script = (
        "import sys, time; from pathlib import Path; from support.entries import entry, open_log;"
        "from guard.audit.sequence import Rolling;"
        "log = open_log(Path(sys.argv[1]), rolling=Rolling(segment_bytes_max=60_000,"
        " checkpoint_records=50)); until = time.monotonic() + 6\n"
        "number = 0\n"
        "while time.monotonic() < until:\n"
        "    log.append(entry(number)); number += 1; time.sleep(0.0005)\n"
        "log.close()"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    log = tmp_path / "log"
    writer = subprocess.Popen([sys.executable, "-c", script, str(log)], env=environment)
    while not list(log.glob("records-*.gz")):
        assert writer.poll() is None
    rounds = 0
    while writer.poll() is None:
        rounds += 1
        with suppress(AuditFault):  # it may change five times in a row
            assert _verify(log).damages == ()
        with suppress(standalone_verify.CannotCheckError):
            assert standalone_verify.check(log, key=SIGNER.vkey, checkpoints=[]) == []
    assert (rounds > 3, _verify(log).damages) == (True, ())


def test_a_log_forged_around_a_gap_without_hashes_is_found(tmp_path: Path) -> None:
    """No key: other lines, other tiles, and the one tile gone that would show it."""
    log = written(tmp_path / "log", 300)
    kept = (log / "checkpoint").read_text()
    lines = [line for path in log.glob("records-*") for line in path.read_bytes().splitlines()]
    forged = [line.replace(b"search", b"delete") for line in lines]
    for path in [*log.glob("records-*"), *log.glob("tile/0/001.p/*")]:
        path.unlink()
    (log / f"records-{0:020}.jsonl").write_bytes(b"\n".join([*forged[:260], b""]))
    about = entry(300, kind="retention", ref=None, detail={"first": 260, "last": 279})
    gone = stamp(encode(about, lambda _: ""), "sequencer", 300)
    (log / f"records-{280:020}.jsonl").write_bytes(b"\n".join([*forged[280:], gone, b""]))
    (log / "tile/0/000").write_bytes(b"".join(leaf_hash(line) for line in forged[:256]))
    report = _verify(log, kept)
    assert (report.ok, report.witnessed) == (False, 0)
    assert "tree" in {damage.kind for damage in report.damages}
    assert standalone_verify.check(log, key=SIGNER.vkey, checkpoints=[kept]) != []


def test_a_newline_that_was_taken_from_the_longest_line_is_found(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with open_log(log, spool_bytes=1 << 20) as made:
        made.append(entry(0))
        made.append(entry(1, notes=["x" * 59_000]))
        for number in range(2, 40):
            made.append(entry(number))
    (path,) = log.glob("records-*")
    data = path.read_bytes()
    at = data.index(b"\n", 1_000)
    path.write_bytes(data[:at] + b" " + data[at + 1 :])
    assert not _verify(log).ok
    assert standalone_verify.check(log, key=SIGNER.vkey, checkpoints=[]) != []


@pytest.mark.parametrize("name", ["checkpoint", "log.vkey", "cosigned", f"records-{7:020}.jsonl"])
def test_a_pipe_in_the_place_of_a_file_holds_up_nobody(name: str, tmp_path: Path) -> None:
    log = written(tmp_path / "log", 7)
    (log / name).unlink(missing_ok=True)
    os.mkfifo(log / name)
    _verify(log)
    with suppress(standalone_verify.CannotCheckError):
        standalone_verify.check(log, key=SIGNER.vkey, checkpoints=[])
