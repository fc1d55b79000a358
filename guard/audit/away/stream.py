"""A stream of the log's entries to a broker, for indexers: each once, in order, none taken back.

(1) only what the latest signed checkpoint covers goes out, each entry proven first (proven.py);
(2) where the stream stands is known to the broker alone: it is asked, and no file here can lie;
(3) the entry that stands last there must be the one of this log: else it is another log, or one
    that was cut back or written anew.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final, Protocol

import msgspec

from ...errors import AuditFault, ConfigError, LogCorrupt
from ..entry import Entry
from ..files import segments_of
from ..formats import FORMATS, Place
from ..merkle import leaf_hash
from ..query import Signed
from .proven import Proven

__all__ = ["Broker", "Form", "Message", "Standing", "form_of", "stream"]

Form = Callable[[str, int, bytes], bytes]


class Message(msgspec.Struct, frozen=True):
    """An entry on its way: its place in the log, its leaf hash, and what is said of it."""

    index: int
    leaf: bytes
    payload: bytes


class Standing(msgspec.Struct, frozen=True):
    """Where a stream stands: the index it expects next, and the leaf hash of the one before.

    The hash is None where there is none, or where the broker has dropped the message by its age.
    """

    next: int
    leaf: bytes | None = None


class Broker(Protocol):
    """Keeps a stream of messages, in which each index is once and in order.

    All of it raises ConnectionError when the broker is away, to be tried again; AuditFault when it
    refuses, or when the stream is not of this log.
    """

    async def standing(self, origin: str, first: int) -> Standing:
        """Where the stream of the log `origin` stands; a new one begins at index `first`."""
        ...

    async def publish(self, messages: list[Message]) -> None:
        """Returns once all are kept there. When it raises, a part of them may be, in order."""
        ...

    async def close(self) -> None:
        """Let go of the connection; a later call makes a new one."""
        ...


async def stream(
    log: Path, broker: Broker, *, form: Form, wait: Callable[[], Awaitable[bool]] | None = None,
    on_state: Callable[[str], None] = lambda state: None,
) -> int:  # fmt: skip
    """Publish what is signed and not there yet; how many entries.

    Without `wait` that is all, and a broker that is away is an AuditFault. With it, it is called
    whenever there is nothing to do, and with False this ends; a broker that is away is said once to
    `on_state`, and waited for. Raises AuditFault and LogCorrupt where nothing more may go out.
    """
    follower = _Follower(log, broker, form)
    said = ""
    try:
        while True:
            try:
                await follower.catch_up()
                state = "streaming"
            except ConnectionError as error:
                await broker.close()
                if wait is None:
                    raise AuditFault(f"{error}: nothing is lost, run it again") from error
                follower.restart()
                state = f"{error}: waiting"
            if state != said:
                on_state(state)
                said = state
            if wait is None or not await wait():
                return follower.count
    finally:
        follower.restart()
        await broker.close()


class _Follower:
    """One stream in the making."""

    def __init__(self, log: Path, broker: Broker, form: Form) -> None:
        self.count = 0
        self._log = log
        self._broker = broker
        self._form = form
        self._reader: Proven | None = None

    async def catch_up(self) -> None:
        """Publish up to the latest checkpoint."""
        try:
            await self._publish(Signed(self._log))
        except LogCorrupt:
            # Partial tiles are replaced, and writes above a checkpoint taken back, while we read:
            # what does not hold is looked at once more.
            self.restart()
            await self._publish(Signed(self._log))

    def restart(self) -> None:
        """Ask the broker again where it stands: what was on its way may be there or not."""
        if self._reader is not None:
            self._reader.close()
            self._reader = None

    async def _publish(self, signed: Signed) -> None:  # (1)
        if self._reader is None:
            self._reader = await self._begun(signed)
        origin = signed.checkpoint.origin
        while lines := self._reader.take(signed):
            first = self._reader.index - len(lines)
            await self._broker.publish(
                [
                    Message(index, leaf_hash(line), self._form(origin, index, line))
                    for index, line in enumerate(lines, first)
                ]
            )
            self.count += len(lines)

    async def _begun(self, signed: Signed) -> Proven:
        segments = segments_of(self._log)
        first = segments[0].first if segments else 0
        standing = await self._broker.standing(signed.checkpoint.origin, first)  # (2)
        if standing.next > signed.size:  # (3)
            raise LogCorrupt(
                f"the stream has {standing.next} entries and the log signs {signed.size}: it was "
                "cut back, or is an old copy; run `guard audit verify`"
            )
        if standing.leaf is not None and signed.leaves(standing.next - 1, 1) != standing.leaf:
            raise LogCorrupt(
                f"entry {standing.next - 1} is another one in the stream: the log was written anew,"
                " or is not the one that was streamed; run `guard audit verify`"
            )
        return Proven(self._log, standing.next)


def form_of(name: str | None) -> Form:
    """What a message says of an entry: its very line, or with a name that in the words of others.

    Raises ConfigError for an unknown format. A line that is no entry we know goes as it is.
    """
    if name is None:
        return lambda origin, index, line: line
    if name not in FORMATS:
        raise ConfigError(f"unknown format `{name[:40]}`: expected {', '.join(FORMATS)}")
    translate = FORMATS[name]

    def translated(origin: str, index: int, line: bytes) -> bytes:
        try:
            entry = _decoder.decode(line)
        except (msgspec.MsgspecError, ValueError):
            return line
        return _encoder.encode(translate(entry, Place(origin, index, line)))

    return translated


_decoder: Final = msgspec.json.Decoder(Entry)
_encoder: Final = msgspec.json.Encoder()
