"""Evidence packs: what an auditor can read and verify alone, in one archive.

(1) the log is verified; of a damaged one a pack is made only on demand, and says so;
(2) the entries of the time, or of the data subject, are counted and weighed;
(3) the export is recorded, before anything of it can be read;
(4) the archive is written: entries, proofs, policies, requirements, report, digests.
"""

from __future__ import annotations

import base64
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path
from typing import Any, Final

import msgspec

from ..audit.entry import Entry, timestamp_of
from ..audit.files import encrypted_of
from ..audit.report import Report
from ..audit.verify import verify
from ..clock import SYSTEM_CLOCK, Clock
from ..errors import AuditFault, ConfigError, LogCorrupt
from ..policy.kept import files_of, kept_at, plain_revision
from .excerpt import Excerpt
from .pack_readme import readme
from .records import Appends, record, words
from .regimes import Regime, regime_named
from .report_html import page
from .survey import CITED_MAX, Survey
from .zip_file import ZipWriter, digest_of

__all__ = ["Pack", "export"]

# Proofs that are put into a pack, 1 KB each; of any other entry one is made from the tiles in it.
PROOFS_MAX: Final = 10_000
# Damages that the manifest names; `guard audit verify` names all.
_DAMAGES_MAX: Final = 100
_SUBJECT_REGIME: Final = "gdpr-dsar"


class Pack(msgspec.Struct, frozen=True, kw_only=True):
    """An archive that was written. `sha256` is of the archive itself."""

    path: Path
    sha256: str
    entries: int
    runs: int
    proofs: int
    policies: int
    policies_missing: tuple[str, ...]
    is_damaged: bool


def export(
    log_directory: Path,
    target_zip: Path,
    *,
    regime: str,
    since_ns: int,
    until_ns: int,
    by: str,
    reason: str,
    subject_pseudonym: str | None = None,
    policies_directory: Path | None = None,
    clock: Clock = SYSTEM_CLOCK,
    log: Appends | None = None,
    even_if_damaged: bool = False,
) -> Pack:
    """Write the evidence of `regime` from `since_ns` to `until_ns`, both included.

    With `log` the export is recorded there. Raises ConfigError for a question that makes no sense,
    LogCorrupt for a damaged log, AuditFault where nothing is signed or nothing can be written.
    """
    asked = regime_named(regime)
    if (regime == _SUBJECT_REGIME) != (subject_pseudonym is not None):
        raise ConfigError(f"{_SUBJECT_REGIME} needs --subject, and nothing else takes it")
    by, reason = words("by", by), words("reason", reason)
    if target_zip.exists():
        raise AuditFault(f"{target_zip} is there already: name another file, or remove it")
    if hidden := encrypted_of(log_directory):
        raise AuditFault(
            f"{len(hidden)} segments are encrypted, and a pack holds entries: `guard audit "
            "decrypt` makes a copy to export from"
        )
    verified = verify(log_directory)  # (1)
    if not verified.ok and not even_if_damaged:
        raise LogCorrupt(
            f"the log is damaged ({len(verified.damages)} findings): run `guard audit verify`; "
            "--even-if-damaged makes a pack that says so"
        )
    excerpt = Excerpt(log_directory)
    survey = _survey(excerpt, asked, since_ns, until_ns, subject_pseudonym)  # (2)
    about = {
        "regime": regime,
        "since": timestamp_of(since_ns),
        "until": timestamp_of(until_ns),
        "reason": reason,
        "by": by,
    }
    if log is not None:  # (3)
        subjects = () if subject_pseudonym is None else (subject_pseudonym,)
        record(log, "access", {"what": "export", **about}, by=by, clock=clock, subjects=subjects)
    manifest = {
        "format": "stepguard evidence pack 1",
        "tool": {"name": "stepguard", "version": version("stepguard")},
        **about,
        "subject": subject_pseudonym,
        "exported_at": timestamp_of(clock.now_ns()),
        **_of_log(excerpt, survey, verified),
    }
    with ZipWriter(target_zip) as archive:  # (4)
        manifest |= _write(archive, excerpt, survey, manifest, policies_directory)
    return Pack(
        path=target_zip,
        sha256=digest_of(target_zip),
        entries=survey.count,
        runs=len(excerpt.runs),
        proofs=manifest["proofs"],
        policies=len(manifest["policies"]["kept"]),
        policies_missing=tuple(manifest["policies"]["missing"]),
        is_damaged=not verified.ok,
    )


def _survey(
    excerpt: Excerpt, regime: Regime, since_ns: int, until_ns: int, pseudonym: str | None
) -> Survey:
    """Choose the entries, and count them; raises AuditFault where there is none."""

    def is_wanted(entry: Entry) -> bool:
        concerns = pseudonym is None or pseudonym in entry.subjects
        return concerns and since_ns <= entry.timestamp_ns <= until_ns

    survey = Survey(regime, cited_max=CITED_MAX if pseudonym is None else PROOFS_MAX)
    for index, entry in excerpt.choose(is_wanted):
        survey.add(index, entry)
    if not survey.count:
        raise AuditFault(
            f"nothing that is signed from {timestamp_of(since_ns)} to {timestamp_of(until_ns)}"
            + (" concerns that pseudonym" if pseudonym is not None else "")
            + ": ask for another time, or see `guard audit query`"
        )
    return survey


def _of_log(excerpt: Excerpt, survey: Survey, verified: Report) -> dict[str, Any]:
    """What the manifest says of the log and the entries."""
    checkpoint = excerpt.signed.checkpoint
    (first, first_ns), (last, last_ns) = survey.ends
    return {
        "log": {
            "origin": checkpoint.origin,
            "size": checkpoint.size,
            "root": base64.b64encode(checkpoint.root).decode(),
            "keys": [str(key) for key in excerpt.keys],
        },
        "entries": {
            "count": survey.count,
            "runs": len(excerpt.runs),
            "first": first,
            "first_at": timestamp_of(first_ns),
            "last": last,
            "last_at": timestamp_of(last_ns),
            "unreadable_in_log": excerpt.unreadable,
        },
        "log_when_exported": {
            "is_whole": verified.ok,
            "damages": [
                {"kind": damage.kind, "entry": damage.index}
                for damage in verified.damages[:_DAMAGES_MAX]
            ],
            "witnessed_below": verified.witnessed,
            "notes": list(verified.notes),
            "intents_without_outcome": len(verified.orphans) + verified.orphans_omitted,
        },
    }


def _write(
    archive: ZipWriter, excerpt: Excerpt, survey: Survey, manifest: dict[str, Any],
    policies: Path | None,
) -> dict[str, Any]:  # fmt: skip
    """All files; what else the manifest says."""
    ends = [index for index, _ in survey.ends]
    cited = sorted(survey.cited.difference(ends))[: PROOFS_MAX - len(ends)]
    archive.add("README.txt", readme(manifest).encode())
    proofs = excerpt.write(archive, "log/", prove={*ends, *cited})
    for index in sorted(proofs):
        archive.add(f"proofs/{index}.tlog-proof", proofs[index].encode())
    kept, missing = _write_policies(archive, survey, policies)
    found = {"proofs": len(proofs), "policies": {"kept": kept, "missing": missing}}
    requirements = _requirements(survey)
    archive.add("requirements.json", _json({"regime": manifest["regime"], **requirements}))
    archive.add("report.html", page({**manifest, **found}, survey).encode())
    archive.add("verify_log.py", files("guard.audit").joinpath(_VERIFIER).read_bytes())
    # INVARIANT: the last two, in this order: each has the digests of all that come before it.
    archive.add("manifest.json", _json({**manifest, **found, "files": dict(archive.digests)}))
    sums = "".join(f"{digest}  {name}\n" for name, digest in archive.digests.items())
    archive.add("SHA256SUMS", sums.encode())
    return found


_VERIFIER: Final = "standalone_verify.py"


def _write_policies(
    archive: ZipWriter, survey: Survey, directory: Path | None
) -> tuple[list[str], list[str]]:
    """The policies that decided, each with its tests: the revisions here, and those not kept."""
    kept: list[str] = []
    missing: list[str] = []
    for revision in sorted({plain_revision(found) or found for found in survey.revisions}):
        place = kept_at(directory, revision) if directory is not None else None
        if place is None:
            missing.append(revision)
            continue
        for name, path in files_of(place):
            archive.add(f"policies/{revision}/{name}", path.read_bytes())
        kept.append(revision)
    return kept, missing


def _requirements(survey: Survey) -> dict[str, Any]:
    regime: Regime = survey.regime
    return {
        "title": regime.title,
        "note": regime.note,
        "requirements": [
            {
                "id": requirement.id,
                "asks": requirement.asks,
                "entries": count,
                "first_entries": cited,
                "shows": requirement.shows,
                "does_not_show": requirement.lacks,
            }
            for requirement, (count, cited) in zip(
                regime.requirements, survey.evidence, strict=True
            )
        ],
    }


def _json(value: Any) -> bytes:
    return msgspec.json.format(msgspec.json.encode(value), indent=2) + b"\n"
