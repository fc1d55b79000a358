"""Offline verification of a directory: nothing but its files, a key, and what was kept outside.

(1) the keys: the one given; else those in the directory, which are not independent of it;
(2) the checkpoints: signatures, origin, order, and that the latest is in the history;
(3) the entries against stored hashes and checkpoints (check.py);
(4) checkpoints kept outside or signed by a witness: what they sign must still be a prefix;
(5) which key was good for which checkpoint, as the log itself says;
(6) the story: numbers missing, intents without outcome; what was pruned, and what is spooled.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from hashlib import file_digest
from pathlib import Path
from typing import Final

from ..errors import AuditFault, LogCorrupt
from ..keys.signing import Verifier
from . import checkpoint as notes
from .anchors import WitnessKey, cosignatures_of
from .check import LogCheck, Mark
from .checkpoint import Checkpoint
from .encrypted import encrypted_ranges
from .files import CHECKPOINT, COSIGNED, EXCERPT, HISTORY, SPOOL, read_small, segments_of
from .frames import count_spooled
from .keyring import keys_of
from .report import DAMAGES_MAX, ORPHANS_MAX, Damage, Report, SessionGap
from .story import Seal, Story
from .tiles import Tiles

__all__ = ["Damage", "Report", "SessionGap", "verify"]

# A live writer may be half way through a note, for microseconds; a torn note stays torn.
_READS_MAX: Final = 3
# A checkpoint a second for a century is less.
HISTORY_BYTES_MAX: Final = 1 << 30
# A line for each entry of a person, at most: a million of them.
EXCERPT_BYTES_MAX: Final = 32 * 1024 * 1024
# Segments of a live log are compressed while it is read: what seems damaged is looked at anew.
_TRIES_MAX: Final = 5
_OUTSIDE: Final = "a checkpoint kept outside"


def verify(
    directory: Path | str,
    *,
    vkey: Verifier | None = None,
    checkpoints: Sequence[str] = (),
    witnesses: Sequence[WitnessKey] = (),
) -> Report:
    """Check the log in `directory`; raises AuditFault when there is none to check.

    `vkey` is the public key as it was kept elsewhere, `checkpoints` the texts of older ones: with
    them, a log that was cut off or rewritten since is found even if the key was stolen.
    A checkpoint that one of `witnesses` signed too counts as one kept outside.
    """
    directory = Path(directory)
    kept = [_kept(text) for text in checkpoints]
    try:
        if not (directory / CHECKPOINT).exists() and not segments_of(directory):
            if not kept:
                raise AuditFault(f"no audit log in {directory}: expected `{CHECKPOINT}` there")
            return _Verification(directory, vkey, witnesses).of_nothing(kept)
        for _ in range(_TRIES_MAX):
            # INVARIANT: the names are read before the checkpoint: a segment that is compressed by
            # then is named by an entry that the checkpoint covers.
            names = _segment_names(directory)
            try:
                report = _Verification(directory, vkey, witnesses).run(kept)
            except FileNotFoundError:
                if names == _segment_names(directory):
                    raise
                continue
            if report.ok or names == _segment_names(directory):
                return report
        raise AuditFault(f"{directory} changes while it is read: verify a copy of it")
    except OSError as error:
        raise AuditFault(f"cannot read {error.filename}: {error.strerror}") from error


def _segment_names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.glob("records-*"))


def _kept(text: str) -> bytes:
    if "\n\n— " not in text:
        raise AuditFault(
            "a checkpoint kept outside is not one: expected the text that `checkpoint` in a log "
            "holds, from its first line to its signature"
        )
    return text.encode()


class _Verification:
    """One run over a directory, and its findings."""

    def __init__(self, log: Path, vkey: Verifier | None, witnesses: Sequence[WitnessKey]) -> None:
        self._log = log
        self._vkey = vkey
        self._witnesses = witnesses
        self._damages: list[Damage] = []
        self._omitted = 0
        self._notes: list[str] = []
        self._story = Story(self._add)
        self._keys: list[Verifier] = []
        self._signed_by: list[tuple[int, Mark]] = []  # number of the key

    def run(self, kept: list[bytes]) -> Report:
        """All checks."""
        self._keys = self._known_keys()  # (1)
        marks = self._checkpoints()  # (2)
        latest = max(marks, key=lambda mark: mark.checkpoint.size).checkpoint if marks else None
        signed = self._story.signed = latest.size if latest is not None else 0
        outside = self._outside(kept, latest)  # (4)
        check = LogCheck(  # (3)
            self._log,
            [*marks, *outside],
            signed=signed,
            report=self._add,
            note=self._notes.append,
            follow=self._story.follow,
            on_missing=self._story.skip,
        )
        check.run()
        runs = self._excerpt()
        encrypted = encrypted_ranges(self._log, check, self._story, report=self._add)
        if count := sum(last - first + 1 for first, last in encrypted):
            self._notes.append(
                f"{count} entries are encrypted and were not read: `guard audit decrypt` makes a "
                "copy of the log to verify with their identity"
            )
        self._sealed(check)
        self._missing(check, encrypted, runs)
        self._check_keys()  # (5)
        witnessed = check.witnessed
        if witnessed < signed:
            self._notes.append(
                f"entries from {witnessed} on are not witnessed: who has the key can cut them off "
                "or write them anew; keep a checkpoint elsewhere and pass it"
            )
        return self._report(check, latest, len(marks), witnessed, is_excerpt=runs is not None)

    def of_nothing(self, kept: list[bytes]) -> Report:
        """The report where the log itself is gone."""
        for note in kept:
            origin = note.split(b"\n", 1)[0].decode(errors="replace")
            self._damage(
                "log_missing",
                f"{_OUTSIDE} is of the log `{origin[:120]}`, and nothing is here",
            )
        return self._report(None, None, 0, 0)

    def _report(
        self, check: LogCheck | None, latest: Checkpoint | None, checkpoints: int,
        witnessed: int, *, is_excerpt: bool = False,
    ) -> Report:  # fmt: skip
        story = self._story
        gaps = [] if is_excerpt else story.gaps()  # (6)
        for gap in gaps if story.is_whole else ():
            self._damage(
                "session_gap",
                f"session {gap.session_id[:64]} lacks entries {gap.first_missing} to "
                f"{gap.last_missing}",
            )
        if self._vkey is None:
            self._notes.append(
                "the key came from the directory itself: it shows that the log is whole, not who "
                "wrote it; keep log.vkey elsewhere and pass it to be sure"
            )
        tree = check.tree if check is not None else None
        return Report(
            ok=not self._damages,
            is_key_independent=self._vkey is not None,
            is_excerpt=is_excerpt,
            origin=latest.origin if latest is not None else None,
            vkeys=tuple(map(str, self._keys)),
            entries=check.size if check is not None else 0,
            root=tree.root().hex() if tree is not None else "",
            signed=latest.size if latest is not None else 0,
            signed_root=latest.root.hex() if latest is not None else None,
            witnessed=witnessed,
            checkpoints=checkpoints,
            segments=len(check.segments) if check is not None else 0,
            spooled=self._spooled(),
            damages=tuple(self._damages),
            damages_omitted=self._omitted,
            session_gaps=tuple(gaps),
            orphans=tuple(story.orphans[:ORPHANS_MAX]),
            orphans_omitted=max(0, len(story.orphans) - ORPHANS_MAX),
            strays=tuple(story.strays[:ORPHANS_MAX]),
            strays_omitted=max(0, len(story.strays) - ORPHANS_MAX),
            notes=tuple(self._notes),
        )

    def _add(self, damage: Damage) -> None:
        if len(self._damages) < DAMAGES_MAX:
            self._damages.append(damage)
        else:
            self._omitted += 1

    def _damage(self, kind: str, detail: str, *, index: int | None = None) -> None:
        """Report something that has no place in a segment."""
        self._add(Damage(kind=kind, detail=detail, index=index))

    def _known_keys(self) -> list[Verifier]:
        try:
            keys = keys_of(self._log)
        except LogCorrupt as error:
            self._damage("key", str(error))
            return [self._vkey] if self._vkey is not None else []
        if self._vkey is not None and self._vkey not in keys:
            self._damage("key", "the log is signed by other keys than the one given")
            return [self._vkey]
        return keys

    def _checkpoints(self) -> list[Mark]:
        # The latest first: a live log writes the history before it, and a crash can come between.
        for _ in range(_READS_MAX):
            newest = self._read(CHECKPOINT)
            history, rest = notes.split_notes(self._read(HISTORY))
            if not rest and newest in history[-2:]:
                break
        if not newest:
            self._damage("checkpoint", f"{CHECKPOINT} is missing, or empty")
        if not history:
            self._damage("history", f"{HISTORY} is missing, or empty")
        marks: list[Mark] = []
        for number, note in enumerate(history):
            marks += self._mark(note, f"checkpoint {number} of {HISTORY}", kind="history")
        if rest:
            self._damage("history", f"{HISTORY} ends in {len(rest)} bytes of no checkpoint")
        sizes = [mark.checkpoint.size for mark in marks]
        if sizes != sorted(sizes):
            self._damage("history", f"{HISTORY} is out of order")
        if sizes[:1] not in ([0], []):
            what = f"{HISTORY} begins at {sizes[0]} entries: its start was cut off"
            self._damage("history", what)
        latest = self._mark(newest, f"`{CHECKPOINT}`", kind="checkpoint")
        if latest and history and newest not in history[-2:]:
            self._damage(
                "history",
                f"the note in {CHECKPOINT} is not the latest in {HISTORY}: one of the two was "
                "changed or put back",
            )
        marks += latest
        if len({mark.checkpoint.origin for mark in marks}) > 1:
            self._damage("history", f"{HISTORY} holds checkpoints of more than one log")
        return marks

    def _read(self, name: str) -> bytes:
        path = self._log / name
        return read_small(path, HISTORY_BYTES_MAX) if path.exists() else b""

    def _mark(self, note: bytes, source: str, *, kind: str, is_trusted: bool = False) -> list[Mark]:
        """The checkpoint of a note, if one of the keys signed it."""
        if not note:
            return []
        named = notes.key_ids(note)
        found = [n for n, key in enumerate(self._keys) if (key.name, key.key_id) in named]
        if len(found) > 1:
            self._damage(kind, f"{source} is not valid: it has signatures of two keys of the log")
        for number in found[-1:] or range(len(self._keys))[-1:]:
            try:
                mark = Mark(notes.parse(note, self._keys[number]), source, is_trusted)
            except LogCorrupt as error:
                self._damage(kind, f"{source} is not valid: {error}")
                continue
            self._signed_by.append((number, mark))
            return [mark]
        return []

    def _outside(self, kept: list[bytes], latest: Checkpoint | None) -> list[Mark]:
        marks: list[Mark] = []
        for note in kept:
            marks += self._mark(note, _OUTSIDE, kind="key", is_trusted=True)
        if (self._log / COSIGNED).exists():
            cosigned, rest = notes.split_notes(self._read(COSIGNED))
            if rest:
                self._damage("history", f"{COSIGNED} ends in {len(rest)} bytes of no checkpoint")
            for number, note in enumerate(cosigned):
                source = f"checkpoint {number} of {COSIGNED}"
                try:
                    is_trusted = bool(cosignatures_of(note, self._witnesses))
                except LogCorrupt as error:
                    self._damage("history", f"{source} is not valid: {error}")
                    continue
                marks += self._mark(note, source, kind="history", is_trusted=is_trusted)
        for mark in marks:
            if latest is not None and latest.origin != mark.checkpoint.origin:
                self._damage("checkpoint", f"{mark.source} has another origin than this log")
        return marks

    def _check_keys(self) -> None:
        changes = {vkey: index for index, vkey in reversed(self._story.key_changes)}
        begins = [-1] + [changes.get(str(key), -2) for key in self._keys[1:]]
        for number, key in enumerate(self._keys):
            if begins[number] == -2:
                self._damage("key", f"no entry of the log names the key {key}, and it signs")
            elif number and not any(
                by == number - 1 and mark.checkpoint.size > begins[number]
                for by, mark in self._signed_by
            ):
                self._damage("key", f"the key before it does not vouch for the key {key}")
        for by, mark in self._signed_by:
            size = mark.checkpoint.size
            is_retired = by + 1 < len(begins) and size > max(begins[by + 1], 0) + 1
            if size <= begins[by] or (is_retired and begins[by + 1] >= 0):
                self._damage("key", f"{mark.source} is signed by a key that was not good for it")

    def _sealed(self, check: LogCheck) -> None:
        """Compressed segments byte for byte: not every byte of one is in an entry."""
        for segment in check.segments:
            if segment.path != segment.sealed:
                continue
            with segment.sealed.open("rb") as file:
                digest = file_digest(file, "sha256").hexdigest()
            known = self._story.seals.get(segment.first)
            if not (known is None and check.gone) and digest != (known or Seal()).digest:
                what = "the compressed file is not the one that the log names"
                name = segment.sealed.name
                self._add(Damage(kind="sealed", detail=what, segment=name, index=segment.first))

    def _excerpt(self) -> list[tuple[int, int]] | None:
        """The runs of entries that an evidence pack says it holds; None for a log."""
        try:
            text = read_small(self._log / EXCERPT, EXCERPT_BYTES_MAX).decode()
            runs = [(int(first), int(last)) for first, last in map(str.split, text.splitlines())]
        except FileNotFoundError:
            return None
        except ValueError:
            self._damage("history", f"{EXCERPT} is not lines of a first and a last entry")
            return None
        firsts = [segment.first for segment in segments_of(self._log)]
        ends = [number for run in runs for number in run]
        if [first for first, _ in runs] != firsts or ends != sorted(ends) or not text.isascii():
            self._damage("history", f"{EXCERPT} does not name the runs that are here")
        count = sum(last - first + 1 for first, last in runs)
        self._notes.append(f"an excerpt: {count} entries in {len(runs)} runs, the rest is not here")
        return runs

    def _missing(
        self, check: LogCheck, encrypted: list[tuple[int, int]], runs: list[tuple[int, int]] | None
    ) -> None:
        """What is not here: it expired, is encrypted, was left out of an excerpt, or was taken."""
        tiles = Tiles(self._log)
        pruned = [
            (begin, end)
            for begin, end, root in self._story.pruned
            if 0 <= begin <= end < self._story.signed and _has_root(tiles, end + 1, root)
        ] if check.gone else []  # fmt: skip
        # What is odd above the latest checkpoint is no damage.
        for first, last, name in (gap for gap in check.gone if gap[0] < self._story.signed):
            if runs is not None and not any(a <= last and first <= b for a, b in runs):
                continue
            if _is_covered(first, last, [*pruned, *encrypted]):
                if not _is_covered(first, last, encrypted):
                    self._notes.append(f"entries {first} to {last} expired, as the log itself says")
            elif name is None:
                self._damage(
                    "truncated", f"entries {first} to {last} are signed and not here: the end was "
                    "cut off", index=first,
                )  # fmt: skip
            else:
                self._damage(
                    "segment_missing",
                    f"entries {first} to {last} are not here: a file before {name} was removed, "
                    "renamed or cut off",
                    index=first,
                )

    def _spooled(self) -> int:
        directory = self._log / SPOOL
        count = torn = 0
        for path in sorted(directory.iterdir()) if directory.is_dir() else ():
            if path.is_dir() and not path.name.startswith("."):
                whole, is_torn = count_spooled(path, self._story.next_of(path.name))
                count, torn = count + whole, torn + is_torn
        if count:
            self._notes.append(f"{count} entries were handed over and are not sequenced yet")
        if torn:
            self._notes.append(f"{torn} spools end in an unfinished write")
        return count


def _has_root(tiles: Tiles, size: int, root: object) -> bool:
    """Whether the tree of that size has that root, in hex; hashes that lack are told elsewhere."""
    with suppress(LogCorrupt):
        return tiles.root(size).hex() == root
    return False


def _is_covered(first: int, last: int, ranges: list[tuple[int, int]]) -> bool:
    """Whether the ranges, each with its first and last entry, leave nothing of this one."""
    for begin, end in sorted(ranges):
        if begin <= first <= end:
            first = end + 1
    return first > last
