"""Anchors: places that the writer of the log does not own, where its checkpoints are kept.

What an anchor holds cannot be taken back by whoever holds the log and its key: a log that was cut
off or written anew contradicts it. Each publishes one checkpoint or raises: AuditFault when it is
to be tried again, LogCorrupt when the anchor contradicts this log, which is an alarm.
"""

from __future__ import annotations

import base64
import json
import os
from pathlib import Path
from typing import Final, Protocol

import msgspec

from ...clock import SYSTEM_CLOCK, Clock
from ...errors import AuditFault
from ...keys.signing import Mac
from ..checkpoint import NOTE_BYTES_MAX, Checkpoint
from ..files import read_small, sync_directory, write_whole
from .post import Endpoint

__all__ = ["TIMEOUT_S", "Anchor", "DirectoryAnchor", "Receipt", "WebhookAnchor"]

# An anchor that does not answer in this time has failed, and the others get their turn.
TIMEOUT_S: Final = 5.0
# A crash leaves at most one torn copy each time, which a WORM mount does not let us remove.
COPIES_MAX: Final = 8


class Receipt(msgspec.Struct, frozen=True):
    """A checkpoint is kept: where, and the signature lines that a witness gave for it."""

    where: str
    cosignatures: tuple[str, ...] = ()


class Anchor(Protocol):
    """A place for checkpoints; used by one thread at a time."""

    @property
    def name(self) -> str:
        """What the configuration and the status call it."""
        ...

    @property
    def interval_s(self) -> float:
        """Least time between two checkpoints; 0 for every one."""
        ...

    def publish(self, note: bytes, checkpoint: Checkpoint) -> Receipt:
        """Keep this note, which says `checkpoint`; returns once it is durable there."""
        ...


class DirectoryAnchor:
    """A directory on another disk, or a WORM mount: a file for each checkpoint, none overwritten.

    The directory must be there: one that is made where a mount is lacking would be on our disk.
    """

    def __init__(self, directory: Path, *, name: str = "directory", interval_s: float = 60) -> None:
        self.name = name
        self.interval_s = interval_s
        self._directory = directory

    def publish(self, note: bytes, checkpoint: Checkpoint) -> Receipt:
        """The file is named by size and root, so the same checkpoint comes to the same file."""
        stem = f"{checkpoint.size:020}-{checkpoint.root.hex()}"
        try:
            for copy in range(COPIES_MAX):
                path = self._directory / (stem if copy == 0 else f"{stem}.{copy}")
                if _create(path, note) or read_small(path, NOTE_BYTES_MAX) == note:
                    sync_directory(self._directory)
                    return Receipt(str(path))
        except OSError as error:
            raise AuditFault(
                f"{self._directory} does not take checkpoints: {error.strerror}; it must be there,"
                " mounted and open for new files"
            ) from error
        raise AuditFault(f"{self._directory} has {COPIES_MAX} other files named {stem}: move them")


class WebhookAnchor:
    """POST of JSON, signed as Standard Webhooks: HMAC-SHA256 over id, time and body.

    The receiver verifies with any library for https://www.standardwebhooks.com and the secret
    `whsec_<base64 of the key>`. The id is the size and root: one that came twice is the same.
    """

    def __init__(
        self,
        url: str,
        secret: Mac,
        *,
        name: str = "webhook",
        interval_s: float = 10,
        timeout_s: float = TIMEOUT_S,
        ca_file: Path | None = None,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self.name = name
        self.interval_s = interval_s
        self._endpoint = Endpoint(url, timeout_s=timeout_s, ca_file=ca_file)
        self._secret = secret
        self._clock = clock

    def publish(self, note: bytes, checkpoint: Checkpoint) -> Receipt:
        """Whatever 2xx is answered: the receiver has it."""
        timestamp_s = self._clock.now_ns() // 1_000_000_000
        message_id = f"{checkpoint.size}-{checkpoint.root.hex()}"
        data = {
            "origin": checkpoint.origin,
            "size": checkpoint.size,
            "root": base64.b64encode(checkpoint.root).decode(),
            "note": note.decode(),
        }
        message = {"type": "guard.audit.checkpoint", "timestamp_s": timestamp_s, "data": data}
        body = json.dumps(message, separators=(",", ":")).encode()
        signed = f"{message_id}.{timestamp_s}.".encode() + body
        signature = base64.b64encode(bytes.fromhex(self._secret.commit(signed))).decode()
        answer = self._endpoint.post(
            body,
            {
                "Content-Type": "application/json",
                "webhook-id": message_id,
                "webhook-timestamp": str(timestamp_s),
                "webhook-signature": f"v1,{signature}",
            },
        )
        if not 200 <= answer.status < 300:
            raise AuditFault(f"{self._endpoint.shown} answered {answer.status}: expected 2xx")
        return Receipt(self._endpoint.shown)


def _create(path: Path, note: bytes) -> bool:
    """Write a file that was not there; False when it was. Nothing is ever opened to overwrite."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        # Read-only from the start: that is what makes a file immutable on WORM mounts.
        descriptor = os.open(path, flags, 0o444)
    except FileExistsError:
        return False
    try:
        write_whole(descriptor, note)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    return True
