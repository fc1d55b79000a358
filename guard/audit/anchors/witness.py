"""A witness: cosigns the checkpoints of known logs, and never two histories of one log.

It remembers of each log the largest checkpoint that it cosigned, and asks for a proof that the
next one continues it. https://c2sp.org/tlog-witness, `add-checkpoint`. Only checkpoints of three
lines are taken: extension lines are answered with 400.
"""

from __future__ import annotations

import base64
import binascii
import fcntl
import os
import re
import threading
from collections.abc import Iterable
from hashlib import sha256
from pathlib import Path
from typing import Final

import msgspec

from ...clock import SYSTEM_CLOCK, Clock
from ...errors import AuditFault, ConfigError, LogCorrupt
from ...keys.signing import Verifier
from ..checkpoint import NOTE_BYTES_MAX, Checkpoint, parse
from ..files import read_small, replace_file, sync_directory
from ..merkle import EMPTY_ROOT, HASH_BYTES, is_consistent
from .cosignature import WitnessSigner, open_note
from .post import Answer

__all__ = ["ADD_CHECKPOINT", "PROOF_LINES_MAX", "REQUEST_BYTES_MAX", "SIZE_TYPE", "Witness"]

ADD_CHECKPOINT: Final = "/add-checkpoint"
SIZE_TYPE: Final = "text/x.tlog.size"
PROOF_LINES_MAX: Final = 63
# The old size, the proof (45 characters a line) and a note.
REQUEST_BYTES_MAX: Final = 64 + 45 * PROOF_LINES_MAX + NOTE_BYTES_MAX
_OLD: Final = re.compile(rb"old (0|[1-9][0-9]{0,17})")
_PATH: Final = re.compile(r"/([0-9a-f]{64})/checkpoint")
_TEXT: Final = "text/plain; charset=utf-8"


class _Cosigned(msgspec.Struct, frozen=True):
    """The latest checkpoint of a log, and the note that says so, signed by the witness itself."""

    size: int = 0
    root: bytes = EMPTY_ROOT
    note: bytes | None = None


class Witness:
    """Knows logs by origin and key, and one file for each in a directory of its own.

    The file of a log is `<SHA-256 of the origin in hex>/checkpoint`: a note with the signatures of
    log and witness, so that a changed one is not believed at the next start, and so that it can be
    handed to `guard audit verify --checkpoint` as it is.
    """

    def __init__(
        self,
        signer: WitnessSigner,
        *,
        logs: Iterable[tuple[str, Verifier]],
        directory: Path,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        """`logs` are pairs of origin and key, several for a log whose key changed.

        Raises ConfigError when the directory belongs to a running witness or cannot be used, and
        LogCorrupt when what it holds was not signed by this witness.
        """
        self._signer = signer
        self._clock = clock
        self._directory = directory
        self._keys: dict[str, list[Verifier]] = {}
        for origin, key in logs:
            self._keys.setdefault(origin, []).append(key)
        self._lock = threading.Lock()
        try:
            self._owned = _own(directory, [_name(origin) for origin in self._keys])
        except OSError as error:
            raise ConfigError(
                f"{directory} cannot be used by a witness: {error.strerror}"
            ) from error
        try:
            self._latest = {origin: self._load(origin) for origin in self._keys}
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Let another witness have the directory."""
        os.close(self._owned)

    def add_checkpoint(self, request: bytes) -> Answer:
        """The answer to the body of an `add-checkpoint`, by the numbers of the specification.

        (1) the request is well-formed; (2) the origin is known; (3) a key that is trusted for it
        signed; (4) the old size is not above the new; (5) it is the size cosigned last; (6) of
        equal sizes the roots are equal; (7) the proof holds; (8) what is cosigned is durable first.
        """
        try:
            old_size, proof, note = _parse_request(request)  # (1)
            text, signatures = open_note(note)
        except (LogCorrupt, ValueError):
            return _refusal(400, "expected `old <size>`, proof lines, a blank line, a checkpoint")
        origin = text.split(b"\n", 1)[0].decode()
        if origin not in self._keys:  # (2)
            return _refusal(404, "this log is not known here")
        holding = [
            (key, line.line)
            for key in self._keys[origin]
            for line in signatures
            if line.is_by(key) and key.is_signed(text, line.signature)
        ]
        if not holding:  # (3)
            return _refusal(403, "no signature of a key that is trusted for this log")
        try:
            checkpoint = parse(note, holding[0][0])
        except LogCorrupt as error:
            return _refusal(400, f"the checkpoint is malformed: {error}")
        if old_size > checkpoint.size:  # (4)
            return _refusal(400, "the old size is above that of the checkpoint")
        with self._lock:
            return self._cosign(checkpoint, old_size, proof, signed=holding[0][1])

    def latest(self, path: str) -> bytes | None:
        """The latest cosigned note, for the path `/<SHA-256 of the origin in hex>/checkpoint`."""
        match = _PATH.fullmatch(path)
        for origin, latest in self._latest.items():
            if match and _name(origin) == match[1]:
                return latest.note
        return None

    def _cosign(
        self, checkpoint: Checkpoint, old_size: int, proof: list[bytes], *, signed: str
    ) -> Answer:
        latest = self._latest[checkpoint.origin]
        if old_size != latest.size:  # (5)
            return Answer(409, SIZE_TYPE, b"%d\n" % latest.size)
        if checkpoint.size == latest.size and checkpoint.root != latest.root:  # (6)
            return _refusal(409, "another root was cosigned at this size")
        if not is_consistent(
            old_size, checkpoint.size, proof=proof, old_root=latest.root, new_root=checkpoint.root
        ):  # (7)
            return _refusal(422, "the proof does not show that this continues what was cosigned")
        text = checkpoint.text()
        line = self._signer.cosign(text.encode(), self._clock.now_ns() // 1_000_000_000)
        note = f"{text}\n{signed}{line}".encode()
        path = self._path(checkpoint.origin)
        try:
            # INVARIANT: no cosignature leaves before its size and root are durable: after a crash
            # the witness would else cosign another history from an older state.
            replace_file(path, note)  # (8)
        except OSError:
            return _refusal(500, "the witness cannot keep its state")
        self._latest[checkpoint.origin] = _Cosigned(checkpoint.size, checkpoint.root, note)
        return Answer(200, _TEXT, line.encode())

    def _path(self, origin: str) -> Path:
        return self._directory / _name(origin) / "checkpoint"

    def _load(self, origin: str) -> _Cosigned:
        path = self._path(origin)
        try:
            note = read_small(path, NOTE_BYTES_MAX)
        except FileNotFoundError:
            return _Cosigned()
        except OSError as error:
            raise AuditFault(f"{path} cannot be read: {error.strerror}") from error
        try:
            checkpoint = parse(note, self._signer.verifier)
        except LogCorrupt as error:
            raise LogCorrupt(
                f"{path} is not what this witness cosigned ({error}): restore the file, or the key"
            ) from error
        if checkpoint.origin != origin:
            raise LogCorrupt(f"{path} is of another log: restore the file")
        return _Cosigned(checkpoint.size, checkpoint.root, note)


def _own(directory: Path, names: Iterable[str]) -> int:
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    for name in names:
        (directory / name).mkdir(mode=0o700, exist_ok=True)
    # The names are durable before anything is cosigned: a state that is not found is an empty one.
    sync_directory(directory)
    sync_directory(directory.parent)
    descriptor = os.open(directory / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        # Two witnesses on one directory would each cosign a history of its own.
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(descriptor)
        raise ConfigError(f"{directory} belongs to a witness that is running: stop it") from error
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def _parse_request(request: bytes) -> tuple[int, list[bytes], bytes]:
    head, blank, note = request.partition(b"\n\n")
    first, *lines = head.split(b"\n")
    match = _OLD.fullmatch(first)
    if match is None or not blank or len(lines) > PROOF_LINES_MAX:
        raise ValueError("malformed request")
    return int(match[1]), [_hash(line) for line in lines], note


def _hash(line: bytes) -> bytes:
    try:
        raw = base64.b64decode(line, validate=True)
    except binascii.Error as error:
        raise ValueError("malformed proof line") from error
    if len(raw) != HASH_BYTES or base64.b64encode(raw) != line:
        raise ValueError("malformed proof line")
    return raw


def _name(origin: str) -> str:
    return sha256(origin.encode()).hexdigest()


def _refusal(status: int, message: str) -> Answer:
    return Answer(status, _TEXT, f"{message}\n".encode())
