"""The client of a witness: asks for a cosignature, and believes nothing but its signature."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable
from pathlib import Path
from typing import Final

from ...errors import AuditFault, LogCorrupt
from ..checkpoint import Checkpoint
from .anchor import TIMEOUT_S, Receipt
from .cosignature import WitnessKey, cosignatures_of, open_note
from .post import Answer, Endpoint
from .witness import ADD_CHECKPOINT, SIZE_TYPE

__all__ = ["Consistency", "WitnessAnchor"]

# Hashes that prove that the tree of the first size is a prefix of that of the second.
Consistency = Callable[[int, int], list[bytes]]
_SIZE: Final = re.compile(rb"(0|[1-9][0-9]{0,17})\n")
_REASONS: Final = {
    403: "does not trust the key of this log: give it the line of log.vkey",
    404: "does not know this log, or the URL is wrong: give it the line of log.vkey",
}


class WitnessAnchor:
    """A witness that speaks C2SP tlog-witness; `url` is its submission prefix.

    http will do: the question is public and signed, and so is the answer.
    """

    def __init__(
        self,
        url: str,
        key: WitnessKey,
        *,
        consistency: Consistency,
        name: str | None = None,
        interval_s: float = 0,
        timeout_s: float = TIMEOUT_S,
        ca_file: Path | None = None,
    ) -> None:
        self.name = name or key.name
        self.interval_s = interval_s
        self._endpoint = Endpoint(
            url.rstrip("/") + ADD_CHECKPOINT,
            timeout_s=timeout_s,
            ca_file=ca_file,
            may_be_plain=True,
        )
        self._key = key
        self._consistency = consistency
        self._known_size = 0  # what the witness has; a wrong guess costs one more request

    def publish(self, note: bytes, checkpoint: Checkpoint) -> Receipt:
        """Have `note` cosigned. Raises LogCorrupt when the witness has seen another history."""
        old_size = min(self._known_size, checkpoint.size)
        answer = self._ask(note, checkpoint, old_size)
        if answer.status == 409 and answer.content_type == SIZE_TYPE:
            old_size = self._size_in(answer, checkpoint)
            answer = self._ask(note, checkpoint, old_size)
        if answer.status == 422 or (answer.status == 409 and old_size == checkpoint.size):
            raise LogCorrupt(
                f"the witness `{self.name}` has seen another history of this log up to {old_size}"
                f" entries: it was forked or rewritten; compare it with the witness before going on"
            )
        if answer.status != 200:
            reason = _REASONS.get(answer.status, f"answered {answer.status}: expected 200")
            raise AuditFault(f"the witness `{self.name}` {reason}")
        receipt = Receipt(self._endpoint.shown, self._believed(note, answer.body))
        self._known_size = checkpoint.size
        return receipt

    def _ask(self, note: bytes, checkpoint: Checkpoint, old_size: int) -> Answer:
        is_trivial = old_size in (0, checkpoint.size)
        proof = [] if is_trivial else self._consistency(old_size, checkpoint.size)
        lines = b"".join(base64.b64encode(node) + b"\n" for node in proof)
        body = b"old %d\n%s\n%s" % (old_size, lines, note)
        return self._endpoint.post(body, {"Content-Type": "text/plain; charset=utf-8"})

    def _size_in(self, answer: Answer, checkpoint: Checkpoint) -> int:
        match = _SIZE.fullmatch(answer.body)
        if match is None:
            raise AuditFault(f"the witness `{self.name}` answered 409 without a size")
        size = int(match[1])
        if size > checkpoint.size:
            raise LogCorrupt(
                f"the witness `{self.name}` has cosigned {size} entries and this log has"
                f" {checkpoint.size}: it was cut back, or an old copy of it was restored"
            )
        return size

    def _believed(self, note: bytes, lines: bytes) -> tuple[str, ...]:
        """The cosignatures of the configured key in an answer; other lines are passed over."""
        text, _ = open_note(note)
        try:
            found = cosignatures_of(text + b"\n" + lines, [self._key])
        except LogCorrupt as error:
            raise AuditFault(
                f"the witness `{self.name}` answered no cosignature: {error}"
            ) from error
        if not found:
            raise AuditFault(
                f"the witness `{self.name}` signed with another key than the configured one"
            )
        return (found[-1].line,)
