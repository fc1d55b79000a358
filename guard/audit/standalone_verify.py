"""Does this audit log still say what it said when it was signed? One file, to be run by anybody.

    python standalone_verify.py DIRECTORY [--key VKEY_FILE] [--checkpoint FILE]...
                                [--witness VKEY]... [--excerpt] [--json]

It was written from docs/audit-format.md and shares no code with the program that writes the log.
It needs Python 3.11 and the package `cryptography`, no network, and no key but the public one. Take
that key (`--key`) and a checkpoint (`--checkpoint`) from where YOU kept them: those found in the
directory prove only that the log agrees with itself.

The steps bear the numbers of the document, section "To verify":

 (1) The key comes from --key, else from the first line of `log.vkey`.
 (2) Each note in `checkpoint`, `checkpoints` and `cosigned` is signed by a key good for its size;
     all have one origin; sizes begin with 0 and never fall; `checkpoint` is one of the last two.
 (3) Segments follow one another; each line has its hash in `tile/0`; higher tiles follow from lower
     ones; a sealed segment has the SHA-256 that its `seal` entry says.
 (4) The root over the first `size` leaf hashes is the root that was signed.
 (5) The same holds for each checkpoint that was kept elsewhere.
 (6) Keys change by `key_change` entries that a good key covers.
 (7) Sessions and writers count without a gap; intents and outcomes match.

Each damage is told with its step, file, bytes `A..B` (B not included; in a sealed segment they are
bytes of the text inside), entry and kind. Exit codes: 0 whole, 1 not whole, 2 cannot be checked (no
log, no key, a newer version). It holds some 200 bytes of memory for each entry.
"""

import argparse
import base64
import contextlib
import gzip
import hashlib
import json
import re
import sys
import zlib
from collections.abc import Iterator
from itertools import accumulate, count, islice, pairwise, takewhile, zip_longest
from pathlib import Path
from typing import Any, NamedTuple

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

__all__ = ["CannotCheckError", "check", "main"]

VERSION = 2
LINE_BYTES_MAX = 60_000
ENTRIES_MAX = 1 << 27  # Above that, memory would not suffice; a hostile file name may claim it.
FILE_BYTES_MAX = 4 << 30
ENCRYPTED = re.compile(r"records-[0-9]{20}\.jsonl\.gz\.age")
ABOUT = re.compile(r"records-[0-9]{20}\.about")
TRIES_MAX = 5  # A live log compresses its segments and replaces its partial tiles.
TOLD_MAX = 1_000  # Further findings are only counted.
TILE = 256
LOG_KEY, WITNESS_KEY = 1, 4  # The first byte of a public key says what it signs.
NOTE = re.compile(rb"(.*?\n)\n((?:\xe2\x80\x94 [^\n]*\n)+)\n", re.DOTALL)
TEXT = re.compile(rb"([^\n]+)\n(0|[1-9][0-9]{0,18})\n([^\n]{44})\n")
SEGMENT = re.compile(r"records-([0-9]{20})\.jsonl(?:\.gz)?")
TILE_FILE = re.compile(r"([0-9]{1,2})/((?:x[0-9]{3}/)*[0-9]{3})(?:\.p/([1-9][0-9]{0,2}))?")
CONTROL = re.compile(rb'"kind"\s*:\s*"(?:key_change|retention|seal)"')
LET_GO = ("allow", "redact", "route")
UNREADABLE = (OSError, EOFError, zlib.error)

Hashes = list[bytes | None]  # None: there is neither the line nor a stored hash.
Key = tuple[tuple[str, bytes], bytes]  # (name, key id), by which signatures name it; public key.


class CannotCheckError(Exception):
    """There is nothing here that this program could judge."""


class Note(NamedTuple):
    """A checkpoint: where it stands, what it says, and its signatures by (name, key id)."""

    file: str
    span: tuple[int, int]
    text: bytes
    origin: bytes
    size: int
    root: bytes
    signatures: dict[tuple[str, bytes], bytes]


class Segment(NamedTuple):
    """A file of entries: index of its first, the leaf hash of each line, what follows the last."""

    path: Path
    first: int
    hashes: list[bytes]
    rest: str


class Control(NamedTuple):
    """An entry that says something about the log itself; `place` is its index."""

    place: int
    leaf: bytes
    kind: str
    detail: dict[str, Any]


def unbase64(text: str | bytes) -> bytes:
    """What canonical base64 stands for; ValueError for any other spelling."""
    data = base64.b64decode(text, validate=True)
    if base64.b64encode(data) != (text.encode() if isinstance(text, str) else text):
        raise ValueError("base64 is not canonical")
    return data


def key_of(line: str, kind: int) -> Key:
    """The key that a line writes down; ValueError when it is none, or not of this kind."""
    name, key_id, encoded = line.split("+", 2)
    public = unbase64(encoded)
    expected = hashlib.sha256(name.encode() + b"\n" + public).hexdigest()[:8]
    if not name or " " in name or len(public) != 33 or public[0] != kind or key_id != expected:
        raise ValueError(f"`{line[:80]}` is not a key, or not one of this kind")
    return (name, bytes.fromhex(key_id)), public[1:]


def is_signed(note: Note, key: Key, kind: int) -> bool:
    """Whether the note bears a signature of this key; ValueError if it is a wrong one."""
    if (signature := note.signatures.get(key[0])) is None:
        return False
    text = note.text
    if kind == WITNESS_KEY:  # A witness signs the time, too.
        text = b"cosignature/v1\ntime %d\n" % int.from_bytes(signature[:8], "big") + text
        signature = signature[8:]
    try:
        Ed25519PublicKey.from_public_bytes(key[1]).verify(signature, text)
    except InvalidSignature:
        raise ValueError(f"the signature of `{key[0][0]}` is wrong") from None
    return True


def note_of(file: str, span: tuple[int, int], text: bytes, tail: bytes) -> Note:
    """A note from its text and its signature lines; ValueError says what is wrong with it."""
    if not (said := TEXT.fullmatch(text)):
        raise ValueError("expected three lines: origin, size and root")
    signatures = {}
    for line in tail.decode().split("\n")[:-1]:
        _, name, encoded = line.split(" ")
        blob = unbase64(encoded)
        if not name or len(blob) < 5 or (name, blob[:4]) in signatures:
            raise ValueError("a signature is malformed, or there twice")
        signatures[name, blob[:4]] = blob[4:]
    return Note(file, span, text, said[1], int(said[2]), unbase64(said[3]), signatures)


def leaf_of(line: bytes) -> bytes:
    """The hash of an entry: of its line as it stands, without the newline."""
    return hashlib.sha256(b"\x00" + line[:-1]).digest()


def roots_at(hashes: Hashes, sizes: set[int]) -> dict[int, bytes]:
    """The root over the first `size` hashes for each size, as far as hashes are known."""
    roots: dict[int, bytes] = {}
    stack: list[bytes] = []  # Roots of complete subtrees, the largest first.
    for size in range(len(hashes) + 1):
        if size in sizes:
            top = stack[-1] if stack else hashlib.sha256(b"").digest()
            for left in stack[-2::-1]:
                top = hashlib.sha256(b"\x01" + left + top).digest()
            roots[size] = top
        if size == len(hashes) or (each := hashes[size]) is None:
            return roots
        bits = size
        while bits & 1:
            each, bits = hashlib.sha256(b"\x01" + stack.pop() + each).digest(), bits >> 1
        stack.append(each)
    return roots


def lines_of(path: Path) -> Iterator[bytes]:
    """The lines of a segment with their newlines, none read farther than an entry may be long."""
    with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
        while line := file.readline(LINE_BYTES_MAX + 1):
            yield line


def entry_of(line: bytes) -> dict[str, Any]:
    """The entry of a line; ValueError names the field where parsing ends."""
    try:
        entry = json.loads(line, parse_constant=int)  # NaN is no JSON
    except json.JSONDecodeError as wrong:
        before = re.findall(r'"(\w+)":', wrong.doc[: wrong.pos])
        raise ValueError(f"no JSON from byte {wrong.pos} on, field {before[-1:]}") from None
    except RecursionError:
        raise ValueError("JSON is too deep") from None
    if not isinstance(entry, dict) or type(entry.get("v")) is not int or entry["v"] < VERSION:
        raise ValueError(f"expected an object with `v` from {VERSION} on")
    return entry


class Log:
    """The check of one directory: `run`, then `damage`, `listed` and the sizes tell."""

    def __init__(self, directory: Path, key: str | None) -> None:
        """`key` is a line `name+id+base64`, the first of `log.vkey` where it is None."""
        self.directory = directory
        self.damage: list[dict[str, Any]] = []
        self.listed: list[str] = []
        self.damages = self.size = self.witnessed = self.newer = 0
        self.vkeys = self.read("log.vkey").decode(errors="replace").split("\n")
        if not directory.is_dir() or (not any(directory.glob("*.vkey")) and key is None):
            raise CannotCheckError(f"no log in {directory}: expected `log.vkey` and `checkpoint`")
        try:  # (1)
            line = self.vkeys[0] if key is None else key.strip()
            self.key = key_of(line, LOG_KEY)
        except ValueError as wrong:
            raise CannotCheckError(f"no public key to check with: {wrong}") from None
        # Where the key at hand is not the oldest, the log has to lead up to it: see (6).
        self.spelled = [self.vkeys[0] if line in self.vkeys else line]
        self.signers: set[Key] = set()
        try:  # The smallest and largest size that a key may sign.
            self.good = {key_of(self.spelled[0], LOG_KEY): (0, 1 << 63)}
        except ValueError as wrong:
            self.good = {self.key: (0, 1 << 63)}
            self.bad(6, "log.vkey", "malformed", str(wrong))

    def read(self, name: str) -> bytes:
        """A file of the directory; nothing where there is none."""
        path = self.directory / name
        if path.is_file() and path.stat().st_size > FILE_BYTES_MAX:
            raise CannotCheckError(f"{name} is larger than any file of a log")
        return path.read_bytes() if path.is_file() else b""

    def files(self, pattern: str) -> list[str]:
        """Names of the regular files that fit a pattern, in order."""
        return sorted(path.name for path in self.directory.glob(pattern) if path.is_file())

    def bad(self, step: int, file: str, kind: str, what: str = "", **where: Any) -> None:
        """Tell a damage; `where` has `bytes` and `entry` when they are known."""
        self.damages += 1
        if len(self.damage) < TOLD_MAX:
            self.damage.append({"step": step, "file": file, **where, "kind": kind, "what": what})

    def run(self, kept: list[str], witnesses: list[str]) -> None:
        """All steps; `kept` are checkpoints from elsewhere, `witnesses` lines of keys."""
        if not kept and not [
            *self.directory.glob("checkpoint*"),
            *self.directory.glob("records-*"),
        ]:
            raise CannotCheckError(f"`{self.directory}` is no log: it has no checkpoint")
        notes = self.notes()  # (2)
        for text in kept:
            if not NOTE.match(data := text.rstrip("\n").encode() + b"\n\n"):
                raise CannotCheckError("a kept checkpoint is none: expected a copy of `checkpoint`")
            notes += self.notes_in("a kept checkpoint", data)
        self.load(max((note.size for note in notes), default=0))
        self.hold(notes, [key_of(line, WITNESS_KEY) for line in witnesses])  # (2), (4), (5), (6)
        for name, place, leaf in self.about:
            if place >= self.size or self.truth[place] != leaf:
                self.bad(3, name, "changed", "not an entry that was signed")
        self.lines()  # (3)
        self.tiles()
        self.sealed()
        if not self.damages:
            self.story()  # (7) It is asked only of a log whose bytes are its own.

    def notes_in(self, file: str, data: bytes) -> list[Note]:
        """The notes in a file; what follows the last one and its blank line is damage."""
        notes, end = [], 0
        while found := NOTE.match(data, end):
            try:
                notes.append(note_of(file, found.span(), found[1], found[2]))
            except ValueError as wrong:
                self.bad(2, file, "malformed", str(wrong), bytes=found.span())
            end = found.end()
        if end < len(data):
            self.bad(2, file, "malformed", "expected a note", bytes=(end, len(data)))
        return notes

    def notes(self) -> list[Note]:
        """(2) What the notes of the log say, before anything is asked about signatures."""
        latest = self.notes_in("checkpoint", self.read("checkpoint") + b"\n")
        every = self.notes_in("checkpoints", self.read("checkpoints"))
        for before, after in pairwise(every):
            if after.size < before.size:
                self.bad(2, after.file, "size fell", f"after {before.size}", bytes=after.span)
        if not every or every[0].size:
            self.bad(2, "checkpoints", "cut off", "it begins with size 0", bytes=(0, 0))
        said = [(note.text, note.signatures) for note in every[-2:]]
        if len(latest) != 1 or (latest[0].text, latest[0].signatures) not in said:
            self.bad(2, "checkpoint", "not the latest", "it is among the last two of `checkpoints`")
        return [*every, *self.notes_in("cosigned", self.read("cosigned")), *latest]

    def load(self, signed: int) -> None:
        """Hash the lines and read the stored hashes: two views of what the tree was made from."""
        said = self.read("excerpt").decode("ascii", "replace")
        runs = re.findall(r"(\d{1,20}) (\d{1,20})\n", said)
        is_odd = said != "".join(f"{first} {last}\n" for first, last in runs)
        if is_odd or (not runs and (self.directory / "excerpt").exists()):
            self.bad(3, "excerpt", "malformed", "expected lines of a first and a last entry")
        self.runs = {int(first): int(last) + 1 for first, last in runs}
        self.is_excerpt = self.is_partial = bool(
            runs
        )  # Or some of it expired, which lines() finds.
        if runs:
            self.listed.append("an excerpt: what was left out is not known")
        self.controls: list[Control] = []
        names = set(filter(SEGMENT.fullmatch, self.files("records-*")))
        self.segments = [
            self.segment(self.directory / name, int(name[8:28]))
            for name in sorted(names)
            if not (name.endswith(".gz") and name.removesuffix(".gz") in names)
        ]
        self.about: list[tuple[str, int, bytes]] = []  # What encrypted segments say, in clear.
        for name in filter(ABOUT.fullmatch, self.files("records-*.about")):
            for text in self.read(name).splitlines(keepends=True):
                index, _, line = text.partition(b" ")
                place = int(index) if re.fullmatch(rb"[0-9]{1,9}", index) else ENTRIES_MAX
                self.about.append((name, place, leaf_of(line)))
                self.control(line, place, leaf_of(line))
        self.stored: dict[tuple[int, int, int], Path] = {}
        for path in (self.directory / "tile").rglob("*"):
            at = TILE_FILE.fullmatch(path.relative_to(self.directory / "tile").as_posix())
            if at and path.is_file():
                number = int(re.sub("[x/]", "", at[2]))
                self.stored[int(at[1]), number, int(at[3] or TILE)] = path
        if runs and [*map(int, (first for first, _ in runs))] != [s.first for s in self.segments]:
            self.bad(3, "excerpt", "runs", "it names others than those that are here")
        # What begins above all checkpoints is not proven, and proves nothing.
        below = [each for each in self.segments if each.first <= signed]
        ends = [0, *(each.first + len(each.hashes) for each in below)]
        total = max(max(ends), min(signed, self.hashes_stored()))
        if total > ENTRIES_MAX:
            raise CannotCheckError(f"file names claim {total} entries, more than {ENTRIES_MAX}")
        lines: Hashes = [None] * total
        tiles: Hashes = [None] * total
        for each in below:
            lines[each.first : each.first + len(each.hashes)] = each.hashes
        for level, n, width in sorted(self.stored):  # A wider tile comes later and counts.
            data = self.stored[level, n, width].read_bytes()
            if level == 0 and len(data) == width * 32 and n * TILE < total:
                hashes = [data[k : k + 32] for k in range(0, len(data), 32)]
                tiles[n * TILE : n * TILE + width] = hashes[: total - n * TILE]
        self.truth = [tile or line for line, tile in zip(lines[:total], tiles, strict=True)]
        other = [line or tile for line, tile in zip(lines, tiles, strict=False)]
        self.views = [self.truth] if other == self.truth else [other, self.truth]

    def hashes_stored(self) -> int:
        """Where the last tile of level 0 ends."""
        return max((n * TILE + w for level, n, w in self.stored if level == 0), default=0)

    def segment(self, path: Path, first: int) -> Segment:
        """Hash the lines of a file, and keep what is said there about the log."""
        hashes: list[bytes] = []
        try:
            for line in lines_of(path):
                if not line.endswith(b"\n"):
                    return Segment(path, first, hashes, "a line without newline, or too long")
                hashes.append(leaf_of(line))
                if CONTROL.search(line):
                    self.control(line, first + len(hashes) - 1, hashes[-1])
        except UNREADABLE as wrong:
            return Segment(path, first, hashes, f"what cannot be unpacked: {wrong}")
        return Segment(path, first, hashes, "")

    def control(self, line: bytes, index: int, leaf: bytes) -> None:
        """Keep what an entry says about the log, if it does."""
        with contextlib.suppress(ValueError):  # A line that is no entry is told by its hash.
            entry = entry_of(line)
            if entry["v"] == VERSION and isinstance(entry.get("detail"), dict):
                kind = str(entry.get("kind"))
                self.controls.append(Control(index, leaf, kind, entry["detail"]))

    def proven(self, kind: str, size: int) -> list[Control]:
        """What the log says about itself below a size that was signed."""
        size = min(size, len(self.truth))
        found = [c for c in self.controls if c.kind == kind and c.place < size]
        return [c for c in found if self.truth[c.place] == c.leaf]

    def hold(self, notes: list[Note], witnesses: list[Key]) -> None:
        """(2), (4), (5), (6) Signatures and roots, by size, and the keys that become good."""
        sizes = {note.size for note in notes}
        roots = [(view, roots_at(view, sizes)) for view in self.views]
        for note in sorted(notes, key=lambda note: note.size):
            step = 5 if note.file == "a kept checkpoint" else 2
            where = {"bytes": note.span}
            try:
                signed = [key for key in self.good if is_signed(note, key, LOG_KEY)]
                seen = [key for key in witnesses if is_signed(note, key, WITNESS_KEY)]
            except ValueError as wrong:
                self.bad(step, note.file, "signature", str(wrong), **where)
                continue
            least, most = self.good[signed[0]] if len(signed) == 1 else (1, 0)
            if not least <= note.size <= most:
                self.bad(step, note.file, "signature", "expected one of a good key", **where)
                continue
            if note.origin != notes[0].origin:
                self.bad(step, note.file, "another origin", repr(note.origin), **where)
            self.size = max(self.size, note.size)
            views = [view for view, root in roots if root.get(note.size) == note.root]
            if not views:
                kind = "the log was cut off" if note.size > len(self.truth) else "another root"
                self.bad(max(step, 4), note.file, kind, f"at size {note.size}", **where)
                continue
            self.truth = views[0]
            if seen or step == 5:
                self.witnessed = max(self.witnessed, note.size)
            self.signers.add(signed[0])
            for change in self.proven("key_change", note.size):
                self.learn(change)
        self.size = min(self.size, len(self.truth))
        for note in notes:
            if sum(key[0] in note.signatures for key in self.good) > 1:
                self.bad(2, note.file, "signature", "of two keys of the log", bytes=note.span)
        lines = self.vkeys[:-1]
        listed = self.spelled[: len(lines)]
        known = set([*self.good][: len(lines)])
        if self.vkeys != [*listed, ""] or not self.signers <= known or self.key not in self.signers:
            self.bad(
                6, "log.vkey", "keys", "it lists the keys that sign, and the one at hand signs"
            )

    def learn(self, change: Control) -> None:
        """(6) The key that a proven entry names signs from there on, the one before no longer."""
        line = str(change.detail.get("vkey"))
        try:
            key = key_of(line, LOG_KEY)
        except ValueError as wrong:
            self.bad(6, "records", "key change", str(wrong), entry=change.place)
            return
        if key not in self.good:
            last = next(reversed(self.good))
            self.good[last] = (self.good[last][0], change.place + 1)
            self.good[key] = (change.place + 1, 1 << 63)
            self.spelled.append(line)

    def lines(self) -> None:
        """(3) Each index below the latest checkpoint is a line here, or is away for a reason."""
        at = 0
        self.ranges = sorted(self.away())
        for segment, following in zip_longest(self.segments, self.segments[1:]):
            self.gap(at, segment.first)
            at = self.end_of(segment, following and following.first)
            want = self.truth[segment.first : min(at, self.size)]
            got: Hashes = [*segment.hashes]
            if at > self.size:  # What follows the checkpoint is not proven: leave it out.
                cut = got.index(want[-1]) + 1 if want and want[-1] in got else len(want)
                got = got[:cut]
            if want != got:
                self.compare(segment, want, got)
            elif segment.rest and following and at <= self.size:
                self.bad(3, segment.path.name, "goes on", f"with {segment.rest}")
            elif segment.rest:
                self.listed.append(f"{segment.path.name} goes on with {segment.rest}: not signed")
        self.gap(at, self.size)

    def end_of(self, segment: Segment, following: int | None) -> int:
        """The index that follows the last entry of a segment."""
        end = segment.first + len(segment.hashes)
        if self.runs:
            return self.runs.get(segment.first, segment.first)
        if following is None:
            return max(self.size, end)
        for first, after, _ in reversed(self.ranges):
            if first < following <= after:
                following = max(first, min(end, following))
        return following

    def away(self) -> Iterator[tuple[int, int, str]]:
        """The ranges that expired or are encrypted, as proven entries say."""
        for gone in self.proven("retention", self.size):
            first, last = gone.detail.get("first"), gone.detail.get("last")
            if type(first) is type(last) is int and 0 <= first <= last < self.size:
                root = roots_at(self.truth[: last + 1], {last + 1}).get(last + 1, b"")
                if gone.detail.get("root") == root.hex():
                    yield first, last + 1, f"expired, as entry {gone.place} says"
        proven = [seal.detail for seal in self.proven("seal", self.size)]
        seals = {said["first"]: said for said in proven if type(said.get("first")) is int}
        for name in filter(ENCRYPTED.fullmatch, self.files("records-*.age")):
            plain = name.removesuffix(".gz.age")
            if (self.directory / plain).exists() or (self.directory / f"{plain}.gz").exists():
                continue
            said = seals.get(int(name[8:28]), {})
            if said.get("age_sha256") != hashlib.sha256(self.read(name)).hexdigest():
                self.bad(3, name, "encrypted file", "not the one that the log names")
            if type(said.get("last")) is int:
                yield said["first"], said["last"] + 1, "are encrypted and were not read"

    def gap(self, first: int, after: int) -> None:
        """Entries that are not here: no damage where it is proven why, or in an excerpt."""
        if self.runs or first >= (after := min(after, self.size)):
            return
        self.is_partial = True
        for start, end, why in self.ranges:
            if start <= first < end:
                self.listed.append(f"entries {first} to {min(end, after) - 1} {why}")
                first = end
        if first < after:
            self.bad(3, "records", "missing", f"entries {first} to {after - 1}", entry=first)

    def compare(self, segment: Segment, want: Hashes, got: Hashes) -> None:
        """Name the lines that differ from those that were signed."""
        lines: list[bytes] = []
        with contextlib.suppress(*UNREADABLE):
            lines += islice(lines_of(segment.path), len(segment.hashes) + 1)
        ends = [0, *accumulate(map(len, lines))]
        same = sum(
            1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(want, got, strict=False))
        )
        if len(want) != len(got):
            what = f"{len(got)} lines for {len(want)} entries, then {segment.rest or 'the end'}"
            kind = "lines missing" if len(got) < len(want) else "lines added"
            where = {"bytes": (ends[min(same, len(lines))], ends[-1])}
            self.bad(3, segment.path.name, kind, what, entry=segment.first + same, **where)
            return
        for k in (k for k in range(same, len(got)) if want[k] != got[k]):
            what = f"it is entry {segment.first + want.index(got[k])}" if got[k] in want else ""
            try:
                entry_of(lines[k])
            except ValueError as wrong:
                what = str(wrong)
            where = {"bytes": (ends[k], ends[k + 1])}
            self.bad(3, segment.path.name, "changed", what, entry=segment.first + k, **where)

    def tiles(self) -> None:
        """(3) Stored hashes are those of the lines, and each level follows from the one below."""
        hashes: Hashes = self.truth[: self.size]
        for level in range(10):
            full = len(hashes) // TILE
            for n in range(full):
                if (level, n, TILE) not in self.stored:
                    self.bad(3, f"tile/{level}/{n}", "missing", "a full tile must be there")
            for (at, n, width), path in self.stored.items():
                if at == level and (want := hashes[n * TILE : n * TILE + width]):
                    data, file = path.read_bytes(), path.relative_to(self.directory).as_posix()
                    if len(data) != width * 32:
                        self.bad(3, file, "length", f"{len(data)} bytes, not {width * 32}")
                    for k, hashed in enumerate(want):
                        if data[k * 32 : k * 32 + 32] not in (hashed, b""):
                            entry = (n * TILE + k) * TILE**level
                            self.bad(3, file, "hash", bytes=(k * 32, k * 32 + 32), entry=entry)
            tiles = [hashes[n * TILE : n * TILE + TILE] for n in range(full)]
            hashes = [roots_at(tile, {TILE}).get(TILE) for tile in tiles]

    def sealed(self) -> None:
        """(3) A sealed segment is the file of which its last `seal` entry speaks."""
        for segment in self.segments if not self.runs else []:
            if segment.path.suffix != ".gz":
                continue
            seals = [c for c in self.controls if c.kind == "seal"]
            seals = [c for c in seals if c.detail.get("first") == segment.first]
            proven = [c for c in self.proven("seal", self.size) if c in seals]
            # Seals above the checkpoint are not proven, but a new one may be true.
            said = [c.detail.get("sha256") for c in seals if c.place >= self.size] or []
            said += [c.detail.get("sha256") for c in proven[-1:]]
            if hashlib.sha256(segment.path.read_bytes()).hexdigest() not in said:
                self.bad(3, segment.path.name, "sealed file", "not the one that the log names")

    def story(self) -> None:
        """(7) Numbers without a gap; an outcome for what was let go, and for nothing else."""
        writers: dict[str, int] = {}
        sessions: dict[str, set[int]] = {}
        intents: dict[str, str] = {}
        outcomes: dict[str, tuple[int, bool]] = {}
        for index, entry in self.entries():
            kind, writer = entry.get("kind"), str(entry.get("writer"))
            number = entry.get("writer_seq")
            want = index if writer == "sequencer" else writers.get(writer, 0)
            if number != want and not (self.is_partial and type(number) is int and number > want):
                what = f"expected number {want} of {writer}, found {number}"
                self.bad(7, "records", "gap", what, entry=index)
            writers[writer] = (number if type(number) is int else want) + 1
            seq = entry.get("session_seq", 0)
            if entry.get("session_id") is not None and type(seq) is int:
                sessions.setdefault(str(entry["session_id"]), set()).add(seq)
            if kind == "intent":
                intents[str(entry.get("decision_id"))] = entry.get("effect", "none")
            elif kind == "outcome":
                outcomes[str(entry.get("ref"))] = index, entry.get("happened") is True
        for session, seen in sessions.items() if not self.is_partial else ():
            if (lacks := next(k for k in count() if k not in seen)) <= max(seen):
                self.bad(7, "records", "gap", f"session {session} has no number {lacks}")
        for ref, (index, happened) in outcomes.items():
            if happened and intents.get(ref, "allow") not in LET_GO:
                self.bad(7, "records", "it happened though refused", entry=index)
            elif intents.get(ref) not in LET_GO:
                self.listed.append(f"entry {index} is the outcome of no intent that was let go")
        alone = [ref for ref, effect in intents.items() if effect in LET_GO and ref not in outcomes]
        if alone:
            self.listed.append(f"{len(alone)} intents have no outcome, such as {alone[:3]}")

    def entries(self) -> Iterator[tuple[int, dict[str, Any]]]:
        """The entries below the latest checkpoint with their indices."""
        for segment in self.segments:
            for index, line in enumerate(lines_of(segment.path), segment.first):
                if index >= self.size:
                    return
                try:
                    entry = entry_of(line)
                except ValueError as wrong:
                    self.bad(3, segment.path.name, "no entry", str(wrong), entry=index)
                    continue
                if entry["v"] == VERSION:
                    yield index, entry
                else:
                    self.newer += 1


def checked(directory: Path, key: str | None, kept: list[str], witnesses: list[str]) -> Log:
    """The check that was run; anew when segments were compressed while they were read."""
    for _ in range(TRIES_MAX):
        names = sorted(directory.glob("records-*"))
        try:
            log = Log(directory, key)
            log.run(kept, witnesses)
        except FileNotFoundError:
            continue
        if not log.damages or names == sorted(directory.glob("records-*")):
            return log
    raise CannotCheckError("it changes while it is read: check a copy")


def check(
    directory: Path, *, key: str | None, checkpoints: list[str], witnesses: list[str] | None = None
) -> list[dict[str, Any]]:
    """The damage, none where the log is whole; raises CannotCheckError."""
    log = checked(directory, key, checkpoints, witnesses or [])
    if log.newer and not log.damage:
        raise CannotCheckError(f"{log.newer} entries are of a newer version than {VERSION}")
    return log.damage


def show(text: str) -> None:
    """Print a line, of which nothing can steer a terminal."""
    print("".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text))


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("directory", type=Path)
    parser.add_argument("--key", type=Path, help="a file with the public key of the log")
    parser.add_argument("--checkpoint", type=Path, action="append", default=[], help="kept by you")
    parser.add_argument("--witness", action="append", default=[], help="public key of a witness")
    parser.add_argument("--excerpt", action="store_true", help="it is of an evidence pack")
    parser.add_argument("--json", action="store_true", help="the report as JSON")
    asked = parser.parse_args()
    try:
        key = asked.key.read_text().split("\n")[0] if asked.key else None
        kept = [path.read_text() for path in asked.checkpoint]
        log = checked(asked.directory, key, kept, asked.witness)
    except (CannotCheckError, OSError, ValueError) as wrong:
        show(json.dumps({"exit_code": 2, "why": str(wrong)}) if asked.json else f"cannot: {wrong}")
        return 2
    if log.is_excerpt and not asked.excerpt:
        log.bad(1, "excerpt", "only an excerpt", "of an evidence pack, verify with --excerpt")
    exit_code = 1 if log.damages else 2 if log.newer else 0
    verdict = ("whole", "NOT WHOLE", "cannot be checked: it has entries of a newer version")
    if asked.json:
        names = ("size", "witnessed", "is_excerpt", "newer", "damages", "damage", "listed")
        print(json.dumps({"exit_code": exit_code} | {name: getattr(log, name) for name in names}))
        return exit_code
    show(f"{'EXCERPT, ' if log.is_excerpt else ''}{verdict[exit_code]}: {log.size} entries signed, "
         f"{log.witnessed} of them witnessed")  # fmt: skip
    for each in log.damage:
        span = " bytes {}..{}".format(*each["bytes"]) if "bytes" in each else ""
        entry = f" entry {each['entry']}" if "entry" in each else ""
        show(f"({each['step']}) {each['file']}{span}{entry}: {each['kind']} {each['what']}")
    for said in log.listed:
        show(f"    {said}")
    return exit_code


if __name__ == "__main__":
    sys.exit(main())
