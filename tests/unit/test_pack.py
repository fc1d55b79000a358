"""Evidence packs hold what they say, verify as a log does, and give nothing else away."""

from __future__ import annotations

import base64
import hashlib
import json
import resource
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import pytest
from support.entries import NOON_NS, NS_PER_S, SIGNER, entries_of, entry, open_log

from guard.audit.merkle import is_included, leaf_hash
from guard.audit.rotate import rotate_key
from guard.audit.verify import verify
from guard.errors import AuditFault, ConfigError, LogCorrupt, PolicyFault
from guard.keys import Signer
from guard.ops.pack import Pack, export
from guard.ops.regimes import FACTS, REGIMES, regime_named
from guard.ops.survey import NAMES_MAX, Survey
from guard.policy import builtin_directory, load_bundle
from guard.policy.kept import keep_policies, kept_at, revision_of, revisions_in
from guard.testing import FakeClock, MemoryLog

BUNDLE = load_bundle([builtin_directory()])
HOSTILE = '<script src="https://evil.example/x.js">\u202e</td><img src=x onerror=alert(1)>&\x1b[2J'
DAY_NS = 86_400 * NS_PER_S


def _log(directory: Path, count: int = 20, **fields: Any) -> Path:
    """A log of pairs of intent and outcome, and at the end a review and a deny of an attacker."""
    with open_log(directory) as log:
        for number in range(count):
            log.append(
                entry(
                    number, bundles={"guard": {"revision": BUNDLE.revision}},
                    subjects=["jane", "joe"] if number % 6 == 2 else [], **fields,
                )
            )  # fmt: skip
            if number % 7 == 0:
                log.checkpoint()
        for number, kind in ((count, "decision"), (count + 1, "review")):
            log.append(
                entry(
                    number, kind=kind, effect="review" if kind == "decision" else "none", ref=None,
                    review_id="r-1", approved_by="mary", tool=HOSTILE,
                    detail={"answer": HOSTILE} if kind == "review" else {},
                )
            )  # fmt: skip
        log.append(
            entry(
                count + 2, kind="decision", effect="deny", ref=None, principal={"id": HOSTILE},
                tool=HOSTILE, metrics={"elapsed_ns": 70_000},
                reasons=[{"effect": "deny", "code": HOSTILE, "message": HOSTILE}],
            )
        )  # fmt: skip
    return directory


def _export(directory: Path, target: Path, **asked: Any) -> Pack:
    return export(
        directory, target,
        **{
            "regime": "eu-ai-act", "since_ns": 0, "until_ns": NOON_NS + DAY_NS, "by": "ann",
            "reason": "audit 26-17", "clock": FakeClock(NOON_NS),
        } | asked,
    )  # fmt: skip


def _unpacked(pack: Pack, place: Path) -> Path:
    with ZipFile(pack.path) as archive:
        assert archive.testzip() is None
        archive.extractall(place)
    return place


def _manifest(place: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((place / "manifest.json").read_text())
    return found


def test_a_pack_of_everything_has_the_entries_byte_for_byte_and_verifies(tmp_path: Path) -> None:
    log = _log(tmp_path / "log")
    place = _unpacked(_export(log, tmp_path / "p.zip"), tmp_path / "p")
    assert (place / f"log/records-{0:020}.jsonl").read_bytes() == (
        log / f"records-{0:020}.jsonl"
    ).read_bytes()
    for name in ("checkpoint", "checkpoints", "log.vkey", "tile/0/000.p/23"):
        assert (place / "log" / name).read_bytes() == (log / name).read_bytes()
    report = verify(place / "log", vkey=SIGNER.verifier)
    assert (report.ok, report.is_excerpt, report.entries) == (True, True, 23)


def test_a_pack_of_a_time_has_those_entries_alone_and_still_verifies(tmp_path: Path) -> None:
    log = _log(tmp_path / "log")
    pack = _export(
        log, tmp_path / "p.zip", since_ns=NOON_NS + 5 * NS_PER_S, until_ns=NOON_NS + 8 * NS_PER_S
    )
    place = _unpacked(pack, tmp_path / "p")
    assert [one.session_seq for one in entries_of(place / "log")] == [5, 6, 7, 8]
    assert (place / "log/excerpt").read_text() == "5 8\n"
    assert verify(place / "log", vkey=SIGNER.verifier).ok
    assert _manifest(place)["entries"] == {
        "count": 4, "runs": 1, "first": 5, "first_at": "2025-01-15T12:00:05.000000Z",
        "last": 8, "last_at": "2025-01-15T12:00:08.000000Z", "unreadable_in_log": 0,
    }  # fmt: skip


def test_a_pack_of_a_data_subject_has_only_what_concerns_it(tmp_path: Path) -> None:
    log = _log(tmp_path / "log", reasons=[{"effect": "allow", "code": "a.code", "message": "m"}])
    pack = _export(log, tmp_path / "p.zip", regime="gdpr-dsar", subject_pseudonym="jane")
    place = _unpacked(pack, tmp_path / "p")
    assert [one.session_seq for one in entries_of(place / "log")] == [2, 8, 14]
    assert (place / "log/excerpt").read_text() == "2 2\n8 8\n14 14\n"
    assert verify(place / "log", vkey=SIGNER.verifier).ok
    assert sorted(path.name for path in (place / "proofs").iterdir()) == [
        "14.tlog-proof", "2.tlog-proof", "8.tlog-proof",
    ]  # fmt: skip
    for name in ("report.html", "requirements.json", "manifest.json", "README.txt"):
        text = (place / name).read_text()
        assert "joe" not in text
        assert "a.code" not in text
    assert "jane" in (place / "report.html").read_text()


def test_every_file_is_under_a_digest_and_the_same_question_gives_the_same_pack(
    tmp_path: Path,
) -> None:
    log = _log(tmp_path / "log")
    pack, again = _export(log, tmp_path / "p.zip"), _export(log, tmp_path / "again.zip")
    assert pack.sha256 == again.sha256
    place = _unpacked(pack, tmp_path / "p")
    found = {
        path.relative_to(place).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in place.rglob("*")
        if path.is_file() and path.name != "SHA256SUMS"
    }
    sums = (place / "SHA256SUMS").read_text().splitlines()
    assert sorted(sums) == sorted(f"{digest}  {name}" for name, digest in found.items())
    assert _manifest(place)["files"] == {
        name: digest for name, digest in found.items() if name != "manifest.json"
    }


def test_proofs_are_of_the_first_the_last_and_the_cited_entries_and_hold(tmp_path: Path) -> None:
    log = _log(tmp_path / "log")
    place = _unpacked(_export(log, tmp_path / "p.zip"), tmp_path / "p")
    lines = (log / f"records-{0:020}.jsonl").read_bytes().splitlines()
    asked = json.loads((place / "requirements.json").read_text())["requirements"]
    cited = {index for one in asked for index in one["first_entries"]}
    proofs = {int(path.name.split(".")[0]): path for path in (place / "proofs").iterdir()}
    assert set(proofs) == cited | {0, 22}
    report = verify(place / "log")
    for index, path in proofs.items():
        head, index_line, *hashes = path.read_text().split("\n\n")[0].splitlines()
        assert (head, index_line) == ("c2sp.org/tlog-proof@v1", f"index {index}")
        path_up = [base64.b64decode(one) for one in hashes]
        assert is_included(
            leaf_hash(lines[index]), index, report.signed, proof=path_up,
            root=bytes.fromhex(report.root),
        )  # fmt: skip


def test_requirements_count_their_entries_and_say_what_they_lack(tmp_path: Path) -> None:
    log = _log(tmp_path / "log")
    place = _unpacked(_export(log, tmp_path / "p.zip"), tmp_path / "p")
    asked = json.loads((place / "requirements.json").read_text())["requirements"]
    by_id = {one["id"]: one for one in asked}
    assert by_id["Article 14"]["entries"] == 2
    assert by_id["Article 14"]["first_entries"] == [20, 21]
    assert by_id["Article 12(2)(c)"]["entries"] == 13
    assert all(one["does_not_show"] for one in asked)


def test_policies_that_decided_are_in_the_pack_and_missing_ones_are_named(tmp_path: Path) -> None:
    log = _log(tmp_path / "log")
    missing = _export(log, tmp_path / "a.zip", policies_directory=tmp_path / "nowhere")
    assert missing.policies_missing == (BUNDLE.revision,)
    assert "NOT KEPT" in (_unpacked(missing, tmp_path / "a") / "report.html").read_text()

    keep_policies(tmp_path / "policies", BUNDLE)
    pack = _export(log, tmp_path / "b.zip", policies_directory=tmp_path / "policies")
    place = _unpacked(pack, tmp_path / "b")
    assert _manifest(place)["policies"] == {"kept": [BUNDLE.revision], "missing": []}
    assert revision_of(place / "policies" / BUNDLE.revision) == BUNDLE.revision
    assert list((place / "policies").rglob("*_test.rego"))


def test_a_revision_that_is_no_digest_does_not_become_a_path(tmp_path: Path) -> None:
    with open_log(tmp_path / "log") as log:
        log.append(entry(bundles={"guard": {"revision": "../../etc"}}))
    pack = _export(tmp_path / "log", tmp_path / "p.zip", policies_directory=tmp_path / "policies")
    assert pack.policies_missing == ("../../etc",)


def test_the_export_is_recorded_before_anything_is_written(tmp_path: Path) -> None:
    log, memory = _log(tmp_path / "log"), MemoryLog()
    _export(log, tmp_path / "p.zip", regime="gdpr-dsar", subject_pseudonym="jane", log=memory)
    (one,) = memory.entries
    assert (one.kind, one.principal, one.subjects) == ("access", {"id": "ann"}, ["jane"])
    assert one.detail == {
        "what": "export", "regime": "gdpr-dsar", "since": "1970-01-01T00:00:00.000000Z",
        "until": "2025-01-16T12:00:00.000000Z", "reason": "audit 26-17", "by": "ann",
    }  # fmt: skip

    memory.is_broken = True
    with pytest.raises(AuditFault, match="the log is set to fail"):
        _export(log, tmp_path / "q.zip", log=memory)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["log", "p.zip"]


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        ({"regime": "gdpr"}, "unknown regime `gdpr`: expected eu-ai-act, soc2"),
        ({"regime": "gdpr-dsar"}, "gdpr-dsar needs --subject"),
        ({"subject_pseudonym": "jane"}, "gdpr-dsar needs --subject"),
        ({"reason": " "}, "`reason` is a text of 1 to 1000 characters"),
        ({"until_ns": NOON_NS - 1}, "nothing that is signed from 1970-01-01"),
        ({"regime": "gdpr-dsar", "subject_pseudonym": "x"}, "concerns that pseudonym"),
    ],
)
def test_a_question_without_an_answer_is_refused_and_leaves_nothing(
    asked: dict[str, Any], says: str, tmp_path: Path
) -> None:
    log, memory = _log(tmp_path / "log"), MemoryLog()
    with pytest.raises((AuditFault, ConfigError), match=says):
        _export(log, tmp_path / "p.zip", log=memory, **asked)
    assert [path.name for path in tmp_path.iterdir()] == ["log"]
    assert memory.entries == []


def test_a_file_that_is_there_is_not_replaced(tmp_path: Path) -> None:
    log = _log(tmp_path / "log")
    (tmp_path / "p.zip").write_text("mine")
    with pytest.raises(AuditFault, match=r"p\.zip is there already: name another file"):
        _export(log, tmp_path / "p.zip")
    assert (tmp_path / "p.zip").read_text() == "mine"


def test_a_damaged_log_gives_a_pack_only_on_demand_and_the_pack_says_so(tmp_path: Path) -> None:
    log = _log(tmp_path / "log")
    records = log / f"records-{0:020}.jsonl"
    records.write_bytes(records.read_bytes().replace(b'"00000004"', b'"00000009"', 1))
    with pytest.raises(LogCorrupt, match="run `guard audit verify`"):
        _export(log, tmp_path / "p.zip")
    pack = _export(log, tmp_path / "p.zip", even_if_damaged=True)
    assert pack.is_damaged
    place = _unpacked(pack, tmp_path / "p")
    found = _manifest(place)["log_when_exported"]
    assert (found["is_whole"], found["damages"]) == (False, [{"kind": "record", "entry": 4}])
    assert not (place / "proofs/4.tlog-proof").exists()
    assert "was damaged" in (place / "report.html").read_text()
    assert "WAS DAMAGED" in (place / "README.txt").read_text()
    assert [damage.index for damage in verify(place / "log").damages] == [4]


def test_a_log_whose_key_changed_verifies_from_a_late_part_alone(tmp_path: Path) -> None:
    key = tmp_path / "log.key"
    first = Signer.load_or_create(key, name="guard/audit")
    with open_log(tmp_path / "log", signer=first) as log:
        for number in range(5):
            log.append(entry(number))
    second = rotate_key(tmp_path / "log", key, clock=FakeClock(NOON_NS))
    with open_log(tmp_path / "log", signer=second) as log:
        for number in range(100, 103):
            log.append(entry(number, session_id="session-2", session_seq=number - 100))
    pack = _export(tmp_path / "log", tmp_path / "p.zip", since_ns=NOON_NS + 100 * NS_PER_S)
    place = _unpacked(pack, tmp_path / "p")
    assert [one.kind for one in entries_of(place / "log")][:1] == ["key_change"]
    assert pack.entries == 3
    report = verify(place / "log", vkey=first.verifier)
    assert (report.ok, len(report.vkeys)) == (True, 2)


def test_a_disk_without_room_leaves_no_part_of_a_pack(tmp_path: Path) -> None:
    log = _log(tmp_path / "log")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2_048, hard))
    try:
        with pytest.raises(AuditFault, match=r"cannot write .*p\.zip"):
            _export(log, tmp_path / "p.zip")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert [path.name for path in tmp_path.iterdir()] == ["log"]


class _Page(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.words: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs

    def handle_data(self, data: str) -> None:
        self.words.append(data)


@pytest.mark.parametrize("regime", REGIMES)
def test_the_report_has_no_script_loads_nothing_and_escapes_what_it_shows(
    regime: str, tmp_path: Path
) -> None:
    log = _log(tmp_path / "log", point=HOSTILE)
    asked = {"subject_pseudonym": "jane"} if regime == "gdpr-dsar" else {}
    pack = _export(log, tmp_path / "p.zip", regime=regime, reason=HOSTILE, **asked)
    text = (_unpacked(pack, tmp_path / "p") / "report.html").read_text()
    page = _Page(text)
    assert set(page.tags) <= {
        "html", "head", "meta", "title", "style", "body", "h1", "h2", "p", "div", "strong",
        "table", "thead", "tbody", "tr", "th", "td", "svg", "rect", "text",
    }  # fmt: skip
    assert {name for name, _ in page.attributes} <= {
        "lang", "charset", "http-equiv", "content", "name", "class", "viewbox", "role", "x", "y",
        "width", "height", "text-anchor",
    }  # fmt: skip
    assert "url(" not in text
    assert "@import" not in text
    assert "default-src 'none'" in text
    for control in ("\u202e", "\x1b"):
        assert control not in text
    assert any("<script src=" in word for word in page.words)  # shown, as text


def test_a_survey_stays_small_whatever_the_entries_are_called() -> None:
    survey = Survey(regime_named("soc2"))
    for number in range(3 * NAMES_MAX):
        survey.add(
            number,
            entry(
                number, kind="decision", effect="deny", ref=None, timestamp=f"{number:010}T",
                principal={"id": {"a": number}}, tool=f"t{number}",
                reasons=[number, {"effect": "deny", "code": [number]}], metrics={"elapsed_ns": -1},
                bundles={"guard": {"revision": f"{number}"}},
            ),
        )  # fmt: skip
    for counter in (
        survey.denials_by_agent, survey.denials_by_reason, survey.steps_by_tool, survey.revisions,
        survey.effects_by_day,
    ):  # fmt: skip
        assert len(counter) == NAMES_MAX + 1
    assert survey.steps_by_tool["(others)"] == 2 * NAMES_MAX


def test_delays_of_reviews_are_from_the_question_to_the_answer() -> None:
    survey = Survey(regime_named("soc2"))
    survey.add(0, entry(0, kind="decision", effect="review", ref=None, review_id="a"))
    survey.add(1, entry(1, kind="decision", effect="review", ref=None, review_id="b"))
    survey.add(2, entry(61, kind="review", effect="none", ref=None, review_id="a",
                        detail={"answer": "approved"}))  # fmt: skip
    assert (survey.reviews_opened, survey.reviews_unanswered) == (2, 1)
    assert (dict(survey.review_delays_s), dict(survey.answers)) == ({6: 1}, {"approved": 1})


def test_every_regime_loads_and_names_only_facts_that_are_there() -> None:
    for name in REGIMES:
        regime = regime_named(name)
        assert regime.requirements
        assert {fact for one in regime.requirements for fact in one.facts} <= set(FACTS)


def test_policies_are_kept_once_and_mended_when_they_are_not_what_they_are_called(
    tmp_path: Path,
) -> None:
    place = keep_policies(tmp_path, BUNDLE)
    assert (place.name, revision_of(place)) == (BUNDLE.revision, BUNDLE.revision)
    assert {path.stat().st_mode & 0o777 for path in place.rglob("*.rego")} == {0o600}
    written_ns = (place / "main.rego").stat().st_mtime_ns
    assert (keep_policies(tmp_path, BUNDLE) / "main.rego").stat().st_mtime_ns == written_ns

    (place / "main.rego").write_text("package guard\n")
    assert kept_at(tmp_path, f"sha256:{BUNDLE.revision}") is None
    keep_policies(tmp_path, BUNDLE)
    assert kept_at(tmp_path, f"sha256:{BUNDLE.revision}") == place
    assert revisions_in(tmp_path) == [BUNDLE.revision]
    assert revisions_in(tmp_path / "nowhere") == []


def test_policies_that_cannot_be_kept_are_a_fault(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(PolicyFault, match="cannot keep the policies"):
        keep_policies(tmp_path / "file", BUNDLE)
